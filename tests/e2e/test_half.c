/*
 * Training with pushes of bf16 and f16 against a real daemon: the weights are those of plain
 * arithmetic on the same gradients made float32, bit for bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define STEPS 6

struct fixture {
	struct daemon_process daemon;
	struct trainer trainer;
	struct team team;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	daemon_deinit(&fixture->daemon);
	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	free(fixture);
	return 0;
}

static void train(struct fixture *fixture, const struct plan *plan, uint64_t until)
{
	assert_int_equal(trainer_open(&fixture->trainer, fixture->daemon.endpoints[0], plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, until);
	trainer_assert_exact(fixture->trainer.weights, plan, until);
}

static void test_one_worker_trains_with_bf16(void **state)
{
	struct fixture *fixture = *state;
	const optd_half halves[] = { OPTD_BF16 };
	const struct plan plan = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC, .halves = halves };

	daemon_start_tcp(&fixture->daemon, 1);
	train(fixture, &plan, STEPS);
}

static void test_one_worker_trains_with_f16_over_lanes_in_async(void **state)
{
	struct fixture *fixture = *state;
	const optd_half halves[] = { OPTD_F16 };
	const struct plan plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_ASYNC, .halves = halves };

	daemon_start_tcp(&fixture->daemon, 3);
	train(fixture, &plan, STEPS);
}

static void together(struct fixture *fixture, const optd_half *halves, uint32_t lanes)
{
	const struct plan plan = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC, .halves = halves };

	daemon_start_tcp(&fixture->daemon, lanes);
	team_start(&fixture->team, fixture->daemon.endpoints[0], &plan, STEPS);
	team_assert_exact(&fixture->team);
}

static void test_two_workers_train_with_bf16(void **state)
{
	together(*state, (const optd_half[]){ OPTD_BF16, OPTD_BF16 }, 1);
}

static void test_workers_of_a_step_may_push_different_types(void **state)
{
	together(*state, (const optd_half[]){ OPTD_F16, OPTD_BF16 }, 2);
}

static void test_one_may_push_float32_and_the_other_f16(void **state)
{
	together(*state, (const optd_half[]){ (optd_half)0, OPTD_F16 }, 2);
}

static void test_bf16_training_goes_on_after_a_restart(void **state)
{
	struct fixture *fixture = *state;
	const optd_half halves[] = { OPTD_BF16 };
	const struct plan plan = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC, .halves = halves };

	daemon_start_tcp(&fixture->daemon, 2);
	train(fixture, &plan, STEPS);
	trainer_close(&fixture->trainer);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	daemon_start_tcp(&fixture->daemon, 1);
	train(fixture, &plan, 2 * STEPS);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_one_worker_trains_with_bf16),
		CASE(test_one_worker_trains_with_f16_over_lanes_in_async),
		CASE(test_two_workers_train_with_bf16),
		CASE(test_workers_of_a_step_may_push_different_types),
		CASE(test_one_may_push_float32_and_the_other_f16),
		CASE(test_bf16_training_goes_on_after_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
