/* Schedules: a row for each kind, and the formulas. */
#include "optim/schedule.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "optim/text.h"
#include "proto/nearest.h"
#include "proto/status.h"

#define PI 3.14159265358979323846
#define COUNT_MAX 9007199254740992.0 /* 2^53: a double counts exactly so far */
#define PARAM_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Counts that divide must be at least 1. */
#define UPDATES(name, least) { name, 0, least, COUNT_MAX, true, true }
#define REAL(name, initial, min, max) { name, initial, min, max, false, false }
#define FLAG(name, initial) { name, initial, 0, 1, true, false }

static const struct schedule_param constant_lr[] = {
	REAL("factor", 1.0 / 3, 0, 1),
	{ "total_iters", 5, 0, COUNT_MAX, true, false },
};

static const struct schedule_param linear_warmup[] = {
	REAL("start_factor", 1.0 / 3, DBL_MIN, 1),
	REAL("end_factor", 1, 0, 1),
	{ "total_iters", 5, 1, COUNT_MAX, true, false },
};

static const struct schedule_param step[] = {
	UPDATES("step_size", 1),
	REAL("gamma", 0.1, 0, FLT_MAX),
};

static const struct schedule_param multistep[] = {
	REAL("gamma", 0.1, 0, FLT_MAX),
};

static const struct schedule_param exponential[] = {
	{ "gamma", 0, 0, FLT_MAX, false, true },
};

static const struct schedule_param cosine[] = {
	UPDATES("T_max", 1),
	REAL("eta_min", 0, 0, FLT_MAX),
};

static const struct schedule_param cosine_restarts[] = {
	UPDATES("T_0", 1),
	{ "T_mult", 1, 1, COUNT_MAX, true, false },
	REAL("eta_min", 0, 0, FLT_MAX),
};

static const struct schedule_param polynomial[] = {
	{ "total_iters", 5, 1, COUNT_MAX, true, false },
	REAL("power", 1, 0, FLT_MAX),
};

enum onecycle {
	MAX_LR,
	TOTAL_STEPS,
	PCT_START,
	LINEAR,
	DIV_FACTOR,
	FINAL_DIV_FACTOR,
	THREE_PHASE,
	CYCLE_MOMENTUM,
};

#define BASE_MOMENTUM 0.85 /* PyTorch's default, at max_lr */

static const struct schedule_param onecycle[] = {
	[MAX_LR] = { "max_lr", 0, 0, FLT_MAX, false, true },
	[TOTAL_STEPS] = UPDATES("total_steps", 1),
	[PCT_START] = REAL("pct_start", 0.3, 0, 1),
	[LINEAR] = FLAG("linear", 0), /* anneal_strategy: 0 is cos */
	[DIV_FACTOR] = REAL("div_factor", 25, DBL_MIN, FLT_MAX),
	[FINAL_DIV_FACTOR] = REAL("final_div_factor", 1e4, DBL_MIN, FLT_MAX),
	[THREE_PHASE] = FLAG("three_phase", 0),
	[CYCLE_MOMENTUM] = FLAG("cycle_momentum", 1),
};

/* shape: how it decays, 0 in a line, 1 as a cosine, 2 as 1 - sqrt. */
enum wsd { WARMUP, STABLE, DECAY, MIN_RATIO, SHAPE };
enum wsd_shape { WSD_LINE, WSD_COSINE, WSD_ROOT };

static const struct schedule_param wsd[] = {
	[WARMUP] = UPDATES("warmup", 0),
	[STABLE] = UPDATES("stable", 0),
	[DECAY] = UPDATES("decay", 0),
	[MIN_RATIO] = REAL("min_ratio", 0, 0, 1),
	[SHAPE] = { "shape", WSD_LINE, WSD_LINE, WSD_ROOT, true, false },
};

