/*
 * Checkpoints while the daemon runs, and DROP: what is written and when, what
 * the log says, and how much one may ask for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/status.h"
#include "tests/e2e/blocks.h"
#include "tests/e2e/kept.h"
#include "tests/e2e/slow.h"
#include "tests/support/daemon_process.h"

#define EXIT_STORAGE 74
#define MODEL "blocks"
#define SAVED "event=checkpoint model=" MODEL " "

struct fixture {
	struct daemon_process daemon;
	struct speaker speaker;
	struct speaker slow; /* the worker of model "slow" */
	char file[128]; /* the checkpoint of the model */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	fixture->speaker.fd = fixture->slow.fd = -1;
	daemon_init(&fixture->daemon);
	snprintf(fixture->file, sizeof(fixture->file), "%s/models/" MODEL ".safetensors",
	         fixture->daemon.data);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->speaker.fd >= 0)
		speak_close(&fixture->speaker);
	if (fixture->slow.fd >= 0)
		speak_close(&fixture->slow);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void start(struct fixture *fixture, const char *config)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fprintf(file, "listen: tcp://127.0.0.1:0\n%s", config) > 0);
	assert_int_equal(fclose(file), 0);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){ "--config", path, NULL }));
	blocks_join(&fixture->speaker, fixture->daemon.endpoints[0], MODEL);
}

/* ---- what is written ---------------------------------------------------- */

/* The lowest and the highest version are what the first file has. */
static void test_the_end_saves_a_block_that_is_between_the_others(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	start(fixture, "");
	blocks_push(speaker, 0, 0);
	blocks_push(speaker, 0, 1);
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_OK);
	blocks_push(speaker, 1, 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_int_equal(kept_version(fixture->file, 0), 2);
	assert_int_equal(kept_version(fixture->file, 1), 1);
	assert_int_equal(kept_version(fixture->file, 2), 0);
}

static void test_the_interval_saves_what_changed_since(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	start(fixture, "checkpoint: {interval: 1s}\n");
	blocks_push(speaker, 0, 0);
	assert_true(daemon_wait_log(&fixture->daemon, SAVED "version=0 highest=1", 1));
	blocks_push(speaker, 1, 0);
	blocks_push(speaker, 2, 0);
	assert_true(daemon_wait_log(&fixture->daemon, SAVED "version=1 highest=1", 1));
	daemon_kill(&fixture->daemon);
	kept_assert_at(fixture->file, 1, 1);
}

/* Nobody may push before the lead has its weights as well. */
static void test_a_model_with_weights_on_one_lane_only_is_passed_over(void **state)
{
	const uint64_t shape[] = { BLOCKS * LIMIT_BLOCK_ELEMENTS };
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	daemon_start_tcp(&fixture->daemon, 2);
	speak_hello(speaker, fixture->daemon.endpoints[1]);
	assert_int_equal(speak_open(speaker, MODEL, shape, 1, 0, 0), OPTD_OK);
	speaker->token = 1; /* the lead's */
	blocks_init(speaker, 2, 1);
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, ""), OPTD_OK);
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_NO_MODEL);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_int_not_equal(access(fixture->file, F_OK), 0);
}

/* ---- what is dropped ---------------------------------------------------- */

/* A directory in the file's place cannot be removed. */
static void test_a_drop_that_the_disk_refuses_leaves_the_model(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	start(fixture, "");
	assert_int_equal(mkdir(fixture->file, 0700), 0);
	assert_int_equal(blocks_ask(speaker, MSG_DROP, MODEL), OPTD_IO);
	blocks_push(speaker, 0, 0);
	assert_int_equal(rmdir(fixture->file), 0);
	assert_int_equal(blocks_ask(speaker, MSG_DROP, MODEL), OPTD_OK);
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_NO_MODEL);
}

