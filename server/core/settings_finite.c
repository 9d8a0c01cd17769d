/*
 * Settings, the policy for gradients that are not finite, and the loss scale that goes with
 * it: read, compared, and what they need of each other.
 */
#include <stdio.h>

#include "server/core/settings_parts.h"

enum msg_nonfinite settings_nonfinite_of(enum msg_mode mode)
{
	return mode == MSG_SYNC ? MSG_SKIP_STEP : MSG_REJECT;
}

int settings_check_finite(enum msg_mode mode, enum msg_nonfinite nonfinite, bool loss_scale, char *why,
                          size_t why_bytes)
{
	if (mode == MSG_ASYNC && nonfinite == MSG_SKIP_STEP)
		snprintf(why, why_bytes, "nonfinite: skip_step is for mode sync, where a step is one of all workers; in "
		         "async each push is applied by itself: take reject or zero");
	else if (mode == MSG_ASYNC && loss_scale)
		snprintf(why, why_bytes, "loss_scale is for mode sync: in async a worker keeps its own scale and states "
		         "it with each push");
	else if (loss_scale && nonfinite != MSG_NONFINITE_UNSET && nonfinite != MSG_SKIP_STEP)
		snprintf(why, why_bytes, "loss_scale needs nonfinite: skip_step, since it follows the steps that are "
		         "skipped; nonfinite is %s", msg_nonfinite_name(nonfinite));
	else
		return OPTD_OK;
	return OPTD_HYPER;
}

int settings_make_finite(const struct msg_open *open, struct model_settings *settings, char *why,
                         size_t why_bytes)
{
	if (settings->nonfinite == MSG_NONFINITE_UNSET)
		settings->nonfinite = open->nonfinite;
	if (!settings->loss_scale.given)
		settings->loss_scale = open->loss_scale;
	if (settings->nonfinite == MSG_NONFINITE_UNSET)
		settings->nonfinite = settings_nonfinite_of(settings->mode);
	int rc = settings_check_finite(settings->mode, settings->nonfinite, settings->loss_scale.given, why,
	                               why_bytes);
	return rc == OPTD_OK && settings->loss_scale.given ? scaler_settings(&settings->loss_scale, why, why_bytes)
	                                                   : rc;
}

/* What a worker leaves 0 it takes from the model. */
static struct msg_loss_scale merged(const struct msg_loss_scale *given, const struct msg_loss_scale *has)
{
	struct msg_loss_scale out = *given;

	if (out.init_scale == 0)
		out.init_scale = has->init_scale;
	if (out.growth_factor == 0)
		out.growth_factor = has->growth_factor;
	if (out.backoff_factor == 0)
		out.backoff_factor = has->backoff_factor;
	if (out.growth_interval == 0)
		out.growth_interval = has->growth_interval;
	return out;
}

static bool equal(const struct msg_loss_scale *a, const struct msg_loss_scale *b)
{
	return a->given == b->given && a->init_scale == b->init_scale && a->growth_factor == b->growth_factor &&
	       a->backoff_factor == b->backoff_factor && a->growth_interval == b->growth_interval;
}

static int compare_loss_scale(const struct msg_open *open, const struct msg_loss_scale *has, char *why,
                              size_t why_bytes)
{
	struct msg_loss_scale given = open->loss_scale;
	char a[160], b[160];

	if (!given.given && !open->whole_settings)
		return OPTD_OK;
	if (given.given) {
		given = merged(&given, has);
		int rc = scaler_settings(&given, why, why_bytes);
		if (rc < 0)
			return rc;
	}
	if (given.given == has->given && (!has->given || equal(&given, has)))
		return OPTD_OK;
	scaler_text(&given, a, sizeof(a));
	scaler_text(has, b, sizeof(b));
	return settings_conflict(why, why_bytes, "loss_scale", a, b);
}

int settings_compare_finite(const struct msg_open *open, const struct model_settings *has, char *why,
                            size_t why_bytes)
{
	if (open->nonfinite != MSG_NONFINITE_UNSET && open->nonfinite != has->nonfinite)
		return settings_conflict(why, why_bytes, "nonfinite", msg_nonfinite_name(open->nonfinite),
		                         msg_nonfinite_name(has->nonfinite));
	return compare_loss_scale(open, &has->loss_scale, why, why_bytes);
}
