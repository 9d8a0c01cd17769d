/*
 * Optim: the update rules.
 *
 * A rule is a row of a table: its name, state vectors (slots), hyper-parameters
 * with ranges, and one step function.  Outside this folder people say optimizer
 * and optimizer state.
 *
 * To use a rule: optim_find, optim_init, optim_set for what the user gave,
 * optim_check; allocate optim_slot_count() arrays filled with
 * optim_slot_initial(); begin a segment's carry with optim_carry_initial(); then
 * for each update of the segment optim_scalars once and optim_step over any split
 * of its elements.
 *
 * All arithmetic is exact as written: the library is built with
 * -ffp-contract=off, and the same bits come from every instruction set,
 * compiler, and way of splitting the elements.  Formulas and sources:
 * optim/README.md.  Nothing here allocates, locks, or keeps state of its own.
 */
#ifndef OPTD_OPTIM_H
#define OPTD_OPTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "optim/schedule.h"
#include "proto/dtype.h"
#include "proto/limits.h"

/* Whose bits: PyTorch 2.x's order of operations, 1.13's, or the NumPy formulas
 * this project began with. */
enum optim_match { OPTIM_TORCH2, OPTIM_TORCH1, OPTIM_NUMPY, OPTIM_MATCH_COUNT };

/* How far an update looks: at its own element only, or at the whole tensor.  The
 * latter's updates are in tensor.h, and optim_step is not for them. */
enum optim_class { OPTIM_ELEMENTWISE, OPTIM_TENSOR };

/* What a push means to the rule. */
enum optim_push {
	OPTIM_GRADIENT,        /* of the loss: the step goes against it */
	OPTIM_PSEUDO_GRADIENT, /* old weights - new weights: likewise */
	OPTIM_DELTA,           /* new weights - old weights: the step goes along it */
	OPTIM_WEIGHTS,         /* values themselves */
};

enum optim_hyper_kind { OPTIM_REAL, OPTIM_FLAG, OPTIM_WHOLE };

#define OPTIM_VALUES_MAX LIMIT_HYPER_VALUES

/* A range's end counts unless it is marked open. */
struct optim_hyper {
	const char *name; /* PyTorch's */
	enum optim_hyper_kind kind;
	uint32_t count; /* values: 1, or more where they belong together as betas do */
	double initial[OPTIM_VALUES_MAX];
	double min, max;
	bool min_open, max_open;
};

#define OPTIM_HYPERS_MAX 16
#define OPTIM_SLOTS_MAX 4
#define OPTIM_SCALARS_MAX 16
#define OPTIM_CARRIES_MAX 2

/* The numbers of one update, ready for the loop: computed in double from the
 * hyper-parameters and the update count, then rounded to float once. */
struct optim_scalars {
	float values[OPTIM_SCALARS_MAX];
};

/* Numbers that a rule keeps for each segment beside its update count: a product
 * or a rate that depends on all updates so far.  Most rules keep none. */
struct optim_carry {
	float values[OPTIM_CARRIES_MAX];
};

struct optim_rule;

/* A rule with its hyper-parameters.  Behind its own, every elementwise rule that takes
 * gradients or deltas has clip_value: their elements are held within
 * [-clip_value, clip_value] before the rule sees them; 0 is no limit.  Plain data: copy it freely.  values[i] are
 * those of optim_hyper(rule, i). */
struct optim {
	const struct optim_rule *rule;
	enum optim_match match;
	double values[OPTIM_HYPERS_MAX][OPTIM_VALUES_MAX];
	struct schedule schedule; /* of lr; set it, then optim_check */
};

uint32_t optim_rule_count(void);
const struct optim_rule *optim_rule(uint32_t index);
/* The rule with this name, or NULL. */
const struct optim_rule *optim_find(const char *name);
/* The name of the rule most like `name`, for error texts; NULL where none is like it. */
const char *optim_nearest(const char *name);
/* The sentence about a name that no rule has. */
void optim_unknown(const char *name, char *why, size_t why_bytes);
const char *optim_rule_name(const struct optim_rule *rule);
enum optim_class optim_rule_class(const struct optim_rule *rule);
enum optim_push optim_rule_push(const struct optim_rule *rule);
/* One update as a line of arithmetic (optim/README.md says how it is read), where it comes
 * from, and the slots in words, which is NULL unless they depend on a tensor's shape. */
const char *optim_rule_formula(const struct optim_rule *rule);
const char *optim_rule_source(const struct optim_rule *rule);
const char *optim_rule_state(const struct optim_rule *rule);
uint32_t optim_hyper_count(const struct optim_rule *rule);
const struct optim_hyper *optim_hyper(const struct optim_rule *rule, uint32_t index);

/* "torch2", "torch1", "numpy"; and back, -1 for another word. */
const char *optim_match_name(enum optim_match match);
int optim_match_find(const char *name);

/* A rule with its defaults.  OPTD_HYPER when the rule has no such match, with a
 * sentence in why. */
int optim_init(struct optim *optim, const struct optim_rule *rule, enum optim_match match,
               char *why, size_t why_bytes);

/* Sets one hyper-parameter.  OPTD_HYPER with name, value and range (or the
 * nearest name) in why; *optim is then as before. */
int optim_set(struct optim *optim, const char *name, const double *values, uint32_t count,
              char *why, size_t why_bytes);

