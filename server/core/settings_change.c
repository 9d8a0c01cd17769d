/*
 * Settings, changes: what SET asks for, and whether a model that runs can go on with it.
 *
 * A model that runs keeps its state: what would need another number of state vectors, or
 * others, is refused, and so is what only says how they begin, and what a schedule or
 * another setting has taken the place of.
 */
#include <stdio.h>
#include <string.h>

#include "proto/nearest.h"
#include "server/core/settings_parts.h"

/* ---- reading ------------------------------------------------------------ */

static int refuse_pattern(const struct groups *groups, const char *tensors, char *why, size_t why_bytes)
{
	struct nearest nearest = nearest_of(tensors);

	for (uint32_t i = 0; i < groups->count; i++)
		nearest_try(&nearest, groups->list[i].tensors);
	if (groups->count == 0)
		snprintf(why, why_bytes, "it has no group '%s', nor any other", tensors);
	else if (nearest.best == NULL)
		snprintf(why, why_bytes, "it has no group '%s', and none of its %u is like it", tensors,
		         groups->count);
	else
		snprintf(why, why_bytes, "it has no group '%s'; the nearest of %u is '%s'", tensors, groups->count,
		         nearest.best);
	return OPTD_HYPER;
}

static int find_group(const struct groups *groups, struct msg_text given, uint32_t *number, char *why,
                      size_t why_bytes)
{
	char tensors[LIMIT_PATTERN_BYTES];
	uint32_t i = 0;

	*number = 0;
	if (given.size == 0)
		return OPTD_OK;
	settings_name(given, tensors, sizeof(tensors));
	while (i < groups->count && strcmp(groups->list[i].tensors, tensors) != 0)
		i++;
	if (i == groups->count)
		return refuse_pattern(groups, tensors, why, why_bytes);
	if (groups->list[i].frozen) {
		snprintf(why, why_bytes, "group %u ('%s') is frozen: it is not updated, so it has no settings", i + 1,
		         tensors);
		return OPTD_HYPER;
	}
	*number = i + 1;
	return OPTD_OK;
}

static uint32_t index_of(const struct optim_rule *rule, const char *name)
{
	uint32_t i = 0;

	while (strcmp(optim_hyper(rule, i)->name, name) != 0)
		i++;
	return i;
}

/* What onecycle moves by itself.  The second beta, which stands beside the first, may change. */
static int refuse_scheduled(const struct optim *optim, uint32_t index, const double *values, char *why,
                            size_t why_bytes)
{
	const char *name = optim_hyper(optim->rule, index)->name;
	const char *which = strcmp(name, "betas") == 0 ? "the first of betas" : name;

	if (strcmp(name, "lr") == 0 && !schedule_takes_lr(&optim->schedule)) {
		snprintf(why, why_bytes, "lr is without effect under onecycle, whose rates come from its max_lr");
		return OPTD_HYPER;
	}
	if (index != optim_cycled(optim) || schedule_takes_momentum(&optim->schedule) ||
	    values[0] == optim->values[index][0])
		return OPTD_OK;
	snprintf(why, why_bytes, "%s is without effect under onecycle, which moves it between 0.95 and 0.85 "
	         "(cycle_momentum)", which);
	return OPTD_HYPER;
}

/* One that optim_set took. */
static int read_hyper(const struct msg_hyper *given, struct optim *optim, struct change *change, char *why,
                      size_t why_bytes)
{
	const struct optim has = *optim;
	char name[64];

	settings_name(given->name, name, sizeof(name));
	int rc = optim_set(optim, name, given->values, given->count, why, why_bytes);
	if (rc < 0)
		return rc;
	uint32_t index = index_of(optim->rule, name);
	if (change->given >> index & 1) {
		snprintf(why, why_bytes, "%s is given twice", name);
		return OPTD_HYPER;
	}
	change->given |= 1u << index;
	memcpy(change->values[index], given->values, given->count * sizeof(double));
	return refuse_scheduled(&has, index, given->values, why, why_bytes);
}

int settings_read_change(const struct model_settings *has, const struct msg_set *set, struct change *change,
                         char *why, size_t why_bytes)
{
	memset(change, 0, sizeof(*change));
	int rc = find_group(&has->groups, set->tensors, &change->group, why, why_bytes);
	if (rc < 0)
		return rc;
	struct optim optim = *groups_optim(&has->groups, &has->optim, change->group);
	for (uint32_t i = 0; rc == OPTD_OK && i < set->hyper_count; i++)
		rc = read_hyper(&set->hypers[i], &optim, change, why, why_bytes);
	return rc;
}

/* ---- checking ----------------------------------------------------------- */

