/*
 * What lanes do together while each trains on: checkpoints, status, dropping
 * and ending concern all of them, and come from other threads.  ThreadSanitizer
 * looks at this program's daemon in `make check`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define STEPS 30
#define SAVED_STEPS (daemon_sanitized() ? 30 : 150)
#define LANES 3

static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };

struct fixture {
	struct daemon_process daemon;
	struct team team;
	optd_client *operator;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, LANES);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], NULL, &fixture->operator), 0);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	optd_close(&fixture->operator);
	daemon_deinit(&fixture->daemon);
	/* After a failed test they are still at it, until their calls' deadline. */
	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	free(fixture);
	return 0;
}

struct seen {
	uint64_t version, lanes, blocks;
};

static void look(void *user, const optd_status_row *row)
{
	struct seen *seen = user;

	assert_string_equal(row->model, "m");
	seen->version = seen->lanes == 0 || row->version < seen->version ? row->version
	                                                                 : seen->version;
	seen->lanes++;
	seen->blocks += row->block_count;
	assert_true(row->blocks >= row->first_block + row->block_count);
}

/* Asks until the team is at this step: status is an event to wait for, too. */
static void wait_for_version(struct fixture *fixture, uint64_t version)
{
	struct seen seen = { 0 };
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;

	while (seen.version < version && daemon_now_ms() < deadline_ms) {
		seen = (struct seen){ 0 };
		assert_int_equal(optd_get_status(fixture->operator, look, &seen), OPTD_OK);
	}
	assert_true(seen.version >= version);
	assert_int_equal(seen.lanes, LANES);
}

static void start(struct fixture *fixture, uint64_t until)
{
	team_start(&fixture->team, fixture->daemon.endpoints[0], &pair, until);
}

static void test_saving_again_and_again_disturbs_no_training(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, SAVED_STEPS);
	wait_for_version(fixture, 1);
	while (atomic_load(&fixture->team.step) < SAVED_STEPS - 5) {
		uint64_t began_ms = daemon_now_ms();
		assert_int_equal(optd_save(fixture->operator, NULL), OPTD_OK);
		/* Lanes that are asked in different steps agree on the later one, at once: the
		 * daemon's patience with a step that stands still is 10 s. */
		assert_true(daemon_now_ms() - began_ms < 5000);
	}
	team_assert_exact(&fixture->team);
	assert_true(daemon_log_count(&fixture->daemon, "event=checkpoint") > 0);
}

/* A daemon killed after a save goes on from one version of all its blocks. */
static void test_a_save_during_training_is_one_version(void **state)
{
	struct fixture *fixture = *state;
	struct trainer reader;

	start(fixture, STEPS);
	wait_for_version(fixture, 5);
	assert_int_equal(optd_save(fixture->operator, "m"), OPTD_OK);
	daemon_kill(&fixture->daemon);
	daemon_restart(&fixture->daemon, LANES);
	/* Told of the rollback; or at the end, if they had seen nothing later. */
	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	assert_int_equal(trainer_open(&reader, fixture->daemon.endpoints[0], &pair, -1), OPTD_OK);
	uint64_t lowest, highest;
	optd_model_versions(reader.model, &lowest, &highest);
	assert_int_equal(lowest, highest);
	assert_true(lowest >= 5);
	trainer_assert_exact(reader.weights, &pair, lowest);
	trainer_close(&reader);
}

static void test_dropping_tells_all_workers(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, 1000000);
	wait_for_version(fixture, 5);
	assert_int_equal(optd_drop(fixture->operator, "m"), OPTD_OK);
	team_join(&fixture->team);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fixture->team.members[i].rc, OPTD_MODEL_LOST);
	team_free_weights(&fixture->team);
}

static void test_term_during_training_loses_nothing(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, STEPS);
	wait_for_version(fixture, 5);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	daemon_restart(&fixture->daemon, 1);
	team_assert_exact(&fixture->team);
}

static void test_usr1_during_training_saves(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, STEPS);
	wait_for_version(fixture, 2);
	daemon_signal(&fixture->daemon, SIGUSR1);
	assert_true(daemon_wait_log(&fixture->daemon, "event=checkpoint", 1));
	team_assert_exact(&fixture->team);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_saving_again_and_again_disturbs_no_training),
		TEST(test_a_save_during_training_is_one_version),
		TEST(test_dropping_tells_all_workers),
		TEST(test_term_during_training_loses_nothing),
		TEST(test_usr1_during_training_saves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
