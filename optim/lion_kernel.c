/*
 * lion: the sign of an interpolated momentum.  Chen et al. 2023,
 * https://arxiv.org/abs/2302.06675
 *
 *     w = w * (1 - lr * weight_decay)
 *     w = w - lr * sign(beta1 * m + (1 - beta1) * g)      sign(0) = sign(NaN) = 0
 *     m = beta2 * m + (1 - beta2) * g
 */
#include "optim/kernel.h"

enum hyper { LR, BETAS, WEIGHT_DECAY };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-4 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.99 }, 0, 1, false, true },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

enum scalar { SHRINK, KEEP1, TAKE1, KEEP2, TAKE2, RATE };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	return 1;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double lr = optim->values[LR][0];
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];

	(void)t;
	out[SHRINK] = (float)(1 - lr * optim->values[WEIGHT_DECAY][0]);
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[KEEP2] = (float)beta2;
	out[TAKE2] = (float)(1 - beta2);
	out[RATE] = (float)lr;
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict m, const float *restrict g,
                 size_t n)
{
	const float shrink = s[SHRINK], rate = s[RATE];
	const float keep1 = s[KEEP1], take1 = s[TAKE1], keep2 = s[KEEP2], take2 = s[TAKE2];

	for (size_t i = 0; i < n; i++) {
		float gi = g[i], mi = m[i], wi = shrink * w[i];
		float way = keep1 * mi + take1 * gi;

		m[i] = keep2 * mi + take2 * gi;
		w[i] = wi - rate * kernel_signum(way);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	(void)optim;
	loop(s, w, slot[0], g, n);
}

const struct rule_row KERNEL(optim_row_lion) = {
	.name = "lion",
	.formula = "w = w*(1 - lr*weight_decay); "
	           "w = w - lr*sign(beta1*m + (1-beta1)*g); "
	           "m = beta2*m + (1-beta2)*g",
	.source = "Chen et al. 2023, arXiv 2302.06675",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
