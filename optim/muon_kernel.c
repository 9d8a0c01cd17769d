/*
 * muon: momentum, made orthogonal by a Newton-Schulz iteration, as torch.optim.Muon.
 * Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
 *
 *     b = b + (1 - momentum) * (g - b)
 *     u = nesterov ? g + momentum * (b - g) : b
 *     X = u / max(|u|, eps), transposed if it has more rows than columns
 *     ns_steps times:  A = X X^T,  X = c0 X + (c1 A + c2 A A) X      ns_coefficients
 *     w = w * (1 - lr * weight_decay) - lr * f * X
 *     f = sqrt(max(1, rows / columns))                   adjust_lr_fn 0, "original"
 *     f = 0.2 sqrt(max(rows, columns))                   adjust_lr_fn 1, "match_rms_adamw"
 *
 * For matrices only.  PyTorch iterates in bfloat16 and we in float32, so no bits are
 * alike: some 8 % of PyTorch's X is rounding.
 *
 * An element of a product is one chain of fma over the common dimension, from its
 * beginning, whatever the blocks and the vector width.
 */
#include <assert.h>
#include <string.h>

#include "optim/kernel_tensor.h"

enum hyper { LR, WEIGHT_DECAY, MOMENTUM, NESTEROV, COEFFICIENTS, EPS, STEPS, ADJUST };

static const struct optim_hyper hypers[] = {
	[LR] = { "lr", OPTIM_REAL, 1, { 1e-3 }, 0, FLT_MAX, false, false },
	[WEIGHT_DECAY] = { "weight_decay", OPTIM_REAL, 1, { 0.1 }, 0, FLT_MAX, false, false },
	[MOMENTUM] = { "momentum", OPTIM_REAL, 1, { 0.95 }, 0, FLT_MAX, false, false },
	[NESTEROV] = { "nesterov", OPTIM_FLAG, 1, { 1 }, 0, 1, false, false },
	[COEFFICIENTS] = { "ns_coefficients", OPTIM_REAL, 3, { 3.4445, -4.775, 2.0315 }, -FLT_MAX,
	                   FLT_MAX, false, false },
	[EPS] = { "eps", OPTIM_REAL, 1, { 1e-7 }, 0, FLT_MAX, true, false },
	[STEPS] = { "ns_steps", OPTIM_WHOLE, 1, { 5 }, 1, 99, false, false },
	[ADJUST] = { "adjust_lr_fn", OPTIM_FLAG, 1, { 0 }, 0, 1, false, false },
};

enum scalar { TAKE, LOOK_AHEAD, SHRINK };
enum sum { WAY };

static uint32_t slots(const struct optim *optim, struct rule_slot *out)
{
	(void)optim;
	out[0] = (struct rule_slot){ "momentum_buffer", 0 };
	return 1;
}

static const char *refusal(const struct tensor_shape *shape)
{
	return shape->matrix && shape->batch == 1 ? NULL : "it takes matrices (two dimensions) only";
}

static void scalars(const struct optim *optim, double t, float *out)
{
	double lr = optim->values[LR][0];

	(void)t;
	out[TAKE] = (float)(1 - optim->values[MOMENTUM][0]);
	out[LOOK_AHEAD] = (float)optim->values[MOMENTUM][0];
	out[SHRINK] = (float)(1 - lr * optim->values[WEIGHT_DECAY][0]);
}

/* ---- working memory ----------------------------------------------------- */

/* X is small x large.  Rows of all matrices are `pad`ded with zeros to whole tiles. */
#define TILE_ROWS 4
#define TILE_COLUMNS 32

struct work {
	uint64_t small, large, small_pad, large_pad;
	float *x, *next; /* [small, large_pad] */
	float *turned;   /* [large, small_pad]: X transposed */
	float *a, *b;    /* [small, small_pad] */
};

