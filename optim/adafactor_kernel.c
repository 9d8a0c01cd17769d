/*
 * adafactor, adafactor_paper: a second moment kept as one number for each row and each
 * column of a matrix.  Shazeer, Stern 2018, https://arxiv.org/abs/1804.04235
 *
 * adafactor, as torch.optim.Adafactor:
 *
 *     g = -g                              maximize
 *     k = t^beta2_decay,  a = max(eps[1], rms(w)) * min(lr, 1 / sqrt(t))
 *     w = w * (1 - lr * weight_decay)
 *     R = R + k * (mean over a row of g^2 - R),  C likewise over a column
 *     v = R C / max(mean R, eps[0])       a vector: v = v + k * (g^2 - v)
 *     u = g / sqrt(max(v, eps[0]^2))
 *     w = w - a / max(1, rms(u) / d) * u
 *
 * adafactor_paper, as the paper and fairseq have it:
 *
 *     b = 1 - t^decay_rate,  q = g^2 + eps[0]
 *     a = (scale_parameter ? max(eps[1], rms(w)) : 1) * rate
 *     rate = relative_step ? min(warmup_init ? 1e-6 t : 1e-2, 1 / sqrt(t)) : lr
 *     R = b R + (1 - b) * mean over a row of q,  C likewise over a column
 *     u = (g / sqrt(R / mean R)) / sqrt(C)    a vector: v = b v + (1 - b) q, u = g / sqrt(v)
 *     u = u / max(1, rms(u) / clip_threshold) * a
 *     u = m = beta1 m + (1 - beta1) u         beta1 > 0
 *     w = w - weight_decay * a * w - u
 *
 * Of a tensor with more dimensions the last two are a matrix, and it has one R and C
 * for each.  Means and norms are formed in double.
 */
#include <string.h>

#include <stdio.h>

#include "optim/kernel_tensor.h"
#include "proto/status.h"

