/*
 * Reach: what a program hears while its server is away, and when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/link.h"
#include "proto/status.h"

#include "client/optd.h"
#include "tests/support/fake_daemon.h"

/* The first notice that the server is away, the last notice, and when. */
struct heard {
	char away[512], last[512];
	uint64_t start_ms, away_ms;
	/* Started by the notice function, when it hears that nobody is there. */
	struct fake_daemon *back;
	const char *endpoint;
};

static void notice(void *user, const char *text)
{
	struct heard *h = user;
	snprintf(h->last, sizeof(h->last), "%s", text);
	if (h->away[0] || !strstr(text, "; trying"))
		return;
	snprintf(h->away, sizeof(h->away), "%s", text);
	h->away_ms = hub_now_ms();
	if (h->back)
		fake_daemon_start_at(h->back, h->endpoint, 9);
}

static void expect_heard_soon(const struct heard *h, const char *end)
{
	assert_non_null(strstr(h->away, ": Connection refused; trying for another "));
	assert_non_null(strstr(h->away, end));
	assert_true(h->away_ms - h->start_ms <= 1000);
}

/* A free port: a daemon that has been there, and is not any more. */
static void leave_endpoint(char *endpoint, size_t bytes)
{
	struct fake_daemon daemon;
	fake_daemon_start(&daemon, 9);
	snprintf(endpoint, bytes, "%s", daemon.endpoint);
	fake_daemon_stop(&daemon);
}

static void test_a_client_before_its_server_says_what_it_waits_for(void **state)
{
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];
	struct heard heard = {.start_ms = hub_now_ms()};
	optd_options options = {.timeout_ms = 1400, .notice = notice, .user = &heard};
	optd_client *client;
	(void)state;
	leave_endpoint(endpoint, sizeof(endpoint));
	assert_int_equal(optd_connect(endpoint, &options, &client), OPTD_UNREACHABLE);
	expect_heard_soon(&heard, " 1 s");
	assert_memory_equal(heard.away, endpoint, strlen(endpoint));
}

static void test_a_server_that_comes_is_told_of(void **state)
{
	static struct fake_daemon daemon;
	char endpoint[LIMIT_ENDPOINT_BYTES + 1], again[512];
	struct heard heard = {.start_ms = hub_now_ms(), .back = &daemon, .endpoint = endpoint};
	optd_options options = {.timeout_ms = 20000, .notice = notice, .user = &heard};
	optd_client *client;
	(void)state;
	leave_endpoint(endpoint, sizeof(endpoint));
	assert_int_equal(optd_connect(endpoint, &options, &client), 0);
	expect_heard_soon(&heard, " 20 s");
	snprintf(again, sizeof(again), "%s: connected again", endpoint);
	assert_string_equal(heard.last, again);
	optd_close(&client);
	fake_daemon_stop(&daemon);
}

static void test_a_lost_connection_is_told_of_and_made_again(void **state)
{
	static struct fake_daemon daemon, later;
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];
	struct heard heard = {.back = &later, .endpoint = endpoint};
	optd_options options = {.rank = -1, .timeout_ms = 20000, .notice = notice, .user = &heard};
	optd_client *client;
	optd_model *model;
	(void)state;
	fake_daemon_start(&daemon, 9);
	snprintf(endpoint, sizeof(endpoint), "%s", daemon.endpoint);
	assert_int_equal(optd_connect(endpoint, &options, &client), 0);
	fake_daemon_stop(&daemon);
	heard.start_ms = hub_now_ms();
	/* The call goes on with the new one, which has no model. */
	assert_int_equal(optd_open(client, "m", NULL, NULL, &model), OPTD_NO_MODEL);
	expect_heard_soon(&heard, " 20 s");
	assert_non_null(strstr(heard.last, ": connected again"));
	optd_close(&client);
	fake_daemon_stop(&later);
}

static void test_a_short_absence_is_not_told_of(void **state)
{
	static struct fake_daemon daemon;
	char endpoint[LIMIT_ENDPOINT_BYTES + 1];
	struct heard heard = {0};
	optd_options options = {.rank = -1, .timeout_ms = 20000, .notice = notice, .user = &heard};
	optd_client *client;
	(void)state;
	fake_daemon_start(&daemon, 9);
	snprintf(endpoint, sizeof(endpoint), "%s", daemon.endpoint);
	assert_int_equal(optd_connect(endpoint, &options, &client), 0);
	fake_daemon_stop(&daemon);
	fake_daemon_start_at(&daemon, endpoint, 9);
	assert_int_equal(optd_save(client, NULL), OPTD_OK);
	assert_string_equal(heard.away, "");
	optd_close(&client);
	fake_daemon_stop(&daemon);
}

/* ---- operators ---------------------------------------------------------- */

static void expect_gone(const optd_client *client, uint64_t before_ms, const char *why)
{
	assert_non_null(strstr(optd_error(client), why));
	assert_non_null(strstr(optd_error(client), "Connection refused"));
	/* Of sixty seconds. */
	assert_true(hub_now_ms() - before_ms < 10000);
}

static void test_who_saves_does_not_wait_for_a_server_that_is_gone(void **state)
{
	static struct fake_daemon daemon;
	optd_options options = {.rank = -1, .timeout_ms = 60000};
	optd_client *client;
	(void)state;
	fake_daemon_start(&daemon, 9);
	assert_int_equal(optd_connect(daemon.endpoint, &options, &client), 0);
	fake_daemon_stop(&daemon);
	uint64_t before_ms = hub_now_ms();
	assert_int_equal(optd_save(client, NULL), OPTD_UNREACHABLE);
	expect_gone(client, before_ms, "the server was gone before it answered SAVE");
	optd_close(&client);
}

/* SAVE and DROP are under way: the server has said so. */
static void stop_server(void *user, const char *text)
{
	struct fake_daemon *daemon = user;
	if (strstr(text, "waiting for") && !atomic_load(&daemon->stop))
		fake_daemon_stop(daemon);
}

static void test_a_server_that_goes_in_the_middle_of_a_drop_is_told_of_soon(void **state)
{
	static struct fake_daemon daemon;
	optd_options options = {.rank = -1, .timeout_ms = 60000, .notice = stop_server, .user = &daemon};
	optd_client *client;
	(void)state;
	fake_daemon_start(&daemon, 9);
	atomic_store(&daemon.hold, 1);
	assert_int_equal(optd_connect(daemon.endpoint, &options, &client), 0);
	uint64_t before_ms = hub_now_ms();
	assert_int_equal(optd_drop(client, "m"), OPTD_UNREACHABLE);
	expect_gone(client, before_ms, "the server was gone before it answered DROP");
	optd_close(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_client_before_its_server_says_what_it_waits_for),
		cmocka_unit_test(test_a_server_that_comes_is_told_of),
		cmocka_unit_test(test_a_lost_connection_is_told_of_and_made_again),
		cmocka_unit_test(test_a_short_absence_is_not_told_of),
		cmocka_unit_test(test_who_saves_does_not_wait_for_a_server_that_is_gone),
		cmocka_unit_test(test_a_server_that_goes_in_the_middle_of_a_drop_is_told_of_soon),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
