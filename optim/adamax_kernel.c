/*
 * adamax: as torch.optim.Adamax.  Kingma, Ba 2014, section 7.1,
 * https://arxiv.org/abs/1412.6980
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     weight_decay != 0
 *     m = lerp(m, g, 1 - beta1)       torch2
 *     m = fma(g, 1 - beta1, m * beta1)    torch1
 *     u = max(u * beta2, |g| + eps)   NaN wins
 *     w = w + (-(lr / (1 - beta1^t)) * m) / u
 */
#include "optim/kernel.h"

enum hyper { LR, BETAS, EPS, WEIGHT_DECAY, MAXIMIZE };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 2e-3 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAY, KEEP1, TAKE1, LERP1, KEEP2, NORM_ADD, RATE };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	out[1] = (struct rule_slot){ "exp_inf", 0 };
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double beta1 = optim->values[BETAS][0];

	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[LERP1] = kernel_lerp_factor(1 - beta1);
	out[KEEP2] = (float)optim->values[BETAS][1];
	out[NORM_ADD] = (float)optim->values[EPS][0];
	out[RATE] = (float)-(optim->values[LR][0] / (1 - pow(beta1, t)));
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict m, float *restrict u,
                 const float *restrict grad, size_t n, enum kernel_mean mean, bool decay)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], eps = s[NORM_ADD], rate = s[RATE];
	const float keep1 = s[KEEP1], take1 = s[TAKE1], lerp1 = s[LERP1], keep2 = s[KEEP2];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], mi = m[i], ui = u[i];

		if (decay)
			g = fmaf(wi, weight_decay, g);
		mi = kernel_mean(mean, mi, g, keep1, take1, lerp1);
		ui = kernel_max(ui * keep2, fabsf(g) + eps);
		m[i] = mi;
		u[i] = ui;
		w[i] = wi + (rate * mi) / ui;
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	enum kernel_mean mean = kernel_mean_of(optim, s[LERP1]);

#define LOOP(mean, decay) loop(s, w, slot[0], slot[1], g, n, mean, decay)
	KERNEL_SPLIT_MEAN(mean, optim->values[WEIGHT_DECAY][0] != 0, LOOP);
}

const struct rule_row KERNEL(optim_row_adamax) = {
	.name = "adamax",
	.formula = KERNEL_MAXIMIZE KERNEL_DECAY
	           "m = lerp(m, g, 1-beta1); "
	           "u = max(u*beta2, abs(g) + eps), NaN wins; "
	           "w = w + (-(lr/(1-beta1^t))*m)/u",
	.source = "torch/optim/adamax.py; Kingma, Ba 2014, arXiv 1412.6980",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
