/*
 * Clipping: the same bits on every instruction set, and what NaN and Inf do.  That
 * the numbers are PyTorch's is test_vectors' claim.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "optim/clip.h"
#include "tests/support/rng_seed.h"

#define ROOM 1000

static const double norms[] = { 1, 1.5, 2, 3, INFINITY };
#define NORMS (sizeof(norms) / sizeof(norms[0]))

static void test_every_instruction_set_sums_to_the_same_bits(void **state)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);
	static float x[ROOM];

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 300; round++) {
		size_t n = rng_below(&rng, ROOM);

		for (size_t i = 0; i < n; i++)
			x[i] = rng_float(&rng);
		for (size_t p = 0; p < NORMS; p++) {
			double base = clip_part(OPTIM_ISA_BASE, x, n, norms[p]);

			for (int isa = 0; isa < OPTIM_ISA_COUNT; isa++) {
				if (optim_isa_usable((enum optim_isa)isa))
					assert_true(clip_part((enum optim_isa)isa, x, n, norms[p]) == base);
			}
		}
	}
}

static void test_sums_are_right(void **state)
{
	float x[100];

	(void)state;
	for (int i = 0; i < 100; i++)
		x[i] = i % 2 ? -2.0f : 2.0f;
	assert_true(clip_part(OPTIM_ISA_BASE, x, 100, 1) == 200);
	assert_true(clip_part(OPTIM_ISA_BASE, x, 100, 2) == 400);
	assert_true(clip_part(OPTIM_ISA_BASE, x, 100, 3) == 800);
	assert_true(clip_part(OPTIM_ISA_BASE, x, 100, INFINITY) == 2);
	assert_true(clip_part(OPTIM_ISA_BASE, x, 0, 2) == 0);
	assert_true(clip_norm(400, 2) == 20);
	assert_true(clip_norm(27, 3) == 3);
	assert_true(clip_norm(7, 1) == 7);
	assert_true(clip_norm(7, INFINITY) == 7);
}

static void test_parts_join_in_their_order(void **state)
{
	(void)state;
	assert_true(clip_join(1, 2, 2) == 3);
	assert_true(clip_join(5, 2, INFINITY) == 5);
	assert_true(clip_join(2, 5, INFINITY) == 5);
	assert_true(isnan(clip_join((double)NAN, 5, INFINITY)));
	assert_true(isnan(clip_join(5, (double)NAN, INFINITY)));
}

static void test_nan_anywhere_makes_the_norm_nan(void **state)
{
	float x[70] = { 0 };

	(void)state;
	for (size_t at = 0; at < 70; at++) {
		x[at] = NAN;
		for (size_t p = 0; p < NORMS; p++)
			assert_true(isnan(clip_part(OPTIM_ISA_BASE, x, 70, norms[p])));
		x[at] = 0;
	}
}

static void test_factor_never_enlarges(void **state)
{
	(void)state;
	assert_true(clip_factor(0, 1) == 1);
	assert_true(clip_factor(0.5, 1) == 1);
	assert_true(clip_factor(2, 1) == (float)(1 / 2.000001));
	assert_true(clip_factor((double)INFINITY, 1) == 0);
	assert_true(isnan(clip_factor((double)NAN, 1)));
}

static void test_values_are_held_within_the_limit(void **state)
{
	float x[] = { -3, -1, 0.5f, 1, 3, INFINITY, -INFINITY, NAN };
	const float want[] = { -1, -1, 0.5f, 1, 1, 1, -1 };

	(void)state;
	clip_value(OPTIM_ISA_BASE, x, x, 1, 8);
	assert_memory_equal(x, want, sizeof(want));
	assert_true(isnan(x[7]));
}

/* What these settings make of two updates of 3000 elements. */
static void two_steps(const struct optim *optim, struct optim_gradient g, float a[1 + OPTIM_SLOTS_MAX][3000])
{
	float *slots[OPTIM_SLOTS_MAX];
	struct optim_scalars scalars;
	struct optim_carry carry;

	memset(a, 0, sizeof(float) * (1 + OPTIM_SLOTS_MAX) * 3000);
	for (int i = 0; i < OPTIM_SLOTS_MAX; i++)
		slots[i] = a[1 + i];
	optim_carry_initial(optim, &carry);
	for (uint64_t t = 1; t <= 2; t++) {
		optim_scalars(optim, t, &carry, &scalars);
		optim_step_from(optim, OPTIM_ISA_BASE, &scalars, a[0], slots, g, 3000);
	}
}

/* Through the entry that the server calls, for every rule that takes both. */
static void test_a_rule_sees_the_gradient_times_its_factor_and_then_clipped(void **state)
{
	static float a[1 + OPTIM_SLOTS_MAX][3000], b[1 + OPTIM_SLOTS_MAX][3000];
	const double limit = 0.25, momentum = 0.5;
	const float factors[] = {1.0f, 0.375f};
	float g[3000], prepared[3000];
	struct rng rng = rng_new(5);
	char why[256];
	uint32_t taken = 0;

	(void)state;
	for (size_t i = 0; i < 3000; i++)
		g[i] = rng_float(&rng);
	for (uint32_t r = 0; r < optim_rule_count() * 2; r++) {
		float factor = factors[r % 2];
		struct optim plain, optim;

		assert_int_equal(optim_init(&plain, optim_rule(r / 2), OPTIM_TORCH2, why, sizeof(why)), 0);
		optim_set(&plain, "momentum", &momentum, 1, why, sizeof(why)); /* where there is one */
		optim = plain;
		if (optim_set(&optim, "clip_value", &limit, 1, why, sizeof(why)) < 0)
			continue;
		taken++;
		for (size_t i = 0; i < 3000; i++)
			prepared[i] = factor * g[i];
		two_steps(&plain, (struct optim_gradient){g, factor, DTYPE_F32}, a);
		two_steps(&plain, (struct optim_gradient){prepared, 1.0f, DTYPE_F32}, b);
		assert_memory_equal(a, b, sizeof(a));
		clip_value(OPTIM_ISA_BASE, prepared, prepared, 0.25f, 3000);
		two_steps(&optim, (struct optim_gradient){g, factor, DTYPE_F32}, a);
		two_steps(&plain, (struct optim_gradient){prepared, 1.0f, DTYPE_F32}, b);
		assert_memory_equal(a, b, sizeof(a));
	}
	assert_true(taken >= 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_instruction_set_sums_to_the_same_bits),
		cmocka_unit_test(test_sums_are_right),
		cmocka_unit_test(test_parts_join_in_their_order),
		cmocka_unit_test(test_nan_anywhere_makes_the_norm_nan),
		cmocka_unit_test(test_factor_never_enlarges),
		cmocka_unit_test(test_values_are_held_within_the_limit),
		cmocka_unit_test(test_a_rule_sees_the_gradient_times_its_factor_and_then_clipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
