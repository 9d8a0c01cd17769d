/*
 * ftrl: follow the regularised leader, proximal, as Keras and TensorFlow have it.
 * McMahan et al. 2013, https://research.google/pubs/pub41159/
 *
 *     p = -lr_power
 *     n' = n + g * g
 *     z = z + (g + 2 * l2_shrinkage * w) - ((n'^p - n^p) / lr) * w
 *     w = (clamp(z, -l1, l1) - z) / (n'^p / lr + 2 * (l2 + beta / (2 * lr)))
 *
 * n, the accumulator, starts at initial_accumulator_value, z, called linear, at 0.
 * So a weight is a function of its state: the one that a model begins with counts
 * only in w's own terms.  l2 is half of the paper's lambda_2, beta 2 lr times
 * TensorFlow's extra l2.  With nothing in n, beta and l2, a gradient of 0 gives
 * 0 / 0.
 */
#include "optim/kernel.h"
#include "optim/kernel_pow.h"

enum hyper { LR, LR_POWER, INITIAL, L1, L2, L2_SHRINKAGE, BETA };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, true, false },
	[LR_POWER] = { "lr_power", OPTIM_REAL, 1, { -0.5 }, -FLT_MAX, 0, false, false },
	[INITIAL] = { "initial_accumulator_value", OPTIM_REAL, 1, { 0.1 }, 0, FLT_MAX, false, false },
	[L1] = { "l1", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[L2] = { "l2", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[L2_SHRINKAGE] = { "l2_shrinkage", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[BETA] = { "beta", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

enum scalar { RATE, POWER, LIMIT, SHRINK, CURB };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	out[0] = (struct rule_slot){ "accumulator", (float)optim->values[INITIAL][0] };
	out[1] = (struct rule_slot){ "linear", 0 };
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double lr = optim->values[LR][0];

	(void)t;
	out[RATE] = (float)lr;
	out[POWER] = (float)-optim->values[LR_POWER][0];
	out[LIMIT] = (float)optim->values[L1][0];
	out[SHRINK] = (float)(2 * optim->values[L2_SHRINKAGE][0]);
	out[CURB] = (float)(2 * (optim->values[L2][0] + optim->values[BETA][0] / (2 * lr)));
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict n, float *restrict z,
                 const float *restrict grad, size_t count, bool root)
{
	const float rate = s[RATE], power = s[POWER], limit = s[LIMIT], shrink = s[SHRINK];
	const float curb = s[CURB];

	for (size_t i = 0; i < count; i++) {
		float g = grad[i], wi = w[i], ni = n[i], zi = z[i], next = ni + g * g;
		float before = root ? sqrtf(ni) : kernel_pow(ni, power);
		float after = root ? sqrtf(next) : kernel_pow(next, power);
		float inside;

		zi = zi + (g + shrink * wi) - ((after - before) / rate) * wi;
		inside = zi < -limit ? -limit : zi;
		inside = inside > limit ? limit : inside;
		n[i] = next;
		z[i] = zi;
		w[i] = (inside - zi) / (after / rate + curb);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
#define LOOP(root) loop(s, w, slot[0], slot[1], g, n, root)
	KERNEL_SPLIT1(optim->values[LR_POWER][0] == -0.5, LOOP);
}

const struct rule_row KERNEL(optim_row_ftrl) = {
	.name = "ftrl",
	.formula = "n starts at initial_accumulator_value; "
	           "n' = n + g*g; "
	           "z = z + (g + 2*l2_shrinkage*w) - ((n'^p - n^p)/lr)*w, p = -lr_power; "
	           "w = (clamp(z, [-l1, l1]) - z) / (n'^p/lr + 2*(l2 + beta/(2*lr))); "
	           "n = n'",
	.source = "McMahan et al. 2013; Keras's ftrl.py",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.scalars = scalars,
	.step = step,
};
