/*
 * nadam: as torch.optim.NAdam.  Dozat 2016,
 * https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
 *
 *     g = -g                          maximize
 *     w = w * (1 - lr * weight_decay)     decoupled_weight_decay
 *     g = fma(w, weight_decay, g)     otherwise, weight_decay != 0
 *     mu = beta1 * (1 - 0.96^(t * momentum_decay) / 2), mu' the same of t + 1
 *     p = p * mu                      the product of all mu, kept as a float32
 *     m = lerp(m, g, 1 - beta1)       torch2
 *     m = fma(g, 1 - beta1, m * beta1)    torch1
 *     v = fma((1 - beta2) * g, g, v * beta2)
 *     d = sqrt(v / (1 - beta2^t)) + eps
 *     w = w + (-lr * (1 - mu) / (1 - p) * g) / d
 *     w = w + (-lr * mu' / (1 - p * mu') * m) / d
 *
 * torch1 has p * mu * mu' where torch2 has p * mu': 1.13 multiplied by mu once
 * too often, which is no matter of rounding (1.4 % of lr after 50 updates).
 */
#include "optim/kernel.h"

enum hyper { LR, BETAS, EPS, WEIGHT_DECAY, MOMENTUM_DECAY, MAXIMIZE, DECOUPLED };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 2e-3 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[MOMENTUM_DECAY] = { "momentum_decay", OPTIM_REAL, 1, { 4e-3 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[DECOUPLED] = { "decoupled_weight_decay", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAY, SHRINK, KEEP1, TAKE1, LERP1, KEEP2, TAKE2, BC2, ROOT_ADD, RATE_G, RATE_M };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	out[1] = (struct rule_slot){ "exp_avg_sq", 0 };
	return 2;
}

static uint32_t carries(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "mu_product", 1 };
	return 1;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];
	double weight_decay = optim->values[WEIGHT_DECAY][0];
	bool decoupled = optim->values[DECOUPLED][0] != 0;

	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)weight_decay;
	out[SHRINK] = (float)(decoupled ? 1 - optim->values[LR][0] * weight_decay : 1);
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[LERP1] = kernel_lerp_factor(1 - beta1);
	out[KEEP2] = (float)beta2;
	out[TAKE2] = (float)(1 - beta2);
	out[BC2] = (float)(1 - pow(beta2, t));
	out[ROOT_ADD] = (float)optim->values[EPS][0];
}

static void advance(const struct optim *optim, double t, float *carry, float *out)
{
	double lr = optim->values[LR][0], decay = optim->values[MOMENTUM_DECAY][0];
	double beta1 = optim->values[BETAS][0];
	double mu = beta1 * (1 - 0.5 * pow(0.96, t * decay));
	double mu_next = beta1 * (1 - 0.5 * pow(0.96, (t + 1) * decay));
	float product = carry[0] * (float)mu;
	double product_next = optim->match == OPTIM_TORCH1 ?
	                              (double)(product * (float)mu * (float)mu_next) :
	                              (double)product * mu_next;

	carry[0] = product;
	out[RATE_G] = (float)(-lr * (1 - mu) / (1 - (double)product));
	out[RATE_M] = (float)(-lr * mu_next / (1 - product_next));
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict m, float *restrict v,
                 const float *restrict grad, size_t n, enum kernel_mean mean, bool decay)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], shrink = s[SHRINK];
	const float keep1 = s[KEEP1], take1 = s[TAKE1], lerp1 = s[LERP1];
	const float keep2 = s[KEEP2], take2 = s[TAKE2], bc2 = s[BC2], eps = s[ROOT_ADD];
	const float rate_g = s[RATE_G], rate_m = s[RATE_M];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = shrink * w[i], mi = m[i], vi = v[i], d;

		if (decay)
			g = fmaf(wi, weight_decay, g);
		mi = kernel_mean(mean, mi, g, keep1, take1, lerp1);
		vi = fmaf(take2 * g, g, vi * keep2);
		d = sqrtf(vi / bc2) + eps;
		m[i] = mi;
		v[i] = vi;
		wi = wi + (rate_g * g) / d;
		w[i] = wi + (rate_m * mi) / d;
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	enum kernel_mean mean = kernel_mean_of(optim, s[LERP1]);
	bool decay = optim->values[WEIGHT_DECAY][0] != 0 && optim->values[DECOUPLED][0] == 0;

#define LOOP(mean, decay) loop(s, w, slot[0], slot[1], g, n, mean, decay)
	KERNEL_SPLIT_MEAN(mean, decay, LOOP);
}

const struct rule_row KERNEL(optim_row_nadam) = {
	.name = "nadam",
	.formula = "p starts at 1; "
	           KERNEL_MAXIMIZE KERNEL_DECOUPLED
	           "mu(t) = beta1*(1 - 0.96^(t*momentum_decay)/2); "
	           "p = p*mu(t); "
	           "m = lerp(m, g, 1-beta1); "
	           "v = fma((1-beta2)*g, g, v*beta2); "
	           "d = sqrt(v / (1-beta2^t)) + eps; "
	           "w = w + (-lr*(1-mu(t)) / (1-p) * g)/d; "
	           "w = w + (-lr*mu(t+1) / (1 - p*mu(t+1)) * m)/d, with match=torch1 p*mu(t)*mu(t+1) "
	           "for p*mu(t+1)",
	.source = "torch/optim/nadam.py; Dozat 2016",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.lacks = { [OPTIM_TORCH1] = 1u << MAXIMIZE | 1u << DECOUPLED },
	.slots = slots,
	.carries = carries,
	.scalars = scalars,
	.advance = advance,
	.step = step,
};
