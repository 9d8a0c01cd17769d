/* Settings, the average: a worker's read and compared, a model's told. */
#include <stdio.h>
#include <string.h>

#include "server/core/settings_parts.h"

/* What is named over what it begins with. */
static int read_over(const struct msg_average *given, struct average *average, char *why, size_t why_bytes)
{
	char name[64];
	int rc = OPTD_OK;

	for (uint32_t i = 0; rc == OPTD_OK && i < given->hyper_count; i++) {
		const struct msg_hyper *h = &given->hypers[i];
		settings_name(h->name, name, sizeof(name));
		rc = average_set(average, name, h->values, h->count, why, why_bytes);
	}
	return rc;
}

int settings_read_average(const struct msg_open *open, struct average *average, char *why, size_t why_bytes)
{
	char kind[64];

	memset(average, 0, sizeof(*average));
	if (open->average.kind.size == 0)
		return OPTD_OK;
	settings_name(open->average.kind, kind, sizeof(kind));
	int rc = average_begin(average, kind, why, why_bytes);
	return rc < 0 ? rc : read_over(&open->average, average, why, why_bytes);
}

/* As with the optimizer: of the same kind only what the worker named counts. */
static int merge(const struct msg_open *open, const struct average *has, struct average *given, char *why,
                 size_t why_bytes)
{
	int rc = settings_read_average(open, given, why, why_bytes);
	if (rc < 0 || given->optim.rule != has->optim.rule || !average_is_kept(has))
		return rc;
	*given = *has;
	return read_over(&open->average, given, why, why_bytes);
}

int settings_compare_average(const struct msg_open *open, const struct model_settings *has, char *why,
                             size_t why_bytes)
{
	char mine[AVERAGE_TEXT_BYTES], theirs[AVERAGE_TEXT_BYTES];
	struct average given;

	if (open->average.kind.size == 0 && !open->whole_settings)
		return OPTD_OK;
	int rc = merge(open, &has->average, &given, why, why_bytes);
	if (rc < 0 || average_equal(&given, &has->average))
		return rc;
	average_text(&given, mine, sizeof(mine));
	average_text(&has->average, theirs, sizeof(theirs));
	snprintf(why, why_bytes,
	         "average: %s is asked for, the model has %s; say the same, leave it out, or name another "
	         "model", mine, theirs);
	return OPTD_CONFLICT;
}

void settings_tell_average(const struct average *average, struct msg_average *out)
{
	memset(out, 0, sizeof(*out));
	if (!average_is_kept(average))
		return;
	out->kind = settings_text_of(average_kind(average));
	out->hyper_count = average_setting_count(average);
	for (uint32_t i = 0; i < out->hyper_count; i++)
		out->hypers[i] = (struct msg_hyper){.name = settings_text_of(average_setting(average, i)->name),
		                                    .values = {average_value(average, i)},
		                                    .count = 1};
}
