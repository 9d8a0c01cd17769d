/*
 * Hyper: a rule's settings, from their defaults to what a user gave, and the
 * sentences about what may not be.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "optim/optim.h"
#include "optim/rule.h"
#include "optim/text.h"
#include "proto/nearest.h"
#include "proto/status.h"

static const char *const match_names[OPTIM_MATCH_COUNT] = {
	[OPTIM_TORCH2] = "torch2",
	[OPTIM_TORCH1] = "torch1",
	[OPTIM_NUMPY] = "numpy",
};

/* Of gradients before they reach the rule, so not a part of its reference. */
static const struct optim_hyper common[] = {
	{ "clip_value", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};
enum { COMMON = sizeof(common) / sizeof(common[0]) };

uint32_t rule_hyper_count(const struct rule_row *row)
{
	bool takes = row->reach == OPTIM_ELEMENTWISE && row->push != OPTIM_WEIGHTS;

	return row->hyper_count + (takes ? COMMON : 0);
}

const struct optim_hyper *rule_hyper(const struct rule_row *row, uint32_t index)
{
	return index < row->hyper_count ? &row->hypers[index] : &common[index - row->hyper_count];
}

double rule_clip_value(const struct optim *optim)
{
	const struct rule_row *row = rule_row(optim->rule);

	return rule_hyper_count(row) > row->hyper_count ? optim->values[row->hyper_count][0] : 0;
}

const char *optim_match_name(enum optim_match match)
{
	return (unsigned)match < OPTIM_MATCH_COUNT ? match_names[match] : "?";
}

int optim_match_find(const char *name)
{
	for (int i = 0; i < OPTIM_MATCH_COUNT; i++) {
		if (strcmp(match_names[i], name) == 0)
			return i;
	}
	return -1;
}

static int refuse_match(const struct rule_row *row, enum optim_match match, char *why,
                        size_t why_bytes)
{
	struct text text = text_open(why, why_bytes);

	text_add(&text, "%s: match=%s is not offered; ", row->name, optim_match_name(match));
	if (row->matches == 0) {
		text_add(&text, "%s has one definition, leave match out", row->name);
		return OPTD_HYPER;
	}
	text_add(&text, "it has");
	for (int i = 0; i < OPTIM_MATCH_COUNT; i++) {
		if (row->matches & 1u << i)
			text_add(&text, " %s", match_names[i]);
	}
	return OPTD_HYPER;
}

int optim_init(struct optim *optim, const struct optim_rule *rule, enum optim_match match,
               char *why, size_t why_bytes)
{
	const struct rule_row *row = rule_row(rule);
	/* torch2 is what a caller passes who was given none. */
	uint32_t matches = row->matches != 0 ? row->matches : 1u << OPTIM_TORCH2;

	if ((unsigned)match >= OPTIM_MATCH_COUNT || !(matches & 1u << match))
		return refuse_match(row, match, why, why_bytes);
	memset(optim, 0, sizeof(*optim));
	optim->rule = rule;
	optim->match = match;
	for (uint32_t i = 0; i < rule_hyper_count(row); i++)
		memcpy(optim->values[i], rule_hyper(row, i)->initial, sizeof(optim->values[i]));
	return 0;
}

/* The name's index, or the count. */
static uint32_t hyper_find(const struct rule_row *row, const char *name)
{
	uint32_t i = 0;

	while (i < rule_hyper_count(row) && strcmp(rule_hyper(row, i)->name, name) != 0)
		i++;
	return i;
}

/* What is asked for as a hyper-parameter but has another name, or stands elsewhere. */
static const char of_model[] = "a setting of the model: it belongs beside optimizer, not in it, and "
                               "cannot be changed in a run";
static const char of_optimizer[] = "an entry of optimizer beside the hyper-parameters, and cannot be "
                                   "changed in a run";
static const struct stray {
	const char *name, *called;
	const char *where; /* NULL: called so, a hyper-parameter */
} strays[] = {
	{ "learning_rate", "lr", NULL },
	{ "wd", "weight_decay", NULL },
	{ "epsilon", "eps", NULL },
	{ "clip_norm", "clip_norm", of_model },
	{ "max_grad_norm", "clip_norm", of_model },
	{ "clip_norm_type", "clip_norm_type", of_model },
	{ "clip_tensor_norm", "clip_tensor_norm", of_model },
	{ "nonfinite", "nonfinite", of_model },
	{ "average", "average", of_model },
	{ "loss_scale", "loss_scale", of_model },
	{ "schedule", "schedule", of_optimizer },
	{ "groups", "groups", of_optimizer },
	{ "param_groups", "groups", of_optimizer },
};

/* The stray behind the nearest name, or NULL. */
static const struct stray *try_strays(const struct rule_row *row, struct nearest *nearest)
{
	const struct stray *found = NULL;

	for (size_t i = 0; i < sizeof(strays) / sizeof(strays[0]); i++) {
		if (strays[i].where == NULL && hyper_find(row, strays[i].called) == rule_hyper_count(row))
			continue;
		nearest_try(nearest, strays[i].name);
		if (nearest->best == strays[i].name)
			found = &strays[i];
	}
	return found;
}

static void add_hyper_names(struct text *text, const struct rule_row *row)
{
	text_add(text, "it has");
	for (uint32_t i = 0; i < rule_hyper_count(row); i++)
		text_add(text, " %s", rule_hyper(row, i)->name);
}

static void add_stray(struct text *text, const struct rule_row *row, const struct stray *stray,
                      const struct nearest *nearest)
{
	const char *between = stray->where != NULL ? "," : ";";

	if (nearest->distance > 0)
		text_add(text, "the nearest is '%s'%s ", stray->called, between);
	else if (strcmp(stray->name, stray->called) == 0)
		text_add(text, "'%s' is ", stray->called);
	else
		text_add(text, "it is called '%s'%s ", stray->called, between);
	if (stray->where != NULL)
		text_add(text, "%s", stray->where);
	else
		add_hyper_names(text, row);
}

static int refuse_name(const struct rule_row *row, const char *name, char *why, size_t why_bytes)
{
	struct text text = text_open(why, why_bytes);
	struct nearest nearest = nearest_of(name);
	const char *schedule = schedule_of_param(name);
	const struct stray *stray;

	for (uint32_t i = 0; i < rule_hyper_count(row); i++)
		nearest_try(&nearest, rule_hyper(row, i)->name);
	stray = try_strays(row, &nearest);
	text_add(&text, "%s has no hyper-parameter '%.64s'; ", row->name, name);
	if (schedule != NULL) {
		text_add(&text, "'%s' is a parameter of schedule '%s': it belongs in schedule, and cannot be changed in "
		         "a run", name, schedule);
	} else if (stray != NULL) {
		add_stray(&text, row, stray, &nearest);
	} else if (rule_hyper_count(row) == 0) {
		text_add(&text, "it has none");
	} else {
		if (nearest.best != NULL)
			text_add(&text, "the nearest is '%s'; ", nearest.best);
		add_hyper_names(&text, row);
	}
	return OPTD_HYPER;
}

static bool in_range(const struct optim_hyper *hyper, double value)
{
	if (hyper->kind == OPTIM_FLAG)
		return value == 0 || value == 1;
	if (hyper->kind == OPTIM_WHOLE && value != floor(value))
		return false;
	/* Written so that NaN is outside. */
	return (hyper->min_open ? value > hyper->min : value >= hyper->min) &&
	       (hyper->max_open ? value < hyper->max : value <= hyper->max);
}

/* Ends at float32's are shown short: their last digits help nobody. */
static void range_end_text(double end, char *out, size_t out_bytes)
{
	if (fabs(end) == (double)FLT_MAX)
		snprintf(out, out_bytes, "%s3.4e+38", end < 0 ? "-" : "");
	else
		text_number(end, out, out_bytes);
}

static int refuse_value(const struct rule_row *row, const struct optim_hyper *hyper,
                        const double *values, char *why, size_t why_bytes)
{
	char given[TEXT_VALUES_BYTES], min[TEXT_NUMBER_BYTES], max[TEXT_NUMBER_BYTES];

	text_values(values, hyper->count, given, sizeof(given));
	if (hyper->kind == OPTIM_FLAG) {
		snprintf(why, why_bytes, "%s: %s=%s is out of range; allowed are 0 and 1",
		         row->name, hyper->name, given);
		return OPTD_HYPER;
	}
	range_end_text(hyper->min, min, sizeof(min));
	range_end_text(hyper->max, max, sizeof(max));
	snprintf(why, why_bytes, "%s: %s=%s is out of range; allowed is %s%s%s, %s%s%s", row->name,
	         hyper->name, given, hyper->kind == OPTIM_WHOLE ? "a whole number in " : "",
	         hyper->min_open ? "(" : "[", min, max,
	         hyper->max_open ? ")" : "]", hyper->count > 1 ? " for each" : "");
	return OPTD_HYPER;
}

int optim_set(struct optim *optim, const char *name, const double *values, uint32_t count,
              char *why, size_t why_bytes)
{
	const struct rule_row *row = rule_row(optim->rule);
	uint32_t index = hyper_find(row, name);
	const struct optim_hyper *hyper;

	if (index == rule_hyper_count(row))
		return refuse_name(row, name, why, why_bytes);
	hyper = rule_hyper(row, index);
	if (count != hyper->count) {
		snprintf(why, why_bytes, "%s: %s takes %u value%s, given %u", row->name, name,
		         (unsigned)hyper->count, hyper->count == 1 ? "" : "s", (unsigned)count);
		return OPTD_HYPER;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!in_range(hyper, values[i]))
			return refuse_value(row, hyper, values, why, why_bytes);
	}
	memcpy(optim->values[index], values, count * sizeof(*values));
	return 0;
}

