/*
 * A daemon that comes back with lanes of which one cannot be connected to: the
 * client keeps the map it has, says which endpoint it was, and takes the new lanes
 * when there is something to take.
 */
#include "tests/support/calls_world.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

/* More than its old map had, so that reading past the end of what was made for that one
 * is seen by a sanitizer. */
#define LANES 40

static void come_back(struct world *w, int lanes)
{
	w->daemon.last_lane = "bogus";
	atomic_store(&w->daemon.lanes, lanes);
	atomic_store(&w->daemon.restart, 1);
}

static void assert_refused(const struct world *w, int rc)
{
	assert_int_equal(rc, OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), "came back with 40 lanes"));
	assert_non_null(strstr(optd_error(w->client), "'bogus' cannot be connected to"));
}

static void test_a_call_names_the_lane_that_cannot_be_connected_to(void **state)
{
	struct world *w = *state;
	come_back(w, LANES);
	assert_refused(w, optd_pull(w->model, w->weights, 0));
}

static void test_every_later_call_names_it_again(void **state)
{
	struct world *w = *state;
	optd_part part = {.tensor = 2, .gradient = w->gradient, .weights = w->weights};
	come_back(w, LANES);
	assert_refused(w, optd_push_pull(w->model, w->gradient, w->weights));
	assert_refused(w, optd_push_pull(w->model, w->gradient, w->weights));
	assert_refused(w, optd_push_pull_parts(w->model, &part, 1));
	assert_refused(w, optd_save(w->client, NULL));
	assert_int_equal(calls_step(w), 0);
}

static void test_opening_another_model_names_it_too(void **state)
{
	struct world *w = *state;
	optd_model *other;
	come_back(w, LANES);
	assert_refused(w, optd_pull(w->model, w->weights, 0));
	optd_layout *layout = calls_layout();
	assert_refused(w, optd_open(w->client, "other", layout, NULL, &other));
	optd_layout_free(layout);
}

static void test_a_started_call_is_failed_with_it(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;
	come_back(w, LANES);
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &ticket), 0);
	assert_refused(w, optd_wait(w->client, ticket, 0));
}

/* Nothing is under way when the server comes back once more, this time in order: the
 * client asks by itself. */
static void test_training_goes_on_when_the_server_is_mended(void **state)
{
	struct world *w = *state;
	come_back(w, LANES);
	assert_refused(w, optd_push_pull(w->model, w->gradient, w->weights));
	come_back(w, 0);
	int rc;
	while ((rc = optd_push_pull(w->model, w->gradient, w->weights)) == OPTD_INVALID) {
		struct pollfd readable = {.fd = optd_fd(w->client), .events = POLLIN};
		assert_int_equal(poll(&readable, 1, 20000), 1);
		optd_process(w->client);
	}
	assert_int_equal(rc, OPTD_OK);
	calls_expect_weights(w, 1);
	assert_int_equal(calls_step(w), 1);
}

/* No descriptor is left; returns what the limit was. */
static struct rlimit exhaust_descriptors(void)
{
	struct rlimit limit;
	int next = dup(STDIN_FILENO);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	struct rlimit none = {.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return limit;
}

static void test_a_lack_of_descriptors_is_named_and_passes(void **state)
{
	struct world *w = *state;
	come_back(w, 4);
	w->daemon.last_lane = w->daemon.endpoint;
	struct rlimit limit = exhaust_descriptors();
	optd_set_timeout(w->client, 500);
	int rc = optd_pull(w->model, w->weights, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(rc, OPTD_TIMEOUT);
	assert_non_null(strstr(optd_error(w->client), "came back with 4 lanes"));
	assert_non_null(strstr(optd_error(w->client), strerror(EMFILE)));
	/* Its four lanes are one, which gets confused by so many sessions. */
	come_back(w, 0);
	optd_set_timeout(w->client, 20000);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), OPTD_OK);
	calls_expect_weights(w, 1);
}

/* A program with few descriptors: what cannot be is found out without any. */
static void test_a_bad_lane_is_named_without_descriptors(void **state)
{
	struct world *w = *state;
	come_back(w, LANES);
	struct rlimit limit = exhaust_descriptors();
	int rc = optd_pull(w->model, w->weights, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_refused(w, rc);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_call_names_the_lane_that_cannot_be_connected_to),
		TEST(test_every_later_call_names_it_again),
		TEST(test_opening_another_model_names_it_too),
		TEST(test_a_started_call_is_failed_with_it),
		TEST(test_training_goes_on_when_the_server_is_mended),
		TEST(test_a_lack_of_descriptors_is_named_and_passes),
		TEST(test_a_bad_lane_is_named_without_descriptors),
	};
	return cmocka_run_group_tests_name("remap", tests, NULL, NULL);
}