static const struct {
	const char *name, *formula;
	const struct schedule_param *params;
	uint32_t count;
} kinds[SCHEDULE_KIND_COUNT] = {
	[SCHEDULE_CONSTANT] = { "constant", "lr", NULL, 0 },
	[SCHEDULE_CONSTANT_LR] = { "constantlr", "t < total_iters ? lr*factor : lr", constant_lr, PARAM_COUNT(constant_lr) },
	[SCHEDULE_LINEAR_WARMUP] = { "linear_warmup",
	                            "lr*(start_factor + (end_factor-start_factor)*min(t, total_iters)/total_iters)", linear_warmup, PARAM_COUNT(linear_warmup) },
	[SCHEDULE_STEP] = { "step", "lr*gamma^floor(t/step_size)", step, PARAM_COUNT(step) },
	[SCHEDULE_MULTISTEP] = { "multistep", "lr*gamma^n, n of the milestones are <= t", multistep, PARAM_COUNT(multistep) },
	[SCHEDULE_EXPONENTIAL] = { "exponential", "lr*gamma^t", exponential, PARAM_COUNT(exponential) },
	[SCHEDULE_COSINE] = { "cosine", "eta_min + (lr-eta_min)*(1 + cos(pi*t/T_max))/2; goes up again after T_max", cosine, PARAM_COUNT(cosine) },
	[SCHEDULE_COSINE_RESTARTS] = { "cosine_restarts",
	                              "eta_min + (lr-eta_min)*(1 + cos(pi*s/T))/2; s counts from the last restart, which "
	                              "are every T updates, T_0 at first and after each T_mult times as many", cosine_restarts, PARAM_COUNT(cosine_restarts) },
	[SCHEDULE_POLYNOMIAL] = { "polynomial", "lr*(1 - min(t, total_iters)/total_iters)^power", polynomial, PARAM_COUNT(polynomial) },
	[SCHEDULE_ONECYCLE] = { "onecycle",
	                       "from max_lr/div_factor at t = 0 to max_lr at t = pct_start*total_steps - 1; three_phase: "
	                       "back to max_lr/div_factor at t = 2*pct_start*total_steps - 2; to "
	                       "max_lr/div_factor/final_div_factor at t = total_steps - 1; on half waves of a cosine, "
	                       "or linear: on straight lines; cycle_momentum: momentum, or the first of betas, goes "
	                       "from 0.95 to 0.85 and back likewise", onecycle, PARAM_COUNT(onecycle) },
	[SCHEDULE_WSD] = { "wsd",
	                  "t < warmup: lr*t/warmup; for the next stable updates lr; for the next decay updates "
	                  "lr*(min_ratio + (1-min_ratio)*f), p from 0 to 1, shape 0: f = 1-p, shape 1: f = (1 + "
	                  "cos(pi*p))/2, shape 2: f = 1-sqrt(p); then lr*min_ratio", wsd, PARAM_COUNT(wsd) },
};

const char *schedule_name(enum schedule_kind kind)
{
	return (unsigned)kind < SCHEDULE_KIND_COUNT ? kinds[kind].name : "?";
}

const char *schedule_formula(enum schedule_kind kind)
{
	return kinds[kind].formula;
}

int schedule_find(const char *name)
{
	for (int i = 0; i < SCHEDULE_KIND_COUNT; i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return i;
	}
	return -1;
}

const char *schedule_nearest(const char *name)
{
	struct nearest nearest = nearest_of(name);

	for (int i = 0; i < SCHEDULE_KIND_COUNT; i++)
		nearest_try(&nearest, kinds[i].name);
	return nearest.best;
}

const char *schedule_of_param(const char *name)
{
	for (uint32_t i = 0; i < SCHEDULE_KIND_COUNT; i++) {
		for (uint32_t k = 0; k < kinds[i].count; k++) {
			if (strcmp(kinds[i].params[k].name, name) == 0)
				return kinds[i].name;
		}
	}
	return strcmp(name, "milestones") == 0 ? kinds[SCHEDULE_MULTISTEP].name : NULL;
}

const struct schedule_param *schedule_params(enum schedule_kind kind, uint32_t *count)
{
	*count = kinds[kind].count;
	return kinds[kind].params;
}

/* ---- settings ----------------------------------------------------------- */

void schedule_part_init(struct schedule_part *part, enum schedule_kind kind)
{
	memset(part, 0, sizeof(*part));
	part->kind = kind;
	for (uint32_t i = 0; i < kinds[kind].count; i++) {
		const struct schedule_param *param = &kinds[kind].params[i];

		part->values[i] = param->required ? (double)NAN : param->initial;
	}
}

/* PyTorch's words for what is another here, or is not. */
static const struct {
	enum schedule_kind kind;
	const char *name, *instead;
} words[] = {
	{ SCHEDULE_ONECYCLE, "anneal_strategy", "write linear: true for 'linear', nothing for 'cos'" },
	{ SCHEDULE_ONECYCLE, "base_momentum", "the momentum goes between 0.95 and 0.85, PyTorch's defaults" },
	{ SCHEDULE_ONECYCLE, "max_momentum", "the momentum goes between 0.95 and 0.85, PyTorch's defaults" },
};