/* Checks what depends on several hyper-parameters (nesterov needs momentum and
 * no dampening), on match (no reference for it), or on the schedule (it needs an lr,
 * and one that may be 0).  OPTD_HYPER and why. */
int optim_check(const struct optim *optim, char *why, size_t why_bytes);

/* For settings with which a model is to begin: optim_check, and what a model that has begun
 * may have: settings that would be without effect, and a cycle of a momentum which the rule
 * does not have.  Then, as PyTorch's OneCycleLR does to the optimizer, makes a momentum of 0
 * that is to be cycled 0.95: the rule has the state for it.  OPTD_HYPER and why. */
int optim_settle(struct optim *optim, char *why, size_t why_bytes);

/* What is scheduled as the momentum: betas (the first), or else momentum; the count of
 * hyper-parameters where the rule has neither, or not with this match. */
uint32_t optim_cycled(const struct optim *optim);

/* "adam match=torch2 lr=0.001 betas=[0.9,0.999] ..." with every hyper-parameter,
 * each number with the fewest digits that read back the same.  Returns its length, as snprintf
 * also of what does not fit. */
size_t optim_text(const struct optim *optim, char *text, size_t text_bytes);
/* "adamw lr=0.01": what it has other than `own`, or, of another rule, than that rule's
 * defaults, and "schedule=none" where own's is not for it.  Returns as optim_text. */
size_t optim_text_over(const struct optim *optim, const struct optim *own, char *text, size_t text_bytes);

/* "betas=[0.9,0.999]": hyper-parameter `index` of a rule with these values. */
void optim_hyper_text(const struct optim_rule *rule, uint32_t index, const double *values, char *text,
                      size_t text_bytes);

/* 0 when both are the same settings, before or after optim_settle, else -1 and the first
 * that differs, both values, in why. */
int optim_compare(const struct optim *a, const struct optim *b, char *why, size_t why_bytes);

/* State vectors these settings need: sgd without momentum has none. */
uint32_t optim_slot_count(const struct optim *optim);
/* PyTorch's name of slot i ("exp_avg"). */
const char *optim_slot_name(const struct optim *optim, uint32_t index);
/* What slot i is filled with before the first update. */
float optim_slot_initial(const struct optim *optim, uint32_t index);

/* Numbers kept for each segment, PyTorch's name of number i, and what they are
 * before the first update; what the rule does not use is 0. */
uint32_t optim_carry_count(const struct optim *optim);
const char *optim_carry_name(const struct optim *optim, uint32_t index);
void optim_carry_initial(const struct optim *optim, struct optim_carry *out);

/* The scalars of update number t of a segment, t counted from 1, with the lr (and
 * momentum) that the schedule has for t - 1 updates done.  Moves the segment's carry on to what its next update needs. */
void optim_scalars(const struct optim *optim, uint64_t t, struct optim_carry *carry,
                   struct optim_scalars *out);

/* The learning rate of that update after `done` others.  False for a rule that has none, or
 * makes its own (relative_step). */
bool optim_lr(const struct optim *optim, uint64_t done, double *lr);

/* Instruction sets for which the loops were built. */
enum optim_isa { OPTIM_ISA_BASE, OPTIM_ISA_AVX2, OPTIM_ISA_AVX512, OPTIM_ISA_COUNT };

/* The best one this machine has.  A caller may pass any other that
 * optim_isa_usable says yes to: the bits are the same. */
enum optim_isa optim_isa_best(void);
bool optim_isa_usable(enum optim_isa isa);
const char *optim_isa_name(enum optim_isa isa);
int optim_isa_find(const char *name); /* -1 for another word */

/* One update of n elements: w and slots[i] are changed, g is read.  g is the
 * reduced gradient; none of the arrays overlap; 4-byte alignment is enough. */
void optim_step(const struct optim *optim, enum optim_isa isa, const struct optim_scalars *scalars,
                float *w, float *const *slots, const float *g, size_t n);

/* A gradient as it came: elements of a type, aligned to it, and what each of them, made
 * float32, is multiplied with first, in float; 1 leaves their bits. */
struct optim_gradient {
	const void *values;
	float factor;
	enum dtype type;
};

/* optim_step of such a gradient, prepared in the same pass: made float32, times the
 * factor, then held within clip_value. */
void optim_step_from(const struct optim *optim, enum optim_isa isa, const struct optim_scalars *scalars,
                     float *w, float *const *slots, struct optim_gradient g, size_t n);

/* Whether who pushes is answered something else than the weights. */
bool optim_replies(const struct optim *optim);
/* That answer, from w as it is before optim_step.  Only where optim_replies; no arrays
 * overlap. */
void optim_reply(const struct optim *optim, enum optim_isa isa, const struct optim_scalars *scalars,
                 const float *w, struct optim_gradient g, float *out, size_t n);

/* The vector helpers of the data path, per instruction set as well; x[i] is made float32,
 * which is exact.
 *
 * scale:  out[i] = factor * x[i]             (a first contribution; factor 1 copies bits)
 * fold:   out[i] = out[i] + factor * x[i]    (product rounded, then the sum; no fma)
 * finite: index of the first NaN or Inf, or n.
 *
 * Of float32, scale may be in place; else out and x do not overlap. */
void optim_scale(enum optim_isa isa, float *out, struct optim_gradient x, size_t n);
void optim_fold(enum optim_isa isa, float *out, struct optim_gradient x, size_t n);
size_t optim_finite(enum optim_isa isa, const void *x, enum dtype type, size_t n);

#endif
