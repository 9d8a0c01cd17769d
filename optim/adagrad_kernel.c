/*
 * adagrad: as torch.optim.Adagrad.  Duchi, Hazan, Singer 2011,
 * https://jmlr.org/papers/v12/duchi11a.html
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     weight_decay != 0
 *     s = fma(g, g, s)                s starts at initial_accumulator_value
 *     w = w + (-clr * g) / (sqrt(s) + eps),  clr = lr / (1 + (t - 1) * lr_decay)
 *
 * match=numpy: s = s + g * g;  w = w - (lr * g) / (sqrt(s) + eps), every
 * product rounded.
 */
#include "optim/kernel.h"

enum hyper { LR, LR_DECAY, WEIGHT_DECAY, INITIAL, EPS, MAXIMIZE };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[LR_DECAY] = { "lr_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[INITIAL] = { "initial_accumulator_value", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-10 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAY, ROOT_ADD, MINUS_CLR, PLUS_LR };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	out[0] = (struct rule_slot){ "sum", (float)optim->values[INITIAL][0] };
	return 1;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double lr = optim->values[LR][0];

	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[ROOT_ADD] = (float)optim->values[EPS][0];
	out[MINUS_CLR] = (float)-(lr / (1 + (t - 1) * optim->values[LR_DECAY][0]));
	out[PLUS_LR] = (float)lr;
}

KERNEL_LOOP torch_loop(const float *s, float *restrict w, float *restrict sum,
                       const float *restrict grad, size_t n, bool decay)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], eps = s[ROOT_ADD];
	const float minus_clr = s[MINUS_CLR];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], si = sum[i];

		if (decay)
			g = fmaf(wi, weight_decay, g);
		si = fmaf(g, g, si);
		sum[i] = si;
		w[i] = wi + (minus_clr * g) / (sqrtf(si) + eps);
	}
}

KERNEL_LOOP numpy_loop(const float *s, float *restrict w, float *restrict sum,
                       const float *restrict g, size_t n)
{
	const float lr = s[PLUS_LR], eps = s[ROOT_ADD];

	for (size_t i = 0; i < n; i++) {
		float gi = g[i], wi = w[i];
		float si = sum[i] + gi * gi;

		sum[i] = si;
		w[i] = wi - (lr * gi) / (sqrtf(si) + eps);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
#define TORCH(decay) torch_loop(s, w, slot[0], g, n, decay)
	if (optim->match == OPTIM_NUMPY)
		numpy_loop(s, w, slot[0], g, n);
	else
		KERNEL_SPLIT1(optim->values[WEIGHT_DECAY][0] != 0, TORCH);
}

const struct rule_row KERNEL(optim_row_adagrad) = {
	.name = "adagrad",
	.formula = "s starts at initial_accumulator_value; "
	           KERNEL_MAXIMIZE KERNEL_DECAY
	           "s = fma(g, g, s); "
	           "w = w + (-clr*g) / (sqrt(s) + eps), clr = lr / (1 + (t-1)*lr_decay)",
	.source = "torch/optim/adagrad.py; Duchi, Hazan, Singer 2011",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1 | 1u << OPTIM_NUMPY,
	.lacks = { [OPTIM_NUMPY] = ~(1u << LR | 1u << EPS) },
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
