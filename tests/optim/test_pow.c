/*
 * kernel_pow: within half a unit in the last place, and a hair, of the true power.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "optim/kernel_pow.h"
#include "tests/support/rng_seed.h"

/* The distance of got from the true power in units of its last place. */
static double ulps(float got, float x, float p)
{
	long double want = powl((long double)x, (long double)p);
	float near = (float)want, above = nextafterf(near, INFINITY);

	return (double)fabsl(((long double)got - want) / ((long double)above - (long double)near));
}

static void test_random_powers_are_rounded_nearly_right(void **state)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);

	(void)state;
	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int i = 0; i < 200000; i++) {
		float x = ldexpf(1.0f + rng_float(&rng) * 0.5f, (int)rng_below(&rng, 250) - 125);
		float p = fabsf(rng_float(&rng)) * 0.9f;
		float got = kernel_pow(x, p);

		if (ulps(got, x, p) > 0.5000001)
			fail_msg("%.9g^%.9g is %.9g", (double)x, (double)p, (double)got);
	}
}

static void test_ends_of_the_range_are_exact(void **state)
{
	(void)state;
	assert_true(kernel_pow(0, 0.5f) == 0);
	assert_true(kernel_pow(0, 0) == 1);
	assert_true(kernel_pow(1, 0.7f) == 1);
	assert_true(kernel_pow(7, 1) == 7);
	assert_true(kernel_pow(4, 0.5f) == 2);
	assert_true(kernel_pow(FLT_MAX, 2) == INFINITY);
	assert_true(kernel_pow(FLT_MAX, 1e30f) == INFINITY);
	assert_true(kernel_pow(0.5f, 1e30f) == 0);
	assert_true(kernel_pow(1e-45f, 1) == 1e-45f);
	assert_true(isnan(kernel_pow(NAN, 0.5f)));
	assert_true(isnan(kernel_pow(-1, 0.5f)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_powers_are_rounded_nearly_right),
		cmocka_unit_test(test_ends_of_the_range_are_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