static void test_a_drop_that_the_disk_refuses_leaves_the_file_to_be_written(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	start(fixture, "");
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_OK);
	assert_int_equal(unlink(fixture->file), 0);
	assert_int_equal(mkdir(fixture->file, 0700), 0);
	assert_int_equal(blocks_ask(speaker, MSG_DROP, MODEL), OPTD_IO);
	assert_int_equal(rmdir(fixture->file), 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 0, 0);
}

/* ---- what is logged ----------------------------------------------------- */

static void test_saves_that_fail_are_logged_once(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, "");
	assert_int_equal(mkdir(fixture->file, 0700), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(blocks_ask(&fixture->speaker, MSG_SAVE, i % 2 == 0 ? MODEL : ""), OPTD_IO);
	assert_int_equal(daemon_log_count(&fixture->daemon, " error event=checkpoint model=" MODEL), 1);
	/* The daemon's own failures are always told. */
	assert_int_equal(daemon_stop(&fixture->daemon), EXIT_STORAGE);
	assert_int_equal(daemon_log_count(&fixture->daemon, " error event=checkpoint model=" MODEL), 2);
}

static void test_a_name_that_nobody_knows_is_not_logged(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, "");
	assert_int_equal(blocks_ask(&fixture->speaker, MSG_SAVE, "nobody"), OPTD_NO_MODEL);
	assert_int_equal(blocks_ask(&fixture->speaker, MSG_DROP, "nobody"), OPTD_NO_MODEL);
	assert_int_equal(daemon_log_count(&fixture->daemon, "nobody"), 0);
}

/* ---- what may be asked -------------------------------------------------- */

/* A step that stands still holds a SAVE up, and all behind it. */
static void hold_up(struct fixture *fixture, const char *config)
{
	start(fixture, config);
	slow_join(&fixture->slow, fixture->daemon.endpoints[0]);
	slow_init(&fixture->slow);
	slow_push(&fixture->slow, 0, 0, 1);
	struct msg save = blocks_named(&fixture->slow, MSG_SAVE, SLOW_MODEL);
	assert_true(speak_send(&fixture->slow, &save));
	struct msg status = speak_request(&fixture->slow, MSG_STATUS);
	assert_int_equal(speak_ask(&fixture->slow, &status), OPTD_OK);
}

static void test_a_session_that_asks_for_too_many_saves_is_told_so(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	hold_up(fixture, "");
	for (uint32_t i = 0; i < LIMIT_SESSION_JOBS; i++) {
		struct msg save = blocks_named(speaker, MSG_SAVE, MODEL);
		assert_true(speak_send(speaker, &save));
	}
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_BUSY);
	assert_string_equal(speaker->text, "8 SAVEs and DROPs of this session wait and 8 may: "
	                                   "ask again when one is answered");
	slow_push(&fixture->slow, 0, 1, 1);
	assert_true(daemon_wait_log(&fixture->daemon, "event=checkpoint model=" MODEL " ",
	                            LIMIT_SESSION_JOBS));
	/* The places are free again with the answers. */
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_OK);
}

static void ask_for_many_saves(struct fixture *fixture, struct speaker *speaker)
{
	speak_hello(speaker, fixture->daemon.endpoints[0]);
	for (uint32_t i = 0; i < LIMIT_SESSION_JOBS; i++) {
		struct msg save = blocks_named(speaker, MSG_SAVE, "");
		assert_true(speak_send(speaker, &save));
	}
	struct msg status = speak_request(speaker, MSG_STATUS);
	assert_int_equal(speak_ask(speaker, &status), OPTD_OK);
}