static void slots_text(const struct optim *optim, char *text, size_t bytes)
{
	size_t used = 0;

	snprintf(text, bytes, "none");
	for (uint32_t i = 0; i < optim_slot_count(optim) && used < bytes; i++)
		used += (size_t)snprintf(text + used, bytes - used, "%s%s", i == 0 ? "" : ", ",
		                         optim_slot_name(optim, i));
	for (uint32_t i = 0; i < optim_carry_count(optim) && used < bytes; i++)
		used += (size_t)snprintf(text + used, bytes - used, "%s%s", used == 0 ? "" : ", ",
		                         optim_carry_name(optim, i));
}

/* What is kept, for the values that it has had so far, is kept for those to come. */
static int check_state(const struct optim *made, const struct optim *is, char *why, size_t why_bytes)
{
	char needs[128], has[128];

	slots_text(is, needs, sizeof(needs));
	slots_text(made, has, sizeof(has));
	if (strcmp(needs, has) != 0) {
		snprintf(why, why_bytes,
		         "%s: these settings take other optimizer state (%s) than the model has (%s), which cannot be "
		         "changed while it runs", optim_rule_name(is->rule), needs, has);
		return OPTD_HYPER;
	}
	for (uint32_t i = 0; i < optim_slot_count(is); i++) {
		float begins = optim_slot_initial(is, i), began = optim_slot_initial(made, i);
		if (begins == began)
			continue;
		snprintf(why, why_bytes,
		         "%s: %s would begin with %g where it began with %g: the model has begun, so that this would be "
		         "without effect", optim_rule_name(is->rule), optim_slot_name(is, i), (double)begins,
		         (double)began);
		return OPTD_HYPER;
	}
	return OPTD_OK;
}

void settings_at(const struct model_settings *made, const struct changes *changes, const struct change *also,
                 uint64_t version, struct model_settings *out)
{
	struct changed changed;

	changes_at(changes, also, &made->groups, &made->optim, version, &changed);
	*out = *made;
	out->optim = *changed.at[0];
	for (uint32_t i = 1; i <= out->groups.count; i++) {
		if (changed.at[i] != NULL)
			out->groups.list[i - 1].optim = *changed.at[i];
	}
}

/* The settings of a group at a version. */
static int check_at(const struct model_settings *made, const struct changes *changes, const struct change *also,
                    uint64_t version, uint32_t group, char *why, size_t why_bytes)
{
	struct model_settings is;
	char detail[LIMIT_TEXT_BYTES - 64];

	settings_at(made, changes, also, version, &is);
	const struct optim *optim = groups_optim(&is.groups, &is.optim, group);
	int rc = optim_check(optim, detail, sizeof(detail));
	if (rc == OPTD_OK)
		rc = check_state(groups_optim(&made->groups, &made->optim, group), optim, detail, sizeof(detail));
	if (rc == OPTD_OK)
		rc = settings_fit(&is, detail, sizeof(detail));
	if (rc < 0)
		snprintf(why, why_bytes, "from version %llu on: %s", (unsigned long long)version, detail);
	return rc;
}

/* An lr that other settings leave without effect when it comes. */
static int check_lr(const struct model_settings *made, const struct changes *changes,
                    const struct change *change, char *why, size_t why_bytes)
{
	struct model_settings is;
	char detail[LIMIT_TEXT_BYTES - 64];

	settings_at(made, changes, change, change->from, &is);
	struct optim optim = *groups_optim(&is.groups, &is.optim, change->group);
	uint32_t lr = 0, count = optim_hyper_count(optim.rule);
	while (lr < count && strcmp(optim_hyper(optim.rule, lr)->name, "lr") != 0)
		lr++;
	if (lr == count || !(change->given >> lr & 1) || optim_settle(&optim, detail, sizeof(detail)) == OPTD_OK)
		return OPTD_OK;
	snprintf(why, why_bytes, "from version %llu on: %s", (unsigned long long)change->from, detail);
	return OPTD_HYPER;
}

int settings_check_change(const struct model_settings *made, const struct changes *changes,
                          const struct change *change, char *why, size_t why_bytes)
{
	int rc = check_at(made, changes, change, change->from, change->group, why, why_bytes);

	if (rc == OPTD_OK)
		rc = check_lr(made, changes, change, why, why_bytes);

	for (uint32_t i = 0; rc == OPTD_OK && i < changes->count; i++) {
		if (changes->list[i].from > change->from)
			rc = check_at(made, changes, change, changes->list[i].from, change->group, why, why_bytes);
	}
	return rc;
}

int settings_check_changes(const struct model_settings *made, const struct changes *changes, char *why,
                           size_t why_bytes)
{
	int rc = OPTD_OK;

	for (uint32_t i = 0; rc == OPTD_OK && i < changes->count; i++)
		rc = check_at(made, changes, NULL, changes->list[i].from, changes->list[i].group, why, why_bytes);
	return rc;
}
