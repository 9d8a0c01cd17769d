/*
 * What a stopping daemon keeps: all that it acknowledged, in a file of one
 * version, unless a step stands still; and the truth in its exit code when the
 * file could not be written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/status.h" /* before optd.h, which repeats it */
#include "tests/e2e/crew.h"
#include "tests/e2e/kept.h"
#include "tests/e2e/slow.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/rng_seed.h"

#define EXIT_STORAGE 74
#define STEPS 30
#define ROUNDS 8
/* The step in which a worker falls asleep. */
#define ASLEEP_AT 6
#define AWAKE_STEPS 15
/* A drain_timeout of 1 s and what a busy machine adds to it. */
#define SOON_MS 8000
#define HASTY_ENDS 20
/* Too little for any checkpoint here, enough for the log. */
#define SMALL_FILE 65536

static const struct plan alone = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC };
static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };

struct fixture {
	struct daemon_process daemon;
	struct crew crew[2];
	struct trainer trainer;
	struct speaker slow; /* the worker of model "slow" */
	optd_client *operator;
	char file[128]; /* the checkpoint of model "m", or of "slow" */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	fixture->slow.fd = -1;
	daemon_init(&fixture->daemon);
	snprintf(fixture->file, sizeof(fixture->file), "%s/models/m.safetensors", fixture->daemon.data);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < 2; i++) {
		if (fixture->crew[i].pid > 0)
			crew_kill(&fixture->crew[i]);
	}
	trainer_close(&fixture->trainer);
	optd_close(&fixture->operator);
	if (fixture->slow.fd >= 0)
		speak_close(&fixture->slow);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void start_configured(struct fixture *fixture, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fprintf(file, "listen: tcp://127.0.0.1:0\n%s", text) > 0);
	assert_int_equal(fclose(file), 0);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){ "--config", path, NULL }));
}

static const char *endpoint(const struct fixture *fixture)
{
	return fixture->daemon.endpoints[0];
}

static void operate(struct fixture *fixture)
{
	assert_int_equal(optd_connect(endpoint(fixture), NULL, &fixture->operator), OPTD_OK);
}

/* All workers make all their steps, and the weights are the reference's. */
static void assert_crew_exact(struct fixture *fixture, uint64_t steps)
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(crew_wait(&fixture->crew[i]), 0);
	assert_int_equal(trainer_open(&fixture->trainer, endpoint(fixture), &pair, -1), OPTD_OK);
	trainer_assert_exact(fixture->trainer.weights, &pair, steps);
}

/* ---- while workers train ------------------------------------------------ */

/* One step of rank 0, with TERM anywhere in its push, and the daemon's successor. */
static void stop_in_a_step(struct fixture *fixture, uint32_t lanes, uint32_t turns)
{
	struct trainer *trainer = &fixture->trainer;
	optd_ticket ticket;

	trainer_gradient(trainer->gradient, trainer->weights, trainer->step, 0);
	assert_int_equal(optd_start_push_pull(trainer->model, trainer->gradient, trainer->weights,
	                                      &ticket), OPTD_OK);
	for (uint32_t i = 0; i < turns; i++)
		assert_true(optd_process(trainer->client) >= 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	struct kept kept = kept_versions(fixture->file);
	assert_int_equal(kept.lowest, kept.highest);
	assert_in_range(kept.lowest, trainer->step, trainer->step + 1);
	daemon_restart(&fixture->daemon, lanes);
	assert_int_equal(optd_wait(trainer->client, ticket, 0), OPTD_OK);
	trainer->step++;
}

static void stop_again_and_again(struct fixture *fixture, uint32_t lanes)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);
	struct trainer *trainer = &fixture->trainer;

	print_message("# OPTD_SEED=%llu\n", (unsigned long long)seed);
	daemon_start_tcp(&fixture->daemon, lanes);
	crew_start(&fixture->crew[1], endpoint(fixture), &pair, 1, STEPS);
	assert_int_equal(trainer_open(trainer, endpoint(fixture), &pair, 0), OPTD_OK);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		trainer_run(trainer, trainer->step + 2);
		stop_in_a_step(fixture, lanes, rng_below(&rng, 300));
	}
	trainer_run(trainer, STEPS);
	trainer_assert_exact(trainer->weights, &pair, STEPS);
	assert_int_equal(crew_wait(&fixture->crew[1]), 0);
}

static void test_term_during_training_keeps_one_version(void **state)
{
	stop_again_and_again(*state, 1);
}

static void test_term_during_training_keeps_one_version_of_all_lanes(void **state)
{
	stop_again_and_again(*state, 3);
}

