/*
 * adadelta: as torch.optim.Adadelta.  Zeiler 2012, https://arxiv.org/abs/1212.5701
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     weight_decay != 0
 *     q = fma((1 - rho) * g, g, q * rho)
 *     d = (sqrt(a + eps) / sqrt(q + eps)) * g
 *     a = fma((1 - rho) * d, d, a * rho)
 *     w = fma(d, -lr, w)
 */
#include "optim/kernel.h"

enum hyper { LR, RHO, EPS, WEIGHT_DECAY, MAXIMIZE };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1 }, 0, FLT_MAX, false, false },
	[RHO] = { "rho", OPTIM_REAL, 1, { 0.9 }, 0, 1, false, false },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-6 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAY, KEEP, TAKE, ROOT_ADD, MINUS_LR };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "square_avg", 0 };
	out[1] = (struct rule_slot){ "acc_delta", 0 };
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP] = (float)optim->values[RHO][0];
	out[TAKE] = (float)(1 - optim->values[RHO][0]);
	out[ROOT_ADD] = (float)optim->values[EPS][0];
	out[MINUS_LR] = (float)-optim->values[LR][0];
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict q, float *restrict a,
                 const float *restrict grad, size_t n, bool decay)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], keep = s[KEEP], take = s[TAKE];
	const float eps = s[ROOT_ADD], minus_lr = s[MINUS_LR];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], qi = q[i], ai = a[i], d;

		if (decay)
			g = fmaf(wi, weight_decay, g);
		qi = fmaf(take * g, g, qi * keep);
		d = (sqrtf(ai + eps) / sqrtf(qi + eps)) * g;
		q[i] = qi;
		a[i] = fmaf(take * d, d, ai * keep);
		w[i] = fmaf(d, minus_lr, wi);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
#define LOOP(decay) loop(s, w, slot[0], slot[1], g, n, decay)
	KERNEL_SPLIT1(optim->values[WEIGHT_DECAY][0] != 0, LOOP);
}

const struct rule_row KERNEL(optim_row_adadelta) = {
	.name = "adadelta",
	.formula = KERNEL_MAXIMIZE KERNEL_DECAY
	           "q = fma((1-rho)*g, g, q*rho); "
	           "d = (sqrt(a+eps) / sqrt(q+eps))*g; "
	           "a = fma((1-rho)*d, d, a*rho); "
	           "w = fma(d, -lr, w)",
	.source = "torch/optim/adadelta.py; Zeiler 2012, arXiv 1212.5701",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