static int refuse_name(const struct schedule_part *part, const char *name, char *why, size_t why_bytes)
{
	struct text text = text_open(why, why_bytes);
	uint32_t count = kinds[part->kind].count;

	text_add(&text, "schedule %s has no parameter '%.64s'; ", kinds[part->kind].name, name);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (words[i].kind == part->kind && strcmp(words[i].name, name) == 0)
			text_add(&text, "%s; ", words[i].instead);
	}
	text_add(&text, "it has");
	for (uint32_t i = 0; i < count; i++)
		text_add(&text, " %s", kinds[part->kind].params[i].name);
	if (part->kind == SCHEDULE_MULTISTEP)
		text_add(&text, " milestones");
	else if (count == 0)
		text_add(&text, " none");
	return OPTD_HYPER;
}

static bool whole(double value)
{
	return value >= 0 && value <= COUNT_MAX && value == floor(value);
}

static int set_milestones(struct schedule_part *part, const double *values, uint32_t count, char *why,
                          size_t why_bytes)
{
	if (count > SCHEDULE_MILESTONES_MAX) {
		snprintf(why, why_bytes, "schedule multistep: %u milestones, allowed are %u", count,
		         SCHEDULE_MILESTONES_MAX);
		return OPTD_HYPER;
	}
	for (uint32_t i = 0; i < count; i++) {
		/* PyTorch lets one repeat: it then counts twice. */
		if (whole(values[i]) && (i == 0 || values[i] >= values[i - 1]))
			continue;
		snprintf(why, why_bytes,
		         "schedule multistep: milestone %u is %g; allowed are whole numbers, ascending",
		         i + 1, values[i]);
		return OPTD_HYPER;
	}
	memcpy(part->milestones, values, count * sizeof(*values));
	part->milestone_count = count;
	return 0;
}

static int set_param(struct schedule_part *part, uint32_t index, double value, char *why,
                     size_t why_bytes)
{
	const struct schedule_param *param = &kinds[part->kind].params[index];
	char min[TEXT_NUMBER_BYTES], max[TEXT_NUMBER_BYTES];

	if (value >= param->min && value <= param->max && (!param->whole || whole(value))) {
		part->values[index] = value;
		return 0;
	}
	text_number(param->min, min, sizeof(min));
	text_number(param->max, max, sizeof(max));
	snprintf(why, why_bytes, "schedule %s: %s=%g is out of range; allowed is %s[%s, %s]",
	         kinds[part->kind].name, param->name, value, param->whole ? "a whole number in " : "",
	         min, max);
	return OPTD_HYPER;
}

int schedule_set(struct schedule_part *part, const char *name, const double *values, uint32_t count,
                 char *why, size_t why_bytes)
{
	if (part->kind == SCHEDULE_MULTISTEP && strcmp(name, "milestones") == 0)
		return set_milestones(part, values, count, why, why_bytes);
	for (uint32_t i = 0; i < kinds[part->kind].count; i++) {
		if (strcmp(kinds[part->kind].params[i].name, name) != 0)
			continue;
		if (count == 1)
			return set_param(part, i, values[0], why, why_bytes);
		snprintf(why, why_bytes, "schedule %s: %s takes 1 value, given %u",
		         kinds[part->kind].name, name, count);
		return OPTD_HYPER;
	}
	return refuse_name(part, name, why, why_bytes);
}

static int check_part(const struct schedule_part *part, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < kinds[part->kind].count; i++) {
		if (!isnan(part->values[i]))
			continue;
		snprintf(why, why_bytes, "schedule %s needs %s", kinds[part->kind].name,
		         kinds[part->kind].params[i].name);
		return OPTD_HYPER;
	}
	if (part->kind != SCHEDULE_MULTISTEP || part->milestone_count > 0)
		return 0;
	snprintf(why, why_bytes, "schedule multistep needs milestones");
	return OPTD_HYPER;
}

int schedule_check(const struct schedule *schedule, char *why, size_t why_bytes)
{
	assert(schedule->part_count <= SCHEDULE_PARTS_MAX);
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		int rc = check_part(&schedule->parts[i], why, why_bytes);

		if (rc < 0)
			return rc;
		if (i + 1 < schedule->part_count && (schedule->ends[i] == 0 || schedule->ends[i] >> 53 != 0)) {
			snprintf(why, why_bytes, "schedule: part %u ends at %llu; allowed is 1 to 2^53 - 1", i + 1,
			         (unsigned long long)schedule->ends[i]);
			return OPTD_HYPER;
		}
		if (i == 0 || i + 1 == schedule->part_count || schedule->ends[i] > schedule->ends[i - 1])
			continue;
		snprintf(why, why_bytes, "schedule: part %u would end at %llu, and part %u before it ends at %llu",
		         i + 1, (unsigned long long)schedule->ends[i], i,
		         (unsigned long long)schedule->ends[i - 1]);
		return OPTD_HYPER;
	}
	return 0;
}