/* Rank 1, which falls asleep with a push under way and then goes on. */
static int fall_asleep(const void *argument, int steps)
{
	struct trainer trainer;
	optd_ticket ticket;

	int rc = trainer_open(&trainer, argument, &pair, 1);
	while (rc == OPTD_OK && trainer.step < ASLEEP_AT)
		rc = trainer_step(&trainer);
	if (rc == OPTD_OK) {
		trainer_gradient(trainer.gradient, trainer.weights, trainer.step, 1);
		rc = optd_start_push_pull(trainer.model, trainer.gradient, trainer.weights, &ticket);
	}
	if (rc == OPTD_OK) {
		raise(SIGSTOP);
		rc = optd_wait(trainer.client, ticket, 0);
		trainer.step++;
	}
	while (rc == OPTD_OK && trainer.step < AWAKE_STEPS)
		rc = trainer_step(&trainer);
	if (rc < 0)
		fprintf(stderr, "# rank 1: %s: %s\n", optd_status_name(rc), trainer_error(&trainer));
	trainer_close(&trainer);
	close(steps);
	return rc < 0 ? 1 : 0;
}

static void test_a_worker_that_sleeps_through_the_end_goes_on(void **state)
{
	struct fixture *fixture = *state;
	int status;

	start_configured(fixture, "drain_timeout: 1s\n");
	crew_fork(&fixture->crew[1], fall_asleep, endpoint(fixture));
	crew_start(&fixture->crew[0], endpoint(fixture), &pair, 0, AWAKE_STEPS);
	assert_int_equal(waitpid(fixture->crew[1].pid, &status, WUNTRACED), fixture->crew[1].pid);
	assert_true(WIFSTOPPED(status));
	uint64_t began_ms = daemon_now_ms();
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_true(daemon_now_ms() - began_ms < SOON_MS);
	struct kept versions = kept_versions(fixture->file);
	assert_in_range(versions.lowest, ASLEEP_AT, ASLEEP_AT + 1);
	assert_in_range(versions.highest, versions.lowest, versions.lowest + 1);
	daemon_restart(&fixture->daemon, 1);
	crew_signal(&fixture->crew[1], SIGCONT);
	assert_crew_exact(fixture, AWAKE_STEPS);
}

/* ---- a step that stands still ------------------------------------------- */

static void start_slow(struct fixture *fixture, const char *config)
{
	snprintf(fixture->file, sizeof(fixture->file), "%s/models/" SLOW_MODEL ".safetensors",
	         fixture->daemon.data);
	start_configured(fixture, config);
	slow_join(&fixture->slow, endpoint(fixture));
	slow_init(&fixture->slow);
	slow_push(&fixture->slow, 0, 0, SLOW_BLOCKS);
}

static void test_a_step_that_stands_still_is_kept_in_part(void **state)
{
	struct fixture *fixture = *state;

	start_slow(fixture, "drain_timeout: 1s\n");
	slow_push(&fixture->slow, 1, 0, 1);
	uint64_t began_ms = daemon_now_ms();
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_true(daemon_now_ms() - began_ms < SOON_MS);
	kept_assert_at(fixture->file, 1, 2);
	assert_int_equal(daemon_log_count(&fixture->daemon, " warn event=checkpoint model=slow "
	                                                    "version=1 highest=2"), 1);
	daemon_restart(&fixture->daemon, 1);
	speak_close(&fixture->slow);
	slow_join(&fixture->slow, endpoint(fixture));
	slow_push(&fixture->slow, 1, 1, 1);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 2, 2);
}

static void test_the_start_logs_the_lowest_and_the_highest_version(void **state)
{
	struct fixture *fixture = *state;

	start_slow(fixture, "drain_timeout: off\n");
	slow_push(&fixture->slow, 1, 0, 1);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 1, 2);
	daemon_restart(&fixture->daemon, 1);
	assert_int_equal(daemon_log_count(&fixture->daemon, " info event=restored model=slow "), 1);
	assert_int_equal(daemon_log_count(&fixture->daemon, " version=1 highest=2 age_s="), 1);
}

static void test_a_step_completed_while_draining_is_kept_whole(void **state)
{
	struct fixture *fixture = *state;

	start_slow(fixture, "drain_timeout: 1h\n");
	slow_push(&fixture->slow, 1, 0, 1);
	daemon_signal(&fixture->daemon, SIGTERM);
	assert_true(daemon_wait_log(&fixture->daemon, "event=stop ", 1));
	slow_push(&fixture->slow, 1, 1, 1);
	assert_int_equal(daemon_wait(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 2, 2);
}

/* The save's patience is 10 s. */
static void test_a_step_completed_after_a_forced_save_is_kept(void **state)
{
	struct fixture *fixture = *state;

	start_slow(fixture, "");
	slow_push(&fixture->slow, 1, 0, 1);
	operate(fixture);
	assert_int_equal(optd_save(fixture->operator, "slow"), OPTD_OK);
	kept_assert_at(fixture->file, 1, 2);
	slow_push(&fixture->slow, 1, 1, 1);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 2, 2);
}

