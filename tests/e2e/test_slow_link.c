/*
 * A worker behind a slow link: what it sends and is sent takes far longer than the patience
 * of anyone who waits for an answer, and still nobody cuts it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/daemon_proxy.h"

/* The model takes seven seconds each way. */
#define BYTES_PER_S (trainer_elements() * sizeof(float) / 7)

struct fixture {
	struct daemon_process daemon;
	struct daemon_proxy *proxy;
	struct trainer slow, fast;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, 1);
	fixture->proxy = daemon_proxy_new(fixture->daemon.endpoints[0]);
	daemon_proxy_throttle(fixture->proxy, BYTES_PER_S);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->slow);
	trainer_close(&fixture->fast);
	daemon_proxy_free(fixture->proxy);
	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

static void open_trainer(struct trainer *trainer, const char *endpoint, const struct plan *plan,
                         int32_t rank)
{
	if (trainer_open(trainer, endpoint, plan, rank) != OPTD_OK)
		fail_msg("%s", trainer_error(trainer));
}

static void test_first_weights_arrive_over_one_connection(void **state)
{
	struct fixture *fixture = *state;
	const struct plan plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_ASYNC };

	open_trainer(&fixture->slow, daemon_proxy_endpoint(fixture->proxy), &plan, 0);
	assert_int_equal(daemon_proxy_connections(fixture->proxy), 1);
	trainer_assert_exact(fixture->slow.weights, &plan, 0);
}

static void test_a_step_with_a_fast_worker_takes_one_connection(void **state)
{
	struct fixture *fixture = *state;
	const struct plan plan = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };

	open_trainer(&fixture->fast, fixture->daemon.endpoints[0], &plan, 1);
	open_trainer(&fixture->slow, daemon_proxy_endpoint(fixture->proxy), &plan, 0);
	optd_ticket ticket;
	trainer_gradient(fixture->fast.gradient, fixture->fast.weights, 0, 1);
	assert_int_equal(optd_start_push_pull(fixture->fast.model, fixture->fast.gradient,
	                                      fixture->fast.weights, &ticket), OPTD_OK);
	trainer_run(&fixture->slow, 1);
	assert_int_equal(optd_wait(fixture->fast.client, ticket, DAEMON_DEADLINE_MS), OPTD_OK);
	assert_int_equal(daemon_proxy_connections(fixture->proxy), 1);
	trainer_assert_exact(fixture->slow.weights, &plan, 1);
	trainer_assert_exact(fixture->fast.weights, &plan, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_weights_arrive_over_one_connection),
		TEST(test_a_step_with_a_fast_worker_takes_one_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
