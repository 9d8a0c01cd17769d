/* Settings, the clipping: a worker's read and compared, and all of a model's in words. */
#include <stdio.h>
#include <string.h>

#include "server/core/clipping.h"
#include "server/core/settings_parts.h"

int settings_read_clip(const struct msg_open *open, struct model_settings *settings, char *why,
                       size_t why_bytes)
{
	struct msg_clip *clip = &settings->clip;

	/* A limit of the config is the limit: another kind beside it is the worker's mistake,
	 * which comparing finds. */
	if (!clipping_on(clip)) {
		clip->norm = open->clip.norm;
		clip->tensor_norm = open->clip.tensor_norm;
	}
	if (clip->norm_type == 0)
		clip->norm_type = open->clip.norm_type;
	int rc = clipping_check(clip, settings->mode, why, why_bytes);
	if (rc == OPTD_OK && clipping_on(clip))
		clip->norm_type = clipping_type(clip);
	return rc;
}

static void value_text(double value, char text[CLIPPING_NUMBER_BYTES])
{
	if (value == 0)
		snprintf(text, CLIPPING_NUMBER_BYTES, "none");
	else
		clipping_number(value, text);
}

static int compare(const char *name, double given, double has, bool whole, char *why, size_t why_bytes)
{
	char a[CLIPPING_NUMBER_BYTES], b[CLIPPING_NUMBER_BYTES];

	if (given == has || (given == 0 && !whole))
		return OPTD_OK;
	value_text(given, a);
	value_text(has, b);
	snprintf(why, why_bytes, "%s: %s is asked for, the model has %s; say the same, leave it out, or name "
	         "another model", name, a, b);
	return OPTD_CONFLICT;
}

int settings_compare_clip(const struct msg_open *open, const struct model_settings *has, char *why,
                          size_t why_bytes)
{
	const struct msg_clip *given = &open->clip;
	bool whole = open->whole_settings;

	int rc = compare("clip_norm", given->norm, has->clip.norm, whole, why, why_bytes);
	if (rc == OPTD_OK)
		rc = compare("clip_tensor_norm", given->tensor_norm, has->clip.tensor_norm, whole, why, why_bytes);
	return rc < 0 ? rc
	              : compare("clip_norm_type", given->norm_type, has->clip.norm_type, whole, why, why_bytes);
}

void settings_describe(const struct model_settings *settings, char *text, size_t bytes)
{
	char clip[CLIPPING_TEXT_BYTES];

	clipping_text(&settings->clip, clip);
	groups_text(&settings->groups, &settings->optim, text, bytes - strlen(clip));
	size_t used = strlen(text);
	snprintf(text + used, bytes - used, "%s", clip);
}
