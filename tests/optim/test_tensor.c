/*
 * Updates of whole tensors: the same bits on every instruction set and in any slices,
 * nothing touched beyond the tensor, shapes and what is refused.  That the numbers are
 * right is test_vectors' claim.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optim/tensor.h"
#include "tests/support/rng_seed.h"

#define ROOM 30000
#define GUARD 64

struct data {
	float w[ROOM + GUARD], slots[OPTIM_SLOTS_MAX][ROOM + GUARD], g[ROOM + GUARD];
};

static const char *const rules[] = { "lamb", "lars", "adafactor", "adafactor_paper", "muon" };
#define RULES (sizeof(rules) / sizeof(rules[0]))

static struct optim make(const char *name)
{
	struct optim optim;
	char why[256];

	assert_non_null(optim_find(name));
	assert_int_equal(optim_init(&optim, optim_find(name), OPTIM_TORCH2, why, sizeof(why)), 0);
	return optim;
}

static void data_fill(struct data *data, struct rng *rng)
{
	for (size_t i = 0; i < ROOM + GUARD; i++) {
		data->w[i] = rng_float(rng);
		data->g[i] = rng_float(rng);
		for (size_t j = 0; j < OPTIM_SLOTS_MAX; j++)
			data->slots[j][i] = fabsf(rng_float(rng));
	}
}

/* One update, in slices of random budgets unless rng is NULL. */
static void update_by(const struct optim *optim, enum optim_isa isa, const struct tensor_shape *shape,
                      uint64_t t, struct data *data, struct rng *rng, float factor)
{
	float *slots[OPTIM_SLOTS_MAX];
	struct optim_scalars scalars;
	struct optim_carry carry;
	struct tensor_update u = { .optim = optim, .isa = isa, .scalars = &scalars, .shape = *shape,
		                   .w = data->w, .slots = slots, .g = { data->g, factor, DTYPE_F32 } };

	for (size_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		slots[i] = data->slots[i];
	optim_carry_initial(optim, &carry);
	optim_scalars(optim, t, &carry, &scalars);
	u.scratch = malloc((tensor_scratch(optim, shape) + 1) * sizeof(float));
	assert_non_null(u.scratch);
	memset(u.scratch, 0x7f, tensor_scratch(optim, shape) * sizeof(float));
	tensor_begin(&u);
	while (!tensor_run(&u, rng != NULL ? 1 + rng_below(rng, 5000) : UINT64_MAX))
		continue;
	free(u.scratch);
}

static void update(const struct optim *optim, enum optim_isa isa, const struct tensor_shape *shape,
                   uint64_t t, struct data *data, struct rng *rng)
{
	update_by(optim, isa, shape, t, data, rng, 1.0f);
}

static struct tensor_shape draw_shape(const struct optim *optim, struct rng *rng)
{
	for (;;) {
		uint64_t dims[4];
		uint32_t rank = rng_below(rng, 5);

		for (uint32_t i = 0; i < rank; i++)
			dims[i] = 1 + rng_below(rng, rank == 1 ? ROOM : rank == 2 ? 170 : 9);
		if (rank == 2 && rng_one_in(rng, 4))
			dims[1] = 1 + rng_below(rng, (uint32_t)(ROOM / dims[0]));
		struct tensor_shape shape = tensor_shape_of(dims, rank);
		if (tensor_elements(&shape) <= ROOM && tensor_refusal(optim, &shape) == NULL)
			return shape;
	}
}

static void assert_same(const struct data *a, const struct data *b, const char *rule,
                        const struct tensor_shape *shape)
{
	if (memcmp(a, b, sizeof(*a)) != 0)
		fail_msg("%s, %llu matrices of %llu x %llu: other bits", rule, (unsigned long long)shape->batch,
		         (unsigned long long)shape->rows, (unsigned long long)shape->columns);
}

static void test_every_instruction_set_and_slicing_gives_the_same_bits(void **state)
{
	static struct data start, base, other;
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 100; round++) {
		struct optim optim = make(rules[round % (int)RULES]);
		struct tensor_shape shape = draw_shape(&optim, &rng);
		uint64_t t = 1 + rng_below(&rng, 3);

		data_fill(&start, &rng);
		base = start;
		update(&optim, optim_isa_best(), &shape, t, &base, NULL);
		for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
			if (!optim_isa_usable((enum optim_isa)isa))
				continue;
			other = start;
			update(&optim, (enum optim_isa)isa, &shape, t, &other, &rng);
			assert_same(&base, &other, rules[round % (int)RULES], &shape);
		}
	}
}

