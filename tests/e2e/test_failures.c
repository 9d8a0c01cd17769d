/*
 * What dies, hangs and comes back: workers, daemons, networks.  Nobody waits
 * for the dead, nothing counts twice, and nothing is lost in silence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/crew.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/daemon_proxy.h"

#define STEP_TIMEOUT_MS 1500
/* Each cut takes a client a second or two to notice. */
#define CUT_STEPS 12

static const struct plan alone = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC };
static const struct plan hasty = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC,
	                           .timeout_ms = 2000 };
static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC,
	                          .step_timeout_ms = STEP_TIMEOUT_MS };
static const struct plan loose = { .optimizer = "sgd", .workers = 2, .mode = OPTD_ASYNC };

struct fixture {
	struct daemon_process daemon;
	struct daemon_proxy *proxy;
	struct trainer trainer;
};

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

	trainer_close(&fixture->trainer);
	daemon_proxy_free(fixture->proxy);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static const char *endpoint(const struct fixture *fixture)
{
	return fixture->daemon.endpoints[0];
}

static void assert_status(const struct trainer *trainer, int rc, int wanted)
{
	if (rc != wanted)
		fail_msg("%s, not %s: %s", optd_status_name(rc), optd_status_name(wanted),
		         trainer_error(trainer));
}