static void test_few_sessions_that_ask_for_many_saves_lock_nobody_out(void **state)
{
	enum { SESSIONS = LIMIT_JOBS / LIMIT_SESSION_JOBS };
	struct speaker others[SESSIONS];
	struct fixture *fixture = *state;

	hold_up(fixture, "");
	for (uint32_t i = 0; i < SESSIONS; i++)
		ask_for_many_saves(fixture, &others[i]);
	struct msg save = blocks_named(&fixture->speaker, MSG_SAVE, MODEL);
	assert_true(speak_send(&fixture->speaker, &save));
	slow_push(&fixture->slow, 0, 1, 1);
	assert_true(speak_answer(&fixture->speaker, &save, DAEMON_DEADLINE_MS));
	assert_int_equal(fixture->speaker.status, OPTD_OK);
	for (uint32_t i = 0; i < SESSIONS; i++)
		speak_close(&others[i]);
}

static void test_sessions_that_ask_for_too_many_saves_are_told_so(void **state)
{
	/* The first take 8 each, the others one. */
	enum { SESSIONS = LIMIT_JOBS / LIMIT_SESSION_JOBS + LIMIT_FIRST_JOBS };
	struct speaker others[SESSIONS];
	struct fixture *fixture = *state;

	hold_up(fixture, "");
	for (uint32_t i = 0; i < SESSIONS; i++)
		ask_for_many_saves(fixture, &others[i]);
	assert_int_equal(blocks_ask(&fixture->speaker, MSG_DROP, MODEL), OPTD_BUSY);
	assert_string_equal(fixture->speaker.text, "64 SAVEs and DROPs of all sessions wait and no "
	                                           "more may: try again later");
	for (uint32_t i = 0; i < SESSIONS; i++)
		speak_close(&others[i]);
}

static void test_all_models_are_saved_even_if_one_is_asked_for_behind(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	hold_up(fixture, "");
	struct msg all = blocks_named(speaker, MSG_SAVE, "");
	struct msg one = blocks_named(speaker, MSG_SAVE, MODEL);
	assert_true(speak_send(speaker, &all) && speak_send(speaker, &one));
	slow_push(&fixture->slow, 0, 1, 1);
	assert_true(speak_answer(speaker, &one, DAEMON_DEADLINE_MS));
	assert_int_equal(speaker->status, OPTD_OK);
	assert_int_equal(daemon_log_count(&fixture->daemon, "event=checkpoint model=" MODEL), 2);
}

static void test_the_end_does_not_wait_for_saves_that_wait(void **state)
{
	struct fixture *fixture = *state;
	struct speaker *speaker = &fixture->speaker;

	hold_up(fixture, "drain_timeout: 1h\n");
	struct msg drop = blocks_named(speaker, MSG_DROP, MODEL);
	assert_true(speak_send(speaker, &drop));
	blocks_push(speaker, 0, 0);
	daemon_signal(&fixture->daemon, SIGTERM);
	assert_true(speak_answer(speaker, &drop, DAEMON_DEADLINE_MS));
	assert_int_equal(speaker->status, OPTD_DRAINING);
	assert_int_equal(blocks_ask(speaker, MSG_SAVE, MODEL), OPTD_DRAINING);
	slow_push(&fixture->slow, 0, 1, 1);
	assert_int_equal(daemon_wait(&fixture->daemon), 0);
	kept_assert_at(fixture->file, 0, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_end_saves_a_block_that_is_between_the_others),
		TEST(test_the_interval_saves_what_changed_since),
		TEST(test_a_model_with_weights_on_one_lane_only_is_passed_over),
		TEST(test_a_drop_that_the_disk_refuses_leaves_the_model),
		TEST(test_a_drop_that_the_disk_refuses_leaves_the_file_to_be_written),
		TEST(test_saves_that_fail_are_logged_once),
		TEST(test_a_name_that_nobody_knows_is_not_logged),
		TEST(test_a_session_that_asks_for_too_many_saves_is_told_so),
		TEST(test_few_sessions_that_ask_for_many_saves_lock_nobody_out),
		TEST(test_sessions_that_ask_for_too_many_saves_are_told_so),
		TEST(test_all_models_are_saved_even_if_one_is_asked_for_behind),
		TEST(test_the_end_does_not_wait_for_saves_that_wait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