/* As if the gradient had been multiplied before. */
static void test_a_factor_of_the_gradient_counts_in_every_pass(void **state)
{
	static struct data start, factored, scaled;
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 50; round++) {
		struct optim optim = make(rules[round % (int)RULES]);
		struct tensor_shape shape = draw_shape(&optim, &rng);
		float factor = rng_float(&rng);

		data_fill(&start, &rng);
		factored = scaled = start;
		for (size_t i = 0; i < ROOM + GUARD; i++)
			scaled.g[i] = factor * start.g[i];
		update_by(&optim, optim_isa_best(), &shape, 1, &factored, &rng, factor);
		update(&optim, OPTIM_ISA_BASE, &shape, 1, &scaled, NULL);
		memcpy(factored.g, scaled.g, sizeof(scaled.g));
		assert_same(&factored, &scaled, rules[round % (int)RULES], &shape);
	}
}

static void test_update_leaves_neighbours_alone(void **state)
{
	static struct data before, after;
	struct rng rng = rng_new(7);

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct optim optim = make(rules[round % (int)RULES]);
		struct tensor_shape shape = draw_shape(&optim, &rng);
		struct tensor_slot slots[OPTIM_SLOTS_MAX];
		uint32_t count = tensor_slots(&optim, &shape, slots);
		size_t n = tensor_elements(&shape);

		data_fill(&before, &rng);
		after = before;
		update(&optim, optim_isa_best(), &shape, 2, &after, NULL);
		assert_memory_equal(after.w + n, before.w + n, (ROOM + GUARD - n) * sizeof(float));
		assert_memory_equal(after.g, before.g, sizeof(after.g));
		for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++) {
			size_t used = i < count ? slots[i].elements : 0;
			assert_memory_equal(after.slots[i] + used, before.slots[i] + used,
			                    (ROOM + GUARD - used) * sizeof(float));
		}
	}
}