static uint64_t padded(uint64_t n)
{
	return (n + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
}

static void measure_work(const struct tensor_shape *shape, struct work *work)
{
	bool tall = shape->rows > shape->columns;

	work->small = tall ? shape->columns : shape->rows;
	work->large = tall ? shape->rows : shape->columns;
	work->small_pad = padded(work->small);
	work->large_pad = padded(work->large);
}

static uint64_t scratch(const struct tensor_shape *shape)
{
	struct work work;

	measure_work(shape, &work);
	return 2 * work.small * work.large_pad + work.large * work.small_pad +
	       2 * work.small * work.small_pad;
}

/* Iteration `i` finds X where the one before has put it. */
static struct work work_of(const struct tensor_update *u, uint32_t iteration)
{
	struct work work;
	float *first = u->scratch, *second;

	measure_work(&u->shape, &work);
	second = first + work.small * work.large_pad;
	work.x = iteration % 2 == 0 ? first : second;
	work.next = iteration % 2 == 0 ? second : first;
	work.turned = second + work.small * work.large_pad;
	work.a = work.turned + work.large * work.small_pad;
	work.b = work.a + work.small * work.small_pad;
	return work;
}

/* ---- the direction u, and X --------------------------------------------- */

KERNEL_LOOP lead(const float *s, float *restrict u, float *restrict b, const float *restrict g,
                 size_t n, bool nesterov)
{
	const float take = s[TAKE], look_ahead = s[LOOK_AHEAD];

	for (size_t i = 0; i < n; i++) {
		float gi = g[i], bi = b[i];

		bi = bi + take * (gi - bi);
		b[i] = bi;
		u[i] = nesterov ? gi + look_ahead * (bi - gi) : bi;
	}
}

/* A piece within a row. */
static void direct(struct tensor_update *u, size_t n)
{
	struct work work = work_of(u, 0);
	uint64_t row = u->at / u->shape.columns, column = u->at % u->shape.columns;
	float way[PIECE], *b = u->slots[0] + u->at;
	float room[PIECE];
	const float *s = u->scalars->values, *g = piece_gradient(u, n, room);

	assert(n > 0);
#define LEAD(nesterov) lead(s, way, b, g, n, nesterov)
	KERNEL_SPLIT1(u->optim->values[NESTEROV][0] != 0, LEAD);
	u->sums[WAY] = piece_sum_of_squares(u->sums[WAY], way, n);
	if (u->shape.rows <= u->shape.columns) {
		memcpy(work.x + row * work.large_pad + column, way, n * sizeof(float));
		return;
	}
	for (size_t i = 0; i < n; i++)
		work.x[(column + i) * work.large_pad + row] = way[i];
}

/* ---- products ----------------------------------------------------------- */

/* out = keep * from + weight * (left right), where left is [rows, inner] and columns
 * are whole tiles.  What is computed in the padding is never looked at. */
struct product {
	float *out;
	const float *from; /* strides as out; NULL for none */
	float keep, weight;
	const float *left, *right;
	uint64_t out_stride, left_stride, right_stride;
	uint64_t inner, columns;
};

static inline __attribute__((always_inline)) void tile(const struct product *p, uint64_t row,
                                                       uint64_t column, int rows)
{
	float sums[TILE_ROWS][TILE_COLUMNS];
	const float *left = p->left + row * p->left_stride;
	const float *right = p->right + column;

	memset(sums, 0, sizeof(sums));
	for (uint64_t k = 0; k < p->inner; k++) {
		for (int i = 0; i < rows; i++) {
			float l = left[(uint64_t)i * p->left_stride + k];

			for (int j = 0; j < TILE_COLUMNS; j++)
				sums[i][j] = fmaf(l, right[k * p->right_stride + (uint64_t)j], sums[i][j]);
		}
	}
	for (int i = 0; i < rows; i++) {
		uint64_t at = (row + (uint64_t)i) * p->out_stride + column;

		for (int j = 0; j < TILE_COLUMNS; j++)
			p->out[at + (uint64_t)j] =
				p->from != NULL ? p->keep * p->from[at + (uint64_t)j] + p->weight * sums[i][j] :
				                  sums[i][j];
	}
}

/* A tile of up to TILE_ROWS rows. */
static void product_tile(const struct product *p, uint64_t row, uint64_t rows, uint64_t column)
{
	if (rows == TILE_ROWS) {
		tile(p, row, column, TILE_ROWS);
		return;
	}
	for (uint64_t i = 0; i < rows; i++)
		tile(p, row + i, column, 1);
}

/* Tiles of the product from number u->at on, row by row, within the budget. */
static bool pass_product(struct tensor_update *u, uint64_t *budget, const struct product *p,
                         uint64_t rows)
{
	uint64_t across = p->columns / TILE_COLUMNS, down = (rows + TILE_ROWS - 1) / TILE_ROWS;

	while (u->at < down * across && *budget > 0) {
		uint64_t row = u->at / across * TILE_ROWS;
		uint64_t n = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
		uint64_t cost = n * TILE_COLUMNS * p->inner;

		product_tile(p, row, n, u->at % across * TILE_COLUMNS);
		u->at++;
		*budget -= *budget < cost ? *budget : cost;
	}
	if (u->at < down * across)
		return false;
	u->at = 0;
	u->pass++;
	return true;
}

/* ---- the iteration ------------------------------------------------------ */

/* Passes: DIRECT, NORMALISE, then four for each iteration, then the weights'. */
enum { DIRECT, NORMALISE, ITERATE };
enum stage { TURN, SQUARE, POLYNOMIAL, NEXT, STAGES };

KERNEL_LOOP divide(float *x, float norm, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		x[i] = x[i] / norm;
}

/* X / max(|u|, eps), row by row; or its transpose beside it. */
static bool pass_small(struct tensor_update *u, uint64_t *budget, const struct work *work, bool turn)
{
	double norm = sqrt(u->sums[WAY]), eps = u->optim->values[EPS][0];

	while (u->at < work->small && *budget > 0) {
		float *x = work->x + u->at * work->large_pad;

		if (!turn)
			divide(x, (float)(norm > eps ? norm : eps), work->large);
		for (uint64_t j = 0; turn && j < work->large; j++)
			work->turned[j * work->small_pad + u->at] = x[j];
		u->at++;
		*budget -= *budget < work->large ? *budget : work->large;
	}
	if (u->at < work->small)
		return false;
	u->at = 0;
	u->pass++;
	return true;
}

static struct product product_of(const struct tensor_update *u, const struct work *work,
                                 enum stage stage)
{
	const double *c = u->optim->values[COEFFICIENTS];
	struct product p = { .out_stride = work->small_pad, .left_stride = work->small_pad,
		             .right_stride = work->small_pad, .inner = work->small,
		             .columns = work->small_pad };

	if (stage == SQUARE) { /* A = X X^T */
		p.out = work->a;
		p.left = work->x;
		p.left_stride = work->large_pad;
		p.right = work->turned;
		p.inner = work->large;
	} else if (stage == POLYNOMIAL) { /* B = c1 A + c2 A A */
		p.out = work->b;
		p.from = p.left = p.right = work->a;
		p.keep = (float)c[1];
		p.weight = (float)c[2];
	} else { /* c0 X + B X */
		p.out = work->next;
		p.from = p.right = work->x;
		p.left = work->b;
		p.keep = (float)c[0];
		p.weight = 1;
		p.out_stride = p.right_stride = work->large_pad;
		p.columns = work->large_pad;
	}
	return p;
}

static bool iterate(struct tensor_update *u, uint64_t *budget)
{
	uint32_t iterations = (uint32_t)u->optim->values[STEPS][0];

	while (u->pass < ITERATE + iterations * STAGES) {
		enum stage stage = (u->pass - ITERATE) % STAGES;
		struct work work = work_of(u, (u->pass - ITERATE) / STAGES);
		struct product p;

		if (stage == TURN) {
			if (!pass_small(u, budget, &work, true))
				return false;
			continue;
		}
		p = product_of(u, &work, stage);
		if (!pass_product(u, budget, &p, work.small))
			return false;
	}
	return true;
}

/* ---- the weights -------------------------------------------------------- */

static float rate_of(const struct tensor_update *u)
{
	double rows = (double)u->shape.rows, columns = (double)u->shape.columns;
	double larger = rows > columns ? rows : columns, ratio = rows / columns;

	if (u->optim->values[ADJUST][0] != 0)
		return (float)(u->optim->values[LR][0] * (0.2 * sqrt(larger)));
	return (float)(u->optim->values[LR][0] * sqrt(ratio > 1 ? ratio : 1));
}

KERNEL_LOOP go(float shrink, float rate, float *restrict w, const float *restrict x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		w[i] = w[i] * shrink - rate * x[i];
}

static void apply(struct tensor_update *u, size_t n)
{
	struct work work = work_of(u, (uint32_t)u->optim->values[STEPS][0]);
	uint64_t row = u->at / u->shape.columns, column = u->at % u->shape.columns;
	const float *x = work.x + row * work.large_pad + column;
	float turned[PIECE];

	if (u->shape.rows > u->shape.columns) {
		for (size_t i = 0; i < n; i++)
			turned[i] = work.x[(column + i) * work.large_pad + row];
		x = turned;
	}
	go(u->scalars->values[SHRINK], rate_of(u), u->w + u->at, x, n);
}

static bool run(struct tensor_update *u, uint64_t budget)
{
	struct work work = work_of(u, 0);

	if (u->pass == DIRECT && !pass_rows(u, &budget, direct))
		return false;
	if (u->pass == NORMALISE && !pass_small(u, &budget, &work, false))
		return false;
	return iterate(u, &budget) && pass_rows(u, &budget, apply);
}

const struct rule_row KERNEL(optim_row_muon) = {
	.name = "muon",
	.formula = "of matrices only; "
	           "b = b + (1-momentum)*(g-b); "
	           "u = nesterov ? g + momentum*(b-g) : b; "
	           "X = u / max(norm(u), eps), transposed if it has more rows than columns; "
	           "ns_steps times A = X*X^T, X = c[0]*X + (c[1]*A + c[2]*A*A)*X, c = "
	           "ns_coefficients, in float32 (PyTorch in bfloat16: no bits are alike); "
	           "w = w*(1 - lr*weight_decay) - lr*f*X; "
	           "adjust_lr_fn 0, \"original\": f = sqrt(max(1, rows/columns)); "
	           "adjust_lr_fn 1, \"match_rms_adamw\": f = 0.2*sqrt(max(rows, columns))",
	.source = "torch/optim/_muon.py; Jordan et al. 2024",
	.reach = OPTIM_TENSOR,
	.hypers = hypers,
	.hyper_count = KERNEL_COUNT(hypers),
	.slots = slots,
	.refusal = refusal,
	.scratch = scratch,
	.scalars = scalars,
	.run = run,
};
