/*
 * lars: sgd with a rate per tensor in proportion to its weights.  You, Gitman,
 * Ginsburg 2017, https://arxiv.org/abs/1708.03888
 *
 *     d = (g + weight_decay * w) * f
 *     f = trust_coefficient * |w| / (|g| + weight_decay * |w| + eps), 1 where |w| or
 *         |g| is 0
 *     b = d at the first update, then momentum * b + (1 - dampening) * d
 *     d = b, or nesterov: d + momentum * b
 *     w = w - lr * d
 *
 * The norms are of the whole tensor, in double.
 */
#include <stdio.h>

#include "optim/kernel_tensor.h"
#include "proto/status.h"

enum hyper { LR, MOMENTUM, DAMPENING, WEIGHT_DECAY, NESTEROV, TRUST, EPS };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0.9 }, 0, FLT_MAX, false, false },
	[DAMPENING] = { "dampening", OPTIM_REAL, 1, { 0 }, -FLT_MAX, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[NESTEROV] = { "nesterov", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
	[TRUST] = { "trust_coefficient", OPTIM_REAL, 1, { 0.001 }, 0, FLT_MAX, false, false },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-8 }, 0, FLT_MAX, false, false },
};

enum scalar { DECAY, KEEP, TAKE, RATE, FIRST };
enum sum { WEIGHTS, GRADIENT };
enum factor { TRUSTED };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	if (optim->values[MOMENTUM][0] == 0)
		return 0;
	out[0] = (struct rule_slot){ "momentum_buffer", 0 };
	return 1;
}

static int check(const struct optim *optim, char *why, size_t why_bytes)
{
	if (optim->values[NESTEROV][0] == 0 ||
	    (optim->values[MOMENTUM][0] > 0 && optim->values[DAMPENING][0] == 0))
		return 0;
	snprintf(why, why_bytes,
	         "lars: nesterov=1 needs momentum > 0 and dampening=0; here momentum=%g, dampening=%g",
	         optim->values[MOMENTUM][0], optim->values[DAMPENING][0]);
	return OPTD_HYPER;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP] = (float)optim->values[MOMENTUM][0];
	out[TAKE] = (float)(1 - optim->values[DAMPENING][0]);
	out[RATE] = (float)optim->values[LR][0];
	out[FIRST] = t == 1;
}

KERNEL_LOOP plain(const float *s, float trusted, float *restrict w, const float *restrict g, size_t n)
{
	const float decay = s[DECAY], rate = s[RATE];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i];

		w[i] = wi - rate * ((g[i] + decay * wi) * trusted);
	}
}

KERNEL_LOOP buffered(const float *s, float trusted, float *restrict w, float *restrict b,
                     const float *restrict g, size_t n, bool first, bool nesterov)
{
	const float decay = s[DECAY], rate = s[RATE], keep = s[KEEP], take = s[TAKE];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i], bi = first ? 0 : b[i];
		float d = (g[i] + decay * wi) * trusted;

		bi = first ? d : keep * bi + take * d;
		b[i] = bi;
		w[i] = wi - rate * (nesterov ? d + keep * bi : bi);
	}
}

static void measure(struct tensor_update *u, size_t n)
{
	float room[PIECE];

	u->sums[WEIGHTS] = piece_sum_of_squares(u->sums[WEIGHTS], u->w + u->at, n);
	u->sums[GRADIENT] = piece_sum_of_squares(u->sums[GRADIENT], piece_gradient(u, n, room), n);
}

static void decide(struct tensor_update *u)
{
	const double(*v)[OPTIM_VALUES_MAX] = u->optim->values;
	double weights = sqrt(u->sums[WEIGHTS]), gradient = sqrt(u->sums[GRADIENT]);

	u->factors[TRUSTED] = 1;
	if (weights > 0 && gradient > 0)
		u->factors[TRUSTED] =
			(float)(v[TRUST][0] * weights / (gradient + v[WEIGHT_DECAY][0] * weights + v[EPS][0]));
}

static void apply(struct tensor_update *u, size_t n)
{
	float room[PIECE], *w = u->w + u->at, trusted = u->factors[TRUSTED];
	const float *s = u->scalars->values, *g = piece_gradient(u, n, room);
	bool nesterov = u->optim->values[NESTEROV][0] != 0;

#define BUFFERED(first, nesterov) buffered(s, trusted, w, u->slots[0] + u->at, g, n, first, nesterov)
	if (u->optim->values[MOMENTUM][0] == 0)
		plain(s, trusted, w, g, n);
	else
		KERNEL_SPLIT2(s[FIRST] != 0, nesterov, BUFFERED);
}

static bool run(struct tensor_update *u, uint64_t budget)
{
	if (u->pass == 0) {
		if (!pass_pieces(u, &budget, measure))
			return false;
		decide(u);
	}
	return pass_pieces(u, &budget, apply);
}

const struct rule_row KERNEL(optim_row_lars) = {
	.name = "lars",
	.formula = "f = trust_coefficient*norm(w) / (norm(g) + weight_decay*norm(w) + eps), 1 where "
	           "either norm is 0; "
	           "d = (g + weight_decay*w)*f; "
	           "b = t == 1 ? d : momentum*b + (1-dampening)*d; "
	           "w = w - lr*(momentum == 0 ? d : nesterov ? d + momentum*b : b)",
	.source = "You, Gitman, Ginsburg 2017, arXiv 1708.03888",
	.reach = OPTIM_TENSOR,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.check = check,
	.scalars = scalars,
	.run = run,
};
