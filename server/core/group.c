/* Groups: what each is under, and which tensors are in it. */
#include "server/core/group.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/status.h"
#include "proto/utf8.h"

/* ---- making one --------------------------------------------------------- */

static int set_tensors(struct group *group, const char *tensors, char *why, size_t why_bytes)
{
	struct glob glob;
	char fault[128];

	if (glob_parse(&glob, tensors, fault, sizeof(fault)) < 0) {
		snprintf(why, why_bytes, "tensors '%.64s' %s", tensors, fault);
		return OPTD_HYPER;
	}
	memcpy(group->tensors, tensors, strlen(tensors));
	return OPTD_OK;
}

static int find_match(const char *match, enum optim_match *out, char *why, size_t why_bytes)
{
	int found = match == NULL ? (int)*out : optim_match_find(match);

	if (found < 0) {
		snprintf(why, why_bytes, "match is '%.32s'; it may be torch2, torch1 or numpy", match);
		return OPTD_HYPER;
	}
	*out = (enum optim_match)found;
	return OPTD_OK;
}

/* The model's own settings, with another match if one is given. */
static int take_own(struct group *group, const struct optim *own, const char *match, char *why,
                    size_t why_bytes)
{
	enum optim_match which = own->match;
	struct optim scratch;

	int rc = find_match(match, &which, why, why_bytes);
	if (rc == OPTD_OK)
		rc = optim_init(&scratch, own->rule, which, why, why_bytes);
	if (rc < 0)
		return rc;
	group->optim = *own;
	group->optim.match = which;
	return OPTD_OK;
}

int group_begin(struct group *group, const char *tensors, const struct optim *own, const char *name,
                const char *match, char *why, size_t why_bytes)
{
	enum optim_match which = OPTIM_TORCH2;

	memset(group, 0, sizeof(*group));
	int rc = set_tensors(group, tensors, why, why_bytes);
	if (rc < 0)
		return rc;
	if (name == NULL || strcmp(name, optim_rule_name(own->rule)) == 0)
		return take_own(group, own, match, why, why_bytes);
	const struct optim_rule *rule = optim_find(name);
	if (rule == NULL) {
		optim_unknown(name, why, why_bytes);
		return OPTD_HYPER;
	}
	rc = find_match(match, &which, why, why_bytes);
	return rc < 0 ? rc : optim_init(&group->optim, rule, which, why, why_bytes);
}

int group_scale(struct group *group, double factor, char *why, size_t why_bytes)
{
	struct optim *optim = &group->optim;
	char reason[256];
	uint32_t i = 0, count = optim_hyper_count(optim->rule);

	while (i < count && strcmp(optim_hyper(optim->rule, i)->name, "lr") != 0)
		i++;
	if (i == count) {
		snprintf(why, why_bytes, "lr_factor is of lr, which %s does not have", optim_rule_name(optim->rule));
		return OPTD_HYPER;
	}
	if (!schedule_takes_lr(&optim->schedule)) {
		snprintf(why, why_bytes, "lr_factor is without effect under onecycle, whose rates come from its "
		         "max_lr: give the group a schedule of its own");
		return OPTD_HYPER;
	}
	double lr = optim->values[i][0] * factor;
	int rc = optim_set(optim, "lr", &lr, 1, reason, sizeof(reason));
	if (rc < 0)
		snprintf(why, why_bytes, "lr_factor=%g: %s", factor, reason);
	return rc;
}

/* ---- looking ------------------------------------------------------------ */

const struct optim *groups_optim(const struct groups *groups, const struct optim *own, uint32_t number)
{
	assert(number <= groups->count);
	if (number == 0)
		return own;
	return groups->list[number - 1].frozen ? NULL : &groups->list[number - 1].optim;
}

static uint32_t most(const struct groups *groups, const struct optim *own,
                     uint32_t (*count_of)(const struct optim *optim))
{
	uint32_t highest = 0;

	for (uint32_t i = 0; i <= groups->count; i++) {
		const struct optim *optim = groups_optim(groups, own, i);
		uint32_t count = optim != NULL ? count_of(optim) : 0;
		highest = count > highest ? count : highest;
	}
	return highest;
}

bool groups_scaled(const struct optim *optim)
{
	return optim == NULL || optim_rule_push(optim->rule) == OPTIM_GRADIENT;
}

bool groups_mixed(const struct groups *groups, const struct optim *own)
{
	bool first = groups_scaled(own), mixed = false;

	for (uint32_t i = 1; i <= groups->count; i++)
		mixed |= groups_scaled(groups_optim(groups, own, i)) != first;
	return mixed;
}

const struct optim *groups_answering(const struct groups *groups, const struct optim *own)
{
	for (uint32_t i = 0; i <= groups->count; i++) {
		const struct optim *optim = groups_optim(groups, own, i);
		if (optim != NULL && optim_replies(optim))
			return optim;
	}
	return NULL;
}

uint32_t groups_slot_count(const struct groups *groups, const struct optim *own)
{
	return most(groups, own, optim_slot_count);
}

uint32_t groups_carry_count(const struct groups *groups, const struct optim *own)
{
	return most(groups, own, optim_carry_count);
}

#define NEAR 3

