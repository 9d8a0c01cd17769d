/*
 * Four texts at most: the policy where it is not the mode's own, the step that was the last to
 * be skipped, the loss scale's settings, and where it stands:
 *
 *     nonfinite       "zero"
 *     skipped         "120,2,7"            version that it made, rank, tensor + 1
 *     loss_scale      "65536,2,0.5,2000"   as struct msg_loss_scale has them
 *     loss_scale.now  "32768,7,1234"       scale, growth tracker, steps seen
 */
#include "server/disk/manifest_finite.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/core/settings.h"
#include "server/disk/file.h"

/* Of another policy than the mode's own. */
static bool has_policy(const struct checkpoint *about)
{
	return about->nonfinite != MSG_NONFINITE_UNSET && about->nonfinite != settings_nonfinite_of(about->mode);
}

bool manifest_has_finite(const struct checkpoint *about)
{
	return has_policy(about) || about->loss_scale.given || about->skips.version > 0;
}

/* Room for the next text; its key is a constant. */
static char *add(struct manifest *manifest, const char *key)
{
	char *value = manifest->values[manifest->count];

	manifest->texts[manifest->count++] = (struct safetensors_text){ key, value };
	return value;
}

void manifest_put_finite(const struct checkpoint *about, struct manifest *manifest)
{
	const struct msg_loss_scale *settings = &about->loss_scale;
	const struct scaler *scaler = &about->scaler;

	if (has_policy(about))
		snprintf(add(manifest, "nonfinite"), MANIFEST_VALUE_BYTES, "%s", msg_nonfinite_name(about->nonfinite));
	if (about->skips.version > 0)
		snprintf(add(manifest, "skipped"), MANIFEST_VALUE_BYTES, "%" PRIu64 ",%" PRIu32 ",%" PRIu32,
		         about->skips.version, about->skips.rank, about->skips.tensor_plus_one);
	if (!settings->given)
		return;
	snprintf(add(manifest, "loss_scale"), MANIFEST_VALUE_BYTES, "%.17g,%.17g,%.17g,%" PRIu32, settings->init_scale,
	         settings->growth_factor, settings->backoff_factor, settings->growth_interval);
	snprintf(add(manifest, "loss_scale.now"), MANIFEST_VALUE_BYTES, "%.9g,%" PRIu32 ",%" PRIu64,
	         (double)scaler->scale, scaler->tracker, scaler->steps);
}

static int refuse(const char *key, const char *what, char *why, size_t why_bytes)
{
	return disk_fail(OPTD_CORRUPT, why, why_bytes, "metadata: '%s' %s", key, what);
}

/* What a list goes on with. */
static bool take_comma(const char **at)
{
	return *(*at)++ == ',';
}

static bool take_real(const char **at, double *out)
{
	char *end;

	*out = strtod(*at, &end);
	bool good = end != *at && isfinite(*out);
	*at = end;
	return good;
}

static bool take_whole(const char **at, uint64_t most, uint64_t *out)
{
	size_t digits = strspn(*at, "0123456789");

	*out = digits > 0 && digits <= 19 ? strtoull(*at, NULL, 10) : UINT64_MAX;
	*at += digits;
	return *out <= most;
}

static int get_policy(const struct safetensors *head, struct checkpoint *about, char *why, size_t why_bytes)
{
	const char *name = safetensors_metadata(head, "nonfinite");

	if (!name)
		return OPTD_OK;
	about->nonfinite = msg_nonfinite_find((struct msg_text){ name, (uint32_t)strlen(name) });
	return about->nonfinite != MSG_NONFINITE_UNSET
	               ? OPTD_OK
	               : refuse("nonfinite", "is not one that this version knows", why, why_bytes);
}

static int get_skipped(const char *text, struct checkpoint *about, char *why, size_t why_bytes)
{
	const char *at = text;
	uint64_t version, rank, tensor;

	if (!take_whole(&at, LIMIT_COUNTER, &version) || version == 0 || !take_comma(&at) ||
	    !take_whole(&at, MSG_SKIPPED_SUM - 1, &rank) || !take_comma(&at) ||
	    !take_whole(&at, LIMIT_TENSORS, &tensor) || *at != '\0' || about->mode != MSG_SYNC)
		return refuse("skipped", "is not a step of sync, a rank and a tensor", why, why_bytes);
	about->skips = (struct skips){ .version = version, .rank = (uint32_t)rank, .tensor_plus_one = (uint32_t)tensor };
	return OPTD_OK;
}

static int get_settings(const char *text, struct msg_loss_scale *settings, char *why, size_t why_bytes)
{
	const char *at = text;
	uint64_t interval;

	if (!take_real(&at, &settings->init_scale) || !take_comma(&at) || !take_real(&at, &settings->growth_factor) ||
	    !take_comma(&at) || !take_real(&at, &settings->backoff_factor) || !take_comma(&at) ||
	    !take_whole(&at, LIMIT_GROWTH_INTERVAL, &interval) || *at != '\0')
		return refuse("loss_scale", "is not a list of four numbers", why, why_bytes);
	settings->given = true;
	settings->growth_interval = (uint32_t)interval;
	return scaler_settings(settings, why, why_bytes) < 0 ? OPTD_CORRUPT : OPTD_OK;
}

static int get_scaler(const struct safetensors *head, struct checkpoint *about, char *why, size_t why_bytes)
{
	const char *at = safetensors_metadata(head, "loss_scale.now");
	uint64_t tracker, steps;
	double scale;

	if (!at || !take_real(&at, &scale) || !take_comma(&at) ||
	    !take_whole(&at, about->loss_scale.growth_interval - 1, &tracker) || !take_comma(&at) ||
	    !take_whole(&at, LIMIT_COUNTER, &steps) || *at != '\0' || !(scale >= LIMIT_LOSS_SCALE_MIN) ||
	    !(scale <= LIMIT_LOSS_SCALE_MAX))
		return refuse("loss_scale.now", "is not a scale, a growth tracker and a number of steps", why, why_bytes);
	about->scaler = (struct scaler){ (float)scale, (uint32_t)tracker, steps };
	return OPTD_OK;
}

int manifest_get_finite(const struct safetensors *head, bool keys, struct checkpoint *about, char *why,
                        size_t why_bytes)
{
	const char *settings = keys ? safetensors_metadata(head, "loss_scale") : NULL;
	const char *skipped = keys ? safetensors_metadata(head, "skipped") : NULL;
	char reason[256];
	int rc = OPTD_OK;

	about->nonfinite = settings_nonfinite_of(about->mode);
	if (keys)
		rc = get_policy(head, about, why, why_bytes);
	if (rc == OPTD_OK && settings)
		rc = get_settings(settings, &about->loss_scale, why, why_bytes);
	if (rc == OPTD_OK && settings)
		rc = get_scaler(head, about, why, why_bytes);
	if (rc == OPTD_OK && settings_check_finite(about->mode, about->nonfinite, about->loss_scale.given, reason,
	                                           sizeof reason) < 0)
		rc = disk_fail(OPTD_CORRUPT, why, why_bytes, "metadata: %s", reason);
	return rc == OPTD_OK && skipped ? get_skipped(skipped, about, why, why_bytes) : rc;
}
