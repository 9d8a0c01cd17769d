/*
 * rmsprop: as torch.optim.RMSprop, eps outside the root.
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     weight_decay != 0
 *     q = fma((1 - alpha) * g, g, q * alpha)
 *     centered, torch2: a = lerp(a, g, 1 - alpha)
 *     centered, torch1: a = fma(g, 1 - alpha, a * alpha)
 *     d = sqrt(q) + eps, or centered: sqrt(fma(-a, a, q)) + eps
 *     w = w + (-lr * g) / d, or with momentum:
 *     b = b * momentum + g / d;  w = fma(b, -lr, w)
 *
 * Centered, a steady gradient can leave q - a * a a rounding error below zero;
 * its root is NaN here as in PyTorch.  match=numpy:
 * q = alpha * q + (1 - alpha) * (g * g);  w = w - (lr * g) / (sqrt(q) + eps),
 * every product rounded.
 */
#include "optim/kernel.h"

enum hyper { LR, ALPHA, EPS, WEIGHT_DECAY, MOMENTUM, CENTERED, MAXIMIZE };

/* alpha above 1, which PyTorch accepts, makes square_avg negative. */
static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[ALPHA] = { "alpha", OPTIM_REAL, 1, { 0.99 }, 0, 1, false, false },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[CENTERED] = { "centered", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAY, KEEP, TAKE, ROOT_ADD, VELOCITY, MINUS_LR, PLUS_LR, LERP };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	uint32_t count = 0;

	out[count++] = (struct rule_slot){ "square_avg", 0 };
	if (optim->values[MOMENTUM][0] != 0)
		out[count++] = (struct rule_slot){ "momentum_buffer", 0 };
	if (optim->values[CENTERED][0] != 0)
		out[count++] = (struct rule_slot){ "grad_avg", 0 };
	return count;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double alpha = optim->values[ALPHA][0], lr = optim->values[LR][0];

	(void)t;
	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP] = (float)alpha;
	out[TAKE] = (float)(1 - alpha);
	out[ROOT_ADD] = (float)optim->values[EPS][0];
	out[VELOCITY] = (float)optim->values[MOMENTUM][0];
	out[MINUS_LR] = (float)-lr;
	out[PLUS_LR] = (float)lr;
	out[LERP] = kernel_lerp_factor(1 - alpha);
}

KERNEL_LOOP torch_loop(const float *s, float *restrict w, float *restrict q, float *restrict b,
                       float *restrict a, const float *restrict grad, size_t n, bool centered,
                       enum kernel_mean mean, bool decay, bool momentum)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], keep = s[KEEP], take = s[TAKE];
	const float eps = s[ROOT_ADD], velocity = s[VELOCITY], minus_lr = s[MINUS_LR];
	const float lerp = s[LERP];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], qi = q[i];
		float ai = centered ? a[i] : 0, bi = momentum ? b[i] : 0, d;

		if (decay)
			g = fmaf(wi, weight_decay, g);
		qi = fmaf(take * g, g, qi * keep);
		if (centered)
			ai = kernel_mean(mean, ai, g, keep, take, lerp);
		d = sqrtf(centered ? fmaf(-ai, ai, qi) : qi) + eps;
		bi = bi * velocity + g / d;
		q[i] = qi;
		if (centered)
			a[i] = ai;
		if (momentum)
			b[i] = bi;
		w[i] = momentum ? fmaf(bi, minus_lr, wi) : wi + (minus_lr * g) / d;
	}
}

KERNEL_LOOP numpy_loop(const float *s, float *restrict w, float *restrict q,
                       const float *restrict g, size_t n)
{
	const float keep = s[KEEP], take = s[TAKE], lr = s[PLUS_LR], eps = s[ROOT_ADD];

	for (size_t i = 0; i < n; i++) {
		float gi = g[i], wi = w[i];
		float qi = keep * q[i] + take * (gi * gi);

		q[i] = qi;
		w[i] = wi - (lr * gi) / (sqrtf(qi) + eps);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	bool decay = optim->values[WEIGHT_DECAY][0] != 0;
	bool momentum = optim->values[MOMENTUM][0] != 0;
	bool centered = optim->values[CENTERED][0] != 0;
	enum kernel_mean mean = kernel_mean_of(optim, s[LERP]);
	float *q = slot[0], *b = momentum ? slot[1] : NULL;
	float *a = centered ? slot[momentum ? 2 : 1] : NULL;

#define PLAIN(decay, momentum) \
	torch_loop(s, w, q, b, a, g, n, false, MEAN_MUL_ADD, decay, momentum)
#define CENTERED_LOOP(mean, decay) torch_loop(s, w, q, b, a, g, n, true, mean, decay, false)
#define CENTERED_MOMENTUM(mean, decay) torch_loop(s, w, q, b, a, g, n, true, mean, decay, true)
	if (optim->match == OPTIM_NUMPY)
		numpy_loop(s, w, q, g, n);
	else if (!centered)
		KERNEL_SPLIT2(decay, momentum, PLAIN);
	else if (momentum)
		KERNEL_SPLIT_MEAN(mean, decay, CENTERED_MOMENTUM);
	else
		KERNEL_SPLIT_MEAN(mean, decay, CENTERED_LOOP);
}

const struct rule_row KERNEL(optim_row_rmsprop) = {
	.name = "rmsprop",
	.formula = KERNEL_MAXIMIZE KERNEL_DECAY
	           "q = fma((1-alpha)*g, g, q*alpha); "
	           "centered: a = lerp(a, g, 1-alpha); "
	           "d = sqrt(centered ? fma(-a, a, q) : q) + eps; "
	           "momentum: b = b*momentum + g/d, w = fma(b, -lr, w); "
	           "else w = w + (-lr*g)/d",
	.source = "torch/optim/rmsprop.py; Tieleman, Hinton 2012, lecture 6.5",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1 | 1u << OPTIM_NUMPY,
	.lacks = { [OPTIM_NUMPY] = ~(1u << LR | 1u << ALPHA | 1u << EPS) },
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
