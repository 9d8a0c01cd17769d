/*
 * Settings, the groups: a worker's read and compared, a model's told.
 *
 * What is told of a group is what it has over the model's own optimizer, or of another
 * rule all: read again over the same optimizer it gives the same group, and eight of them
 * fit the header.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "server/core/settings_parts.h"

/* ---- reading ------------------------------------------------------------ */

static bool is_bare(const struct msg_group *given)
{
	return given->optimizer.size == 0 && given->match.size == 0 && given->hyper_count == 0 &&
	       given->schedule_count == 0 && given->lr_factor == 0;
}

/* Over what the group began with; the factor last, on its own lr. */
static int read_over(const struct msg_group *given, struct group *group, char *why, size_t why_bytes)
{
	int rc = settings_read_hypers(given->hypers, given->hyper_count, &group->optim, why, why_bytes);
	if (rc == OPTD_OK)
		rc = settings_read_schedule(given->schedule, given->schedule_count, &group->optim.schedule, why,
		                            why_bytes);
	if (rc == OPTD_OK && given->lr_factor != 0)
		rc = group_scale(group, given->lr_factor, why, why_bytes);
	return rc == OPTD_OK ? optim_check(&group->optim, why, why_bytes) : rc;
}

static int read_group(const struct msg_group *given, const struct optim *own, struct group *group, char *why,
                      size_t why_bytes)
{
	char tensors[LIMIT_PATTERN_BYTES], name[64], match[16];

	settings_name(given->tensors, tensors, sizeof(tensors));
	settings_name(given->optimizer, name, sizeof(name));
	settings_name(given->match, match, sizeof(match));
	int rc = group_begin(group, tensors, own, given->optimizer.size > 0 ? name : NULL,
	                     given->match.size > 0 ? match : NULL, why, why_bytes);
	if (rc < 0)
		return rc;
	group->frozen = given->frozen;
	if (!given->frozen)
		return read_over(given, group, why, why_bytes);
	if (is_bare(given))
		return OPTD_OK;
	snprintf(why, why_bytes, "a frozen group is not updated, so it has no optimizer and no settings");
	return OPTD_HYPER;
}

int settings_read_groups(const struct msg_open *open, const struct optim *own, struct groups *groups,
                         char *why, size_t why_bytes)
{
	char detail[400];

	assert(open->group_count <= LIMIT_GROUPS);
	memset(groups, 0, sizeof(*groups));
	for (uint32_t i = 0; i < open->group_count; i++) {
		const struct msg_text *tensors = &open->groups[i].tensors;
		int rc = read_group(&open->groups[i], own, &groups->list[i], detail, sizeof(detail));
		if (rc < 0) {
			snprintf(why, why_bytes, "group %u ('%.*s'): %s", i + 1, (int)tensors->size, tensors->bytes,
			         detail);
			return rc;
		}
	}
	groups->count = open->group_count;
	return OPTD_OK;
}

int settings_settle_groups(struct groups *groups, char *why, size_t why_bytes)
{
	char detail[400];

	for (uint32_t i = 0; i < groups->count; i++) {
		struct group *group = &groups->list[i];
		int rc = group->frozen ? OPTD_OK : optim_settle(&group->optim, detail, sizeof(detail));
		if (rc < 0) {
			snprintf(why, why_bytes, "group %u ('%s'): %s", i + 1, group->tensors, detail);
			return rc;
		}
	}
	return OPTD_OK;
}

/* ---- comparing ---------------------------------------------------------- */

/* "2 ('*.bias', 'bn.*')" or "none". */
static void list_text(const struct groups *groups, char *text, size_t bytes)
{
	size_t used = (size_t)snprintf(text, bytes, groups->count > 0 ? "%u" : "none", groups->count);

	for (uint32_t i = 0; i < groups->count && used < bytes; i++)
		used += (size_t)snprintf(text + used, bytes - used, "%s'%.24s'%s", i == 0 ? " (" : ", ",
		                         groups->list[i].tensors, i + 1 == groups->count ? ")" : "");
}

static int conflict(const struct groups *given, const struct groups *has, char *why, size_t why_bytes)
{
	char a[160], b[160];

	list_text(given, a, sizeof(a));
	list_text(has, b, sizeof(b));
	snprintf(why, why_bytes, "groups: %s is asked for, the model has %s; say the same, leave them out, or "
	         "name another model", a, b);
	return OPTD_CONFLICT;
}

static int compare_group(const struct group *given, const struct group *has, uint32_t number, char *why,
                         size_t why_bytes)
{
	char detail[200];

	if (given->frozen != has->frozen)
		snprintf(detail, sizeof(detail), "frozen: %s, %s", given->frozen ? "yes" : "no",
		         has->frozen ? "yes" : "no");
	else if (has->frozen || optim_compare(&given->optim, &has->optim, detail, sizeof(detail)) == 0)
		return OPTD_OK;
	snprintf(why, why_bytes, "group %u ('%.64s') (asked for, the model's): %s; say the same, leave the groups "
	         "out, or name another model", number, has->tensors, detail);
	return OPTD_CONFLICT;
}

