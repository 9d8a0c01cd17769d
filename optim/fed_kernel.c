/*
 * fedadagrad, fedadam, fedyogi: adaptive server optimizers of federated learning.
 * Reddi et al. 2020, https://arxiv.org/abs/2003.00295
 *
 * What is pushed is a delta, new weights - old weights, so the step goes along it:
 *
 *     m = beta1 * m + (1 - beta1) * d
 *     fedadagrad: v = v + d * d
 *     fedadam:    v = beta2 * v + (1 - beta2) * (d * d)
 *     fedyogi:    v = v - (1 - beta2) * (d * d) * sign(v - d * d)
 *     w = w + (lr * m) / (sqrt(v) + tau)
 *
 * v starts at v0; there is no bias correction.  (fedavgm is in sgd_kernel.c.)
 */
#include "optim/kernel.h"

/* fedadagrad has the number beta1 in the place of the pair. */
enum hyper { LR, BETAS, TAU, V0 };

static const struct optim_hyper adagrad_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 0.1 }, 0, FLT_MAX, false, false },
	[BETAS] = { "beta1", OPTIM_REAL, 1, { 0 }, 0, 1, false, true },
	[TAU] = { "tau", OPTIM_REAL, 1, { 1e-9 }, 0, FLT_MAX, false, false },
	[V0] = { "v0", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

static const struct optim_hyper adam_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 0.1 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.99 }, 0, 1, false, true },
	[TAU] = { "tau", OPTIM_REAL, 1, { 1e-9 }, 0, FLT_MAX, false, false },
	[V0] = { "v0", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

static const struct optim_hyper yogi_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.99 }, 0, 1, false, true },
	[TAU] = { "tau", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[V0] = { "v0", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

enum scalar { KEEP1, TAKE1, KEEP2, TAKE2, ROOT_ADD, RATE };
enum second { ADAGRAD, ADAM, YOGI };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	out[1] = (struct rule_slot){ "exp_avg_sq", (float)optim->values[V0][0] };
	return 2;
}

static uint32_t adagrad_slots(const struct optim *optim, struct rule_slot *out)
{
	slots(optim, out);
	out[1].name = "sum";
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];

	(void)t;
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[KEEP2] = (float)beta2;
	out[TAKE2] = (float)(1 - beta2);
	out[ROOT_ADD] = (float)optim->values[TAU][0];
	out[RATE] = (float)optim->values[LR][0];
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict m, float *restrict v,
                 const float *restrict delta, size_t n, enum second second)
{
	const float keep1 = s[KEEP1], take1 = s[TAKE1], keep2 = s[KEEP2], take2 = s[TAKE2];
	const float tau = s[ROOT_ADD], rate = s[RATE];

	for (size_t i = 0; i < n; i++) {
		float d = delta[i], square = d * d, wi = w[i];
		float mi = keep1 * m[i] + take1 * d, vi = v[i];

		if (second == ADAGRAD)
			vi = vi + square;
		else if (second == ADAM)
			vi = keep2 * vi + take2 * square;
		else
			vi = vi - take2 * square * kernel_signum(vi - square);
		m[i] = mi;
		v[i] = vi;
		w[i] = wi + (rate * mi) / (sqrtf(vi) + tau);
	}
}

#define ROW_STEP(name, second) \
	static void name(const struct optim *optim, const float *s, float *w, float *const *slot, \
	                 const float *g, size_t n) \
	{ \
		(void)optim; \
		loop(s, w, slot[0], slot[1], g, n, second); \
	}
ROW_STEP(adagrad_step, ADAGRAD)
ROW_STEP(adam_step, ADAM)
ROW_STEP(yogi_step, YOGI)

const struct rule_row KERNEL(optim_row_fedadagrad) = {
	.name = "fedadagrad",
	.formula = "s starts at v0; "
	           "m = beta1*m + (1-beta1)*g; "
	           "s = s + g*g; "
	           "w = w + (lr*m)/(sqrt(s) + tau)",
	.source = "Reddi et al. 2020, arXiv 2003.00295",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_DELTA,
	.hypers = adagrad_hypers,
	.hyper_count = KERNEL_COUNT(adagrad_hypers),
	.slots = adagrad_slots,
	.scalars = scalars,
	.step = adagrad_step,
};

const struct rule_row KERNEL(optim_row_fedadam) = {
	.name = "fedadam",
	.formula = "v starts at v0; "
	           "m = beta1*m + (1-beta1)*g; "
	           "v = beta2*v + (1-beta2)*(g*g); "
	           "w = w + (lr*m)/(sqrt(v) + tau)",
	.source = "Reddi et al. 2020, arXiv 2003.00295",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_DELTA,
	.hypers = adam_hypers,
	.hyper_count = KERNEL_COUNT(adam_hypers),
	.slots = slots,
	.scalars = scalars,
	.step = adam_step,
};

const struct rule_row KERNEL(optim_row_fedyogi) = {
	.name = "fedyogi",
	.formula = "v starts at v0; "
	           "m = beta1*m + (1-beta1)*g; "
	           "v = v - (1-beta2)*(g*g)*sign(v - g*g); "
	           "w = w + (lr*m)/(sqrt(v) + tau)",
	.source = "Reddi et al. 2020, arXiv 2003.00295",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_DELTA,
	.hypers = yogi_hypers,
	.hyper_count = KERNEL_COUNT(yogi_hypers),
	.slots = slots,
	.scalars = scalars,
	.step = yogi_step,
};
