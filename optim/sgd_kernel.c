/*
 * sgd: stochastic gradient descent with momentum, as torch.optim.SGD; and two
 * outer optimizers that are the same loop over something else than a gradient:
 *
 *     diloco    what is pushed is old weights - new weights, a pseudo-gradient;
 *               Nesterov by default.  Douillard et al. 2023,
 *               https://arxiv.org/abs/2311.08105
 *     fedavgm   what is pushed is a delta, new weights - old weights, and g is its
 *               negative.  Hsu, Qi, Brown 2019, https://arxiv.org/abs/1909.06335
 *
 *     g = -g                          maximize
 *     g = fma(w, weight_decay, g)     weight_decay != 0
 *     b = g                           first update: no dampening
 *     b = fma(g, 1 - dampening, b * momentum)
 *     g = b, or nesterov: fma(b, momentum, g)
 *     w = fma(g, -lr, w)
 *
 * The buffer holds gradients, not lr times gradients (the rule `momentum` holds
 * the latter).  match=numpy is w -= lr * g with the product rounded.
 */
#include <stdio.h>

#include "optim/kernel.h"
#include "proto/status.h"

enum hyper { LR, MOMENTUM, DAMPENING, WEIGHT_DECAY, NESTEROV, MAXIMIZE };

/* lr's default is PyTorch 2's; 1.13 had none. */
static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[DAMPENING] = { "dampening", OPTIM_REAL, 1, { 0 }, -FLT_MAX, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[NESTEROV] = { "nesterov", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

/* As Hsu et al. and Flower have them; what sgd has beyond these stays 0. */
static const struct optim_hyper fedavgm_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

static const struct optim_hyper diloco_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 0.7 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0.9 }, 0, FLT_MAX, false, false },
	[DAMPENING] = { "dampening", OPTIM_REAL, 1, { 0 }, -FLT_MAX, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[NESTEROV] = { "nesterov", OPTIM_FLAG, 1, { 1 }, 0, 1, false, false },
};

enum scalar { SIGN, DECAYS, DECAY, KEEP, TAKE, AHEAD, MINUS_LR, PLUS_LR, FIRST };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	if (optim->values[MOMENTUM][0] == 0)
		return 0;
	out[0] = (struct rule_slot){ "momentum_buffer", 0 };
	return 1;
}

static int check(const struct optim *optim, char *why, size_t why_bytes)
{
	if (optim->values[NESTEROV][0] == 0)
		return 0;
	if (optim->values[MOMENTUM][0] > 0 && optim->values[DAMPENING][0] == 0)
		return 0;
	snprintf(
		why, why_bytes,
		"%s: nesterov=1 needs momentum > 0 and dampening=0; here momentum=%g, dampening=%g",
		optim_rule_name(optim->rule), optim->values[MOMENTUM][0],
		optim->values[DAMPENING][0]);
	return OPTD_HYPER;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[DECAYS] = optim->values[WEIGHT_DECAY][0] != 0;
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP] = (float)optim->values[MOMENTUM][0];
	out[TAKE] = (float)(1 - optim->values[DAMPENING][0]);
	out[AHEAD] = optim->values[NESTEROV][0] != 0;
	out[MINUS_LR] = (float)-optim->values[LR][0];
	out[PLUS_LR] = (float)optim->values[LR][0];
	out[FIRST] = t == 1;
}

/* Behind a rule's own values are those that rules have in common: what it lacks of
 * sgd's must not be read there. */
static void diloco_scalars(const struct optim *optim, double t, float *out)
{
	scalars(optim, t, out);
	out[SIGN] = 1;
}

static void fedavgm_scalars(const struct optim *optim, double t, float *out)
{
	scalars(optim, t, out);
	out[SIGN] = -1;
	out[DECAYS] = 0;
	out[TAKE] = 1;
	out[AHEAD] = 0;
}

KERNEL_LOOP plain_loop(const float *s, float *restrict w, const float *restrict grad, size_t n,
                       bool decay)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], minus_lr = s[MINUS_LR];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i];

		if (decay)
			g = fmaf(wi, weight_decay, g);
		w[i] = fmaf(g, minus_lr, wi);
	}
}

