/* Which settings of clipping go together. */
#include "server/core/clipping.h"

#include <math.h>
#include <stdio.h>

bool clipping_on(const struct msg_clip *clip)
{
	return clip->norm > 0 || clip->tensor_norm > 0;
}

double clipping_type(const struct msg_clip *clip)
{
	return clip->norm_type != 0 ? clip->norm_type : 2;
}

static int check_limit(const char *name, double value, char *why, size_t why_bytes)
{
	if (value >= 0 && isfinite(value))
		return OPTD_OK;
	snprintf(why, why_bytes, "%s is %g; it must be above 0, or 0 for no limit", name, value);
	return OPTD_HYPER;
}

static int check_values(const struct msg_clip *clip, char *why, size_t why_bytes)
{
	int rc = check_limit("clip_norm", clip->norm, why, why_bytes);
	if (rc == OPTD_OK)
		rc = check_limit("clip_tensor_norm", clip->tensor_norm, why, why_bytes);
	if (rc < 0 || clip->norm_type == 0 || clip->norm_type >= 1)
		return rc;
	snprintf(why, why_bytes, "clip_norm_type is %g; it must be 1 or more, or inf", clip->norm_type);
	return OPTD_HYPER;
}

int clipping_check(const struct msg_clip *clip, enum msg_mode mode, char *why, size_t why_bytes)
{
	int rc = check_values(clip, why, why_bytes);
	if (rc < 0)
		return rc;
	if (clip->norm > 0 && clip->tensor_norm > 0) {
		snprintf(why, why_bytes,
		         "clip_norm is %g and clip_tensor_norm is %g; a model has one of them: the norm of all "
		         "tensors together is limited, or that of each",
		         clip->norm, clip->tensor_norm);
		return OPTD_HYPER;
	}
	if (clip->norm_type != 0 && !clipping_on(clip)) {
		snprintf(why, why_bytes, "clip_norm_type is %g, but there is no limit: give clip_norm or "
		         "clip_tensor_norm too", clip->norm_type);
		return OPTD_HYPER;
	}
	if (mode == MSG_ASYNC && clipping_on(clip)) {
		snprintf(why, why_bytes,
		         "%s is %g, but the mode is async, where each push is a gradient by itself: clip it in the "
		         "worker before it is pushed, which is the same",
		         clip->norm > 0 ? "clip_norm" : "clip_tensor_norm",
		         clip->norm > 0 ? clip->norm : clip->tensor_norm);
		return OPTD_HYPER;
	}
	return OPTD_OK;
}

int clipping_check_client(const struct msg_clip *clip, const struct msg_open *open, char *why,
                          size_t why_bytes)
{
	if (open->daemons <= 1 || open->relays_norms || !clipping_on(clip))
		return OPTD_OK;
	snprintf(why, why_bytes,
	         "%s is %g, and the model is shared among %u servers, whose parts of a norm their clients carry "
	         "from one to the other: this client does not, update it",
	         clip->norm > 0 ? "clip_norm" : "clip_tensor_norm",
	         clip->norm > 0 ? clip->norm : clip->tensor_norm, open->daemons);
	return OPTD_UNSUPPORTED;
}

void clipping_number(double value, char text[CLIPPING_NUMBER_BYTES])
{
	if (fabs(value) < 1e9 && value == floor(value)) {
		snprintf(text, CLIPPING_NUMBER_BYTES, "%.0f", value);
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		double back;
		snprintf(text, CLIPPING_NUMBER_BYTES, "%.*g", digits, value);
		if (sscanf(text, "%lf", &back) == 1 && back == value)
			return;
	}
}

void clipping_text(const struct msg_clip *clip, char text[CLIPPING_TEXT_BYTES])
{
	char limit[CLIPPING_NUMBER_BYTES], type[CLIPPING_NUMBER_BYTES];

	text[0] = '\0';
	if (!clipping_on(clip))
		return;
	clipping_number(clip->norm > 0 ? clip->norm : clip->tensor_norm, limit);
	clipping_number(clipping_type(clip), type);
	snprintf(text, CLIPPING_TEXT_BYTES, "; %s=%s%s%s", clip->norm > 0 ? "clip_norm" : "clip_tensor_norm", limit,
	         clipping_type(clip) != 2 ? " clip_norm_type=" : "", clipping_type(clip) != 2 ? type : "");
}