/* The names nearest to a pattern so far, in order; room for one more, which falls off. */
struct near {
	const char *names[NEAR + 1];
	uint32_t distances[NEAR + 1];
	uint32_t count;
};

static void near_add(struct near *near, const char *name, uint32_t distance)
{
	uint32_t i = near->count;

	for (; i > 0 && near->distances[i - 1] > distance; i--) {
		near->names[i] = near->names[i - 1];
		near->distances[i] = near->distances[i - 1];
	}
	near->names[i] = name;
	near->distances[i] = distance;
	if (near->count < NEAR)
		near->count++;
}

static int refuse_unmatched(const struct groups *groups, uint32_t number, const struct layout *layout,
                            char *why, size_t why_bytes)
{
	const char *pattern = groups->list[number - 1].tensors;
	uint32_t count = layout_tensor_count(layout);
	struct near near = {.count = 0};
	size_t used;

	for (uint32_t i = 0; i < count && i < LIMIT_NEAREST_TENSORS; i++) {
		const char *name = layout_tensor(layout, i)->name;
		near_add(&near, name, glob_distance(pattern, name));
	}
	snprintf(why, why_bytes, "group %u: '%s' matches no tensor; ", number, pattern);
	used = strlen(why);
	if (count == 1)
		snprintf(why + used, why_bytes - used, "there is only");
	else
		snprintf(why + used, why_bytes - used, "of the %u the nearest are", count);
	for (uint32_t i = 0; i < near.count; i++) {
		used = strlen(why);
		snprintf(why + used, why_bytes - used, "%s '%.80s'", i == 0 ? "" : ",", near.names[i]);
	}
	why[utf8_prefix(why, strlen(why))] = '\0';
	return OPTD_HYPER;
}

/* All that it matches is another's: who wrote it meant something else. */
static int refuse_shadowed(const struct groups *groups, uint32_t number, uint32_t other, const char *name,
                           char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "group %u: '%s' has no tensor: those it matches ('%.80s') are in a group before "
	         "it, such as %u: '%s'; the first that matches has a tensor", number,
	         groups->list[number - 1].tensors, name, other, groups->list[other - 1].tensors);
	why[utf8_prefix(why, strlen(why))] = '\0';
	return OPTD_HYPER;
}

static int refuse_group(const struct groups *groups, const struct group_finder *finder, uint32_t number,
                        const struct layout *layout, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		const char *name = layout_tensor(layout, i)->name;
		if (glob_match(&finder->globs[number - 1], name))
			return refuse_shadowed(groups, number, group_find(finder, name), name, why, why_bytes);
	}
	return refuse_unmatched(groups, number, layout, why, why_bytes);
}

int groups_fit(const struct groups *groups, const struct layout *layout, char *why, size_t why_bytes)
{
	struct group_finder finder;
	bool has[LIMIT_GROUPS + 1] = {false};

	group_finder_init(&finder, groups);
	for (uint32_t i = 0; groups->count > 0 && i < layout_tensor_count(layout); i++)
		has[group_find(&finder, layout_tensor(layout, i)->name)] = true;
	for (uint32_t i = 1; i <= groups->count; i++) {
		if (!has[i])
			return refuse_group(groups, &finder, i, layout, why, why_bytes);
	}
	return OPTD_OK;
}

/* As snprintf: what it takes, also of what does not fit. */
static size_t group_text(const struct group *group, const struct optim *own, char *text, size_t text_bytes)
{
	size_t used = (size_t)snprintf(text, text_bytes, " '%s' %s", group->tensors, group->frozen ? "frozen" : "");

	if (group->frozen || used >= text_bytes)
		return used;
	return used + optim_text_over(&group->optim, own, text + used, text_bytes - used);
}

void groups_text(const struct groups *groups, const struct optim *own, char *text, size_t text_bytes)
{
	static const char dots[] = "...";
	size_t used = optim_text(own, text, text_bytes);

	for (uint32_t i = 0; i < groups->count && used < text_bytes; i++) {
		if (i == 0)
			used += (size_t)snprintf(text + used, text_bytes - used, "; %u group%s:", groups->count,
			                         groups->count == 1 ? "" : "s");
		else
			used += (size_t)snprintf(text + used, text_bytes - used, ",");
		if (used < text_bytes)
			used += group_text(&groups->list[i], own, text + used, text_bytes - used);
	}
	if (used < text_bytes)
		return;
	used = utf8_prefix(text, text_bytes - sizeof(dots));
	memcpy(text + used, dots, sizeof(dots));
}

/* ---- which tensor has which --------------------------------------------- */

void group_finder_init(struct group_finder *finder, const struct groups *groups)
{
	char why[128];

	finder->count = groups->count;
	for (uint32_t i = 0; i < groups->count; i++) {
		int rc = glob_parse(&finder->globs[i], groups->list[i].tensors, why, sizeof(why));
		assert(rc == OPTD_OK);
		(void)rc;
	}
}

uint32_t group_find(const struct group_finder *finder, const char *name)
{
	for (uint32_t i = 0; i < finder->count; i++) {
		if (glob_match(&finder->globs[i], name))
			return i + 1;
	}
	return 0;
}
