/*
 * A run's commits, recorded through on_commit and applied to fresh models, give
 * the same state: this is what a log, a replica and a checkpoint's tail stand on.
 */
#include <stdio.h>

#include "tests/support/core_run.h"
#include "tests/support/core_world.h"

#define RUNS 40

static void replay(const struct run *run, uint32_t engine, struct model *model)
{
	uint64_t number = 0;

	for (uint32_t rank = 0; rank < run->settings.workers; rank++)
		assert_int_equal(model_seat(model, rank), OPTD_OK);
	for (uint32_t i = 0; i < run->commit_count; i++) {
		if (run->commits[i].engine != engine)
			continue;
		assert_int_equal(run->commits[i].commit.number, ++number);
		/* The run's own instruction set: they may differ in the sign of a NaN. */
		model_apply(model, run->isas[engine], &run->commits[i].commit);
	}
}

static void compare_seen(const struct run *run, const struct model *has, const struct model *wants)
{
	for (uint32_t rank = 0; rank < run->settings.workers; rank++) {
		for (uint32_t i = 0; i < has->owned.count; i++)
			assert_int_equal(model_seen(has, rank, has->owned.first + i),
			                 model_seen(wants, rank, has->owned.first + i));
	}
}

static void replay_runs(enum msg_mode mode)
{
	uint64_t seed = rng_seed();
	uint32_t runs = rng_environment("OPTD_RUNS", RUNS);
	struct run run;

	printf("# OPTD_SEED=%llu OPTD_RUNS=%u\n", (unsigned long long)seed, runs);
	for (uint32_t i = 0; i < runs; i++) {
		run_init(&run, seed + i, mode);
		run.record = true;
		run_start(&run);
		for (uint32_t step = 0; step < 3; step++)
			run_step(&run);
		for (uint32_t e = 0; e < run.daemons * run.lanes; e++) {
			struct model *model = run_model_new(&run, e);
			replay(&run, e, model);
			if (model_hash(model) != model_hash(run_model(&run, e)))
				fail_msg("seed %llu: engine %u", (unsigned long long)run.seed, e);
			if (mode == MSG_ASYNC)
				compare_seen(&run, model, run_model(&run, e));
			model_free(model);
		}
		run_deinit(&run);
	}
}

static void test_replayed_commits_give_the_same_state_in_sync(void **state)
{
	(void)state;
	replay_runs(MSG_SYNC);
}

static void test_replayed_commits_give_the_same_state_in_async(void **state)
{
	(void)state;
	replay_runs(MSG_ASYNC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_replayed_commits_give_the_same_state_in_sync),
	        cmocka_unit_test(test_replayed_commits_give_the_same_state_in_async),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
