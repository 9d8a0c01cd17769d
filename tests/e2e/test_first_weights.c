/* First weights on a real daemon: who only pulls waits for who gives them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "client/optd.h"
#include "tests/support/daemon_process.h"

#define ELEMENTS 64

static optd_client *join(const struct daemon_process *daemon, int32_t rank, optd_model **model)
{
	optd_client *client;
	optd_layout *layout = optd_layout_new();
	assert_int_equal(optd_layout_add(layout, "w", (const uint64_t[]){ELEMENTS}, 1), 0);
	optd_options options = {.rank = rank, .timeout_ms = 20000};
	assert_int_equal(optd_connect(daemon->endpoints[0], &options, &client), 0);
	assert_int_equal(
		optd_open(client, "m", layout, &(optd_open_options){.workers = 2}, model), 0);
	optd_layout_free(layout);
	return client;
}

static void test_a_worker_that_pulls_first_waits_for_one_that_gives_weights(void **state)
{
	struct daemon_process daemon;
	float given[ELEMENTS], pulled[ELEMENTS] = {0};
	optd_model *puller_model, *giver_model;
	optd_ticket pull;
	(void)state;
	for (int i = 0; i < ELEMENTS; i++)
		given[i] = (float)i;
	daemon_init(&daemon);
	daemon_start_tcp(&daemon, 2);
	optd_client *puller = join(&daemon, 1, &puller_model);
	assert_int_equal(optd_start_pull(puller_model, pulled, 0, &pull), 0);
	optd_client *giver = join(&daemon, 0, &giver_model);
	assert_int_equal(optd_init(giver_model, given), 1);
	assert_int_equal(optd_wait(puller, pull, 0), 0);
	assert_memory_equal(pulled, given, sizeof(given));
	optd_close(&giver);
	optd_close(&puller);
	daemon_deinit(&daemon);
}

static void test_a_pull_that_times_out_says_that_there_are_no_weights(void **state)
{
	struct daemon_process daemon;
	float weights[ELEMENTS] = {0};
	optd_model *model, *giver_model;
	optd_model_info info;
	optd_ticket ticket;
	(void)state;
	daemon_init(&daemon);
	daemon_start_tcp(&daemon, 2);
	optd_client *client = join(&daemon, 1, &model);
	optd_set_timeout(client, 300);
	assert_int_equal(optd_pull(model, weights, 0), OPTD_TIMEOUT);
	assert_non_null(strstr(optd_error(client), "model 'm' on tcp://"));
	assert_non_null(strstr(optd_error(client), "it has no weights yet: a worker must call optd_init"));
	assert_int_equal(optd_start_pull(model, weights, 0, &ticket), OPTD_OK);
	assert_int_equal(optd_wait(client, ticket, 100), OPTD_TIMEOUT);
	assert_non_null(strstr(optd_error(client), "it has no weights yet"));
	optd_cancel(client, ticket);
	/* Once it has some, what is late is late for another reason. */
	optd_client *giver = join(&daemon, 0, &giver_model);
	assert_int_equal(optd_init(giver_model, weights), 1);
	optd_set_timeout(client, 20000);
	assert_int_equal(optd_pull(model, weights, 0), OPTD_OK);
	optd_model_get_info(model, &info);
	assert_int_equal(info.ready, 1);
	optd_set_timeout(client, 300);
	assert_int_equal(optd_pull(model, weights, 1), OPTD_TIMEOUT);
	assert_null(strstr(optd_error(client), "no weights"));
	optd_close(&giver);
	optd_close(&client);
	daemon_deinit(&daemon);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_worker_that_pulls_first_waits_for_one_that_gives_weights),
		cmocka_unit_test(test_a_pull_that_times_out_says_that_there_are_no_weights),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
