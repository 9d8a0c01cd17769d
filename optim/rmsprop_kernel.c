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

/* How the mean of the gradients is formed. */
enum mean { NO_MEAN, MUL_ADD, LERP_NEAR, LERP_FAR };

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
                       float *restrict a, const float *restrict grad, size_t n, enum mean mean,
                       bool decay, bool momentum)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], keep = s[KEEP], take = s[TAKE];
	const float eps = s[ROOT_ADD], velocity = s[VELOCITY], minus_lr = s[MINUS_LR];
	const float lerp = s[LERP];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], qi = q[i];
		float ai = mean == NO_MEAN ? 0 : a[i], bi = momentum ? b[i] : 0, d;

		if (decay)
			g = fmaf(wi, weight_decay, g);
		qi = fmaf(take * g, g, qi * keep);
		if (mean == MUL_ADD)
			ai = fmaf(g, take, ai * keep);
		else if (mean != NO_MEAN)
			ai = fmaf(lerp, g - ai, mean == LERP_FAR ? g : ai);
		d = sqrtf(mean == NO_MEAN ? qi : fmaf(-ai, ai, qi)) + eps;
		bi = bi * velocity + g / d;
		q[i] = qi;
		if (mean != NO_MEAN)
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

static enum mean mean_of(const struct optim *optim)
{
	if (optim->values[CENTERED][0] == 0)
		return NO_MEAN;
	if (optim->match == OPTIM_TORCH1)
		return MUL_ADD;
	return kernel_lerp_far(1 - optim->values[ALPHA][0]) ? LERP_FAR : LERP_NEAR;
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	bool decay = optim->values[WEIGHT_DECAY][0] != 0;
	bool momentum = optim->values[MOMENTUM][0] != 0;
	enum mean mean = mean_of(optim);
	float *b = momentum ? slot[1] : NULL;
	float *a = mean == NO_MEAN ? NULL : slot[momentum ? 2 : 1];

	if (optim->match == OPTIM_NUMPY) {
		numpy_loop(s, w, slot[0], g, n);
		return;
	}
#define TORCH(mean, decay, momentum) torch_loop(s, w, slot[0], b, a, g, n, mean, decay, momentum)
#define PLAIN(decay, momentum) TORCH(NO_MEAN, decay, momentum)
#define MULTIPLIED(decay, momentum) TORCH(MUL_ADD, decay, momentum)
#define NEAR(decay, momentum) TORCH(LERP_NEAR, decay, momentum)
#define FAR(decay, momentum) TORCH(LERP_FAR, decay, momentum)
	switch (mean) {
	case NO_MEAN:
		KERNEL_SPLIT2(decay, momentum, PLAIN);
		break;
	case MUL_ADD:
		KERNEL_SPLIT2(decay, momentum, MULTIPLIED);
		break;
	case LERP_NEAR:
		KERNEL_SPLIT2(decay, momentum, NEAR);
		break;
	case LERP_FAR:
		KERNEL_SPLIT2(decay, momentum, FAR);
		break;
	}
}

const struct rule_row KERNEL(optim_row_rmsprop) = {
	.name = "rmsprop",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1 | 1u << OPTIM_NUMPY,
	.numpy_hypers = 1u << LR | 1u << ALPHA | 1u << EPS,
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
