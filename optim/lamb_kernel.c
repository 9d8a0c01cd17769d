/*
 * lamb: adam with a step per tensor in proportion to its weights.  You et al. 2019,
 * https://arxiv.org/abs/1904.00962
 *
 *     m = beta1 * m + (1 - beta1) * g
 *     v = beta2 * v + (1 - beta2) * (g * g)
 *     r = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * w
 *     w = w - (lr * |w| / |r|) * r        1 in place of |w| / |r| where either is 0
 *
 * bias_correction = 0 leaves both corrections out; clamp_value > 0 bounds |w|.  The
 * norms are of the whole tensor, in double.
 */
#include "optim/kernel_tensor.h"

enum hyper { LR, BETAS, EPS, WEIGHT_DECAY, BIAS_CORRECTION, CLAMP };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[BETAS] = { "betas", OPTIM_REAL, 2, { 0.9, 0.999 }, 0, 1, false, true },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-6 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[BIAS_CORRECTION] = { "bias_correction", OPTIM_FLAG, 1, { 1 }, 0, 1, false, false },
	[CLAMP] = { "clamp_value", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
};

enum scalar { DECAY, KEEP1, TAKE1, KEEP2, TAKE2, BC1, BC2, ROOT_ADD };
enum sum { WEIGHTS, WAY };
enum factor { RATE };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "exp_avg", 0 };
	out[1] = (struct rule_slot){ "exp_avg_sq", 0 };
	return 2;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double beta1 = optim->values[BETAS][0], beta2 = optim->values[BETAS][1];
	bool correct = optim->values[BIAS_CORRECTION][0] != 0;

	out[DECAY] = (float)optim->values[WEIGHT_DECAY][0];
	out[KEEP1] = (float)beta1;
	out[TAKE1] = (float)(1 - beta1);
	out[KEEP2] = (float)beta2;
	out[TAKE2] = (float)(1 - beta2);
	out[BC1] = (float)(correct ? 1 - pow(beta1, t) : 1);
	out[BC2] = (float)(correct ? 1 - pow(beta2, t) : 1);
	out[ROOT_ADD] = (float)optim->values[EPS][0];
}

KERNEL_LOOP moments(const float *s, float *restrict m, float *restrict v, const float *restrict g,
                    size_t n)
{
	const float keep1 = s[KEEP1], take1 = s[TAKE1], keep2 = s[KEEP2], take2 = s[TAKE2];

	for (size_t i = 0; i < n; i++) {
		float gi = g[i], mi = m[i], vi = v[i];

		m[i] = keep1 * mi + take1 * gi;
		v[i] = keep2 * vi + take2 * (gi * gi);
	}
}

KERNEL_LOOP way(const float *s, float *restrict r, const float *restrict w, const float *restrict m,
                const float *restrict v, size_t n)
{
	const float bc1 = s[BC1], bc2 = s[BC2], eps = s[ROOT_ADD], decay = s[DECAY];

	for (size_t i = 0; i < n; i++)
		r[i] = (m[i] / bc1) / (sqrtf(v[i] / bc2) + eps) + decay * w[i];
}

KERNEL_LOOP go(float rate, float *restrict w, const float *restrict r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		w[i] = w[i] - rate * r[i];
}

static void measure(struct tensor_update *u, size_t n)
{
	const float *s = u->scalars->values;
	float *w = u->w + u->at, *m = u->slots[0] + u->at, *v = u->slots[1] + u->at, r[PIECE];
	float room[PIECE];

	moments(s, m, v, piece_gradient(u, n, room), n);
	way(s, r, w, m, v, n);
	u->sums[WEIGHTS] = piece_sum_of_squares(u->sums[WEIGHTS], w, n);
	u->sums[WAY] = piece_sum_of_squares(u->sums[WAY], r, n);
}

static void apply(struct tensor_update *u, size_t n)
{
	float *w = u->w + u->at, r[PIECE];

	way(u->scalars->values, r, w, u->slots[0] + u->at, u->slots[1] + u->at, n);
	go(u->factors[RATE], w, r, n);
}

static void decide(struct tensor_update *u)
{
	double weights = sqrt(u->sums[WEIGHTS]), length = sqrt(u->sums[WAY]);
	double most = u->optim->values[CLAMP][0];

	if (most > 0 && weights > most)
		weights = most;
	u->factors[RATE] = (float)(u->optim->values[LR][0] *
	                           (weights > 0 && length > 0 ? weights / length : 1));
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

const struct rule_row KERNEL(optim_row_lamb) = {
	.name = "lamb",
	.formula = "m = beta1*m + (1-beta1)*g; "
	           "v = beta2*v + (1-beta2)*(g*g); "
	           "r = (m/c1) / (sqrt(v/c2) + eps) + weight_decay*w; "
	           "c1 = bias_correction ? 1-beta1^t : 1, c2 likewise of beta2; "
	           "f = norm(w)/norm(r), 1 where either is 0; "
	           "clamp_value: norm(w) there is at most that; "
	           "w = w - (lr*f)*r",
	.source = "You et al. 2019, arXiv 1904.00962",
	.reach = OPTIM_TENSOR,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.scalars = scalars,
	.run = run,
};