int settings_compare_groups(const struct msg_open *open, const struct model_settings *has, char *why,
                            size_t why_bytes)
{
	const struct groups *groups = &has->groups;
	struct groups given;

	if (open->group_count == 0 && !open->whole_settings)
		return OPTD_OK;
	int rc = settings_read_groups(open, &has->optim, &given, why, why_bytes);
	if (rc < 0)
		return rc;
	if (given.count != groups->count)
		return conflict(&given, groups, why, why_bytes);
	for (uint32_t i = 0; i < groups->count; i++) {
		if (strcmp(given.list[i].tensors, groups->list[i].tensors) != 0)
			return conflict(&given, groups, why, why_bytes);
	}
	for (uint32_t i = 0; rc == OPTD_OK && i < groups->count; i++)
		rc = compare_group(&given.list[i], &groups->list[i], i + 1, why, why_bytes);
	return rc;
}

/* ---- telling ------------------------------------------------------------ */

static bool same_values(const double *a, const double *b)
{
	for (uint32_t i = 0; i < OPTIM_VALUES_MAX; i++) {
		if (a[i] != b[i])
			return false;
	}
	return true;
}

static void tell_hypers(const struct group *group, const struct optim *own, struct msg_group *out,
                        struct msg_hyper *hypers)
{
	const struct optim *optim = &group->optim;
	bool same = optim->rule == own->rule;

	out->hypers = hypers;
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		if (!same || !same_values(optim->values[i], own->values[i]))
			settings_tell_hyper(optim, i, &hypers[out->hyper_count++]);
	}
}

static void tell_group(const struct group *group, const struct optim *own, struct msg_group *out,
                       struct msg_hyper *hypers, struct msg_schedule_part *schedule)
{
	const struct optim *optim = &group->optim;
	bool same = optim->rule == own->rule;

	*out = (struct msg_group){.tensors = settings_text_of(group->tensors), .frozen = group->frozen};
	if (group->frozen)
		return;
	out->whole = optim_rule_class(optim->rule) == OPTIM_TENSOR;
	if (!same)
		out->optimizer = settings_text_of(optim_rule_name(optim->rule));
	if (!same || optim->match != own->match)
		out->match = settings_text_of(optim_match_name(optim->match));
	tell_hypers(group, own, out, hypers);
	out->schedule = schedule;
	if (!same || !schedule_equal(&optim->schedule, &own->schedule))
		out->schedule_count = settings_tell_schedule(&optim->schedule, schedule);
}

void settings_tell_groups(const struct model_settings *settings, struct settings_told *told)
{
	const struct groups *groups = &settings->groups;

	for (uint32_t i = 0; i < groups->count; i++)
		tell_group(&groups->list[i], &settings->optim, &told->groups[i], told->hypers[i], told->schedules[i]);
}

/* ---- their bytes -------------------------------------------------------- */

/* What stands before a field, at most: before one that holds others, and before a name, a
 * pattern or a list of numbers.  tests/net/test_told_groups.c holds this against the wire. */
#define OUTER_BYTES 4u
#define INNER_BYTES 3u
#define UNTIL_BYTES 11u

static uint32_t hyper_bytes(struct msg_text name, uint32_t values)
{
	return OUTER_BYTES + 2 * INNER_BYTES + name.size + values * (uint32_t)sizeof(double);
}

static uint32_t schedule_bytes(const struct msg_schedule_part *parts, uint32_t count)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < count; i++) {
		bytes += OUTER_BYTES + INNER_BYTES + parts[i].name.size + UNTIL_BYTES;
		for (uint32_t j = 0; j < parts[i].param_count; j++)
			bytes += hyper_bytes(parts[i].params[j].name, parts[i].params[j].count);
	}
	return bytes;
}

static uint32_t hypers_bytes(const struct msg_hyper *hypers, uint32_t count)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += hyper_bytes(hypers[i].name, hypers[i].count);
	return bytes;
}

static uint32_t average_bytes(const struct msg_average *average)
{
	if (average->kind.size == 0)
		return 0;
	return OUTER_BYTES + INNER_BYTES + average->kind.size + hypers_bytes(average->hypers, average->hyper_count);
}

int settings_fit(const struct model_settings *settings, char *why, size_t why_bytes)
{
	struct settings_told told;
	struct msg_rule rule = {.group_count = 0};
	uint32_t bytes = 0;

	if (settings->groups.count == 0)
		return OPTD_OK;
	settings_tell(settings, &rule);
	settings_tell_groups(settings, &told);
	bytes = 3 * INNER_BYTES + rule.name.size + rule.match.size + hypers_bytes(rule.hypers, rule.hyper_count) +
	        schedule_bytes(rule.schedule, rule.schedule_count) + average_bytes(&rule.average);
	for (uint32_t i = 0; i < settings->groups.count; i++) {
		const struct msg_group *g = &told.groups[i];
		bytes += OUTER_BYTES + 5 * INNER_BYTES + g->tensors.size + g->optimizer.size + g->match.size +
		         hypers_bytes(g->hypers, g->hyper_count) + schedule_bytes(g->schedule, g->schedule_count);
	}
	if (bytes <= LIMIT_TOLD_BYTES)
		return OPTD_OK;
	snprintf(why, why_bytes, "the optimizer and its %u groups take %u bytes of a message's header, which has room "
	         "for %u: give fewer groups, shorter patterns, or fewer schedules of their own",
	         settings->groups.count, bytes, LIMIT_TOLD_BYTES);
	return OPTD_TOO_LARGE;
}
