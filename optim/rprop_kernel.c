/*
 * rprop: resilient propagation, as torch.optim.Rprop.  Riedmiller, Braun 1993,
 * https://doi.org/10.1109/ICNN.1993.298623
 *
 *     g = -g                          maximize
 *     s = sign(g * p)                 p: the last g; a product too small is 0
 *     d = clamp(d * (s > 0 ? eta+ : s < 0 ? eta- : 1), step_sizes)
 *     g = 0                           s < 0
 *     w = fma(-sign(g), d, w)
 *     p = g
 *
 * d starts as lr, which means nothing afterwards.  sign(NaN) is 0.
 */
#include <stdio.h>

#include "optim/kernel.h"
#include "proto/status.h"

enum hyper { LR, ETAS, STEP_SIZES, MAXIMIZE };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[ETAS] = { "etas", OPTIM_REAL, 2, { 0.5, 1.2 }, 0, FLT_MAX, true, false },
	[STEP_SIZES] = { "step_sizes", OPTIM_REAL, 2, { 1e-6, 50 }, 0, FLT_MAX, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { SIGN, SMALLER, LARGER, LOWEST, HIGHEST };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	out[0] = (struct rule_slot){ "prev", 0 };
	out[1] = (struct rule_slot){ "step_size", (float)optim->values[LR][0] };
	return 2;
}

static int check(const struct optim *optim, char *why, size_t why_bytes)
{
	const double *etas = optim->values[ETAS], *sizes = optim->values[STEP_SIZES];

	if (!(etas[0] < 1 && etas[1] > 1)) {
		snprintf(why, why_bytes, "rprop: etas=[%g,%g]; allowed is 0 < first < 1 < second",
		         etas[0], etas[1]);
		return OPTD_HYPER;
	}
	if (sizes[0] <= sizes[1])
		return 0;
	snprintf(why, why_bytes, "rprop: step_sizes=[%g,%g]; the first may not exceed the second",
	         sizes[0], sizes[1]);
	return OPTD_HYPER;
}

static int settle(const struct optim *optim, char *why, size_t why_bytes)
{
	if (optim->schedule.part_count == 0)
		return 0;
	snprintf(why, why_bytes, "rprop: a schedule is without effect: lr is only the first step size, and each "
	         "element's moves on by itself; leave the schedule out");
	return OPTD_HYPER;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	(void)t;
	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[SMALLER] = (float)optim->values[ETAS][0];
	out[LARGER] = (float)optim->values[ETAS][1];
	out[LOWEST] = (float)optim->values[STEP_SIZES][0];
	out[HIGHEST] = (float)optim->values[STEP_SIZES][1];
}

KERNEL_LOOP loop(const float *s, float *restrict w, float *restrict p, float *restrict d,
                 const float *restrict grad, size_t n)
{
	const float sign = s[SIGN], smaller = s[SMALLER], larger = s[LARGER];
	const float lowest = s[LOWEST], highest = s[HIGHEST];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], product = g * p[i], di = d[i];
		float factor = product > 0 ? larger : 1.0f;

		factor = product < 0 ? smaller : factor;
		di = di * factor;
		di = di < lowest ? lowest : di;
		di = di > highest ? highest : di;
		g = product < 0 ? 0.0f : g;
		p[i] = g;
		d[i] = di;
		w[i] = fmaf(-kernel_signum(g), di, wi);
	}
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	(void)optim;
	loop(s, w, slot[0], slot[1], g, n);
}

const struct rule_row KERNEL(optim_row_rprop) = {
	.name = "rprop",
	.formula = "step_size starts at lr; "
	           KERNEL_MAXIMIZE
	           "s = sign(g*prev); "
	           "step_size = clamp(step_size * (s > 0 ? etas[1] : s < 0 ? etas[0] : 1), "
	           "step_sizes); "
	           "g = s < 0 ? 0 : g; "
	           "w = fma(-sign(g), step_size, w); "
	           "prev = g",
	.source = "torch/optim/rprop.py; Riedmiller, Braun 1993",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1,
	.slots = slots,
	.check = check,
	.settle = settle,
	.scalars = scalars,
	.step = step,
};
