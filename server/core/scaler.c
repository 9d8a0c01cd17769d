/* In double, rounded to float once, as PyTorch's amp_update_scale_ does it. */
#include "server/core/scaler.h"

#include <stdio.h>

#define INIT_SCALE 65536.0
#define GROWTH_FACTOR 2.0
#define BACKOFF_FACTOR 0.5
#define GROWTH_INTERVAL 2000u

static bool is_scale(double scale)
{
	return scale >= LIMIT_LOSS_SCALE_MIN && scale <= LIMIT_LOSS_SCALE_MAX;
}

int scaler_settings(struct msg_loss_scale *settings, char *why, size_t why_bytes)
{
	if (settings->init_scale == 0)
		settings->init_scale = INIT_SCALE;
	if (settings->growth_factor == 0)
		settings->growth_factor = GROWTH_FACTOR;
	if (settings->backoff_factor == 0)
		settings->backoff_factor = BACKOFF_FACTOR;
	if (settings->growth_interval == 0)
		settings->growth_interval = GROWTH_INTERVAL;
	/* Written so that NaN fails. */
	if (!is_scale(settings->init_scale))
		snprintf(why, why_bytes, "loss_scale: init_scale is %g; it may be %.3g to %.3g, a normal float32",
		         settings->init_scale, LIMIT_LOSS_SCALE_MIN, LIMIT_LOSS_SCALE_MAX);
	else if (!(settings->growth_factor > 1 && settings->growth_factor <= LIMIT_LOSS_SCALE_MAX))
		snprintf(why, why_bytes, "loss_scale: growth_factor is %g; it must be more than 1 and finite",
		         settings->growth_factor);
	else if (!(settings->backoff_factor > 0 && settings->backoff_factor < 1))
		snprintf(why, why_bytes, "loss_scale: backoff_factor is %g; it must be more than 0 and less than 1",
		         settings->backoff_factor);
	else if (settings->growth_interval > LIMIT_GROWTH_INTERVAL)
		snprintf(why, why_bytes, "loss_scale: growth_interval is %u; it may be 1 to %u steps",
		         settings->growth_interval, LIMIT_GROWTH_INTERVAL);
	else
		return OPTD_OK;
	return OPTD_HYPER;
}

void scaler_text(const struct msg_loss_scale *settings, char *text, size_t text_bytes)
{
	if (!settings->given)
		snprintf(text, text_bytes, "none");
	else
		snprintf(text, text_bytes, "init_scale=%.9g growth_factor=%.9g backoff_factor=%.9g growth_interval=%u",
		         settings->init_scale, settings->growth_factor, settings->backoff_factor,
		         settings->growth_interval);
}

void scaler_begin(struct scaler *scaler, const struct msg_loss_scale *settings)
{
	*scaler = (struct scaler){.scale = settings->given ? (float)settings->init_scale : 0.0f};
}

/* A scale out of range leaves the one there was. */
static void multiply(struct scaler *scaler, double factor)
{
	float scale = (float)((double)scaler->scale * factor);

	if (is_scale((double)scale))
		scaler->scale = scale;
}

void scaler_update(struct scaler *scaler, const struct msg_loss_scale *settings, bool skipped)
{
	scaler->steps++;
	scaler->tracker = skipped ? 0 : scaler->tracker + 1;
	if (skipped)
		multiply(scaler, settings->backoff_factor);
	if (scaler->tracker < settings->growth_interval)
		return;
	scaler->tracker = 0;
	multiply(scaler, settings->growth_factor);
}
