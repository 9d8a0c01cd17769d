/*
 * assign, average: for what is not trained but kept with the model, such as the
 * running statistics of a normalisation layer.  What is pushed are values:
 *
 *     assign:   w = x
 *     average:  w = w + rate * (x - w)
 *
 * x is reduced like every push.  In sync mode with reduce: mean, assign makes w the
 * mean over the workers; in async, the value last pushed.  average, in async, is a
 * moving average over the workers' pushes.
 */
#include <string.h>

#include "optim/kernel.h"

enum hyper { RATE };

static const struct optim_hyper average_hypers[] = {
	[RATE] = { "rate", OPTIM_REAL, 1, { 0.1 }, 0, 1, false, false },
};

enum scalar { MOVE };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim, (void)out;
	return 0;
}

static void assign_scalars(const struct optim *optim, double t, float *out)
{
	(void)optim, (void)t, (void)out;
}

static void average_scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[MOVE] = (float)optim->values[RATE][0];
}

static void assign_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                        const float *x, size_t n)
{
	(void)optim, (void)s, (void)slot;
	memcpy(w, x, n * sizeof(*w));
}

KERNEL_LOOP average_loop(const float *s, float *restrict w, const float *restrict x, size_t n)
{
	const float move = s[MOVE];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i];

		w[i] = wi + move * (x[i] - wi);
	}
}

static void average_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                         const float *x, size_t n)
{
	(void)optim, (void)slot;
	average_loop(s, w, x, n);
}

const struct rule_row KERNEL(optim_row_assign) = {
	.name = "assign",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.slots = slots,
	.scalars = assign_scalars,
	.step = assign_step,
};

const struct rule_row KERNEL(optim_row_average) = {
	.name = "average",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_WEIGHTS,
	.hypers = average_hypers,
	.hyper_count = KERNEL_COUNT(average_hypers),
	.slots = slots,
	.scalars = average_scalars,
	.step = average_step,
};
