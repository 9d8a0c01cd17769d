/*
 * Schedule: the learning rate as a function of the update count, with the names,
 * parameters and defaults of torch.optim.lr_scheduler.
 *
 * A schedule has no state: PyTorch's recursive definitions and these closed forms
 * agree within 4e-14.  t counts updates already done, so update number 1 takes the
 * rate of t = 0, and t is the segment's own: in async each tensor's rate follows what
 * was applied to it, whoever pushed.
 *
 * A sequence runs its parts one after the other; each counts from its own beginning,
 * as in SequentialLR.
 */
#ifndef OPTD_OPTIM_SCHEDULE_H
#define OPTD_OPTIM_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define SCHEDULE_PARAMS_MAX LIMIT_SCHEDULE_PARAMS
#define SCHEDULE_MILESTONES_MAX LIMIT_SCHEDULE_VALUES
#define SCHEDULE_PARTS_MAX LIMIT_SCHEDULE_PARTS

enum schedule_kind {
	SCHEDULE_CONSTANT,
	SCHEDULE_CONSTANT_LR,
	SCHEDULE_LINEAR_WARMUP,
	SCHEDULE_STEP,
	SCHEDULE_MULTISTEP,
	SCHEDULE_EXPONENTIAL,
	SCHEDULE_COSINE,
	SCHEDULE_COSINE_RESTARTS,
	SCHEDULE_POLYNOMIAL,
	SCHEDULE_ONECYCLE,
	SCHEDULE_WSD,
	SCHEDULE_KIND_COUNT
};

/* A number: `whole` ones count updates.  `required` ones have no default. */
struct schedule_param {
	const char *name;
	double initial, min, max;
	bool whole, required;
};

struct schedule_part {
	enum schedule_kind kind;
	double values[SCHEDULE_PARAMS_MAX];
	double milestones[SCHEDULE_MILESTONES_MAX]; /* of multistep, ascending */
	uint32_t milestone_count;
};

/* Plain data: copy it freely.  All zeros is a constant rate. */
struct schedule {
	struct schedule_part parts[SCHEDULE_PARTS_MAX];
	uint64_t ends[SCHEDULE_PARTS_MAX]; /* part i is over at this t; the last one's is not read */
	uint32_t part_count;               /* 0 is one constant part */
};

/* "cosine"; and back, -1 for another word. */
const char *schedule_name(enum schedule_kind kind);
int schedule_find(const char *name);
/* What it makes of lr after t updates, in its parameters' names; pieces with "; " between. */
const char *schedule_formula(enum schedule_kind kind);
/* The name most like the given word; NULL where none is like it. */
const char *schedule_nearest(const char *name);
/* The first kind with a parameter of this name, or NULL. */
const char *schedule_of_param(const char *name);
/* All of them, for errors. */
#define SCHEDULE_NAMES "constant, constantlr, linear_warmup, step, multistep, exponential, cosine, " \
	"cosine_restarts, polynomial, onecycle, wsd"
const struct schedule_param *schedule_params(enum schedule_kind kind, uint32_t *count);

/* A part with its defaults; required parameters are NaN until they are set. */
void schedule_part_init(struct schedule_part *part, enum schedule_kind kind);

/* Sets a parameter; multistep's `milestones` takes several values, all others one.
 * OPTD_HYPER with name, value and range (or the names there are) in why; *part is
 * then as before. */
int schedule_set(struct schedule_part *part, const char *name, const double *values, uint32_t count,
                 char *why, size_t why_bytes);

/* That nothing required is missing, milestones ascend, and each part of a sequence
 * ends later than the one before.  OPTD_HYPER and why. */
int schedule_check(const struct schedule *schedule, char *why, size_t why_bytes);

/* The learning rate after t updates, where `lr` is the optimizer's own. */
double schedule_lr(const struct schedule *schedule, double lr, uint64_t t);

/* "linear_warmup(start_factor=0.1,end_factor=1,total_iters=5) until 5, then
 * cosine(T_max=40,eta_min=0)"; "" for a constant rate.  Always terminated. */
void schedule_text(const struct schedule *schedule, char *text, size_t text_bytes);

/* Whether it is of the optimizer's lr: onecycle's rates come from its own max_lr. */
bool schedule_takes_lr(const struct schedule *schedule);

/* Whether both give the same rates from the same words. */
bool schedule_equal(const struct schedule *a, const struct schedule *b);

/* Whether the momentum (or the first beta) is scheduled after t updates, which onecycle
 * does unless cycle_momentum is 0; then what it is. */
bool schedule_momentum(const struct schedule *schedule, uint64_t t, double *momentum);

/* PyTorch's max_momentum, at both ends of the cycle. */
#define SCHEDULE_MAX_MOMENTUM 0.95

/* Whether some part schedules the momentum, and whether all do, so that the optimizer's own
 * is without effect. */
bool schedule_cycles(const struct schedule *schedule);
bool schedule_takes_momentum(const struct schedule *schedule);
/* Leaves the momentum to the optimizer, as cycle_momentum: 0. */
void schedule_leave_momentum(struct schedule *schedule);

#endif