/* A match whose reference lacks a hyper-parameter takes it only as 0: half of a
 * reference would be nobody's. */
static int check_match(const struct optim *optim, char *why, size_t why_bytes)
{
	const struct rule_row *row = rule_row(optim->rule);

	for (uint32_t i = 0; i < row->hyper_count; i++) {
		char given[TEXT_VALUES_BYTES];

		if (!(row->lacks[optim->match] & 1u << i) || optim->values[i][0] == 0)
			continue;
		text_values(optim->values[i], row->hypers[i].count, given, sizeof(given));
		snprintf(why, why_bytes,
		         "%s: match=%s has no reference for %s=%s; set %s=0 or use match=torch2",
		         row->name, match_names[optim->match], row->hypers[i].name, given,
		         row->hypers[i].name);
		return OPTD_HYPER;
	}
	return 0;
}

static int check_schedule(const struct optim *optim, char *why, size_t why_bytes)
{
	const struct rule_row *row = rule_row(optim->rule);
	uint32_t lr = hyper_find(row, "lr");

	if (optim->schedule.part_count == 0)
		return 0;
	if (lr == rule_hyper_count(row)) {
		snprintf(why, why_bytes, "%s: a schedule is of lr, which it does not have", row->name);
		return OPTD_HYPER;
	}
	/* Nearly every schedule comes down to 0, or can. */
	if (rule_hyper(row, lr)->min_open) {
		snprintf(why, why_bytes, "%s: it divides by lr, so that lr may not be scheduled", row->name);
		return OPTD_HYPER;
	}
	return schedule_check(&optim->schedule, why, why_bytes);
}

