/*
 * The whole core against a loop over tensors: random layouts, rules, modes,
 * workers, partial pushes, messages, orders of arrival, changes of settings, 1 to 7 shards; weights,
 * optimizer state and update counts must have the same bits.
 *
 * OPTD_SEED sets the first seed, OPTD_RUNS how many runs there are.
 */
#include <stdio.h>

#include "tests/support/core_run.h"
#include "tests/support/core_world.h"

#define RUNS 150

static void test_engines_equal_the_reference_bit_for_bit(void **state)
{
	(void)state;
	uint64_t seed = rng_seed();
	uint32_t runs = rng_environment("OPTD_RUNS", RUNS);
	uint32_t changes = 0;
	uint64_t clipped = 0, overflowed = 0;
	struct run run;

	printf("# OPTD_SEED=%llu OPTD_RUNS=%u\n", (unsigned long long)seed, runs);
	for (uint32_t i = 0; i < runs; i++) {
		run_init(&run, seed + i, MSG_MODE_UNSET);
		run_start(&run);
		uint32_t steps = 2 + rng_below(&run.rng, 4) + (run.changing ? 3 : 0);
		for (uint32_t step = 0; step < steps; step++)
			run_step(&run);
		run_compare(&run);
		changes += run.changes;
		clipped += run.reference.clipped;
		overflowed += run.reference.overflowed;
		run_deinit(&run);
	}
	printf("# %llu steps clipped, %llu overflowed\n", (unsigned long long)clipped,
	       (unsigned long long)overflowed);
	assert_true(runs < RUNS || changes > runs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_engines_equal_the_reference_bit_for_bit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
