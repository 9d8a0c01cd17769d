/*
 * yogi: adam whose second moment moves by additions.  Zaheer et al. 2018,
 * https://papers.nips.cc/paper/8186
 *
 *     g = g + weight_decay * w
 *     m = beta1 * m + (1 - beta1) * g
 *     v = v - (1 - beta2) * sign(v - g * g) * (g * g)
 *     w = w - ((lr / (1 - beta1^t)) * m) / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *
 * Both moments start at initial_accumulator_value.
 */
#include "optim/kernel.h"

enum hyper { LR, BETAS, EPS, INITIAL, WEIGHT_DECAY };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[INITIAL] = { "initial_accumulator_value", OPTIM_REAL, 1, { 1e-6 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

enum scalar { DECAY, KEEP1, TAKE1, TAKE2, ROOT_BC2, ROOT_ADD, RATE };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	float initial = (float)optim->values[INITIAL][0];

	out[0] = (struct rule_slot){ "exp_avg", initial };
	out[1] = (struct rule_slot){ "exp_avg_sq", initial };
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];

	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[TAKE2] = (float)(1 - beta2);
	out[ROOT_BC2] = (float)sqrt(1 - pow(beta2, t));
	out[ROOT_ADD] = (float)optim->values[EPS][0];
	out[RATE] = (float)(optim->values[LR][0] / (1 - pow(beta1, t)));
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict m, float *restrict v,
                 const float *restrict grad, size_t n)
{
	const float weight_decay = s[DECAY], keep1 = s[KEEP1], take1 = s[TAKE1], take2 = s[TAKE2];
	const float root_bc2 = s[ROOT_BC2], eps = s[ROOT_ADD], rate = s[RATE];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i], g = grad[i] + weight_decay * wi, square = g * g;
		float mi = keep1 * m[i] + take1 * g, vi = v[i];

		vi = vi - take2 * kernel_signum(vi - square) * square;
		m[i] = mi;
		v[i] = vi;
		w[i] = wi - (rate * mi) / (sqrtf(vi) / root_bc2 + eps);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	(void)optim;
	loop(s, w, slot[0], slot[1], g, n);
}

const struct rule_row KERNEL(optim_row_yogi) = {
	.name = "yogi",
	.formula = "m and v start at initial_accumulator_value; "
	           "g = g + weight_decay*w; "
	           "m = beta1*m + (1-beta1)*g; "
	           "v = v - (1-beta2)*sign(v - g*g)*(g*g); "
	           "w = w - ((lr/(1-beta1^t))*m) / (sqrt(v)/sqrt(1-beta2^t) + eps)",
	.source = "Zaheer et al. 2018",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
