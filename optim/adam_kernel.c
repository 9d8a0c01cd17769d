/*
 * adam, adamw: as torch.optim.Adam and AdamW, with amsgrad.  Kingma, Ba 2014,
 * https://arxiv.org/abs/1412.6980; Reddi, Kale, Kumar 2018,
 * https://openreview.net/forum?id=ryQu7f-RZ; Loshchilov, Hutter 2017,
 * https://arxiv.org/abs/1711.05101
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     adam, weight_decay != 0
 *     w = w * (1 - lr * weight_decay)     adamw, or adam with decoupled_weight_decay
 *     m = lerp(m, g, 1 - beta1)       torch2
 *     m = fma(g, 1 - beta1, m * beta1)    torch1
 *     v = fma((1 - beta2) * g, g, v * beta2)
 *     x = v, or amsgrad: x = max(x, v), NaN wins, before the bias correction
 *     d = sqrt(x) / sqrt(1 - beta2^t) + eps
 *     w = w + (-(lr / (1 - beta1^t)) * m) / d
 *
 * match=numpy: m = beta1 * m + (1 - beta1) * g;
 * v = beta2 * v + (1 - beta2) * (g * g);
 * w = w - (lr * (m / (1 - beta1^t))) / (sqrt(v / (1 - beta2^t)) + eps), every
 * product rounded.
 */
#include "optim/kernel.h"

enum hyper { LR, BETAS, EPS, WEIGHT_DECAY, AMSGRAD, MAXIMIZE, DECOUPLED };

static const struct optim_hyper adam_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[AMSGRAD] = { "amsgrad", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[DECOUPLED] = { "decoupled_weight_decay", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

/* The same but for the default of weight_decay and for DECOUPLED, which stays 0. */
static const struct optim_hyper adamw_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[AMSGRAD] = { "amsgrad", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar {
	SIGN,
	DECAY,
	SHRINK,   /* 1 - lr * weight_decay; 1 where decay is not decoupled */
	KEEP1,    /* beta1 */
	TAKE1,    /* 1 - beta1 */
	LERP1,    /* the same as torch2's lerp wants it */
	KEEP2,    /* beta2 */
	TAKE2,    /* 1 - beta2 */
	ROOT_BC2, /* sqrt(1 - beta2^t); numpy: 1 - beta2^t */
	ROOT_ADD, /* eps */
	RATE,     /* -(lr / (1 - beta1^t)); numpy: lr */
	BC1,      /* 1 - beta1^t; numpy only */
};

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	out[1] = (struct rule_slot){ "exp_avg_sq", 0 };
	if (optim->values[AMSGRAD][0] == 0)
		return 2;
	out[2] = (struct rule_slot){ "max_exp_avg_sq", 0 };
	return 3;
}

static void common_scalars(const struct optim *optim, double t, bool decoupled, float *out)
{
	double lr = optim->values[LR][0];
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];
	double weight_decay = optim->values[WEIGHT_DECAY][0];
	double bc1 = 1 - pow(beta1, t), bc2 = 1 - pow(beta2, t);
	bool numpy = optim->match == OPTIM_NUMPY;

	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)weight_decay;
	out[SHRINK] = (float)(decoupled ? 1 - lr * weight_decay : 1);
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[LERP1] = kernel_lerp_factor(1 - beta1);
	out[KEEP2] = (float)beta2;
	out[TAKE2] = (float)(1 - beta2);
	out[ROOT_BC2] = (float)(numpy ? bc2 : sqrt(bc2));
	out[ROOT_ADD] = (float)optim->values[EPS][0];
	out[RATE] = (float)(numpy ? lr : -(lr / bc1));
	out[BC1] = (float)bc1;
}

static void adam_scalars(const struct optim *optim, double t, float *out)
{
	common_scalars(optim, t, optim->values[DECOUPLED][0] != 0, out);
}

static void adamw_scalars(const struct optim *optim, double t, float *out)
{
	common_scalars(optim, t, true, out);
}

KERNEL_LOOP torch_loop(const float *s, float *restrict w, float *restrict m, float *restrict v,
                       float *restrict x, const float *restrict grad, size_t n,
                       enum kernel_mean mean, bool decay, bool amsgrad)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], shrink = s[SHRINK];
	const float keep1 = s[KEEP1], take1 = s[TAKE1], lerp1 = s[LERP1];
	const float keep2 = s[KEEP2], take2 = s[TAKE2];
	const float root_bc2 = s[ROOT_BC2], eps = s[ROOT_ADD], rate = s[RATE];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = shrink * w[i], mi = m[i], vi = v[i];
		float xi = amsgrad ? x[i] : 0, d;

		if (decay)
			g = fmaf(wi, weight_decay, g);
		mi = kernel_mean(mean, mi, g, keep1, take1, lerp1);
		vi = fmaf(take2 * g, g, vi * keep2);
		xi = amsgrad ? kernel_max(xi, vi) : vi;
		d = sqrtf(xi) / root_bc2 + eps;
		m[i] = mi;
		v[i] = vi;
		if (amsgrad)
			x[i] = xi;
		w[i] = wi + (rate * mi) / d;
	}
}

