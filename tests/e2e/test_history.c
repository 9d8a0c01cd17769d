/*
 * A daemon killed after its last checkpoint has lost updates, and everyone who has seen
 * them hears so: also when his own are in the checkpoint, and also when he comes back
 * after others have trained past what he knew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/speak.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define SAVED 5
#define LOST 20
#define BLOCKS 4
/* What is under way on this machine is there by then. */
#define SOON_MS 300
/* More than a history has marks. */
#define RESTARTS 20

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

/* Rank 1 of the trainer's model in sync, block by block. */
static void open_speaker(struct fixture *fixture, struct speaker *speaker)
{
	const uint64_t shape[] = { BLOCKS * (uint64_t)LIMIT_BLOCK_ELEMENTS };

	speak_hello(speaker, fixture->daemon.endpoints[0]);
	if (speak_open(speaker, "b", shape, 1, 1, 2) != OPTD_OK)
		fail_msg("%s", speaker->text);
}

static struct msg push_block(struct speaker *speaker, uint32_t block)
{
	static const float zeros[LIMIT_BLOCK_ELEMENTS];
	struct msg push = speak_push(speaker, zeros, LIMIT_BLOCK_BYTES);

	push.rank = 1;
	push.parts[0].first = block;
	return push;
}

/* What was answered of a call that has not returned nobody has seen: it goes on. */
static void test_a_death_in_the_middle_of_a_step_is_no_rollback(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *worker = &fixture->worker;
	const uint64_t elements = BLOCKS * (uint64_t)LIMIT_BLOCK_ELEMENTS;
	const optd_options options = { .rank = 0, .timeout_ms = DAEMON_DEADLINE_MS };
	optd_layout *layout = optd_layout_new();
	struct speaker speaker;
	optd_ticket ticket;

	worker->weights = calloc(elements, sizeof(float));
	worker->gradient = calloc(elements, sizeof(float));
	assert_true(optd_layout_add(layout, "w", &elements, 1) >= 0);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &worker->client), OPTD_OK);
	assert_int_equal(optd_open(worker->client, "b", layout, &(optd_open_options){ .workers = 2 },
	                           &worker->model), OPTD_OK);
	optd_layout_free(layout);
	assert_int_equal(optd_init(worker->model, worker->weights), 1);
	assert_int_equal(optd_save(worker->client, "b"), OPTD_OK);
	assert_int_equal(optd_start_push_pull(worker->model, worker->gradient, worker->weights, &ticket),
	                 OPTD_OK);
	open_speaker(fixture, &speaker);
	struct msg push = push_block(&speaker, 0);
	/* Its answer comes when the worker has pushed this block, too. */
	assert_true(speak_send(&speaker, &push));
	assert_int_equal(optd_wait(worker->client, ticket, SOON_MS), OPTD_TIMEOUT);
	assert_true(speak_answer(&speaker, &push, DAEMON_DEADLINE_MS));
	assert_int_equal(optd_wait(worker->client, ticket, SOON_MS), OPTD_TIMEOUT);
	speak_close(&speaker);
	die(fixture);
	open_speaker(fixture, &speaker);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		push = push_block(&speaker, block);
		assert_true(speak_send(&speaker, &push));
	}
	int rc = optd_wait(worker->client, ticket, DAEMON_DEADLINE_MS);
	if (rc != OPTD_OK)
		fail_msg("%s", trainer_error(worker));
	speak_close(&speaker);
}

static void test_plain_restarts_however_many_are_no_rollback(void **state)
{
	struct fixture *fixture = *state;

	open_trainer(fixture, &fixture->worker, &sync_plan, 0);
	open_trainer(fixture, &fixture->other, &sync_plan, -1);
	for (uint64_t step = 1; step <= RESTARTS; step++) {
		trainer_run(&fixture->worker, step);
		if (step == 3)
			assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_OK);
		assert_int_equal(daemon_stop(&fixture->daemon), 0);
		daemon_restart(&fixture->daemon, 1);
	}
	assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_OK);
}

static void forget_meta(struct fixture *fixture)
{
	char path[160];

	daemon_kill(&fixture->daemon);
	snprintf(path, sizeof(path), "%s/meta", fixture->daemon.data);
	assert_int_equal(unlink(path), 0);
	daemon_restart(&fixture->daemon, 1);
}

static void test_it_is_told_though_the_directory_has_lost_its_epoch(void **state)
{
	struct fixture *fixture = *state;

	lose_what_the_other_saw(fixture, &sync_plan, -1);
	forget_meta(fixture);
	assert_int_equal(trainer_step(&fixture->worker), OPTD_ROLLBACK);
	accept(&fixture->worker);
	trainer_run(&fixture->worker, SAVED + LOST + 10);
	assert_int_equal(optd_pull(fixture->other.model, fixture->other.weights, 0), OPTD_ROLLBACK);
}

static void test_a_directory_that_has_lost_its_epoch_starts_again_and_again(void **state)
{
	struct fixture *fixture = *state;

	open_trainer(fixture, &fixture->worker, &sync_plan, 0);
	for (uint64_t step = 1; step <= 3; step++) {
		trainer_run(&fixture->worker, step);
		assert_int_equal(optd_save(fixture->worker.client, "m"), OPTD_OK);
		forget_meta(fixture);
		trainer_run(&fixture->worker, step);
		assert_int_equal(daemon_stop(&fixture->daemon), 0);
		daemon_restart(&fixture->daemon, 1);
	}
	trainer_run(&fixture->worker, 4);
	trainer_assert_exact(fixture->worker.weights, &sync_plan, 4);
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
		TEST(test_a_death_in_the_middle_of_a_step_is_no_rollback),
		TEST(test_plain_restarts_however_many_are_no_rollback),
		TEST(test_it_is_told_though_the_directory_has_lost_its_epoch),
		TEST(test_a_directory_that_has_lost_its_epoch_starts_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
