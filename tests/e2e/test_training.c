/*
 * Training through real daemons gives the bits of the plain arithmetic, however
 * the model is spread over lanes, daemons and transports, and over restarts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

/* Arithmetic is slow under a sanitizer, and no less exact. */
#define STEPS (daemon_sanitized() ? UINT64_C(40) : UINT64_C(200))
#define STEPS_OF_TWO 40

static const struct plan adam = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC };
static const struct plan sgd = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC };
static const struct plan adam_of_two = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };

struct daemons {
	struct daemon_process all[2];
};

static int set_up(void **state)
{
	struct daemons *daemons = calloc(1, sizeof(*daemons));

	assert_non_null(daemons);
	*state = daemons;
	daemon_init(&daemons->all[0]);
	daemon_init(&daemons->all[1]);
	return 0;
}

static int tear_down(void **state)
{
	struct daemons *daemons = *state;

	daemon_deinit(&daemons->all[0]);
	daemon_deinit(&daemons->all[1]);
	free(daemons);
	return 0;
}

/* ---- one worker --------------------------------------------------------- */

static void train_one(const char *endpoints, const struct plan *plan)
{
	struct trainer trainer;

	int rc = trainer_open(&trainer, endpoints, plan, 0);
	if (rc < 0)
		fail_msg("%s: %s", optd_status_name(rc), trainer_error(&trainer));
	trainer_run(&trainer, STEPS);
	trainer_assert_exact(trainer.weights, plan, STEPS);
	trainer_close(&trainer);
}

/* Each plan by a new daemon: the model's name is taken in the last one. */
static void train_on(void **state, bool ipc, uint32_t lanes, const struct plan *plan)
{
	struct daemons *daemons = *state;

	if (ipc)
		daemon_start_ipc(&daemons->all[0], lanes);
	else
		daemon_start_tcp(&daemons->all[0], lanes);
	train_one(daemons->all[0].endpoints[0], plan);
	assert_int_equal(daemon_stop(&daemons->all[0]), 0);
}

static void test_adam_is_exact_on_one_lane(void **state)
{
	train_on(state, false, 1, &adam);
}

static void test_adam_is_exact_on_two_lanes(void **state)
{
	train_on(state, false, 2, &adam);
}

static void test_adam_is_exact_on_three_lanes(void **state)
{
	train_on(state, false, 3, &adam);
}

static void test_adam_is_exact_over_ipc(void **state)
{
	train_on(state, true, 1, &adam);
}

static void test_adam_is_exact_on_three_lanes_over_ipc(void **state)
{
	train_on(state, true, 3, &adam);
}

static void test_sgd_with_momentum_is_exact_on_one_lane(void **state)
{
	train_on(state, false, 1, &sgd);
}

static void test_sgd_with_momentum_is_exact_on_three_lanes(void **state)
{
	train_on(state, false, 3, &sgd);
}

static void start_two(struct daemons *daemons, char endpoints[300])
{
	daemon_start_tcp(&daemons->all[0], 1);
	daemon_start_tcp(&daemons->all[1], 2);
	snprintf(endpoints, 300, "%s,%s", daemons->all[0].endpoints[0], daemons->all[1].endpoints[0]);
}

static void test_adam_is_exact_on_two_daemons(void **state)
{
	char endpoints[300];
	start_two(*state, endpoints);
	train_one(endpoints, &adam);
}

static void test_sgd_with_momentum_is_exact_on_two_daemons(void **state)
{
	char endpoints[300];
	start_two(*state, endpoints);
	train_one(endpoints, &sgd);
}

/* ---- two workers -------------------------------------------------------- */

static void test_two_workers_are_exact_each_time(void **state)
{
	struct daemons *daemons = *state;

	for (uint32_t run = 1; run <= 2; run++) {
		struct team team;
		daemon_start_tcp(&daemons->all[0], run);
		team_start(&team, daemons->all[0].endpoints[0], &adam_of_two, STEPS_OF_TWO);
		team_assert_exact(&team);
		daemon_stop(&daemons->all[0]);
		daemon_deinit(&daemons->all[0]);
		daemon_init(&daemons->all[0]);
	}
}

/* ---- restarts ----------------------------------------------------------- */

/* TERM, and on with other lanes: the worker is not told, since nothing changed. */
static void restart_with(void **state, uint32_t lanes, uint32_t lanes_after)
{
	struct daemons *daemons = *state;
	struct daemon_process *daemon = &daemons->all[0];
	struct trainer trainer;

	daemon_start_tcp(daemon, lanes);
	assert_int_equal(trainer_open(&trainer, daemon->endpoints[0], &adam, 0), OPTD_OK);
	trainer_run(&trainer, STEPS / 2);
	assert_int_equal(daemon_stop(daemon), 0);
	daemon_restart(daemon, lanes_after);
	trainer_run(&trainer, STEPS);
	trainer_assert_exact(trainer.weights, &adam, STEPS);
	trainer_close(&trainer);
}

static void test_training_goes_on_exactly_over_a_restart(void **state)
{
	restart_with(state, 1, 1);
}

static void test_training_goes_on_exactly_with_more_lanes(void **state)
{
	restart_with(state, 1, 3);
}

static void test_training_goes_on_exactly_with_fewer_lanes(void **state)
{
	restart_with(state, 3, 2);
}

static void test_a_new_worker_goes_on_exactly_over_a_restart(void **state)
{
	struct daemons *daemons = *state;
	struct daemon_process *daemon = &daemons->all[0];
	struct trainer trainer;

	daemon_start_tcp(daemon, 2);
	assert_int_equal(trainer_open(&trainer, daemon->endpoints[0], &adam, 0), OPTD_OK);
	trainer_run(&trainer, STEPS / 2);
	trainer_close(&trainer);
	assert_int_equal(daemon_stop(daemon), 0);
	daemon_restart(daemon, 1);
	assert_int_equal(trainer_open(&trainer, daemon->endpoints[0], &adam, 0), OPTD_OK);
	assert_int_equal(trainer.step, STEPS / 2);
	trainer_run(&trainer, STEPS);
	trainer_assert_exact(trainer.weights, &adam, STEPS);
	trainer_close(&trainer);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_adam_is_exact_on_one_lane),
		TEST(test_adam_is_exact_on_two_lanes),
		TEST(test_adam_is_exact_on_three_lanes),
		TEST(test_adam_is_exact_over_ipc),
		TEST(test_adam_is_exact_on_three_lanes_over_ipc),
		TEST(test_sgd_with_momentum_is_exact_on_one_lane),
		TEST(test_sgd_with_momentum_is_exact_on_three_lanes),
		TEST(test_adam_is_exact_on_two_daemons),
		TEST(test_sgd_with_momentum_is_exact_on_two_daemons),
		TEST(test_two_workers_are_exact_each_time),
		TEST(test_training_goes_on_exactly_over_a_restart),
		TEST(test_training_goes_on_exactly_with_more_lanes),
		TEST(test_training_goes_on_exactly_with_fewer_lanes),
		TEST(test_a_new_worker_goes_on_exactly_over_a_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
