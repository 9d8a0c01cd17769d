/*
 * A cluster under faults comes to the same bits as one without.
 *
 * OPTD_SEED sets the first seed, OPTD_RUNS how many there are.  A failure prints its
 * seed: OPTD_SEED=that OPTD_RUNS=1 has it again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"
#include "tests/support/core_world.h"

#define RUNS 50

static void test_training_under_faults_gives_the_fault_free_bits(void **state)
{
	(void)state;
	uint64_t seed = rng_seed();
	uint32_t runs = rng_environment("OPTD_RUNS", RUNS);
	uint64_t faults = 0, died = 0, delivered = 0, duplicated = 0, timeouts = 0;
	uint64_t clipped = 0, overflowed = 0, skipped = 0, sets = 0;
	struct sim *sim = malloc(sizeof(*sim));

	printf("# OPTD_SEED=%llu OPTD_RUNS=%u\n", (unsigned long long)seed, runs);
	for (uint32_t i = 0; i < runs; i++) {
		sim_run(sim, seed + i);
		if (sim->failure[0] != '\0')
			fail_msg("%s", sim->failure);
		faults += sim->faults;
		died += sim->died;
		delivered += sim->delivered;
		duplicated += sim->duplicated;
		timeouts += sim->timeouts;
		sets += sim->set_count;
		clipped += sim->clipped;
		overflowed += sim->overflowed;
		skipped += sim->skipped;
		sim_free(sim);
	}
	free(sim);
	printf("# %llu requests, %llu twice; %llu faults, %llu deaths; %llu timeouts; steps: %llu skipped, "
	       "%llu clipped, %llu overflowed; %llu changes\n",
	       (unsigned long long)delivered, (unsigned long long)duplicated,
	       (unsigned long long)faults, (unsigned long long)died, (unsigned long long)timeouts,
	       (unsigned long long)skipped, (unsigned long long)clipped, (unsigned long long)overflowed,
	       (unsigned long long)sets);
	assert_true(runs < RUNS || sets > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_training_under_faults_gives_the_fault_free_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
