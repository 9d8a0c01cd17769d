/*
 * radam: as torch.optim.RAdam.  Liu et al. 2019, https://arxiv.org/abs/1908.03265
 *
 *     g = -g                          maximize
 *     w = w * (1 - lr * weight_decay)     decoupled_weight_decay
 *     g = fma(w, weight_decay, g)     otherwise, weight_decay != 0
 *     m = lerp(m, g, 1 - beta1)       torch2
 *     m = fma(g, 1 - beta1, m * beta1)    torch1
 *     v = fma((1 - beta2) * g, g, v * beta2)
 *     h = m / (1 - beta1^t)
 *     a = (1 / (sqrt(v) + eps)) * sqrt(1 - beta2^t)
 *     w = w - ((h * lr) * a) * r      rho > 5
 *     w = w - h * lr                  else
 *
 * with rho_inf = 2 / (1 - beta2) - 1, rho = rho_inf - 2 t beta2^t / (1 - beta2^t),
 * r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)).  The
 * reciprocal in a is PyTorch's, for a number over a tensor.
 */
#include "optim/kernel.h"

enum hyper { LR, BETAS, EPS, WEIGHT_DECAY, MAXIMIZE, DECOUPLED };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[DECOUPLED] = { "decoupled_weight_decay", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar {
	SIGN,
	DECAY,
	SHRINK,
	KEEP1,
	TAKE1,
	LERP1,
	KEEP2,
	TAKE2,
	BC1,
	ROOT_BC2,
	ROOT_ADD, /* eps */
	RATE,
	RECT, /* r; 0 where the step is not rectified */
};

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	out[1] = (struct rule_slot){ "exp_avg_sq", 0 };
	return 2;
}

static double rectification(double beta2, double bc2, double t)
{
	double rho_inf = 2 / (1 - beta2) - 1;
	double rho = rho_inf - 2 * t * pow(beta2, t) / bc2;

	if (!(rho > 5))
		return 0;
	return sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double lr = optim->values[LR][0], weight_decay = optim->values[WEIGHT_DECAY][0];
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];
	double bc2 = 1 - pow(beta2, t);
	bool decoupled = optim->values[DECOUPLED][0] != 0;

	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)weight_decay;
	out[SHRINK] = (float)(decoupled ? 1 - lr * weight_decay : 1);
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[LERP1] = kernel_lerp_factor(1 - beta1);
	out[KEEP2] = (float)beta2;
	out[TAKE2] = (float)(1 - beta2);
	out[BC1] = (float)(1 - pow(beta1, t));
	out[ROOT_BC2] = (float)sqrt(bc2);
	out[ROOT_ADD] = (float)optim->values[EPS][0];
	out[RATE] = (float)lr;
	out[RECT] = (float)rectification(beta2, bc2, t);
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict m, float *restrict v,
                 const float *restrict grad, size_t n, bool rectified, enum kernel_mean mean,
                 bool decay)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], shrink = s[SHRINK];
	const float keep1 = s[KEEP1], take1 = s[TAKE1], lerp1 = s[LERP1];
	const float keep2 = s[KEEP2], take2 = s[TAKE2], bc1 = s[BC1], root_bc2 = s[ROOT_BC2];
	const float eps = s[ROOT_ADD], rate = s[RATE], rect = s[RECT];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = shrink * w[i], mi = m[i], vi = v[i], h;

		if (decay)
			g = fmaf(wi, weight_decay, g);
		mi = kernel_mean(mean, mi, g, keep1, take1, lerp1);
		vi = fmaf(take2 * g, g, vi * keep2);
		h = (mi / bc1) * rate;
		if (rectified)
			h = (h * ((1.0f / (sqrtf(vi) + eps)) * root_bc2)) * rect;
		m[i] = mi;
		v[i] = vi;
		w[i] = wi - h;
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	enum kernel_mean mean = kernel_mean_of(optim, s[LERP1]);
	bool decay = optim->values[WEIGHT_DECAY][0] != 0 && optim->values[DECOUPLED][0] == 0;

#define LOOP(rectified, mean, decay) loop(s, w, slot[0], slot[1], g, n, rectified, mean, decay)
#define RECTIFIED(mean, decay) LOOP(true, mean, decay)
#define PLAIN(mean, decay) LOOP(false, mean, decay)
	if (s[RECT] != 0)
		KERNEL_SPLIT_MEAN(mean, decay, RECTIFIED);
	else
		KERNEL_SPLIT_MEAN(mean, decay, PLAIN);
}

const struct rule_row KERNEL(optim_row_radam) = {
	.name = "radam",
	.formula = KERNEL_MAXIMIZE KERNEL_DECOUPLED
	           "m = lerp(m, g, 1-beta1); "
	           "v = fma((1-beta2)*g, g, v*beta2); "
	           "h = (m / (1-beta1^t)) * lr; "
	           "rho = rho0 - 2*t*beta2^t / (1-beta2^t), rho0 = 2/(1-beta2) - 1; "
	           "r = sqrt((rho-4)*(rho-2)*rho0 / ((rho0-4)*(rho0-2)*rho)); "
	           "rho > 5: h = (h * ((1 / (sqrt(v) + eps)) * sqrt(1-beta2^t))) * r; "
	           "w = w - h",
	.source = "torch/optim/radam.py; Liu et al. 2019, arXiv 1908.03265",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.lacks = { [OPTIM_TORCH1] = 1u << MAXIMIZE | 1u << DECOUPLED },
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
