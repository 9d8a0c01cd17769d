/*
 * asgd: averaged stochastic gradient descent, as torch.optim.ASGD.  Polyak,
 * Juditsky 1992, https://doi.org/10.1137/0330046
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     weight_decay != 0
 *     w = w * (1 - lambd * eta)
 *     w = fma(g, -eta, w)
 *     a = mu == 1 ? w : a + (w - a) * mu
 *     eta = lr / (1 + lambd * lr * t)^alpha,  mu = 1 / max(1, t - t0)
 *
 * eta starts as lr and mu as 1; both are float32 and used from the next update
 * on, so a new lr acts one update late.  a, called ax, is the averaged model.
 */
#include "optim/kernel.h"

enum hyper { LR, LAMBD, ALPHA, T0, WEIGHT_DECAY, MAXIMIZE };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[LAMBD] = { "lambd", OPTIM_REAL, 1, { 1e-4 }, 0, FLT_MAX, false, false },
	[ALPHA] = { "alpha", OPTIM_REAL, 1, { 0.75 }, 0, FLT_MAX, false, false },
	[T0] = { "t0", OPTIM_REAL, 1, { 1e6 }, -FLT_MAX, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAY, SHRINK, MINUS_ETA, AVERAGE };
enum carried { ETA, MU };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "ax", 0 };
	return 1;
}

static uint32_t carries(const struct optim *optim, struct rule_slot *out)
{
	out[ETA] = (struct rule_slot){ "eta", (float)optim->values[LR][0] };
	out[MU] = (struct rule_slot){ "mu", 1 };
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
}

static void advance(const struct optim *optim, double t, float *carry, float *out)
{
	double lr = optim->values[LR][0], lambd = optim->values[LAMBD][0];
	double since = t - optim->values[T0][0];

	out[SHRINK] = (float)(1 - lambd * (double)carry[ETA]);
	out[MINUS_ETA] = -carry[ETA];
	out[AVERAGE] = carry[MU];
	carry[ETA] = (float)(lr / pow(1 + lambd * lr * t, optim->values[ALPHA][0]));
	carry[MU] = (float)(1 / (since > 1 ? since : 1));
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict a, const float *restrict grad,
                 size_t n, bool decay, bool copy)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], shrink = s[SHRINK];
	const float minus_eta = s[MINUS_ETA], mu = s[AVERAGE];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], ai = copy ? 0 : a[i];

		if (decay)
			g = fmaf(wi, weight_decay, g);
		wi = fmaf(g, minus_eta, wi * shrink);
		a[i] = copy ? wi : ai + (wi - ai) * mu;
		w[i] = wi;
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
#define LOOP(decay, copy) loop(s, w, slot[0], g, n, decay, copy)
	KERNEL_SPLIT2(optim->values[WEIGHT_DECAY][0] != 0, s[AVERAGE] == 1, LOOP);
}

const struct rule_row KERNEL(optim_row_asgd) = {
	.name = "asgd",
	.formula = "eta starts at lr, mu at 1; "
	           KERNEL_MAXIMIZE KERNEL_DECAY
	           "w = w*(1 - lambd*eta); "
	           "w = fma(g, -eta, w); "
	           "ax = mu == 1 ? w : ax + (w-ax)*mu, the averaged model; "
	           "for the next update eta = lr / (1 + lambd*lr*t)^alpha, mu = 1/max(1, t-t0)",
	.source = "torch/optim/asgd.py; Polyak, Juditsky 1992",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.slots = slots,
	.carries = carries,
	.scalars = scalars,
	.advance = advance,
	.step = step,
};