KERNEL_LOOP buffer_loop(const float *s, float *restrict w, float *restrict b,
                        const float *restrict grad, size_t n, bool first, bool decay, bool nesterov)
{
	const float sign = s[SIGN], weight_decay = s[DECAY], minus_lr = s[MINUS_LR];
	const float keep = s[KEEP], take = s[TAKE];

	for (size_t i = 0; i < n; i++) {
		float g = sign * grad[i], wi = w[i], bi = first ? 0 : b[i];

		if (decay)
			g = fmaf(wi, weight_decay, g);
		bi = first ? g : fmaf(g, take, bi * keep);
		b[i] = bi;
		w[i] = fmaf(nesterov ? fmaf(bi, keep, g) : bi, minus_lr, wi);
	}
}

static void numpy_loop(const float *s, float *restrict w, const float *restrict g, size_t n)
{
	const float lr = s[PLUS_LR];

	for (size_t i = 0; i < n; i++)
		w[i] = w[i] - lr * g[i];
}

static void step(const struct optim *optim, const float *s, float *w, float *const *slot,
                 const float *g, size_t n)
{
	bool decay = s[DECAYS] != 0, nesterov = s[AHEAD] != 0;

#define PLAIN(decay) plain_loop(s, w, g, n, decay)
#define FIRST_USE(decay, nesterov) buffer_loop(s, w, slot[0], g, n, true, decay, nesterov)
#define LATER(decay, nesterov) buffer_loop(s, w, slot[0], g, n, false, decay, nesterov)
	if (optim->match == OPTIM_NUMPY)
		numpy_loop(s, w, g, n);
	else if (optim->values[MOMENTUM][0] == 0)
		KERNEL_SPLIT1(decay, PLAIN);
	else if (s[FIRST] != 0)
		KERNEL_SPLIT2(decay, nesterov, FIRST_USE);
	else
		KERNEL_SPLIT2(decay, nesterov, LATER);
}

const struct rule_row KERNEL(optim_row_sgd) = {
	.name = "sgd",
	.formula = KERNEL_MAXIMIZE KERNEL_DECAY
	           "b = t == 1 ? g : fma(g, 1-dampening, b*momentum); "
	           "d = momentum == 0 ? g : nesterov ? fma(b, momentum, g) : b; "
	           "w = fma(d, -lr, w)",
	.source = "torch/optim/sgd.py; Sutskever et al. 2013",
	.reach = OPTIM_ELEMENTWISE,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.matches = 1u << OPTIM_TORCH2 | 1u << OPTIM_TORCH1 | 1u << OPTIM_NUMPY,
	.lacks = { [OPTIM_NUMPY] = ~(1u << LR) },
	.slots = slots,
	.check = check,
	.scalars = scalars,
	.step = step,
};

const struct rule_row KERNEL(optim_row_diloco) = {
	.name = "diloco",
	.formula = KERNEL_DECAY
	           "b = t == 1 ? g : fma(g, 1-dampening, b*momentum); "
	           "d = momentum == 0 ? g : nesterov ? fma(b, momentum, g) : b; "
	           "w = fma(d, -lr, w)",
	.source = "Douillard et al. 2023, arXiv 2311.08105",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_PSEUDO_GRADIENT,
	.hypers = diloco_hypers,
	.hyper_count = KERNEL_COUNT(diloco_hypers),
	.slots = slots,
	.check = check,
	.scalars = diloco_scalars,
	.step = step,
};

const struct rule_row KERNEL(optim_row_fedavgm) = {
	.name = "fedavgm",
	.formula = "g = -g; "
	           "b = t == 1 ? g : b*momentum + g; "
	           "w = fma(momentum == 0 ? g : b, -lr, w)",
	.source = "Hsu, Qi, Brown 2019, arXiv 1909.06335",
	.reach = OPTIM_ELEMENTWISE,
	.push = OPTIM_DELTA,
	.hypers = fedavgm_hypers,
	.hyper_count = KERNEL_COUNT(fedavgm_hypers),
	.slots = slots,
	.scalars = fedavgm_scalars,
	.step = step,
};
