/*
 * A daemon killed after its last checkpoint has lost updates, and everyone who has seen
 * them hears so: also when his own are in the checkpoint, and also when he comes back
 * after others have trained past what he knew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define SAVED 5
#define LOST 20

struct fixture {
	struct daemon_process daemon;
	struct trainer worker, other;
};

static const struct plan sync_plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC };
static const struct plan async_plan = { .optimizer = "sgd", .workers = 2, .mode = OPTD_ASYNC };

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, 1);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->worker);
	trainer_close(&fixture->other);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void open_trainer(struct fixture *fixture, struct trainer *trainer, const struct plan *plan,
                         int32_t rank)
{
	if (trainer_open(trainer, fixture->daemon.endpoints[0], plan, rank) != OPTD_OK)
		fail_msg("%s", trainer_error(trainer));
}

static void die(struct fixture *fixture)
{
	daemon_kill(&fixture->daemon);
	daemon_restart(&fixture->daemon, 1);
}

static void accept(struct trainer *trainer)
{
	assert_int_equal(optd_resume_model(trainer->model, &trainer->step), OPTD_OK);
	assert_int_equal(optd_pull(trainer->model, trainer->weights, 0), OPTD_OK);
}

/* Both are there, the worker's updates up to SAVED are in the checkpoint, LOST more are
 * not, and the other has seen them. */
static void lose_what_the_other_saw(struct fixture *fixture, const struct plan *plan, int32_t rank)
{
	open_trainer(fixture, &fixture->worker, plan, 0);
	open_trainer(fixture, &fixture->other, plan, rank);
	if (rank >= 0)
		trainer_run(&fixture->other, 1);
	trainer_run(&fixture->worker, SAVED);
	assert_int_equal(optd_save(fixture->worker.client, "m"), OPTD_OK);
	trainer_run(&fixture->worker, SAVED + LOST);
	assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_OK);
	die(fixture);
}

static void test_async_worker_hears_that_updates_of_others_are_lost(void **state)
{
	struct fixture *fixture = *state;

	lose_what_the_other_saw(fixture, &async_plan, 1);
	assert_int_equal(trainer_step(&fixture->other), OPTD_ROLLBACK);
	assert_non_null(strstr(trainer_error(&fixture->other), "at version 26"));
	assert_non_null(strstr(trainer_error(&fixture->other), "went back to 6"));
	accept(&fixture->other);
	assert_int_equal(trainer_step(&fixture->other), OPTD_OK);
}

static void test_reader_hears_it_after_others_have_trained_past_what_it_knew(void **state)
{
	struct fixture *fixture = *state;

	lose_what_the_other_saw(fixture, &sync_plan, -1);
	assert_int_equal(trainer_step(&fixture->worker), OPTD_ROLLBACK);
	accept(&fixture->worker);
	trainer_run(&fixture->worker, SAVED + LOST + 10);
	assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_ROLLBACK);
	assert_non_null(strstr(trainer_error(&fixture->other), "at version 25"));
	assert_non_null(strstr(trainer_error(&fixture->other), "went back to 5, from which it is at 35"));
	accept(&fixture->other);
}

static void test_reader_hears_it_after_another_restart(void **state)
{
	struct fixture *fixture = *state;

	lose_what_the_other_saw(fixture, &sync_plan, -1);
	assert_int_equal(trainer_step(&fixture->worker), OPTD_ROLLBACK);
	accept(&fixture->worker);
	trainer_run(&fixture->worker, SAVED + LOST + 10);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	daemon_restart(&fixture->daemon, 1);
	trainer_run(&fixture->worker, SAVED + LOST + 11);
	assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_ROLLBACK);
	assert_non_null(strstr(trainer_error(&fixture->other), "went back to 5"));
}

static void test_who_has_seen_nothing_that_is_lost_hears_nothing(void **state)
{
	struct fixture *fixture = *state;

	open_trainer(fixture, &fixture->worker, &async_plan, 0);
	trainer_run(&fixture->worker, SAVED);
	open_trainer(fixture, &fixture->other, &async_plan, 1);
	assert_int_equal(optd_save(fixture->worker.client, "m"), OPTD_OK);
	trainer_run(&fixture->worker, SAVED + LOST);
	die(fixture);
	assert_int_equal(trainer_step(&fixture->other), OPTD_OK);
	assert_int_equal(trainer_step(&fixture->worker), OPTD_ROLLBACK);
}

static void test_a_stop_and_a_start_are_no_rollback(void **state)
{
	struct fixture *fixture = *state;

	open_trainer(fixture, &fixture->worker, &async_plan, 0);
	open_trainer(fixture, &fixture->other, &async_plan, 1);
	for (uint64_t step = SAVED; step <= 3 * SAVED; step += SAVED) {
		trainer_run(&fixture->worker, step);
		trainer_run(&fixture->other, step);
		assert_int_equal(daemon_stop(&fixture->daemon), 0);
		daemon_restart(&fixture->daemon, 1);
	}
	assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_OK);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_async_worker_hears_that_updates_of_others_are_lost),
		TEST(test_reader_hears_it_after_others_have_trained_past_what_it_knew),
		TEST(test_reader_hears_it_after_another_restart),
		TEST(test_who_has_seen_nothing_that_is_lost_hears_nothing),
		TEST(test_a_stop_and_a_start_are_no_rollback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
