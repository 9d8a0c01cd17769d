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
 */
#include <assert.h>

#include "optim/kernel_product.h"
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

/* X is small x large.  What goes from pass to pass is its transpose, and X is made of it
 * beside: one product has the larger dimension in common, the others the smaller. */
struct work {
	struct matrix turned; /* [large, small] */
	struct matrix x;      /* [small, large] */
	struct matrix a, b;   /* [small, small] */
	float *sums;
};

static float *lay(struct matrix *m, float *at, uint64_t rows, uint64_t columns)
{
	*m = (struct matrix){ at, rows, columns };
	return at + matrix_floats(rows, columns);
}

static struct work work_of(const struct tensor_update *u)
{
	bool tall = u->shape.rows > u->shape.columns;
	uint64_t small = tall ? u->shape.columns : u->shape.rows;
	uint64_t large = tall ? u->shape.rows : u->shape.columns;
	struct work work;

	work.sums = lay(&work.turned, u->scratch, large, small);
	work.sums = lay(&work.x, work.sums, small, large);
	work.sums = lay(&work.a, work.sums, small, small);
	work.sums = lay(&work.b, work.sums, small, small);
	return work;
}

static uint64_t scratch(const struct tensor_shape *shape)
{
	uint64_t small = shape->rows < shape->columns ? shape->rows : shape->columns;
	uint64_t large = shape->rows < shape->columns ? shape->columns : shape->rows;

	return matrix_floats(large, small) + matrix_floats(small, large) +
	       2 * matrix_floats(small, small) + PRODUCT_SUMS;
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

/* Where X^T has what the tensor has in this row and column. */
static inline float *element(const struct tensor_update *u, const struct work *work, uint64_t row,
                             uint64_t column)
{
	bool tall = u->shape.rows > u->shape.columns;

	return tall ? matrix_element(&work->turned, row, column) :
	              matrix_element(&work->turned, column, row);
}

/* A piece within a row. */
static void direct(struct tensor_update *u, size_t n)
{
	struct work work = work_of(u);
	uint64_t row = u->at / u->shape.columns, column = u->at % u->shape.columns;
	float way[PIECE], *b = u->slots[0] + u->at;
	float room[PIECE];
	const float *s = u->scalars->values, *g = piece_gradient(u, n, room);

	assert(n > 0);
#define LEAD(nesterov) lead(s, way, b, g, n, nesterov)
	KERNEL_SPLIT1(u->optim->values[NESTEROV][0] != 0, LEAD);
	u->sums[WAY] = piece_sum_of_squares(u->sums[WAY], way, n);
	for (size_t i = 0; i < n; i++)
		*element(u, &work, row, column + i) = way[i];
}

/* ---- the iteration ------------------------------------------------------ */

/* Passes: DIRECT, NORMALISE, then four for each iteration, then the weights'. */
enum { DIRECT, NORMALISE, ITERATE };
enum stage { TURN, SQUARE, POLYNOMIAL, NEXT, STAGES };

/* On to the next pass when this one is over. */
static bool pass_end(struct tensor_update *u, bool over)
{
	if (over) {
		u->at = 0;
		u->pass++;
	}
	return over;
}

/* X / max(|u|, eps), a line of a panel at a time. */
static bool normalise(struct tensor_update *u, uint64_t *budget, const struct matrix *turned)
{
	double norm = sqrt(u->sums[WAY]), eps = u->optim->values[EPS][0];
	const float by = (float)(norm > eps ? norm : eps);
	const uint64_t lines = turned->rows * matrix_panels(turned->columns);

	for (; u->at < lines && *budget > 0; u->at++) {
		float *line = turned->at + u->at * PANEL;
		uint64_t there = matrix_there(turned->columns, u->at / turned->rows);

		for (uint64_t j = 0; j < PANEL; j++)
			line[j] = j < there ? line[j] / by : 0;
		*budget -= *budget < PANEL ? *budget : PANEL;
	}
	return pass_end(u, u->at == lines);
}

/* X from its transpose, PANEL x PANEL at a time. */
static bool turn(struct tensor_update *u, uint64_t *budget, const struct work *work)
{
	const uint64_t down = matrix_panels(work->x.rows), blocks = down * matrix_panels(work->x.columns);
	const uint64_t cost = PANEL * PANEL;

	for (; u->at < blocks && *budget > 0; u->at++) {
		matrix_turn(&work->x, u->at % down, u->at / down, &work->turned);
		*budget -= *budget < cost ? *budget : cost;
	}
	return pass_end(u, u->at == blocks);
}

static struct product product_of(const struct tensor_update *u, const struct work *work,
                                 enum stage stage)
{
	const double *c = u->optim->values[COEFFICIENTS];

	if (stage == SQUARE) /* A = X X^T */
		return (struct product){ .out = work->a, .left = work->turned, .right = work->turned,
			                 .symmetric = true, .sums = work->sums };
	if (stage == POLYNOMIAL) /* B = c1 A + c2 A A, and A is its own transpose */
		return (struct product){ .out = work->b, .left = work->a, .right = work->a,
			                 .from = work->a.at, .keep = (float)c[1], .weight = (float)c[2],
			                 .symmetric = true, .sums = work->sums };
	/* c0 X^T + X^T B, the transpose of c0 X + B X, where X^T was. */
	return (struct product){ .out = work->turned, .left = work->x, .right = work->b,
		                 .from = work->turned.at, .keep = (float)c[0], .weight = 1,
		                 .sums = work->sums };
}

static bool iterate(struct tensor_update *u, uint64_t *budget, const struct work *work)
{
	uint32_t iterations = (uint32_t)u->optim->values[STEPS][0];

	while (u->pass < ITERATE + iterations * STAGES) {
		enum stage stage = (u->pass - ITERATE) % STAGES;
		struct product p = product_of(u, work, stage);

		if (stage == TURN ? !turn(u, budget, work) : !pass_end(u, product_run(&p, &u->at, budget)))
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
	struct work work = work_of(u);
	uint64_t row = u->at / u->shape.columns, column = u->at % u->shape.columns;
	float x[PIECE];

	for (size_t i = 0; i < n; i++)
		x[i] = *element(u, &work, row, column + i);
	go(u->scalars->values[SHRINK], rate_of(u), u->w + u->at, x, n);
}

static bool run(struct tensor_update *u, uint64_t budget)
{
	struct work work = work_of(u);

	if (u->pass == DIRECT && !pass_rows(u, &budget, direct))
		return false;
	if (u->pass == NORMALISE && !normalise(u, &budget, &work.turned))
		return false;
	return iterate(u, &budget, &work) && pass_rows(u, &budget, apply);
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
