/*
 * Pushes to a model that clips a norm and is of two servers: what is asked and told beside
 * them.  The fakes keep pushes until they are told to go on, as one that waits for parts does.
 */
#include "tests/support/calls_world.h"

#define DAEMONS 2

struct two {
	struct fake_daemon daemons[DAEMONS];
	optd_client *client;
	optd_model *model;
	float *values;
};

static void hold(struct two *w, int held)
{
	for (int i = 0; i < DAEMONS; i++)
		atomic_store(&w->daemons[i].hold, held);
}

static int set_up(void **state)
{
	struct two *w = calloc(1, sizeof(*w));
	char endpoints[2 * sizeof(w->daemons[0].endpoint)];
	for (int i = 0; i < DAEMONS; i++) {
		fake_daemon_start(&w->daemons[i], 77 + (uint64_t)i);
		atomic_store(&w->daemons[i].clips, 1);
	}
	snprintf(endpoints, sizeof(endpoints), "%.200s,%.200s", w->daemons[0].endpoint, w->daemons[1].endpoint);
	w->values = calloc(N, sizeof(float));
	assert_int_equal(optd_connect(endpoints, &(optd_options){.timeout_ms = 20000}, &w->client), 0);
	optd_layout *layout = calls_layout();
	assert_int_equal(optd_open(w->client, "m", layout, &(optd_open_options){.clip_norm = 1}, &w->model), 0);
	optd_layout_free(layout);
	assert_int_equal(optd_init(w->model, w->values), 1);
	hold(w, 1);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct two *w = *state;
	optd_close(&w->client);
	for (int i = 0; i < DAEMONS; i++)
		fake_daemon_stop(&w->daemons[i]);
	free(w->values);
	free(w);
	return 0;
}

static int asked(const struct two *w, int daemon)
{
	return atomic_load(&w->daemons[daemon].asked);
}

static int told(const struct two *w, int daemon)
{
	return atomic_load(&w->daemons[daemon].told);
}

static int told_wrong(const struct two *w)
{
	return atomic_load(&w->daemons[0].told_wrong) + atomic_load(&w->daemons[1].told_wrong);
}

/* Takes the client through its turns until both have been told so often; what it sends last
 * does not wake it. */
static void until_told(struct two *w, int first, int second)
{
	struct pollfd poll_for = {.fd = optd_fd(w->client), .events = POLLIN};
	for (int turns = 0; told(w, 0) < first || told(w, 1) < second; turns++) {
		assert_true(turns < 2000);
		assert_true(poll(&poll_for, 1, 10) >= 0);
		assert_true(optd_process(w->client) >= 0);
	}
}

static uint64_t step_of(const struct two *w)
{
	optd_model_info info;
	optd_model_get_info(w->model, &info);
	return info.step;
}

/* A push that is held is done when it is made again. */
static void finish(struct two *w, optd_ticket ticket)
{
	optd_cancel(w->client, ticket);
	hold(w, 0);
	assert_int_equal(optd_push(w->model, w->values), 0);
	hold(w, 1);
}

static void test_a_push_tells_each_server_the_parts_of_the_other(void **state)
{
	struct two *w = *state;
	optd_ticket ticket;
	for (int step = 0; step < 2; step++) {
		int first = told(w, 0), second = told(w, 1);
		assert_int_equal(optd_start_push(w->model, w->values, &ticket), 0);
		until_told(w, first + 1, second + 1);
		assert_int_equal(asked(w, 0), step + 1);
		assert_int_equal(asked(w, 1), step + 1);
		assert_int_equal(told_wrong(w), 0);
		finish(w, ticket);
		assert_int_equal(step_of(w), step + 1);
	}
}

static void test_a_server_that_restarts_is_told_again_alone(void **state)
{
	struct two *w = *state;
	optd_ticket ticket;
	assert_int_equal(optd_start_push(w->model, w->values, &ticket), 0);
	until_told(w, 1, 1);
	/* It says so to the next thing that it is sent. */
	atomic_store(&w->daemons[1].restart, 1);
	until_told(w, 1, 2);
	assert_int_equal(told(w, 0), 1);
	assert_int_equal(told_wrong(w), 0);
	finish(w, ticket);
}

static void refused_with(struct two *w, int daemon, int status)
{
	atomic_store(&w->daemons[daemon].refuse_norm, status);
	assert_int_equal(optd_push(w->model, w->values), status);
	assert_non_null(strstr(optd_error(w->client), "model 'm'"));
	assert_non_null(strstr(optd_error(w->client), w->daemons[daemon].endpoint));
	assert_non_null(strstr(optd_error(w->client), "refused for the test"));
}

static void test_a_norm_that_the_first_server_refuses_fails_the_push_and_names_it(void **state)
{
	refused_with(*state, 0, OPTD_CONFLICT);
	assert_int_equal(step_of(*state), 0);
}

static void test_a_norm_that_the_second_server_refuses_fails_the_push_and_names_it(void **state)
{
	refused_with(*state, 1, OPTD_CONFLICT);
	assert_int_equal(step_of(*state), 0);
}

static void test_a_model_that_a_norm_says_is_dropped_is_lost(void **state)
{
	struct two *w = *state;
	refused_with(w, 1, OPTD_MODEL_LOST);
	assert_int_equal(optd_pull(w->model, w->values, 0), OPTD_MODEL_LOST);
}

/* The gradients after a rollback are others, and so are the parts of their norm. */
static void test_a_step_that_was_rolled_back_is_asked_for_anew(void **state)
{
	struct two *w = *state;
	optd_ticket ticket;
	uint64_t step;
	assert_int_equal(optd_start_push(w->model, w->values, &ticket), 0);
	until_told(w, 1, 1);
	finish(w, ticket);
	for (int i = 0; i < DAEMONS; i++) {
		atomic_store(&w->daemons[i].back, 1);
		atomic_store(&w->daemons[i].restart, 1);
	}
	assert_int_equal(optd_pull(w->model, w->values, 0), OPTD_ROLLBACK);
	assert_int_equal(optd_resume_model(w->model, &step), 0);
	assert_int_equal(step, 0);
	int before = asked(w, 0), first = told(w, 0), second = told(w, 1);
	assert_int_equal(optd_start_push(w->model, w->values, &ticket), 0);
	until_told(w, first + 1, second + 1);
	assert_int_equal(asked(w, 0), before + 1);
	finish(w, ticket);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_a_push_tells_each_server_the_parts_of_the_other),
		CASE(test_a_server_that_restarts_is_told_again_alone),
		CASE(test_a_norm_that_the_first_server_refuses_fails_the_push_and_names_it),
		CASE(test_a_norm_that_the_second_server_refuses_fails_the_push_and_names_it),
		CASE(test_a_model_that_a_norm_says_is_dropped_is_lost),
		CASE(test_a_step_that_was_rolled_back_is_asked_for_anew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