static void part_text(const struct schedule_part *part, struct text *text)
{
	const struct schedule_param *params = kinds[part->kind].params;
	const char *comma = "";
	char number[TEXT_NUMBER_BYTES];

	text_add(text, "%s(", kinds[part->kind].name);
	for (uint32_t i = 0; i < part->milestone_count; i++) {
		text_number(part->milestones[i], number, sizeof(number));
		text_add(text, "%s%s", i > 0 ? "," : "milestones=[", number);
		comma = "],";
	}
	for (uint32_t i = 0; i < kinds[part->kind].count; i++) {
		text_number(part->values[i], number, sizeof(number));
		text_add(text, "%s%s=%s", comma, params[i].name, number);
		comma = ",";
	}
	text_add(text, ")");
}

void schedule_text(const struct schedule *schedule, char *text, size_t text_bytes)
{
	struct text line = text_open(text, text_bytes);

	for (uint32_t i = 0; i < schedule->part_count; i++) {
		part_text(&schedule->parts[i], &line);
		if (i + 1 < schedule->part_count)
			text_add(&line, " until %llu, then ", (unsigned long long)schedule->ends[i]);
	}
}

static bool part_equal(const struct schedule_part *a, const struct schedule_part *b)
{
	if (a->kind != b->kind || a->milestone_count != b->milestone_count)
		return false;
	for (uint32_t i = 0; i < kinds[a->kind].count; i++) {
		if (a->values[i] != b->values[i])
			return false;
	}
	for (uint32_t i = 0; i < a->milestone_count; i++) {
		if (a->milestones[i] != b->milestones[i])
			return false;
	}
	return true;
}

bool schedule_equal(const struct schedule *a, const struct schedule *b)
{
	if (a->part_count != b->part_count)
		return false;
	for (uint32_t i = 0; i < a->part_count; i++) {
		bool last = i + 1 == a->part_count;

		if (!part_equal(&a->parts[i], &b->parts[i]) || (!last && a->ends[i] != b->ends[i]))
			return false;
	}
	return true;
}

/* ---- formulas ----------------------------------------------------------- */

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* Half a wave from `high` at p = 0 to `low` at p = 1. */
static double wave(double high, double low, double p)
{
	return low + (high - low) * (1 + cos(PI * p)) / 2;
}

static double multistep_lr(const struct schedule_part *part, double lr, double t)
{
	uint32_t passed = 0;

	while (passed < part->milestone_count && part->milestones[passed] <= t)
		passed++;
	return lr * pow(part->values[0], passed);
}

/* Cycles of T_0, T_0 T_mult, T_0 T_mult^2, ... updates. */
static double restarts_lr(const double *v, double lr, double t)
{
	double cycle = v[0], mult = v[1], at = t;

	if (mult == 1) {
		at = fmod(t, cycle);
	} else {
		while (at >= cycle) {
			at -= cycle;
			cycle *= mult;
		}
	}
	return wave(lr, v[2], at / cycle);
}

/* One cycle, at most three stretches: where each ends, and its two values. */
struct stretch {
	double end, from, to;
};

/* PyTorch counts in floats here: a stretch may end between two updates. */
static double on_stretches(const struct stretch *stretches, uint32_t count, bool line, double t)
{
	double begin = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct stretch *s = &stretches[i];

		if (t <= s->end || i + 1 == count) {
			double p = s->end > begin ? least((t - begin) / (s->end - begin), 1) : 1;

			return line ? s->from + (s->to - s->from) * p : wave(s->from, s->to, p);
		}
		begin = s->end;
	}
	return 0;
}

/* from `ends` to `top` and back, and on to `last`. */
static double onecycle_value(const double *v, double t, double ends, double top, double last)
{
	double total = v[TOTAL_STEPS], rise = v[PCT_START] * total - 1;
	bool line = v[LINEAR] != 0;
	const struct stretch two[] = { { rise, ends, top }, { total - 1, top, last } };
	const struct stretch three[] = { { rise, ends, top },
		                         { 2 * v[PCT_START] * total - 2, top, ends },
		                         { total - 1, ends, last } };

	return v[THREE_PHASE] != 0 ? on_stretches(three, 3, line, t) : on_stretches(two, 2, line, t);
}