int optim_check(const struct optim *optim, char *why, size_t why_bytes)
{
	const struct rule_row *row = rule_row(optim->rule);
	int rc = check_match(optim, why, why_bytes);

	if (rc == 0)
		rc = check_schedule(optim, why, why_bytes);
	if (rc < 0 || row->check == NULL)
		return rc;
	return row->check(optim, why, why_bytes);
}

uint32_t optim_cycled(const struct optim *optim)
{
	const struct rule_row *row = rule_row(optim->rule);
	uint32_t count = rule_hyper_count(row), i = hyper_find(row, "betas");

	if (i == count)
		i = hyper_find(row, "momentum");
	return i < count && row->lacks[optim->match] >> i & 1 ? count : i;
}

int optim_settle(struct optim *optim, char *why, size_t why_bytes)
{
	const struct rule_row *row = rule_row(optim->rule);
	uint32_t cycled = optim_cycled(optim);
	int rc = optim_check(optim, why, why_bytes);

	if (rc == 0 && row->settle != NULL)
		rc = row->settle(optim, why, why_bytes);
	if (rc < 0 || !schedule_cycles(&optim->schedule))
		return rc;
	if (cycled == rule_hyper_count(row)) {
		snprintf(why, why_bytes, "%s: onecycle would move its momentum, and %s%s has neither momentum nor betas; "
		         "give cycle_momentum: 0, and only the lr is moved", row->name, row->name,
		         row->lacks[optim->match] != 0 ? " with this match" : "");
		return OPTD_HYPER;
	}
	rule_settle_momentum(optim);
	return 0;
}

void rule_settle_momentum(struct optim *optim)
{
	uint32_t i = optim_cycled(optim);

	if (!schedule_cycles(&optim->schedule))
		return;
	if (i == optim_hyper_count(optim->rule))
		schedule_leave_momentum(&optim->schedule);
	else if (optim->values[i][0] == 0 && rule_hyper(rule_row(optim->rule), i)->count == 1)
		optim->values[i][0] = SCHEDULE_MAX_MOMENTUM;
}
