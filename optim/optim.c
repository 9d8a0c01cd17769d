/*
 * Optim: the table of update rules, and the doors to their loops.
 *
 * Nothing is computed here.  What a rule is stands in its own file; hyper.c
 * checks settings, text.c prints them, isa.c knows the machine.
 */
#include "optim/optim.h"

#include <assert.h>
#include <string.h>

#include "optim/clip.h"
#include "optim/rule.h"

#define RULE_ROWS(name) \
	{ { &optim_row_##name##_base, RULE_ON_X86(&optim_row_##name##_avx2), \
	    RULE_ON_X86(&optim_row_##name##_avx512) } },
static const struct optim_rule rules[] = { RULE_TABLE(RULE_ROWS) };
#undef RULE_ROWS

uint32_t optim_rule_count(void)
{
	return sizeof(rules) / sizeof(rules[0]);
}

const struct optim_rule *optim_rule(uint32_t index)
{
	assert(index < optim_rule_count());
	return &rules[index];
}

const struct optim_rule *optim_find(const char *name)
{
	for (uint32_t i = 0; i < optim_rule_count(); i++) {
		if (strcmp(optim_rule_name(&rules[i]), name) == 0)
			return &rules[i];
	}
	return NULL;
}

const char *optim_rule_name(const struct optim_rule *rule)
{
	return rule_row(rule)->name;
}

const char *optim_rule_formula(const struct optim_rule *rule)
{
	return rule_row(rule)->formula;
}

const char *optim_rule_source(const struct optim_rule *rule)
{
	return rule_row(rule)->source;
}

const char *optim_rule_state(const struct optim_rule *rule)
{
	return rule_row(rule)->state;
}

enum optim_class optim_rule_class(const struct optim_rule *rule)
{
	return rule_row(rule)->reach;
}

enum optim_push optim_rule_push(const struct optim_rule *rule)
{
	return rule_row(rule)->push;
}

uint32_t optim_hyper_count(const struct optim_rule *rule)
{
	return rule_hyper_count(rule_row(rule));
}

const struct optim_hyper *optim_hyper(const struct optim_rule *rule, uint32_t index)
{
	assert(index < optim_hyper_count(rule));
	return rule_hyper(rule_row(rule), index);
}

uint32_t optim_slot_count(const struct optim *optim)
{
	struct rule_slot slots[OPTIM_SLOTS_MAX];

	return rule_row(optim->rule)->slots(optim, slots);
}

static struct rule_slot slot_at(const struct optim *optim, uint32_t index)
{
	struct rule_slot slots[OPTIM_SLOTS_MAX];
	uint32_t count = rule_row(optim->rule)->slots(optim, slots);

	assert(index < count);
	(void)count;
	return slots[index];
}

const char *optim_slot_name(const struct optim *optim, uint32_t index)
{
	return slot_at(optim, index).name;
}

float optim_slot_initial(const struct optim *optim, uint32_t index)
{
	return slot_at(optim, index).initial;
}

static uint32_t carries_of(const struct optim *optim, struct rule_slot *out)
{
	const struct rule_row *row = rule_row(optim->rule);

	return row->carries != NULL ? row->carries(optim, out) : 0;
}

uint32_t optim_carry_count(const struct optim *optim)
{
	struct rule_slot carries[OPTIM_CARRIES_MAX];

	return carries_of(optim, carries);
}

const char *optim_carry_name(const struct optim *optim, uint32_t index)
{
	struct rule_slot carries[OPTIM_CARRIES_MAX];
	uint32_t count = carries_of(optim, carries);

	assert(index < count);
	(void)count;
	return carries[index].name;
}

void optim_carry_initial(const struct optim *optim, struct optim_carry *out)
{
	struct rule_slot carries[OPTIM_CARRIES_MAX];
	uint32_t count = carries_of(optim, carries);

	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < count; i++)
		out->values[i] = carries[i].initial;
}

/* Puts what the schedule has into place.  A momentum of 0 is one that was not settled: such a
 * model began without the state for it, and goes on so. */
static void schedule_apply(struct optim *optim, uint64_t done)
{
	const struct rule_row *row = rule_row(optim->rule);
	double momentum;
	bool cycles = schedule_momentum(&optim->schedule, done, &momentum);

	for (uint32_t i = 0; i < row->hyper_count; i++) {
		const char *name = row->hypers[i].name;

		if (strcmp(name, "lr") == 0)
			optim->values[i][0] = schedule_lr(&optim->schedule, optim->values[i][0], done);
		/* As PyTorch: where the optimizer has a momentum, or else betas. */
		else if (cycles && (strcmp(name, "betas") == 0 ||
		                    (strcmp(name, "momentum") == 0 && optim->values[i][0] != 0)))
			optim->values[i][0] = momentum;
	}
}

bool optim_lr(const struct optim *optim, uint64_t done, double *lr)
{
	const struct rule_row *row = rule_row(optim->rule);
	bool has = false;

	for (uint32_t i = 0; i < row->hyper_count; i++) {
		if (strcmp(row->hypers[i].name, "relative_step") == 0 && optim->values[i][0] != 0)
			return false;
		if (strcmp(row->hypers[i].name, "lr") != 0)
			continue;
		*lr = schedule_lr(&optim->schedule, optim->values[i][0], done);
		has = true;
	}
	return has;
}

void optim_scalars(const struct optim *optim, uint64_t t, struct optim_carry *carry,
                   struct optim_scalars *out)
{
	const struct rule_row *row = rule_row(optim->rule);
	struct optim scheduled;

	assert(t >= 1);
	if (optim->schedule.part_count > 0) {
		scheduled = *optim;
		schedule_apply(&scheduled, t - 1);
		optim = &scheduled;
	}
	memset(out, 0, sizeof(*out));
	/* A double counts exactly to 2^53 updates. */
	row->scalars(optim, (double)t, out->values);
	if (row->advance != NULL)
		row->advance(optim, (double)t, carry->values, out->values);
}

enum { PIECE = 2048 };

/* In pieces that stay in the first-level cache: an elementwise rule cannot tell. */
static void step_prepared(const struct optim *optim, enum optim_isa isa, const float *scalars, float *w,
                          float *const *slots, struct optim_gradient g, size_t n)
{
	float prepared[PIECE], *at[OPTIM_SLOTS_MAX] = { NULL };
	double limit = rule_clip_value(optim);
	uint32_t slot_count = optim_slot_count(optim);

	for (size_t begin = 0; begin < n; begin += PIECE) {
		size_t count = n - begin < PIECE ? n - begin : PIECE;

		for (uint32_t i = 0; i < slot_count; i++)
			at[i] = slots[i] + begin;
		struct optim_gradient piece = { dtype_at(g.values, g.type, begin), g.factor, g.type };

		optim_scale(isa, prepared, piece, count);
		if (limit > 0)
			clip_value(isa, prepared, prepared, (float)limit, count);
		optim->rule->rows[isa]->step(optim, scalars, w + begin, at, prepared, count);
	}
}

void optim_step_from(const struct optim *optim, enum optim_isa isa, const struct optim_scalars *scalars,
                     float *w, float *const *slots, struct optim_gradient g, size_t n)
{
	assert(optim_isa_usable(isa));
	if (g.type != DTYPE_F32 || g.factor != 1.0f || rule_clip_value(optim) > 0)
		step_prepared(optim, isa, scalars->values, w, slots, g, n);
	else
		optim->rule->rows[isa]->step(optim, scalars->values, w, slots, g.values, n);
}

void optim_step(const struct optim *optim, enum optim_isa isa, const struct optim_scalars *scalars,
                float *w, float *const *slots, const float *g, size_t n)
{
	optim_step_from(optim, isa, scalars, w, slots, (struct optim_gradient){ g, 1.0f, DTYPE_F32 }, n);
}

bool optim_replies(const struct optim *optim)
{
	return rule_row(optim->rule)->reply != NULL;
}

void optim_reply(const struct optim *optim, enum optim_isa isa, const struct optim_scalars *scalars,
                 const float *w, struct optim_gradient g, float *out, size_t n)
{
	float prepared[PIECE];

	assert(optim_isa_usable(isa) && optim_replies(optim));
	if (g.type == DTYPE_F32 && g.factor == 1.0f) {
		optim->rule->rows[isa]->reply(optim, scalars->values, w, g.values, out, n);
		return;
	}
	for (size_t begin = 0; begin < n; begin += PIECE) {
		size_t count = n - begin < PIECE ? n - begin : PIECE;
		struct optim_gradient piece = { dtype_at(g.values, g.type, begin), g.factor, g.type };

		optim_scale(isa, prepared, piece, count);
		optim->rule->rows[isa]->reply(optim, scalars->values, w + begin, prepared, out + begin, count);
	}
}
