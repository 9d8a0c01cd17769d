/*
 * Muon against its formula in plain loops: the same bits on every instruction set, in
 * shapes that end anywhere in the blocks of kernel_product.h, and in any slices; and what it
 * takes of memory and of a slice.  That the formula is right is test_vectors' claim.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optim/tensor.h"
#include "tests/support/rng_seed.h"

#define ITERATIONS 2
#define GUARD 64

/* Panels of 16 columns, three of them at a time, blocks of 192, stretches of 256 steps: one
 * short, full, one over, and several. */
static const uint64_t shapes[][2] = {
	{ 1, 1 },    { 1, 300 },  { 300, 1 },  { 3, 5 },     { 5, 255 },   { 5, 256 },   { 257, 5 },
	{ 15, 16 },  { 16, 17 },  { 17, 15 },  { 31, 33 },   { 47, 49 },   { 48, 48 },   { 49, 65 },
	{ 40, 600 }, { 600, 40 }, { 191, 20 }, { 20, 193 },  { 192, 192 }, { 100, 257 }, { 195, 390 },
	{ 255, 256 }, { 259, 270 },
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

struct problem {
	struct tensor_shape shape;
	float *w, *g;
};

static float *floats(uint64_t n)
{
	float *out = calloc(n, sizeof(float));

	assert_non_null(out);
	return out;
}

/* Gradients are quarters, so that their norm is the same in whatever order. */
static struct problem problem_new(const uint64_t dims[2], struct rng *rng)
{
	struct problem p = { .shape = tensor_shape_of(dims, 2) };
	uint64_t n = tensor_elements(&p.shape);

	p.w = floats(n);
	p.g = floats(n);
	for (uint64_t i = 0; i < n; i++) {
		p.g[i] = (float)rng_below(rng, 17) / 4 - 2;
		p.w[i] = rng_float(rng);
	}
	return p;
}

static void problem_free(struct problem *p)
{
	free(p->w);
	free(p->g);
}

/* Without momentum u is g. */
static struct optim muon(void)
{
	const double zero = 0, iterations = ITERATIONS;
	struct optim optim;
	char why[256];

	assert_int_equal(optim_init(&optim, optim_find("muon"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "momentum", &zero, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "nesterov", &zero, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "ns_steps", &iterations, 1, why, sizeof(why)), 0);
	return optim;
}

struct running {
	struct optim optim;
	struct optim_scalars scalars;
	struct tensor_update update;
	float *slots[1];
	uint64_t scratch;
};

static void run_init(struct running *run, const struct problem *p, enum optim_isa isa)
{
	uint64_t n = tensor_elements(&p->shape);
	struct optim_carry carry;

	run->optim = muon();
	run->slots[0] = floats(n);
	run->scratch = tensor_scratch(&run->optim, &p->shape);
	run->update = (struct tensor_update){ .optim = &run->optim, .isa = isa, .scalars = &run->scalars,
		                              .shape = p->shape, .w = floats(n), .slots = run->slots,
		                              .g = { p->g, 1.0f, DTYPE_F32 },
		                              .scratch = floats(run->scratch + GUARD) };
	memcpy(run->update.w, p->w, n * sizeof(float));
	memset(run->update.scratch, 0x7f, run->scratch * sizeof(float));
	optim_carry_initial(&run->optim, &carry);
	optim_scalars(&run->optim, 1, &carry, &run->scalars);
	tensor_begin(&run->update);
}

/* Returns the weights, which the caller frees. */
static float *run_deinit(struct running *run)
{
	for (uint64_t i = 0; i < GUARD; i++)
		assert_true(run->update.scratch[run->scratch + i] == 0);
	free(run->update.scratch);
	free(run->slots[0]);
	return run->update.w;
}

/* The new weights, which the caller frees; `slices` is how many it took, or NULL. */
static float *update(const struct problem *p, enum optim_isa isa, uint64_t budget, uint64_t *slices)
{
	struct running run;
	uint64_t count = 1;

	for (run_init(&run, p, isa); !tensor_run(&run.update, budget); count++)
		continue;
	if (slices != NULL)
		*slices = count;
	return run_deinit(&run);
}

/* ---- the formula -------------------------------------------------------- */

/* left right: each element a chain of fma over the common dimension. */
static float *product(const float *left, const float *right, uint64_t rows, uint64_t inner,
                      uint64_t columns)
{
	float *out = floats(rows * columns);

	for (uint64_t i = 0; i < rows; i++) {
		for (uint64_t j = 0; j < columns; j++) {
			float sum = 0;

			for (uint64_t k = 0; k < inner; k++)
				sum = fmaf(left[i * inner + k], right[k * columns + j], sum);
			out[i * columns + j] = sum;
		}
	}
	return out;
}

static float *transposed(const float *x, uint64_t rows, uint64_t columns)
{
	float *out = floats(rows * columns);

	for (uint64_t i = 0; i < rows * columns; i++)
		out[i % columns * rows + i / columns] = x[i];
	return out;
}

/* One iteration on x, [small, large]. */
static void iterate(float *x, uint64_t small, uint64_t large)
{
	const float c0 = 3.4445f, c1 = -4.775f, c2 = 2.0315f;
	float *turned = transposed(x, small, large);
	float *a = product(x, turned, small, large, small);
	float *b = product(a, a, small, small, small), *bx;

	for (uint64_t i = 0; i < small * small; i++)
		b[i] = c1 * a[i] + c2 * b[i];
	bx = product(b, x, small, small, large);
	for (uint64_t i = 0; i < small * large; i++)
		x[i] = c0 * x[i] + bx[i];
	free(turned);
	free(a);
	free(b);
	free(bx);
}

/* The new weights, which the caller frees. */
static float *formula(const struct problem *p)
{
	uint64_t rows = p->shape.rows, columns = p->shape.columns, n = rows * columns;
	bool tall = rows > columns;
	double sum = 0, ratio = (double)rows / (double)columns, lr = 1e-3;
	float shrink = (float)(1 - lr * 0.1), rate = (float)(lr * sqrt(ratio > 1 ? ratio : 1));
	float *x = tall ? transposed(p->g, rows, columns) : transposed(p->g, 1, n), *out;

	for (uint64_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	for (uint64_t i = 0; i < n; i++)
		x[i] = x[i] / (float)fmax(sqrt(sum), 1e-7);
	for (int i = 0; i < ITERATIONS; i++)
		iterate(x, tall ? columns : rows, tall ? rows : columns);
	out = tall ? transposed(x, columns, rows) : transposed(x, 1, n);
	for (uint64_t i = 0; i < n; i++)
		out[i] = p->w[i] * shrink - rate * out[i];
	free(x);
	return out;
}

static void assert_bits(const struct problem *p, const float *got, const float *want, const char *what)
{
	for (uint64_t i = 0; i < tensor_elements(&p->shape); i++) {
		if (memcmp(&got[i], &want[i], sizeof(float)) != 0)
			fail_msg("%llu x %llu, %s: element %llu is %a, not %a",
			         (unsigned long long)p->shape.rows, (unsigned long long)p->shape.columns, what,
			         (unsigned long long)i, (double)got[i], (double)want[i]);
	}
}

static void test_products_are_plain_chains_on_every_instruction_set(void **state)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (size_t i = 0; i < SHAPES; i++) {
		struct problem p = problem_new(shapes[i], &rng);
		float *want = formula(&p);

		for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			float *got = update(&p, (enum optim_isa)isa, UINT64_MAX, NULL);
			assert_bits(&p, got, want, optim_isa_name((enum optim_isa)isa));
			free(got);
		}
		free(want);
		problem_free(&p);
	}
}

static void test_slices_may_end_anywhere_in_a_product(void **state)
{
	const uint64_t budgets[] = { 1, 3000, 100000, 1000000 };
	struct rng rng = rng_new(5);

	(void)state;
	for (size_t i = 0; i < SHAPES; i++) {
		struct problem p = problem_new(shapes[i], &rng);
		float *want = update(&p, optim_isa_best(), UINT64_MAX, NULL);

		for (size_t j = 0; j < sizeof(budgets) / sizeof(budgets[0]); j++) {
			float *got = update(&p, optim_isa_best(), budgets[j], NULL);
			assert_bits(&p, got, want, "in slices");
			free(got);
		}
		free(want);
		problem_free(&p);
	}
}

/* A slice is at most its budget and one unit, whatever the shape. */
static void test_flat_matrices_are_updated_in_slices_too(void **state)
{
	const uint64_t flat[][2] = { { 16, 4096 }, { 4096, 16 }, { 1, 20000 }, { 300, 310 } };
	const uint64_t budget = 50000, unit = 16 * 48 * 256;
	struct rng rng = rng_new(6);

	(void)state;
	for (size_t i = 0; i < sizeof(flat) / sizeof(flat[0]); i++) {
		struct problem p = problem_new(flat[i], &rng);
		uint64_t n = flat[i][0] * flat[i][1], small = flat[i][0] < flat[i][1] ? flat[i][0] : flat[i][1];
		/* Half of X X^T at least, and B X. */
		uint64_t least = ITERATIONS * (n * small / 2 + n * small), slices;

		free(update(&p, optim_isa_best(), budget, &slices));
		assert_true(slices * (budget + unit) >= least);
		problem_free(&p);
	}
}

/* It is a piece, which takes more than its element. */
static void test_a_row_of_one_element_counts_more_than_one(void **state)
{
	const uint64_t column[2] = { 1000, 1 };
	struct rng rng = rng_new(8);
	struct problem p = problem_new(column, &rng);
	struct running run;

	(void)state;
	run_init(&run, &p, optim_isa_best());
	assert_false(tensor_run(&run.update, 500));
	assert_int_equal(run.update.pass, 0);
	assert_in_range(run.update.at, 1, 50);
	free(run_deinit(&run));
	problem_free(&p);
}

static void test_working_memory_is_four_matrices(void **state)
{
	struct optim optim = muon();
	struct tensor_shape shape = { 1, 2048, 2048, true };
	uint64_t n = tensor_elements(&shape);

	(void)state;
	assert_in_range(tensor_scratch(&optim, &shape), 4 * n, 4 * n + 40000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products_are_plain_chains_on_every_instruction_set),
		cmocka_unit_test(test_slices_may_end_anywhere_in_a_product),
		cmocka_unit_test(test_flat_matrices_are_updated_in_slices_too),
		cmocka_unit_test(test_a_row_of_one_element_counts_more_than_one),
		cmocka_unit_test(test_working_memory_is_four_matrices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
