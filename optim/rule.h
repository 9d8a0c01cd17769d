/*
 * Rule: a row of the table of update rules, private to optim/.
 *
 * Every rule is described in one file, <family>_kernel.c: hyper-parameters,
 * slots, scalars and the loop, top to bottom.  The build compiles that file
 * once per instruction set, and each time it defines the same row under another
 * name (optim_row_adam_base, optim_row_adam_avx2, ...).  A rule is the set of
 * its rows: all agree but for the machine code of `step`.
 *
 * To add a rule: write its file, and name it in RULE_TABLE.
 */
#ifndef OPTD_OPTIM_RULE_H
#define OPTD_OPTIM_RULE_H

#include "optim/optim.h"

struct tensor_shape;
struct tensor_slot;
struct tensor_update;

#define RULE_TABLE(ROW) \
	ROW(sgd) \
	ROW(momentum) \
	ROW(adagrad) \
	ROW(rmsprop) \
	ROW(adam) \
	ROW(adamw) \
	ROW(nadam) \
	ROW(radam) \
	ROW(adamax) \
	ROW(adadelta) \
	ROW(asgd) \
	ROW(rprop) \
	ROW(lion) \
	ROW(yogi) \
	ROW(ftrl) \
	ROW(fedavgm) \
	ROW(fedadagrad) \
	ROW(fedadam) \
	ROW(fedyogi) \
	ROW(diloco) \
	ROW(easgd) \
	ROW(assign) \
	ROW(average) \
	ROW(ema) \
	ROW(swa) \
	ROW(lamb) \
	ROW(lars) \
	ROW(adafactor) \
	ROW(adafactor_paper) \
	ROW(muon)

struct rule_slot {
	const char *name; /* PyTorch's */
	float initial;
};

struct rule_row {
	const char *name;
	const char *formula; /* of one update, all of it: who reads it has no source.  Steps with "; "
	                        between them; "NAME: " is a step only where that setting is not 0.
	                        w are weights, g what is pushed of gradients, x of values, t counts
	                        updates from 1 */
	const char *source;
	const char *state;   /* the slots in words, where they depend on the tensor's shape */
	enum optim_class reach;
	enum optim_push push;

	const struct optim_hyper *hypers;
	uint32_t hyper_count;

	/* Bit m is set when the rule has a reference of match m.  Zero: the rule
	 * has one definition only, and match may not be given. */
	uint32_t matches;

	/* Bit i of lacks[m] is set when match m's reference does not know
	 * hyper-parameter i, which then must be 0. */
	uint32_t lacks[OPTIM_MATCH_COUNT];

	/* Fills `out` with the slots that these settings need; returns how many. */
	uint32_t (*slots)(const struct optim *optim, struct rule_slot *out);

	/* What depends on several hyper-parameters, or NULL.  0, or OPTD_HYPER and
	 * a sentence in why. */
	int (*check)(const struct optim *optim, char *why, size_t why_bytes);

	/* The same of what is only refused at the beginning, see optim_settle: settings that
	 * would be without effect. */
	int (*settle)(const struct optim *optim, char *why, size_t why_bytes);

	/* Fills `out` with the numbers kept for each segment; returns how many.  NULL
	 * for none. */
	uint32_t (*carries)(const struct optim *optim, struct rule_slot *out);

	/* The scalars of update t >= 1, in double, rounded once. */
	void (*scalars)(const struct optim *optim, double t, float *out);

	/* The rest of them, which come from carry, the numbers of carries(); moves
	 * carry on to what the next update needs.  NULL without carries. */
	void (*advance)(const struct optim *optim, double t, float *carry, float *out);

	/* The loop.  slots[] are those of slots(), in its order. */
	void (*step)(const struct optim *optim, const float *scalars, float *w, float *const *slots,
	             const float *g, size_t n);

	/* In place of step, for class OPTIM_TENSOR: see tensor_run. */
	bool (*run)(struct tensor_update *update, uint64_t budget);

	/* Slots that depend on the tensor's shape, in place of slots; why a shape is not
	 * taken, or NULL; floats of working memory.  Each may be NULL: as slots says, all,
	 * none. */
	uint32_t (*tensor_slots)(const struct optim *optim, const struct tensor_shape *shape,
	                         struct tensor_slot *out);
	const char *(*refusal)(const struct tensor_shape *shape);
	uint64_t (*scratch)(const struct tensor_shape *shape);

	/* What the worker that pushed g is answered in place of the weights, from the
	 * weights before the update.  NULL: the weights. */
	void (*reply)(const struct optim *optim, const float *scalars, const float *w,
	              const float *g, float *out, size_t n);
};

/* The helpers of the data path, see optim.h. */
struct vector_row {
	void (*scale)(float *out, const float *x, float a, size_t n);
	void (*fold)(float *out, const float *x, float a, size_t n);
	size_t (*finite)(const float *x, size_t n);
};

/* What came in two bytes an element, by enum dtype; DTYPE_F32 has none. */
struct half_row {
	void (*widen[DTYPE_COUNT])(float *out, const uint16_t *x, size_t n);
	/* The first of which the bits without the sign are `end` or more, or n. */
	size_t (*finite)(const uint16_t *x, int16_t end, size_t n);
	int16_t finite_end[DTYPE_COUNT];
};

/* The loops of clipping, see clip.h. */
struct norm_row {
	double (*power_sum)(const float *x, size_t n, double p);
	float (*largest)(const float *x, size_t n);
	void (*clamp)(float *out, const float *x, float limit, size_t n);
};

struct optim_rule {
	const struct rule_row *rows[OPTIM_ISA_COUNT]; /* NULL where not built */
};

#if defined(__x86_64__)
#define RULE_ON_X86(row) row
#else
#define RULE_ON_X86(row) NULL
#endif

#define RULE_DECLARE(name) \
	extern const struct rule_row optim_row_##name##_base; \
	extern const struct rule_row optim_row_##name##_avx2; \
	extern const struct rule_row optim_row_##name##_avx512;
RULE_TABLE(RULE_DECLARE)
#undef RULE_DECLARE

extern const struct vector_row optim_vector_base;
extern const struct vector_row optim_vector_avx2;
extern const struct vector_row optim_vector_avx512;

extern const struct half_row optim_half_base;
extern const struct half_row optim_half_avx2;
extern const struct half_row optim_half_avx512;

extern const struct norm_row optim_norm_base;
extern const struct norm_row optim_norm_avx2;
extern const struct norm_row optim_norm_avx512;

/* The hyper-parameters of a row and, behind them, those that rules have in common:
 * clip_value, of every elementwise rule that takes gradients or deltas. */
uint32_t rule_hyper_count(const struct rule_row *row);
const struct optim_hyper *rule_hyper(const struct rule_row *row, uint32_t index);
/* The limit on a gradient's elements; 0 for none. */
double rule_clip_value(const struct optim *optim);

/* What a schedule makes of the momentum when a model begins: 0.95 of a 0 that it moves; one
 * that finds none to move leaves it. */
void rule_settle_momentum(struct optim *optim);

/* The row with the rule's description; every row would do. */
static inline const struct rule_row *rule_row(const struct optim_rule *rule)
{
	return rule->rows[OPTIM_ISA_BASE];
}

#endif
