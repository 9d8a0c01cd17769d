/*
 * The worker's settings are read into the same struct optim that the config
 * fills, by the same functions, so both are held to the same ranges.
 */
#include "server/core/settings.h"

#include <stdio.h>
#include <string.h>

#include "server/core/clipping.h"
#include "server/core/settings_parts.h"
#include "server/core/whole.h"

bool settings_text(struct msg_text text, char *to, size_t room)
{
	if (text.size >= room)
		return false;
	if (text.size > 0)
		memcpy(to, text.bytes, text.size);
	to[text.size] = '\0';
	return true;
}

void settings_name(struct msg_text text, char *to, size_t room)
{
	if (text.size >= room)
		text.size = (uint32_t)room - 1;
	settings_text(text, to, room);
}

static int read_schedule_part(const struct msg_schedule_part *given, struct schedule_part *part,
                              char *why, size_t why_bytes)
{
	char name[64];

	settings_name(given->name, name, sizeof(name));
	int kind = schedule_find(name);
	if (kind < 0) {
		const char *nearest = schedule_nearest(name);
		snprintf(why, why_bytes, "no schedule '%s'; %s%s%sthere are " SCHEDULE_NAMES, name,
		         nearest != NULL ? "the nearest is '" : "", nearest != NULL ? nearest : "",
		         nearest != NULL ? "'; " : "");
		return OPTD_HYPER;
	}
	schedule_part_init(part, (enum schedule_kind)kind);
	for (uint32_t i = 0; i < given->param_count; i++) {
		const struct msg_schedule_param *param = &given->params[i];
		settings_name(param->name, name, sizeof(name));
		int rc = schedule_set(part, name, param->values, param->count, why, why_bytes);
		if (rc < 0)
			return rc;
	}
	return OPTD_OK;
}

int settings_read_schedule(const struct msg_schedule_part *given, uint32_t count, struct schedule *schedule,
                           char *why, size_t why_bytes)
{
	int rc = OPTD_OK;

	if (count == 0)
		return rc;
	if (given[count - 1].until != 0) {
		snprintf(why, why_bytes, SETTINGS_LAST_UNTIL, (unsigned long long)given[count - 1].until);
		return OPTD_HYPER;
	}
	memset(schedule, 0, sizeof(*schedule));
	for (uint32_t i = 0; rc == OPTD_OK && i < count; i++) {
		rc = read_schedule_part(&given[i], &schedule->parts[i], why, why_bytes);
		schedule->ends[i] = given[i].until;
	}
	schedule->part_count = count;
	return rc;
}

int settings_read_hypers(const struct msg_hyper *hypers, uint32_t count, struct optim *optim, char *why,
                         size_t why_bytes)
{
	char name[64];
	int rc = OPTD_OK;

	for (uint32_t i = 0; rc == OPTD_OK && i < count; i++) {
		settings_name(hypers[i].name, name, sizeof(name));
		rc = optim_set(optim, name, hypers[i].values, hypers[i].count, why, why_bytes);
	}
	return rc;
}