/* The file has the step in part already, and nothing has changed since. */
static void test_a_step_saved_in_part_and_completed_while_draining_is_kept(void **state)
{
	struct fixture *fixture = *state;

	start_slow(fixture, "drain_timeout: 1h\n");
	slow_push(&fixture->slow, 1, 0, 1);
	operate(fixture);
	assert_int_equal(optd_save(fixture->operator, "slow"), OPTD_OK);
	kept_assert_at(fixture->file, 1, 2);
	daemon_signal(&fixture->daemon, SIGTERM);
	assert_true(daemon_wait_log(&fixture->daemon, "event=stop ", 1));
	slow_push(&fixture->slow, 1, 1, 1);
	assert_int_equal(daemon_wait(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 2, 2);
}

static void test_a_second_term_leaves_a_long_drain_at_once(void **state)
{
	struct fixture *fixture = *state;

	start_slow(fixture, "drain_timeout: 1h\n");
	slow_push(&fixture->slow, 1, 0, 1);
	daemon_signal(&fixture->daemon, SIGTERM);
	assert_true(daemon_wait_log(&fixture->daemon, "event=stop ", 1));
	uint64_t began_ms = daemon_now_ms();
	assert_int_equal(daemon_stop(&fixture->daemon), 128 + SIGTERM);
	assert_true(daemon_now_ms() - began_ms < 2000);
	assert_int_not_equal(access(fixture->file, F_OK), 0);
}

/* ---- a disk that refuses ------------------------------------------------ */

static void limit_files(const struct fixture *fixture, rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(prlimit(fixture->daemon.pid, RLIMIT_FSIZE, NULL, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(prlimit(fixture->daemon.pid, RLIMIT_FSIZE, &limit, NULL), 0);
}

static void train_to(struct fixture *fixture, uint64_t step)
{
	if (fixture->trainer.client == NULL) {
		assert_int_equal(trainer_open(&fixture->trainer, endpoint(fixture), &alone, 0), OPTD_OK);
		operate(fixture);
	}
	trainer_run(&fixture->trainer, step);
}

static void test_a_checkpoint_that_failed_at_the_end_is_the_exit_code(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->daemon, 2);
	train_to(fixture, 3);
	assert_int_equal(optd_save(fixture->operator, NULL), OPTD_OK);
	train_to(fixture, 5);
	limit_files(fixture, SMALL_FILE);
	assert_int_equal(daemon_stop(&fixture->daemon), EXIT_STORAGE);
	kept_assert_at(fixture->file, 3, 3);
	assert_int_equal(daemon_log_count(&fixture->daemon, " error event=stopped exit=74"), 1);
}

static void test_term_writes_what_a_full_disk_refused(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->daemon, 1);
	train_to(fixture, 3);
	limit_files(fixture, SMALL_FILE);
	assert_int_equal(optd_save(fixture->operator, NULL), OPTD_IO);
	assert_int_not_equal(access(fixture->file, F_OK), 0);
	limit_files(fixture, RLIM_INFINITY);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 3, 3);
}

/* A directory in the file's place: all is written, and only the rename fails. */
static void test_term_writes_what_could_not_be_put_in_place(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->daemon, 1);
	train_to(fixture, 3);
	assert_int_equal(mkdir(fixture->file, 0700), 0);
	assert_int_equal(optd_save(fixture->operator, NULL), OPTD_IO);
	assert_int_equal(rmdir(fixture->file), 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 3, 3);
}

/* ---- no checkpoint at the end ------------------------------------------- */

static void test_an_end_waits_for_the_save_at_hand(void **state)
{
	struct fixture *fixture = *state;
	int saved = 0;

	/* More on a busy machine, until the save was at hand once. */
	for (int i = 0; i < HASTY_ENDS || (saved == 0 && i < 10 * HASTY_ENDS); i++) {
		start_slow(fixture, "checkpoint: {on_exit: false}\n");
		struct msg save = speak_request(&fixture->slow, MSG_SAVE);
		assert_true(speak_send(&fixture->slow, &save));
		/* An answer behind it half of the time: the save is then at hand. */
		struct msg status = speak_request(&fixture->slow, MSG_STATUS);
		if (i % 2 == 0)
			assert_int_equal(speak_ask(&fixture->slow, &status), OPTD_OK);
		assert_int_equal(daemon_stop(&fixture->daemon), 0);
		speak_close(&fixture->slow);
		if (access(fixture->file, F_OK) == 0) {
			kept_assert_at(fixture->file, 1, 1);
			assert_int_equal(unlink(fixture->file), 0);
			saved++;
		}
	}
	print_message("# %d saved\n", saved);
	assert_true(saved > 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_term_during_training_keeps_one_version),
		TEST(test_term_during_training_keeps_one_version_of_all_lanes),
		TEST(test_a_worker_that_sleeps_through_the_end_goes_on),
		TEST(test_a_step_that_stands_still_is_kept_in_part),
		TEST(test_the_start_logs_the_lowest_and_the_highest_version),
		TEST(test_a_step_completed_while_draining_is_kept_whole),
		TEST(test_a_step_completed_after_a_forced_save_is_kept),
		TEST(test_a_step_saved_in_part_and_completed_while_draining_is_kept),
		TEST(test_a_second_term_leaves_a_long_drain_at_once),
		TEST(test_a_checkpoint_that_failed_at_the_end_is_the_exit_code),
		TEST(test_term_writes_what_a_full_disk_refused),
		TEST(test_term_writes_what_could_not_be_put_in_place),
		TEST(test_an_end_waits_for_the_save_at_hand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
