/*
 * momentum: a velocity that holds the learning rate, from the NumPy formulas
 * this project began with.
 *
 *     v = momentum * v - lr * g       both products rounded, no fma
 *     w = w + v
 *
 * Not sgd with momentum: there the buffer holds gradients, so a change of lr
 * acts at once on all of it; here only on gradients to come.  The rule has one
 * definition, hence no match.
 */
#include "optim/kernel.h"

enum hyper { LR, MOMENTUM };

/* The formulas came without defaults: lr as sgd's, momentum the usual one. */
static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0.9 }, 0, FLT_MAX, false, false },
};

enum scalar { RATE, KEEP };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "momentum_buffer", 0 };
	return 1;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[RATE] = (float)optim->values[LR][0];
	out[KEEP] = (float)optim->values[MOMENTUM][0];
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict v, const float *restrict g,
                 size_t n)
{
	const float rate = s[RATE], keep = s[KEEP];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i];
		float vi = keep * v[i] - rate * g[i];

		v[i] = vi;
		w[i] = wi + vi;
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	(void)optim;
	loop(s, w, slot[0], g, n);
}

const struct rule_row KERNEL(optim_row_momentum) = {
	.name = "momentum",
	.formula = "v = momentum*v - lr*g; "
	           "w = w + v",
	.source = "the NumPy formulas this project began with",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
