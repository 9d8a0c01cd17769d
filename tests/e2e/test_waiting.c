/*
 * A step that lacks a worker: who waits hears for whom, while it waits and when it
 * gives up, whichever of the two clocks ends it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "server/config.h"
#include "tests/e2e/crew.h"
#include "tests/e2e/speak.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define MISSING "waiting for 1 of 2 workers: rank 1"
#define WEIGHTS 4

struct fixture {
	struct daemon_process daemon;
	optd_client *client;
	optd_model *model;
	float weights[WEIGHTS], gradient[WEIGHTS];
	char heard[2048]; /* notices, one after the other */
};

static void hear(void *user, const char *text)
{
	struct fixture *fixture = user;
	size_t used = strlen(fixture->heard);

	snprintf(fixture->heard + used, sizeof(fixture->heard) - used, "%s\n", text);
}

/* Rank 0 of two, with first weights; a call takes timeout_ms. */
static void join(struct fixture *fixture, uint32_t timeout_ms, uint32_t step_timeout_ms)
{
	const optd_options options = { .rank = 0, .timeout_ms = timeout_ms, .notice = hear,
		                       .user = fixture };
	const optd_open_options open_options = { .workers = 2, .step_timeout_ms = step_timeout_ms };
	optd_layout *layout = optd_layout_new();

	assert_int_equal(optd_layout_add(layout, "w", (const uint64_t[]){ WEIGHTS }, 1), 0);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &fixture->client), 0);
	assert_int_equal(optd_open(fixture->client, "m", layout, &open_options, &fixture->model), 0);
	assert_int_equal(optd_init(fixture->model, fixture->weights), 1);
	optd_layout_free(layout);
}

static int push_pull(struct fixture *fixture)
{
	return optd_push_pull(fixture->model, fixture->gradient, fixture->weights);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char path[96];

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("listen: tcp://127.0.0.1:0\nwaiting_notice: 100ms\n", file);
	fclose(file);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){ "--config", path, NULL }));
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	optd_close(&fixture->client);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void assert_error_has(const struct fixture *fixture, const char *text)
{
	if (strstr(optd_error(fixture->client), text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, optd_error(fixture->client));
}

/* The first notice comes while the call is under way, through the program's own loop. */
static void test_a_worker_hears_for_whom_it_waits(void **state)
{
	struct fixture *fixture = *state;
	optd_ticket ticket;

	join(fixture, DAEMON_DEADLINE_MS, 0);
	assert_int_equal(optd_start_push_pull(fixture->model, fixture->gradient, fixture->weights,
	                                      &ticket), 0);
	while (strstr(fixture->heard, MISSING) == NULL) {
		struct pollfd readable = { .fd = optd_fd(fixture->client), .events = POLLIN };
		assert_int_equal(poll(&readable, 1, DAEMON_DEADLINE_MS), 1);
		assert_true(optd_process(fixture->client) >= 0);
	}
	assert_non_null(strstr(fixture->heard, "model 'm' on tcp://127.0.0.1:"));
	assert_int_equal(optd_done(fixture->client, ticket), 0);
	optd_cancel(fixture->client, ticket);
}

static void test_the_servers_timeout_names_the_rank(void **state)
{
	struct fixture *fixture = *state;

	join(fixture, DAEMON_DEADLINE_MS, 1000);
	assert_int_equal(push_pull(fixture), OPTD_STEP_TIMEOUT);
	assert_error_has(fixture, "missing rank 1");
}

/* The library would have refused it before it was sent. */
static void test_others_hear_who_is_missing_when_the_server_refuses_a_nan(void **state)
{
	struct fixture *fixture = *state;
	const float gradient[WEIGHTS] = { 0, NAN, 0, 0 };
	const uint64_t shape[] = { WEIGHTS };
	struct speaker speaker;

	join(fixture, DAEMON_DEADLINE_MS, 1000);
	speak_hello(&speaker, fixture->daemon.endpoints[0]);
	assert_int_equal(speak_open(&speaker, "m", shape, 1, 1, 2), OPTD_OK);
	struct msg push = speak_push(&speaker, gradient, sizeof(gradient));
	push.rank = 1;
	assert_int_equal(speak_ask(&speaker, &push), OPTD_NOT_FINITE);
	assert_non_null(strstr(speaker.text, "element 1 of the push is nan"));
	assert_int_equal(push_pull(fixture), OPTD_STEP_TIMEOUT);
	assert_error_has(fixture, "missing rank 1");
	speak_close(&speaker);
}

/* With the library's own default nothing but the server's clock ends a wait. */
static void test_a_client_without_settings_gets_the_servers_timeout(void **state)
{
	struct fixture *fixture = *state;

	join(fixture, 0, 1000);
	assert_int_equal(push_pull(fixture), OPTD_STEP_TIMEOUT);
	assert_error_has(fixture, "missing rank 1");
}

static void test_a_clients_earlier_timeout_names_the_rank_too(void **state)
{
	struct fixture *fixture = *state;

	join(fixture, 1000, 0);
	assert_int_equal(push_pull(fixture), OPTD_TIMEOUT);
	assert_error_has(fixture, MISSING);
	assert_error_has(fixture, "start rank 1");
}

/* A worker that was there: the others hear who it was. */
static void test_a_killed_worker_is_named_by_either_timeout(void **state)
{
	static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC,
		                          .step_timeout_ms = 2000, .timeout_ms = 1000 };
	struct fixture *fixture = *state;
	struct trainer trainer;
	struct crew other;

	crew_start(&other, fixture->daemon.endpoints[0], &pair, 1, 3);
	assert_int_equal(trainer_open(&trainer, fixture->daemon.endpoints[0], &pair, 0), OPTD_OK);
	trainer_run(&trainer, 3);
	crew_wait_steps(&other, 3);
	crew_kill(&other);
	assert_int_equal(trainer_step(&trainer), OPTD_TIMEOUT);
	assert_non_null(strstr(trainer_error(&trainer), "rank 1"));
	optd_set_timeout(trainer.client, 0);
	assert_int_equal(trainer_step(&trainer), OPTD_STEP_TIMEOUT);
	assert_non_null(strstr(trainer_error(&trainer), "rank 1"));
	trainer_close(&trainer);
}

/* The client's clock starts first, and a model's bytes take their time. */
static void test_by_default_the_servers_clock_ends_first(void **state)
{
	struct config config;

	(void)state;
	config_init(&config);
	assert_true(CLIENT_TIMEOUT_MS >= config.step_timeout_ms + 20000);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_worker_hears_for_whom_it_waits),
		TEST(test_the_servers_timeout_names_the_rank),
		TEST(test_others_hear_who_is_missing_when_the_server_refuses_a_nan),
		TEST(test_a_client_without_settings_gets_the_servers_timeout),
		TEST(test_a_clients_earlier_timeout_names_the_rank_too),
		TEST(test_a_killed_worker_is_named_by_either_timeout),
		cmocka_unit_test(test_by_default_the_servers_clock_ends_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