static void test_shapes_are_matrices_of_their_last_two_dimensions(void **state)
{
	const uint64_t dims[] = { 5, 7, 3, 2 };
	const struct {
		uint32_t rank;
		struct tensor_shape want;
	} cases[] = {
		{ 0, { 1, 1, 1, false } }, { 1, { 1, 1, 5, false } },   { 2, { 1, 5, 7, true } },
		{ 3, { 5, 7, 3, true } },  { 4, { 5 * 7, 3, 2, true } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tensor_shape shape = tensor_shape_of(dims, cases[i].rank);

		assert_int_equal(shape.batch, cases[i].want.batch);
		assert_int_equal(shape.rows, cases[i].want.rows);
		assert_int_equal(shape.columns, cases[i].want.columns);
		assert_int_equal(shape.matrix, cases[i].want.matrix);
	}
}

static void test_muon_takes_matrices_only(void **state)
{
	struct optim muon = make("muon"), lamb = make("lamb");
	const uint64_t dims[] = { 4, 3, 2 };

	(void)state;
	for (uint32_t rank = 0; rank <= 3; rank++) {
		struct tensor_shape shape = tensor_shape_of(dims, rank);

		assert_int_equal(tensor_refusal(&muon, &shape) == NULL, rank == 2);
		assert_null(tensor_refusal(&lamb, &shape));
	}
}

static void assert_slots(const char *rule, const uint64_t *dims, uint32_t rank, const char *want)
{
	struct optim optim = make(rule);
	struct tensor_shape shape = tensor_shape_of(dims, rank);
	struct tensor_slot slots[OPTIM_SLOTS_MAX];
	uint32_t count = tensor_slots(&optim, &shape, slots);
	char got[128] = "";
	size_t used = 0;

	for (uint32_t i = 0; i < count; i++)
		used += (size_t)snprintf(got + used, sizeof(got) - used, "%s[%llu] ", slots[i].name,
		                         (unsigned long long)slots[i].elements);
	assert_string_equal(got, want);
}

static void test_adafactor_keeps_rows_and_columns(void **state)
{
	const uint64_t dims[] = { 5, 7, 3 };

	(void)state;
	assert_slots("adafactor", dims, 1, "variance[5] ");
	assert_slots("adafactor", dims, 2, "row_var[5] col_var[7] ");
	assert_slots("adafactor", dims, 3, "row_var[35] col_var[15] ");
	assert_slots("lamb", dims, 2, "exp_avg[35] exp_avg_sq[35] ");
}

/* A pile of matrices shares only rms(w) and rms(u): where both stand still, each is
 * updated as it would be alone. */
static void test_adafactor_looks_at_each_matrix_of_a_pile(void **state)
{
	static struct data pile, alone;
	struct optim optim = make("adafactor");
	struct rng rng = rng_new(3);
	double eps[2] = { 1e-7, 1e9 }, d = 1e9;
	struct tensor_shape three = { 3, 4, 5, true }, one = { 1, 4, 5, true };
	char why[256];

	(void)state;
	assert_int_equal(optim_set(&optim, "eps", eps, 2, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "d", &d, 1, why, sizeof(why)), 0);
	data_fill(&pile, &rng);
	for (uint32_t i = 0; i < 3; i++) {
		alone = pile;
		memcpy(alone.w, pile.w + i * 20, 20 * sizeof(float));
		memcpy(alone.g, pile.g + i * 20, 20 * sizeof(float));
		memcpy(alone.slots[0], pile.slots[0] + i * 4, 4 * sizeof(float));
		memcpy(alone.slots[1], pile.slots[1] + i * 5, 5 * sizeof(float));
		static struct data together;
		together = pile;
		update(&optim, optim_isa_best(), &one, 3, &alone, NULL);
		update(&optim, optim_isa_best(), &three, 3, &together, NULL);
		assert_memory_equal(alone.w, together.w + i * 20, 20 * sizeof(float));
		assert_memory_equal(alone.slots[0], together.slots[0] + i * 4, 4 * sizeof(float));
		assert_memory_equal(alone.slots[1], together.slots[1] + i * 5, 5 * sizeof(float));
	}
}

/* Newton-Schulz makes the step's singular values about 1, whatever the gradient's. */
static void test_muons_step_is_nearly_orthogonal(void **state)
{
	static struct data data;
	struct optim optim = make("muon");
	struct rng rng = rng_new(11);
	struct tensor_shape shape = { 1, 40, 60, true };
	double zero = 0, one = 1;
	char why[256];

	(void)state;
	optim_set(&optim, "weight_decay", &zero, 1, why, sizeof(why));
	optim_set(&optim, "lr", &one, 1, why, sizeof(why));
	data_fill(&data, &rng);
	memset(data.w, 0, sizeof(data.w));
	memset(data.slots, 0, sizeof(data.slots));
	for (size_t i = 0; i < 2400; i++)
		data.g[i] = (float)rng_below(&rng, 2001) / 1000 - 1;
	update(&optim, optim_isa_best(), &shape, 1, &data, NULL);
	for (size_t i = 0; i < 40; i++) {
		double length = 0;

		for (size_t j = 0; j < 60; j++)
			length += (double)data.w[i * 60 + j] * (double)data.w[i * 60 + j];
		assert_true(length > 0.4 && length < 1.6);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_instruction_set_and_slicing_gives_the_same_bits),
		cmocka_unit_test(test_a_factor_of_the_gradient_counts_in_every_pass),
		cmocka_unit_test(test_update_leaves_neighbours_alone),
		cmocka_unit_test(test_shapes_are_matrices_of_their_last_two_dimensions),
		cmocka_unit_test(test_muon_takes_matrices_only),
		cmocka_unit_test(test_adafactor_keeps_rows_and_columns),
		cmocka_unit_test(test_adafactor_looks_at_each_matrix_of_a_pile),
		cmocka_unit_test(test_muons_step_is_nearly_orthogonal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