static double onecycle_lr(const double *v, double t)
{
	double first = v[MAX_LR] / v[DIV_FACTOR];

	return onecycle_value(v, t, first, v[MAX_LR], first / v[FINAL_DIV_FACTOR]);
}

static double wsd_lr(const double *v, double lr, double t)
{
	double p = (t - v[WARMUP] - v[STABLE]) / v[DECAY], f;

	if (t < v[WARMUP])
		return lr * t / v[WARMUP];
	if (t < v[WARMUP] + v[STABLE])
		return lr;
	if (t >= v[WARMUP] + v[STABLE] + v[DECAY])
		return lr * v[MIN_RATIO];
	if (v[SHAPE] == WSD_LINE)
		f = 1 - p;
	else if (v[SHAPE] == WSD_COSINE)
		f = wave(1, 0, p);
	else
		f = 1 - sqrt(p);
	return lr * (v[MIN_RATIO] + (1 - v[MIN_RATIO]) * f);
}

static double part_lr(const struct schedule_part *part, double lr, double t)
{
	const double *v = part->values;

	switch (part->kind) {
	case SCHEDULE_CONSTANT:
		return lr;
	case SCHEDULE_CONSTANT_LR:
		return t < v[1] ? lr * v[0] : lr;
	case SCHEDULE_LINEAR_WARMUP:
		return lr * (v[0] + (v[1] - v[0]) * least(t, v[2]) / v[2]);
	case SCHEDULE_STEP:
		return lr * pow(v[1], floor(t / v[0]));
	case SCHEDULE_MULTISTEP:
		return multistep_lr(part, lr, t);
	case SCHEDULE_EXPONENTIAL:
		return lr * pow(v[0], t);
	case SCHEDULE_COSINE:
		/* Goes up again after T_max, as PyTorch's does. */
		return wave(lr, v[1], t / v[0]);
	case SCHEDULE_COSINE_RESTARTS:
		return restarts_lr(v, lr, t);
	case SCHEDULE_POLYNOMIAL:
		return lr * pow(1 - least(t, v[0]) / v[0], v[1]);
	case SCHEDULE_ONECYCLE:
		return onecycle_lr(v, t);
	case SCHEDULE_WSD:
		return wsd_lr(v, lr, t);
	case SCHEDULE_KIND_COUNT:
		break;
	}
	assert(false);
	return lr;
}

bool schedule_takes_lr(const struct schedule *schedule)
{
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		if (schedule->parts[i].kind == SCHEDULE_ONECYCLE)
			return false;
	}
	return true;
}

/* The part that t falls into; *since is t counted from its beginning. */
static const struct schedule_part *part_at(const struct schedule *schedule, uint64_t t, double *since)
{
	uint32_t i = 0;

	while (i + 1 < schedule->part_count && t >= schedule->ends[i])
		i++;
	*since = (double)(i > 0 ? t - schedule->ends[i - 1] : t);
	return &schedule->parts[i];
}

double schedule_lr(const struct schedule *schedule, double lr, uint64_t t)
{
	double since;
	const struct schedule_part *part = part_at(schedule, t, &since);

	return part_lr(part, lr, since);
}

static bool part_cycles(const struct schedule_part *part)
{
	return part->kind == SCHEDULE_ONECYCLE && part->values[CYCLE_MOMENTUM] != 0;
}

bool schedule_momentum(const struct schedule *schedule, uint64_t t, double *momentum)
{
	double since;
	const struct schedule_part *part = part_at(schedule, t, &since);

	if (!part_cycles(part))
		return false;
	*momentum = onecycle_value(part->values, since, SCHEDULE_MAX_MOMENTUM, BASE_MOMENTUM,
	                           SCHEDULE_MAX_MOMENTUM);
	return true;
}

bool schedule_cycles(const struct schedule *schedule)
{
	uint32_t i = 0;

	while (i < schedule->part_count && !part_cycles(&schedule->parts[i]))
		i++;
	return i < schedule->part_count;
}

bool schedule_takes_momentum(const struct schedule *schedule)
{
	uint32_t i = 0;

	while (i < schedule->part_count && part_cycles(&schedule->parts[i]))
		i++;
	return i < schedule->part_count || schedule->part_count == 0;
}

void schedule_leave_momentum(struct schedule *schedule)
{
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		if (schedule->parts[i].kind == SCHEDULE_ONECYCLE)
			schedule->parts[i].values[CYCLE_MOMENTUM] = 0;
	}
}