KERNEL_LOOP numpy_loop(const float *s, float *restrict w, float *restrict m, float *restrict v,
                       const float *restrict g, size_t n)
{
	const float keep1 = s[KEEP1], take1 = s[TAKE1], keep2 = s[KEEP2], take2 = s[TAKE2];
	const float bc1 = s[BC1], bc2 = s[ROOT_BC2], eps = s[ROOT_ADD], lr = s[RATE];

	for (size_t i = 0; i < n; i++) {
		float gi = g[i], wi = w[i];
		float mi = keep1 * m[i] + take1 * gi;
		float vi = keep2 * v[i] + take2 * (gi * gi);

		m[i] = mi;
		v[i] = vi;
		w[i] = wi - (lr * (mi / bc1)) / (sqrtf(vi / bc2) + eps);
	}
}

static void common_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                        const float *g, size_t n, bool decay)
{
	enum kernel_mean mean = kernel_mean_of(optim, s[LERP1]);
	bool amsgrad = optim->values[AMSGRAD][0] != 0;
	float *m = slot[0], *v = slot[1], *x = amsgrad ? slot[2] : NULL;

#define LOOP(mean, decay, amsgrad) torch_loop(s, w, m, v, x, g, n, mean, decay, amsgrad)
#define PLAIN(mean, decay) LOOP(mean, decay, false)
#define AMSGRAD_LOOP(mean, decay) LOOP(mean, decay, true)
	if (optim->match == OPTIM_NUMPY)
		numpy_loop(s, w, m, v, g, n);
	else if (amsgrad)
		KERNEL_SPLIT_MEAN(mean, decay, AMSGRAD_LOOP);
	else
		KERNEL_SPLIT_MEAN(mean, decay, PLAIN);
}

static void adam_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                      const float *g, size_t n)
{
	bool decay = optim->values[WEIGHT_DECAY][0] != 0 && optim->values[DECOUPLED][0] == 0;

	common_step(optim, s, w, slot, g, n, decay);
}

static void adamw_step(const struct optim *optim, const float *s, float *w, float *const *slot,
                       const float *g, size_t n)
{
	common_step(optim, s, w, slot, g, n, false);
}

const struct rule_row KERNEL(optim_row_adam) = {
	.name = "adam",
	.formula = KERNEL_MAXIMIZE KERNEL_DECOUPLED
	           "m = lerp(m, g, 1-beta1); "
	           "v = fma((1-beta2)*g, g, v*beta2); "
	           "amsgrad: x = max(x, v), NaN wins; "
	           "d = sqrt(amsgrad ? x : v) / sqrt(1-beta2^t) + eps; "
	           "w = w + (-(lr/(1-beta1^t))*m)/d",
	.source = "torch/optim/adam.py; Kingma, Ba 2014, arXiv 1412.6980; amsgrad: Reddi, Kale, Kumar "
	          "2018",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = adam_hypers,
	.hyper_count = KERNEL_COUNT(adam_hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1 | 1u << OPTIM_NUMPY,
	.lacks = { [OPTIM_TORCH1] = 1u << DECOUPLED,
	           [OPTIM_NUMPY] = ~(1u << LR | 1u << BETAS | 1u << EPS) },
	.slots = slots,
	.scalars = adam_scalars,
	.step = adam_step,
};

const struct rule_row KERNEL(optim_row_adamw) = {
	.name = "adamw",
	.formula = KERNEL_MAXIMIZE
	           "w = w*(1 - lr*weight_decay); "
	           "m = lerp(m, g, 1-beta1); "
	           "v = fma((1-beta2)*g, g, v*beta2); "
	           "amsgrad: x = max(x, v), NaN wins; "
	           "d = sqrt(amsgrad ? x : v) / sqrt(1-beta2^t) + eps; "
	           "w = w + (-(lr/(1-beta1^t))*m)/d",
	.source = "torch/optim/adamw.py; Loshchilov, Hutter 2017, arXiv 1711.05101",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = adamw_hypers,
	.hyper_count = KERNEL_COUNT(adamw_hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.slots = slots,
	.scalars = adamw_scalars,
	.step = adamw_step,
};