static void assert_error_has(const struct trainer *trainer, const char *text)
{
	if (strstr(trainer_error(trainer), text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, trainer_error(trainer));
}

static void open_trainer(struct fixture *fixture, const char *where, const struct plan *plan)
{
	int rc = trainer_open(&fixture->trainer, where, plan, 0);
	assert_status(&fixture->trainer, rc, OPTD_OK);
}

/* ---- a worker dies ------------------------------------------------------ */

static void test_async_goes_on_when_a_worker_is_killed(void **state)
{
	struct fixture *fixture = *state;
	struct crew other;

	crew_start(&other, endpoint(fixture), &loose, 1, 1000000);
	crew_wait_steps(&other, 20);
	open_trainer(fixture, endpoint(fixture), &loose);
	trainer_run(&fixture->trainer, 10);
	crew_kill(&other);
	trainer_run(&fixture->trainer, 60);
}

/* The other worker of a pair, killed after some steps. */
static void lose_rank_1(struct fixture *fixture, uint64_t steps)
{
	struct crew other;

	crew_start(&other, endpoint(fixture), &pair, 1, steps);
	open_trainer(fixture, endpoint(fixture), &pair);
	trainer_run(&fixture->trainer, steps);
	crew_wait_steps(&other, (uint32_t)steps);
	crew_kill(&other);
}

static void test_sync_names_the_rank_that_was_killed(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	lose_rank_1(fixture, 10);
	uint64_t began_ms = daemon_now_ms();
	assert_status(trainer, trainer_step(trainer), OPTD_STEP_TIMEOUT);
	assert_true(daemon_now_ms() - began_ms < STEP_TIMEOUT_MS + 2000);
	assert_error_has(trainer, "rank 1");
	assert_error_has(trainer, "step 10");
}

static void test_a_worker_that_returns_finishes_the_step(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	struct crew other;

	lose_rank_1(fixture, 10);
	assert_status(trainer, trainer_step(trainer), OPTD_STEP_TIMEOUT);
	crew_start(&other, endpoint(fixture), &pair, 1, 30);
	/* The same call again: its gradient is in the step already and counts once. */
	trainer_run(trainer, 30);
	assert_int_equal(crew_wait(&other), 0);
	trainer_assert_exact(trainer->weights, &pair, 30);
}

static void test_a_worker_killed_at_any_time_returns(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	struct crew other = { 0 };

	crew_start(&other, endpoint(fixture), &pair, 1, 1000);
	open_trainer(fixture, endpoint(fixture), &pair);
	for (uint64_t step = 5; step <= 25; step += 5) {
		trainer_run(trainer, step);
		/* It is somewhere in the next step now. */
		crew_kill(&other);
		crew_start(&other, endpoint(fixture), &pair, 1, 1000);
	}
	trainer_run(trainer, 30);
	crew_kill(&other);
	trainer_assert_exact(trainer->weights, &pair, 30);
}

static void test_a_stopped_worker_holds_nobody_for_longer_than_the_timeout(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	struct crew other;

	crew_start(&other, endpoint(fixture), &pair, 1, 1000);
	open_trainer(fixture, endpoint(fixture), &pair);
	trainer_run(trainer, 5);
	crew_signal(&other, SIGSTOP);
	int rc = OPTD_OK;
	for (int i = 0; i < 3 && rc == OPTD_OK; i++)
		rc = trainer_step(trainer);
	assert_status(trainer, rc, OPTD_STEP_TIMEOUT);
	crew_signal(&other, SIGCONT);
	trainer_run(trainer, 20);
	crew_kill(&other);
	trainer_assert_exact(trainer->weights, &pair, 20);
}

/* ---- the daemon dies ---------------------------------------------------- */

static void test_a_killed_daemon_with_a_checkpoint_is_a_rollback(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	uint64_t step = 0;

	open_trainer(fixture, endpoint(fixture), &alone);
	trainer_run(trainer, 20);
	assert_int_equal(optd_save(trainer->client, "m"), OPTD_OK);
	trainer_run(trainer, 30);
	daemon_kill(&fixture->daemon);
	daemon_restart(&fixture->daemon, 2);
	assert_status(trainer, trainer_step(trainer), OPTD_ROLLBACK);
	assert_error_has(trainer, "30");
	assert_error_has(trainer, "20");
	/* It stays so until the program has decided. */
	assert_status(trainer, trainer_step(trainer), OPTD_ROLLBACK);
	assert_status(trainer, optd_resume_model(trainer->model, &step), OPTD_OK);
	assert_int_equal(step, 20);
	assert_status(trainer, optd_pull(trainer->model, trainer->weights, 0), OPTD_OK);
	trainer->step = step;
	trainer_run(trainer, 50);
	trainer_assert_exact(trainer->weights, &alone, 50);
}

static void test_a_killed_daemon_without_a_checkpoint_has_lost_the_model(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	open_trainer(fixture, endpoint(fixture), &alone);
	trainer_run(trainer, 5);
	daemon_kill(&fixture->daemon);
	daemon_restart(&fixture->daemon, 1);
	assert_status(trainer, trainer_step(trainer), OPTD_MODEL_LOST);
	assert_error_has(trainer, "'m'");
	assert_status(trainer, trainer_step(trainer), OPTD_MODEL_LOST);
	assert_status(trainer, optd_pull(trainer->model, trainer->weights, 0), OPTD_MODEL_LOST);
}

static void test_a_dropped_model_is_lost_not_made_anew(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	open_trainer(fixture, endpoint(fixture), &alone);
	trainer_run(trainer, 5);
	assert_status(trainer, optd_drop(trainer->client, "m"), OPTD_OK);
	assert_status(trainer, trainer_step(trainer), OPTD_MODEL_LOST);
}

/* ---- the network -------------------------------------------------------- */

static void open_through_proxy(struct fixture *fixture, const struct plan *plan)
{
	fixture->proxy = daemon_proxy_new(endpoint(fixture));
	open_trainer(fixture, daemon_proxy_endpoint(fixture->proxy), plan);
}

static void test_calls_succeed_over_a_network_that_is_cut(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	open_through_proxy(fixture, &alone);
	/* Four to eight megabytes: in the middle of a push or of its answer, somewhere in the
	 * second or third step. */
	daemon_proxy_cut_after(fixture->proxy, 4 << 20);
	daemon_proxy_cut(fixture->proxy);
	trainer_run(trainer, CUT_STEPS);
	assert_true(daemon_proxy_connections(fixture->proxy) > CUT_STEPS / 4);
	trainer_assert_exact(trainer->weights, &alone, CUT_STEPS);
}

static void test_a_call_succeeds_when_bytes_vanish_without_a_cut(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	open_through_proxy(fixture, &alone);
	trainer_run(trainer, 5);
	daemon_proxy_swallow(fixture->proxy);
	uint64_t began_ms = daemon_now_ms();
	trainer_run(trainer, 10);
	assert_true(daemon_now_ms() - began_ms < 15000);
	trainer_assert_exact(trainer->weights, &alone, 10);
}

/* ---- no server ---------------------------------------------------------- */

static void test_no_server_is_an_error_within_the_deadline(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	daemon_kill(&fixture->daemon);
	uint64_t began_ms = daemon_now_ms();
	assert_status(trainer, trainer_open(trainer, endpoint(fixture), &hasty, 0), OPTD_UNREACHABLE);
	assert_true(daemon_now_ms() - began_ms < hasty.timeout_ms + 1500);
	assert_error_has(trainer, endpoint(fixture));
}

static void test_a_server_gone_is_an_error_within_the_deadline(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	open_trainer(fixture, endpoint(fixture), &hasty);
	trainer_run(trainer, 5);
	daemon_kill(&fixture->daemon);
	uint64_t began_ms = daemon_now_ms();
	int rc = trainer_step(trainer);
	assert_true(rc == OPTD_TIMEOUT || rc == OPTD_UNREACHABLE);
	assert_true(daemon_now_ms() - began_ms < hasty.timeout_ms + 1500);
	assert_error_has(trainer, endpoint(fixture));
}

static void test_a_stopped_server_is_an_error_within_the_deadline_and_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;

	open_trainer(fixture, endpoint(fixture), &hasty);
	trainer_run(trainer, 5);
	daemon_signal(&fixture->daemon, SIGSTOP);
	uint64_t began_ms = daemon_now_ms();
	assert_status(trainer, trainer_step(trainer), OPTD_TIMEOUT);
	assert_true(daemon_now_ms() - began_ms < hasty.timeout_ms + 1500);
	assert_error_has(trainer, endpoint(fixture));
	daemon_signal(&fixture->daemon, SIGCONT);
	/* The same gradient again: the step counts once. */
	trainer_run(trainer, 15);
	trainer_assert_exact(trainer->weights, &hasty, 15);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_async_goes_on_when_a_worker_is_killed),
		TEST(test_sync_names_the_rank_that_was_killed),
		TEST(test_a_worker_that_returns_finishes_the_step),
		TEST(test_a_worker_killed_at_any_time_returns),
		TEST(test_a_stopped_worker_holds_nobody_for_longer_than_the_timeout),
		TEST(test_a_killed_daemon_with_a_checkpoint_is_a_rollback),
		TEST(test_a_killed_daemon_without_a_checkpoint_has_lost_the_model),
		TEST(test_a_dropped_model_is_lost_not_made_anew),
		TEST(test_calls_succeed_over_a_network_that_is_cut),
		TEST(test_a_call_succeeds_when_bytes_vanish_without_a_cut),
		TEST(test_no_server_is_an_error_within_the_deadline),
		TEST(test_a_server_gone_is_an_error_within_the_deadline),
		TEST(test_a_stopped_server_is_an_error_within_the_deadline_and_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
