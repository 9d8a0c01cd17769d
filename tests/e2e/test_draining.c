/*
 * Who comes while the daemon drains: nothing that it acknowledges is lost, so
 * what it could not keep it refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/status.h" /* before optd.h, which repeats it */
#include "tests/e2e/crew.h"
#include "tests/e2e/slow.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

static const uint64_t four[] = { 4 };

struct fixture {
	struct daemon_process daemon;
	struct speaker slow;  /* its step stands still: the daemon waits for it */
	struct speaker other;
	struct crew crew;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, 1);
	slow_join(&fixture->slow, fixture->daemon.endpoints[0]);
	slow_init(&fixture->slow);
	slow_push(&fixture->slow, 0, 0, 1);
	speak_hello(&fixture->other, fixture->daemon.endpoints[0]);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->crew.pid > 0)
		crew_kill(&fixture->crew);
	speak_close(&fixture->slow);
	speak_close(&fixture->other);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

/* Once this line is there the lanes have been told. */
static void begin_to_stop(struct fixture *fixture)
{
	daemon_signal(&fixture->daemon, SIGTERM);
	assert_true(daemon_wait_log(&fixture->daemon, "event=stop ", 1));
}

static void complete(struct fixture *fixture)
{
	slow_push(&fixture->slow, 0, 1, 1);
	assert_int_equal(daemon_wait(&fixture->daemon), 0);
	assert_int_equal(daemon_log_count(&fixture->daemon, " error "), 0);
}

static void test_a_new_model_is_refused_while_draining(void **state)
{
	struct fixture *fixture = *state;

	begin_to_stop(fixture);
	assert_int_equal(speak_open(&fixture->other, "late", four, 1, 0, 1), OPTD_DRAINING);
	assert_non_null(strstr(fixture->other.text, "the server is shutting down"));
	complete(fixture);
}

static void test_first_weights_are_refused_while_draining(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(speak_open(&fixture->other, "late", four, 1, 0, 1), OPTD_OK);
	begin_to_stop(fixture);
	assert_int_equal(speak_init(&fixture->other, sizeof(float[4])), OPTD_DRAINING);
	complete(fixture);
}

/* ---- through the library ------------------------------------------------ */

static void tell_of_the_stop(void *user, const char *text)
{
	const int *steps = user;

	if (strstr(text, "the server is shutting down") != NULL && write(*steps, "", 1) != 1)
		_exit(2);
}

static int open_new(const void *argument, int steps)
{
	const optd_options options = { .notice = tell_of_the_stop, .user = &steps };
	const struct plan plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC };
	optd_open_options how = trainer_options(&plan);
	optd_layout *layout = trainer_layout();
	optd_client *client;
	optd_model *model;

	int rc = optd_connect(argument, &options, &client);
	if (rc == OPTD_OK)
		rc = optd_open(client, "late", layout, &how, &model);
	if (rc < 0)
		fprintf(stderr, "# %s: %s\n", optd_status_name(rc), optd_error(client));
	optd_close(&client);
	optd_layout_free(layout);
	return rc < 0 ? 1 : 0;
}

static void test_one_who_opens_a_model_while_draining_waits_for_the_successor(void **state)
{
	struct fixture *fixture = *state;

	begin_to_stop(fixture);
	crew_fork(&fixture->crew, open_new, fixture->daemon.endpoints[0]);
	crew_wait_steps(&fixture->crew, 1);
	complete(fixture);
	daemon_restart(&fixture->daemon, 1);
	assert_int_equal(crew_wait(&fixture->crew), 0);
}

/* The daemon does not end: its step stands still. */
static void test_one_who_saves_or_drops_while_draining_is_told_so_at_once(void **state)
{
	struct fixture *fixture = *state;
	const optd_options options = { .rank = -1, .timeout_ms = DAEMON_DEADLINE_MS };
	optd_client *client;

	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &client), OPTD_OK);
	begin_to_stop(fixture);
	assert_int_equal(optd_save(client, NULL), OPTD_DRAINING);
	assert_non_null(strstr(optd_error(client), "the server is shutting down"));
	assert_int_equal(optd_drop(client, SLOW_MODEL), OPTD_DRAINING);
	optd_close(&client);
	complete(fixture);
}

static void test_optctl_says_at_once_that_the_server_is_shutting_down(void **state)
{
	static const char *const commands[] = { "save", "save " SLOW_MODEL, "drop --yes " SLOW_MODEL };
	struct fixture *fixture = *state;
	char out[2048];

	begin_to_stop(fixture);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		assert_int_equal(optctl_run(out, sizeof(out), "-t 30 -s %s %s",
		                            fixture->daemon.endpoints[0], commands[i]),
		                 1);
		assert_non_null(strstr(out, "the server is shutting down: ask again when it is back"));
	}
	complete(fixture);
}

static void test_one_who_opens_while_draining_is_told_what_the_server_said(void **state)
{
	struct fixture *fixture = *state;
	const optd_options options = { .rank = 0, .timeout_ms = 300 };
	optd_layout *layout = trainer_layout();
	optd_client *client;
	optd_model *model;

	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &client), OPTD_OK);
	begin_to_stop(fixture);
	assert_int_equal(optd_open(client, "late", layout, NULL, &model), OPTD_TIMEOUT);
	assert_non_null(strstr(optd_error(client), "the server is shutting down"));
	assert_null(strstr(optd_error(client), "does not answer"));
	optd_layout_free(layout);
	optd_close(&client);
	complete(fixture);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_new_model_is_refused_while_draining),
		TEST(test_first_weights_are_refused_while_draining),
		TEST(test_one_who_opens_a_model_while_draining_waits_for_the_successor),
		TEST(test_one_who_saves_or_drops_while_draining_is_told_so_at_once),
		TEST(test_optctl_says_at_once_that_the_server_is_shutting_down),
		TEST(test_one_who_opens_while_draining_is_told_what_the_server_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