enum hyper { LR, EPS, WEIGHT_DECAY, LIMIT, EXPONENT, MAXIMIZE };
enum paper_hyper { BETA1 = MAXIMIZE, SCALE_PARAMETER, RELATIVE_STEP, WARMUP_INIT };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-2 }, 0, FLT_MAX, false, false },
	[EPS] = { "eps", OPTIM_REAL, 2, { FLT_EPSILON, 1e-3 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[LIMIT] = { "d", OPTIM_REAL, 1, { 1 }, 1, FLT_MAX, false, false },
	[EXPONENT] = { "beta2_decay", OPTIM_REAL, 1, { -0.8 }, -FLT_MAX, 0, false, false },
	[MAXIMIZE] = { "maximize", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

static const struct optim_hyper paper_hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[EPS] = { "eps", OPTIM_REAL, 2, { 1e-30, 1e-3 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0 }, 0, FLT_MAX, false, false },
	[LIMIT] = { "clip_threshold", OPTIM_REAL, 1, { 1 }, FLT_MIN, FLT_MAX, false, false },
	[EXPONENT] = { "decay_rate", OPTIM_REAL, 1, { -0.8 }, -FLT_MAX, 0, false, false },
	[BETA1] = { "beta1", OPTIM_REAL, 1, { 0 }, 0, 1, false, true },
	[SCALE_PARAMETER] = { "scale_parameter", OPTIM_FLAG, 1, { 1 }, 0, 1, false, false },
	[RELATIVE_STEP] = { "relative_step", OPTIM_FLAG, 1, { 1 }, 0, 1, false, false },
	[WARMUP_INIT] = { "warmup_init", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar {
	SIGN,
	TAKE,   /* of a new square: k, or 1 - b */
	KEEP,   /* 1 - TAKE */
	ADD,    /* to a square: eps[0] of the paper's form, else 0 */
	FLOOR,  /* under a mean of rows: eps[0], or 0 */
	LEAST,  /* under v: eps[0]^2, or 0 */
	RATE,   /* what a is, but for rms(w) */
	RMS_LEAST, /* eps[1]; below 0 where a does not look at w */
	SHRINK, /* of w before the step; 0 where it depends on a */
	KEEP1,  /* beta1 */
	TAKE1,
};

/* ROW and ROW_MEAN are of the row and the matrix at hand. */
enum sum { WEIGHTS, WAY, ROW, ROW_MEAN };
enum factor { STEP, PAPER_SHRINK };

/* Of a matrix. */
static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "row_var", 0 };
	out[1] = (struct rule_slot){ "col_var", 0 };
	return 2;
}

static uint32_t paper_slots(const struct optim *optim, struct rule_slot *out)
{
	uint32_t count = slots(optim, out);

	if (optim->values[BETA1][0] > 0)
		out[count++] = (struct rule_slot){ "exp_avg", 0 };
	return count;
}

/* As fairseq, which takes no lr with it. */
static int paper_settle(const struct optim *optim, char *why, size_t why_bytes)
{
	bool schedule = optim->schedule.part_count > 0;
	double lr = optim->values[LR][0];

	if (optim->values[RELATIVE_STEP][0] == 0 || (lr == paper_hypers[LR].initial[0] && !schedule))
		return 0;
	if (schedule)
		snprintf(why, why_bytes, "adafactor_paper: a schedule is without effect with relative_step=1, where "
		         "the rate follows from the count of updates; give relative_step=0, or no schedule");
	else
		snprintf(why, why_bytes, "adafactor_paper: lr=%g is without effect with relative_step=1, where the "
		         "rate follows from the count of updates; give relative_step=0, or no lr", lr);
	return OPTD_HYPER;
}

/* slots[0] are R or v, slots[1] is C, then m. */
static uint32_t shaped_slots(const struct optim *optim, const struct tensor_shape *shape,
                             struct tensor_slot *out)
{
	(void)optim;
	if (!shape->matrix) {
		out[0] = (struct tensor_slot){ "variance", 0, shape->columns, TENSOR_EACH };
		return 1;
	}
	out[0] = (struct tensor_slot){ "row_var", 0, shape->batch * shape->rows, TENSOR_ROWS };
	out[1] = (struct tensor_slot){ "col_var", 0, shape->batch * shape->columns, TENSOR_COLUMNS };
	return 2;
}

static uint32_t paper_shaped_slots(const struct optim *optim, const struct tensor_shape *shape,
                                   struct tensor_slot *out)
{
	uint32_t count = shaped_slots(optim, shape, out);

	if (optim->values[BETA1][0] > 0)
		out[count++] = (struct tensor_slot){ "exp_avg", 0, tensor_elements(shape), TENSOR_EACH };
	return count;
}

/* A sum in double for each column. */
static uint64_t scratch(const struct tensor_shape *shape)
{
	return shape->matrix ? 2 * shape->columns : 0;
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double lr = optim->values[LR][0], eps = optim->values[EPS][0];
	double take = pow(t, optim->values[EXPONENT][0]);

	out[SIGN] = kernel_sign(optim->values[MAXIMIZE][0]);
	out[TAKE] = (float)take;
	out[KEEP] = (float)(1 - take);
	out[FLOOR] = (float)eps;
	out[LEAST] = (float)(eps * eps);
	out[RATE] = (float)(lr < 1 / sqrt(t) ? lr : 1 / sqrt(t));
	out[RMS_LEAST] = (float)optim->values[EPS][1];
	out[SHRINK] = (float)(1 - lr * optim->values[WEIGHT_DECAY][0]);
}

static void paper_scalars(const struct optim *optim, double t, float *out)
{
	const double(*v)[OPTIM_VALUES_MAX] = optim->values;
	double take = pow(t, v[EXPONENT][0]), most = v[WARMUP_INIT][0] != 0 ? 1e-6 * t : 1e-2;

	out[SIGN] = 1;
	out[TAKE] = (float)take;
	out[KEEP] = (float)(1 - take);
	out[ADD] = (float)v[EPS][0];
	out[RATE] = (float)(v[RELATIVE_STEP][0] == 0 ? v[LR][0] : most < 1 / sqrt(t) ? most : 1 / sqrt(t));
	out[RMS_LEAST] = v[SCALE_PARAMETER][0] != 0 ? (float)v[EPS][1] : -1;
	out[KEEP1] = (float)v[BETA1][0];
	out[TAKE1] = (float)(1 - v[BETA1][0]);
}

/* ---- first pass: squares ------------------------------------------------ */

KERNEL_LOOP square(const float *s, float *restrict q, const float *restrict g, size_t n)
{
	const float add = s[ADD];

	for (size_t i = 0; i < n; i++)
		q[i] = g[i] * g[i] + add;
}

static double *column_sums(const struct tensor_update *u)
{
	return (double *)(void *)u->scratch;
}

/* sums[ROW] is of the row so far. */
static void measure_row(struct tensor_update *u, size_t n)
{
	const struct tensor_shape *shape = &u->shape;
	const float *s = u->scalars->values;
	uint64_t column = u->at % shape->columns, row = u->at / shape->columns;
	double *columns = column_sums(u) + column;
	float q[PIECE], g[PIECE], *r = &u->slots[0][row];

	square(s, q, piece_gradient(u, n, g), n);
	if (row % shape->rows == 0)
		memset(columns, 0, n * sizeof(*columns));
	for (size_t i = 0; i < n; i++)
		columns[i] = columns[i] + (double)q[i];
	u->sums[ROW] = (column == 0 ? 0 : u->sums[ROW]) + KERNEL(optim_norm).power_sum(q, n, 1);
	if (column + n == shape->columns)
		*r = s[KEEP] * *r + s[TAKE] * (float)(u->sums[ROW] / (double)shape->columns);
}

/* The columns' part of the state, once the last row of a matrix is measured. */
static void settle_columns(struct tensor_update *u, uint64_t matrix)
{
	const float *s = u->scalars->values;
	float *c = u->slots[1] + matrix * u->shape.columns;
	const double *columns = column_sums(u);

	for (uint64_t i = 0; i < u->shape.columns; i++)
		c[i] = s[KEEP] * c[i] + s[TAKE] * (float)(columns[i] / (double)u->shape.rows);
}

KERNEL_LOOP measure_vector(const float *s, float *restrict v, const float *restrict g, size_t n)
{
	const float keep = s[KEEP], take = s[TAKE], add = s[ADD];

	for (size_t i = 0; i < n; i++)
		v[i] = keep * v[i] + take * (g[i] * g[i] + add);
}

static void measure(struct tensor_update *u, size_t n)
{
	uint64_t per_matrix = u->shape.rows * u->shape.columns, end = u->at + n;
	float g[PIECE];

	u->sums[WEIGHTS] = piece_sum_of_squares(u->sums[WEIGHTS], u->w + u->at, n);
	if (!u->shape.matrix) {
		measure_vector(u->scalars->values, u->slots[0] + u->at, piece_gradient(u, n, g), n);
		return;
	}
	measure_row(u, n);
	if (end % per_matrix == 0)
		settle_columns(u, end / per_matrix - 1);
}

/* ---- the step u --------------------------------------------------------- */

/* Elements begin at `at`, within a row. */
KERNEL_LOOP torch_way(const float *s, float *restrict way, float row_share, const float *restrict c,
                      const float *restrict g, size_t n, bool matrix)
{
	const float sign = s[SIGN], least = s[LEAST];

	for (size_t i = 0; i < n; i++) {
		float v = matrix ? row_share * c[i] : c[i];

		way[i] = (sign * g[i]) / sqrtf(v < least ? least : v);
	}
}

KERNEL_LOOP paper_way(float *restrict way, float row_share, const float *restrict c,
                      const float *restrict g, size_t n, bool matrix)
{
	for (size_t i = 0; i < n; i++)
		way[i] = (matrix ? g[i] / sqrtf(row_share) : g[i]) / sqrtf(c[i]);
}

/* The mean of the R of the matrix that `at` is in; formed at its beginning. */
static double row_mean(struct tensor_update *u)
{
	uint64_t per_matrix = u->shape.rows * u->shape.columns;
	const float *r = u->slots[0] + u->at / per_matrix * u->shape.rows;

	if (u->at % per_matrix == 0)
		u->sums[ROW_MEAN] = KERNEL(optim_norm).power_sum(r, u->shape.rows, 1) / (double)u->shape.rows;
	return u->sums[ROW_MEAN];
}

/* What a piece of the step is made of: a row's share of v, and the columns' or, of a
 * vector, v itself. */
static float share_of(struct tensor_update *u, const float **c)
{
	const struct tensor_shape *shape = &u->shape;
	float floor = u->scalars->values[FLOOR], mean;

	*c = u->slots[0] + u->at;
	if (!shape->matrix)
		return 0;
	*c = u->slots[1] + u->at / (shape->rows * shape->columns) * shape->columns +
	     u->at % shape->columns;
	mean = (float)row_mean(u);
	return u->slots[0][u->at / shape->columns] / (mean < floor ? floor : mean);
}

static void find_torch_way(struct tensor_update *u, float *way, size_t n)
{
	float room[PIECE];
	const float *s = u->scalars->values, *g = piece_gradient(u, n, room), *c;
	float share = share_of(u, &c);

#define TORCH_WAY(matrix) torch_way(s, way, share, c, g, n, matrix)
	KERNEL_SPLIT1(u->shape.matrix, TORCH_WAY);
}

static void find_paper_way(struct tensor_update *u, float *way, size_t n)
{
	float room[PIECE];
	const float *g = piece_gradient(u, n, room), *c;
	float share = share_of(u, &c);

#define PAPER_WAY(matrix) paper_way(way, share, c, g, n, matrix)
	KERNEL_SPLIT1(u->shape.matrix, PAPER_WAY);
}

static void weigh_torch(struct tensor_update *u, size_t n)
{
	float way[PIECE];

	find_torch_way(u, way, n);
	u->sums[WAY] = piece_sum_of_squares(u->sums[WAY], way, n);
}

static void weigh_paper(struct tensor_update *u, size_t n)
{
	float way[PIECE];

	find_paper_way(u, way, n);
	u->sums[WAY] = piece_sum_of_squares(u->sums[WAY], way, n);
}

/* ---- last pass: the weights --------------------------------------------- */

static void decide(struct tensor_update *u)
{
	const float *s = u->scalars->values;
	double n = (double)tensor_elements(&u->shape), limit = u->optim->values[LIMIT][0];
	double weights = sqrt(u->sums[WEIGHTS] / n), way = sqrt(u->sums[WAY] / n) / limit;
	double least = (double)s[RMS_LEAST], rate = (double)s[RATE];

	if (least >= 0)
		rate *= weights < least ? least : weights;
	u->factors[STEP] = (float)(way > 1 ? rate / way : rate);
	u->factors[PAPER_SHRINK] = (float)(u->optim->values[WEIGHT_DECAY][0] * rate);
}

KERNEL_LOOP torch_go(float step, float shrink, float *restrict w, const float *restrict way, size_t n)
{
	for (size_t i = 0; i < n; i++)
		w[i] = w[i] * shrink - step * way[i];
}

static void apply_torch(struct tensor_update *u, size_t n)
{
	float way[PIECE];

	find_torch_way(u, way, n);
	torch_go(u->factors[STEP], u->scalars->values[SHRINK], u->w + u->at, way, n);
}

KERNEL_LOOP paper_go(const float *s, const float *factors, float *restrict w, float *restrict m,
                     const float *restrict way, size_t n, bool moment)
{
	const float keep1 = s[KEEP1], take1 = s[TAKE1];
	const float step = factors[STEP], shrink = factors[PAPER_SHRINK];

	for (size_t i = 0; i < n; i++) {
		float wi = w[i], go = way[i] * step;

		if (moment) {
			go = keep1 * m[i] + take1 * go;
			m[i] = go;
		}
		w[i] = (wi - shrink * wi) - go;
	}
}

static void apply_paper(struct tensor_update *u, size_t n)
{
	const float *s = u->scalars->values;
	bool moment = u->optim->values[BETA1][0] > 0;
	float way[PIECE], *m = moment ? u->slots[u->shape.matrix ? 2 : 1] + u->at : NULL;

	find_paper_way(u, way, n);
#define PAPER_GO(moment) paper_go(s, u->factors, u->w + u->at, m, way, n, moment)
	KERNEL_SPLIT1(moment, PAPER_GO);
}

typedef void visit(struct tensor_update *u, size_t n);

static bool passes(struct tensor_update *u, uint64_t budget, visit *weigh, visit *apply)
{
	if (u->pass == 0 && !pass_rows(u, &budget, measure))
		return false;
	if (u->pass == 1) {
		if (!pass_rows(u, &budget, weigh))
			return false;
		decide(u);
	}
	return pass_rows(u, &budget, apply);
}

static bool torch_run(struct tensor_update *u, uint64_t budget)
{
	return passes(u, budget, weigh_torch, apply_torch);
}

static bool paper_run(struct tensor_update *u, uint64_t budget)
{
	return passes(u, budget, weigh_paper, apply_paper);
}

const struct rule_row KERNEL(optim_row_adafactor) = {
	.name = "adafactor",
	.formula = KERNEL_MAXIMIZE
	           "k = t^beta2_decay, a = max(eps[1], rms(w)) * min(lr, 1/sqrt(t)); "
	           "w = w*(1 - lr*weight_decay); "
	           "R = R + k*(mean(g*g) - R) of each row, C likewise of each column; "
	           "v = R*C / max(mean(R), eps[0]), of a vector v + k*(g*g - v); "
	           "u = g / sqrt(max(v, eps[0]^2)); "
	           "w = w - a / max(1, rms(u)/d) * u",
	.source = "torch/optim/_adafactor.py; Shazeer, Stern 2018, arXiv 1804.04235",
	.state = "row_var and col_var of a matrix: a number a row and a column; variance of a vector",
	.reach = OPTIM_TENSOR,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.tensor_slots = shaped_slots,
	.scratch = scratch,
	.scalars = scalars,
	.run = torch_run,
};

const struct rule_row KERNEL(optim_row_adafactor_paper) = {
	.name = "adafactor_paper",
	.formula = "b = 1 - t^decay_rate, q = g*g + eps[0]; "
	           "a = relative_step ? min(warmup_init ? 1e-6*t : 1e-2, 1/sqrt(t)) : lr; "
	           "scale_parameter: a = a*max(eps[1], rms(w)); "
	           "R = b*R + (1-b)*mean(q) of each row, C likewise of each column; "
	           "u = (g / sqrt(R/mean(R))) / sqrt(C), of a vector g/sqrt(v), v = b*v + (1-b)*q; "
	           "u = u / max(1, rms(u)/clip_threshold) * a; "
	           "beta1: u = m = beta1*m + (1-beta1)*u; "
	           "w = w - weight_decay*a*w - u",
	.source = "Shazeer, Stern 2018, arXiv 1804.04235",
	.state = "row_var and col_var of a matrix: a number a row and a column; variance of a vector; "
	         "exp_avg if beta1 is not 0",
	.reach = OPTIM_TENSOR,
	.hypers = paper_hypers,
	.hyper_count = KERNEL_COUNT(paper_hypers),
	.slots = paper_slots,
	.settle = paper_settle,
	.tensor_slots = paper_shaped_slots,
	.scratch = scratch,
	.scalars = paper_scalars,
	.run = paper_run,
};