/* The optimizer as the worker gave it.  OPTD_HYPER and why. */
static int read_optim(const struct msg_open *open, struct optim *optim, char *why, size_t why_bytes)
{
	char name[64], match[16];
	int rc = OPTD_HYPER;

	settings_name(open->optimizer, name, sizeof(name));
	settings_name(open->match, match, sizeof(match));
	const struct optim_rule *rule = optim_find(open->optimizer.size == 0 ? "sgd" : name);
	int m = open->match.size == 0 ? (int)OPTIM_TORCH2 : optim_match_find(match);
	if (rule == NULL) {
		optim_unknown(name, why, why_bytes);
		return rc;
	}
	if (m < 0) {
		snprintf(why, why_bytes, "match is '%s'; it may be torch2, torch1 or numpy", match);
		return rc;
	}
	rc = optim_init(optim, rule, (enum optim_match)m, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_read_hypers(open->hypers, open->hyper_count, optim, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_read_schedule(open->schedule, open->schedule_count, &optim->schedule, why, why_bytes);
	return rc == OPTD_OK ? optim_settle(optim, why, why_bytes) : rc;
}

static void append(char *why, size_t why_bytes, const char *text)
{
	size_t used = strlen(why);
	snprintf(why + used, why_bytes - used, "%s", text);
}

int settings_conflict(char *why, size_t why_bytes, const char *what, const char *given, const char *has)
{
	snprintf(why, why_bytes, "%s: %s is asked for, the model has %s; say the same, leave it out, or name another model",
	         what, given, has);
	return OPTD_CONFLICT;
}

static int conflict_number(char *why, size_t why_bytes, const char *what, uint32_t given,
                           uint32_t has)
{
	char a[16], b[16];
	snprintf(a, sizeof(a), "%u", given);
	snprintf(b, sizeof(b), "%u", has);
	return settings_conflict(why, why_bytes, what, a, b);
}

static int compare_rule(const struct msg_open *open, const struct optim *has, char *why,
                        size_t why_bytes)
{
	const char *rule = optim_rule_name(has->rule);
	char name[64], match[16];

	settings_name(open->optimizer, name, sizeof(name));
	settings_name(open->match, match, sizeof(match));
	if (open->optimizer.size > 0 && strcmp(name, rule) != 0)
		return settings_conflict(why, why_bytes, "optimizer", name, rule);
	if (open->match.size > 0 && strcmp(match, optim_match_name(has->match)) != 0)
		return settings_conflict(why, why_bytes, "match", match, optim_match_name(has->match));
	return OPTD_OK;
}

static int conflict_setting(char *why, size_t why_bytes, const char *detail)
{
	snprintf(why, why_bytes, "optimizer setting (asked for, the model's): %s; say the same, leave it out, or name "
	         "another model", detail);
	return OPTD_CONFLICT;
}

static int compare_schedule(const struct msg_open *open, const struct optim *has, char *why,
                            size_t why_bytes)
{
	struct optim merged = *has;
	char detail[300];

	if (open->whole_settings)
		memset(&merged.schedule, 0, sizeof(merged.schedule));
	int rc = settings_read_schedule(open->schedule, open->schedule_count, &merged.schedule, why, why_bytes);
	if (rc == OPTD_OK)
		rc = optim_check(&merged, why, why_bytes);
	if (rc < 0 || optim_compare(&merged, has, detail, sizeof(detail)) == 0)
		return rc;
	return conflict_setting(why, why_bytes, detail);
}

/* Only what the worker named is compared: the rest it takes from the model. */
static int compare_optim(const struct msg_open *open, const struct optim *has, char *why,
                         size_t why_bytes)
{
	struct optim merged = *has;
	char name[64];

	int rc = compare_rule(open, has, why, why_bytes);
	for (uint32_t i = 0; rc == OPTD_OK && i < open->hyper_count; i++) {
		const struct msg_hyper *h = &open->hypers[i];
		char detail[200];
		settings_name(h->name, name, sizeof(name));
		rc = optim_set(&merged, name, h->values, h->count, why, why_bytes);
		if (rc < 0 || optim_compare(&merged, has, detail, sizeof(detail)) == 0)
			continue;
		rc = conflict_setting(why, why_bytes, detail);
	}
	return rc == OPTD_OK ? compare_schedule(open, has, why, why_bytes) : rc;
}

static const char *mode_name(enum msg_mode mode)
{
	return mode == MSG_SYNC ? "sync" : "async";
}

static const char *reduce_name(enum msg_reduce reduce)
{
	return reduce == MSG_SUM ? "sum" : "mean";
}

int settings_compare(const struct msg_open *open, const struct model_settings *has, char *why,
                     size_t why_bytes)
{
	if (open->mode != MSG_MODE_UNSET && open->mode != has->mode)
		return settings_conflict(why, why_bytes, "mode", mode_name(open->mode), mode_name(has->mode));
	if (open->reduce != MSG_REDUCE_UNSET && open->reduce != has->reduce)
		return settings_conflict(why, why_bytes, "reduce", reduce_name(open->reduce),
		                         reduce_name(has->reduce));
	if (open->workers != 0 && open->workers != has->workers)
		return conflict_number(why, why_bytes, "workers", open->workers, has->workers);
	if (open->step_timeout_ms != 0 && open->step_timeout_ms != has->step_timeout_ms)
		return conflict_number(why, why_bytes, "step_timeout in ms", open->step_timeout_ms,
		                       has->step_timeout_ms);
	int rc = settings_compare_clip(open, has, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_compare_finite(open, has, why, why_bytes);
	if (rc == OPTD_OK)
		rc = compare_optim(open, &has->optim, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_compare_average(open, has, why, why_bytes);
	return rc == OPTD_OK ? settings_compare_groups(open, has, why, why_bytes) : rc;
}

int settings_answers(const struct model_settings *settings, char *why, size_t why_bytes)
{
	const struct optim *optim = groups_answering(&settings->groups, &settings->optim);

	bool whole = whole_any(&settings->groups, &settings->optim);

	if (optim == NULL || settings->mode != MSG_SYNC ||
	    (settings->workers <= 1 && !whole && !clipping_on(&settings->clip)))
		return OPTD_OK;
	if (settings->workers > 1)
		snprintf(why, why_bytes,
		         "%s answers each worker by itself: use mode async (this model is sync, with %u workers)",
		         optim_rule_name(optim->rule), settings->workers);
	else if (whole)
		snprintf(why, why_bytes,
		         "%s answers each worker by itself, as its push is applied, and cannot wait for a step of tensors "
		         "that are updated as a whole: use mode async, or other optimizers beside it",
		         optim_rule_name(optim->rule));
	else
		snprintf(why, why_bytes,
		         "%s answers each worker by itself, as its push is applied, and cannot wait for the norm of a "
		         "step: use mode async, or no clip_norm and no clip_tensor_norm",
		         optim_rule_name(optim->rule));
	return OPTD_HYPER;
}

static int read_all(const struct msg_open *open, struct model_settings *settings, char *why,
                    size_t why_bytes)
{
	int rc = read_optim(open, &settings->optim, why, why_bytes);

	if (rc == OPTD_OK)
		rc = settings_read_groups(open, &settings->optim, &settings->groups, why, why_bytes);
	return rc == OPTD_OK ? settings_settle_groups(&settings->groups, why, why_bytes) : rc;
}

int settings_make(const struct engine_options *options, const struct engine_preset *preset,
                  const struct msg_open *open, struct model_settings *settings, char *why,
                  size_t why_bytes)
{
	int rc = OPTD_OK;

	memset(settings, 0, sizeof(*settings));
	if (preset != NULL)
		*settings = preset->settings;
	if (preset == NULL || !preset->optim_given)
		rc = read_all(open, settings, why, why_bytes);
	if (rc == OPTD_OK && !average_is_kept(&settings->average))
		rc = settings_read_average(open, &settings->average, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_fit(settings, why, why_bytes);
	if (rc < 0)
		return rc;
	if (settings->mode == MSG_MODE_UNSET)
		settings->mode = open->mode != MSG_MODE_UNSET ? open->mode : MSG_SYNC;
	if (settings->reduce == MSG_REDUCE_UNSET)
		settings->reduce = open->reduce != MSG_REDUCE_UNSET ? open->reduce : MSG_MEAN;
	if (settings->workers == 0)
		settings->workers = open->workers != 0 ? open->workers : 1;
	if (settings->step_timeout_ms == 0)
		settings->step_timeout_ms = open->step_timeout_ms != 0 ? open->step_timeout_ms
		                                                       : options->step_timeout_ms;
	if (settings->workers > options->workers) {
		snprintf(why, why_bytes, "workers is %u; limits.workers allows %u", settings->workers,
		         options->workers);
		return OPTD_TOO_LARGE;
	}
	rc = settings_read_clip(open, settings, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_make_finite(open, settings, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_answers(settings, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_compare(open, settings, why, why_bytes);
	if (rc == OPTD_CONFLICT)
		append(why, why_bytes, "; it is not made yet, the server's config says so (models)");
	return rc;
}

struct msg_text settings_text_of(const char *constant)
{
	return (struct msg_text){constant, (uint32_t)strlen(constant)};
}

static void tell_param(struct msg_schedule_part *out, const char *name, const double *values,
                       uint32_t count)
{
	struct msg_schedule_param *param = &out->params[out->param_count++];

	param->name = settings_text_of(name);
	param->count = count;
	memcpy(param->values, values, count * sizeof(double));
}

static void tell_schedule_part(const struct schedule_part *part, struct msg_schedule_part *out)
{
	uint32_t count;
	const struct schedule_param *params = schedule_params(part->kind, &count);

	out->name = settings_text_of(schedule_name(part->kind));
	out->param_count = 0;
	for (uint32_t i = 0; i < count; i++)
		tell_param(out, params[i].name, &part->values[i], 1);
	if (part->kind == SCHEDULE_MULTISTEP)
		tell_param(out, "milestones", part->milestones, part->milestone_count);
}

void settings_tell_hyper(const struct optim *optim, uint32_t index, struct msg_hyper *out)
{
	const struct optim_hyper *hyper = optim_hyper(optim->rule, index);

	out->name = settings_text_of(hyper->name);
	out->count = hyper->count;
	memcpy(out->values, optim->values[index], hyper->count * sizeof(double));
}

uint32_t settings_tell_schedule(const struct schedule *schedule, struct msg_schedule_part *out)
{
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		tell_schedule_part(&schedule->parts[i], &out[i]);
		out[i].until = schedule->ends[i];
	}
	return schedule->part_count;
}

void settings_tell(const struct model_settings *settings, struct msg_rule *out)
{
	const struct optim *optim = &settings->optim;

	out->name = settings_text_of(optim_rule_name(optim->rule));
	out->match = settings_text_of(optim_match_name(optim->match));
	out->whole = optim_rule_class(optim->rule) == OPTIM_TENSOR;
	out->hyper_count = optim_hyper_count(optim->rule);
	for (uint32_t i = 0; i < out->hyper_count; i++)
		settings_tell_hyper(optim, i, &out->hypers[i]);
	out->schedule_count = settings_tell_schedule(&optim->schedule, out->schedule);
	out->clip = settings->clip;
	settings_tell_average(&settings->average, &out->average);
}
