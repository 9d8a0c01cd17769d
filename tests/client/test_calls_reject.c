/*
 * Gradients that are not finite in a model with nonfinite reject that several workers push
 * to, on two servers: what the others' servers are told, and what a worker is told of others.
 */
#include "tests/support/calls_world.h"

#include "client/link.h"

#define DAEMONS 2

struct two {
	int count;
	struct fake_daemon daemons[DAEMONS];
	optd_client *client;
	optd_model *model;
	float *values, *weights;
};

static int set_up_with(void **state, int count, int policy_of_the_second, int window)
{
	struct two *w = calloc(1, sizeof(*w));
	char endpoints[2 * sizeof(w->daemons[0].endpoint)];
	w->count = count;
	for (int i = 0; i < count; i++) {
		fake_daemon_start(&w->daemons[i], 77 + (uint64_t)i);
		atomic_store(&w->daemons[i].workers, 3);
		atomic_store(&w->daemons[i].nonfinite, i == 0 ? OPTD_REJECT : policy_of_the_second);
		atomic_store(&w->daemons[i].window, window);
	}
	snprintf(endpoints, sizeof(endpoints), "%.200s%s%.200s", w->daemons[0].endpoint, count > 1 ? "," : "",
	         w->daemons[1].endpoint);
	w->values = calloc(N, sizeof(float));
	w->weights = calloc(N, sizeof(float));
	assert_int_equal(optd_connect(endpoints, &(optd_options){.timeout_ms = 20000}, &w->client), 0);
	optd_layout *layout = calls_layout();
	assert_int_equal(optd_open(w->client, "m", layout, &(optd_open_options){.workers = 3}, &w->model), 0);
	optd_layout_free(layout);
	assert_int_equal(optd_init(w->model, w->values), 1);
	*state = w;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, DAEMONS, OPTD_REJECT, 0);
}

/* One server; a message is one block, and two are under way. */
static int set_up_narrow(void **state)
{
	return set_up_with(state, 1, OPTD_REJECT, 2 * LIMIT_BLOCK_BYTES);
}

static int set_up_older(void **state)
{
	return set_up_with(state, DAEMONS, 0, 0);
}

static int tear_down(void **state)
{
	struct two *w = *state;
	optd_close(&w->client);
	for (int i = 0; i < w->count; i++)
		fake_daemon_stop(&w->daemons[i]);
	free(w->values);
	free(w->weights);
	free(w);
	return 0;
}

static uint64_t step_of(const struct two *w)
{
	optd_model_info info;
	optd_model_get_info(w->model, &info);
	return info.step;
}

static int rejected(const struct two *w)
{
	return atomic_load(&w->daemons[0].rejected) + atomic_load(&w->daemons[1].rejected);
}

static int pushes(const struct two *w)
{
	return atomic_load(&w->daemons[0].pushes) + atomic_load(&w->daemons[1].pushes);
}

static void expect_told(const struct two *w, int times, int tensor, int step)
{
	int blocks = 0;
	for (int i = 0; i < DAEMONS; i++) {
		assert_int_equal(atomic_load(&w->daemons[i].rejected), times);
		assert_int_equal(atomic_load(&w->daemons[i].poison_tensor_plus_one), tensor + 1);
		assert_int_equal(atomic_load(&w->daemons[i].rejected_step), step);
		blocks += atomic_load(&w->daemons[i].rejected_blocks);
	}
	assert_int_equal(blocks, times * BLOCKS);
}

static void expect_own_error(const struct two *w, const char *words)
{
	assert_non_null(strstr(optd_error(w->client), words));
	assert_non_null(strstr(optd_error(w->client), "nothing was sent (nonfinite is reject): push this step again"));
}

/* Until a ticket is done. */
static void process_until(struct two *w, optd_ticket ticket)
{
	struct pollfd poll_for = {.fd = optd_fd(w->client), .events = POLLIN};
	for (int turns = 0; optd_done(w->client, ticket) == 0; turns++) {
		assert_true(turns < 2000);
		assert_true(poll(&poll_for, 1, 10) >= 0);
		assert_true(optd_process(w->client) >= 0);
	}
}

/* ---- its own ------------------------------------------------------------ */

static void test_every_lane_is_told_before_the_call_returns(void **state)
{
	struct two *w = *state;
	int before = pushes(w);
	w->values[3] = NAN;
	assert_int_equal(optd_push_pull(w->model, w->values, w->weights), OPTD_NOT_FINITE);
	expect_own_error(w, "'a' is nan at index 3");
	expect_told(w, 1, 0, 0);
	assert_int_equal(pushes(w), before);
	assert_int_equal(step_of(w), 0);
}

static void test_the_step_goes_on_with_a_finite_gradient(void **state)
{
	struct two *w = *state;
	w->values[3] = NAN;
	assert_int_equal(optd_push(w->model, w->values), OPTD_NOT_FINITE);
	assert_int_equal(optd_push(w->model, w->values), OPTD_NOT_FINITE);
	expect_told(w, 2, 0, 0);
	w->values[3] = 0;
	assert_int_equal(optd_push(w->model, w->values), OPTD_OK);
	assert_int_equal(atomic_load(&w->daemons[0].poisoned), 0);
	assert_int_equal(step_of(w), 1);
	w->values[0] = INFINITY;
	assert_int_equal(optd_push(w->model, w->values), OPTD_NOT_FINITE);
	expect_told(w, 3, 0, 1);
}

static void test_some_tensors_are_told_for_all_blocks(void **state)
{
	struct two *w = *state;
	float c[C] = {0};
	optd_part part = {.tensor = 2, .gradient = c};
	c[16] = -INFINITY;
	assert_int_equal(optd_push_parts(w->model, &part, 1), OPTD_NOT_FINITE);
	expect_own_error(w, "'c' is -inf at index 16");
	expect_told(w, 1, 2, 0);
}

static void test_a_started_push_takes_its_turn_behind_others(void **state)
{
	struct two *w = *state;
	float *bad = calloc(N, sizeof(float));
	optd_ticket first, second, third;
	bad[A] = NAN;
	assert_int_equal(optd_start_push(w->model, w->values, &first), 0);
	assert_int_equal(optd_start_push(w->model, bad, &second), OPTD_NOT_FINITE);
	expect_own_error(w, "'b' is nan at index 0");
	assert_int_equal(rejected(w), 0);
	assert_int_equal(optd_start_push(w->model, w->values, &third), 0);
	process_until(w, third);
	expect_told(w, 1, 1, 1);
	assert_int_equal(optd_wait(w->client, first, 0), OPTD_OK);
	assert_int_equal(optd_wait(w->client, third, 0), OPTD_OK);
	assert_int_equal(step_of(w), 2);
	free(bad);
}

/* Which step it would have been, nobody knows. */
static void test_a_rejection_behind_a_push_that_fails_is_not_told(void **state)
{
	struct two *w = *state;
	float *bad = calloc(N, sizeof(float));
	optd_ticket first, second;
	bad[A] = NAN;
	atomic_store(&w->daemons[0].refuse_push, OPTD_STEP_TIMEOUT);
	assert_int_equal(optd_start_push(w->model, w->values, &first), 0);
	assert_int_equal(optd_start_push(w->model, bad, &second), OPTD_NOT_FINITE);
	assert_int_equal(optd_wait(w->client, first, 0), OPTD_STEP_TIMEOUT);
	assert_int_equal(optd_push(w->model, w->values), OPTD_OK);
	assert_int_equal(rejected(w), 0);
	free(bad);
}

/* It hears when it is back, before anything else of the step. */
static void test_a_server_that_is_away_holds_nobody_up_for_long(void **state)
{
	struct two *w = *state;
	w->values[3] = NAN;
	optd_set_timeout(w->client, 300);
	atomic_store(&w->daemons[1].lose_answers, 1);
	uint64_t began_ms = hub_now_ms();
	assert_int_equal(optd_push(w->model, w->values), OPTD_NOT_FINITE);
	assert_true(hub_now_ms() - began_ms < 2000);
	expect_own_error(w, "'a' is nan at index 3");
	/* While it has not heard of one, another is no news. */
	assert_int_equal(optd_push(w->model, w->values), OPTD_NOT_FINITE);
	assert_int_equal(rejected(w), 2);
	optd_set_timeout(w->client, 20000);
	atomic_store(&w->daemons[1].forget_sessions, 1);
	w->values[3] = 0;
	assert_int_equal(optd_push(w->model, w->values), OPTD_OK);
	assert_int_equal(atomic_load(&w->daemons[0].rejected), 1);
	assert_int_equal(atomic_load(&w->daemons[1].rejected), 2);
	assert_int_equal(step_of(w), 1);
}

static void test_a_server_that_may_not_know_it_is_not_told(void **state)
{
	struct two *w = *state;
	int before = pushes(w);
	w->values[3] = NAN;
	assert_int_equal(optd_push(w->model, w->values), OPTD_NOT_FINITE);
	assert_int_equal(atomic_load(&w->daemons[0].rejected), 1);
	assert_int_equal(pushes(w), before);
	assert_int_equal(atomic_load(&w->daemons[1].closed_blocks), 0);
}

/* ---- of another --------------------------------------------------------- */

/* All of it comes again: the step may need what was taken back, and what was sent may have
 * come after the rank had mended its gradient. */
static void test_a_push_that_hears_of_another_ends_and_is_made_again_as_a_whole(void **state)
{
	struct two *w = *state;
	int before = pushes(w);
	atomic_store(&w->daemons[0].refuse_push, OPTD_NOT_FINITE);
	assert_int_equal(optd_push_pull(w->model, w->values, w->weights), OPTD_NOT_FINITE);
	assert_non_null(strstr(optd_error(w->client), "refused for the test"));
	assert_int_equal(step_of(w), 0);
	assert_int_equal(optd_push_pull(w->model, w->values, w->weights), OPTD_OK);
	/* Of the first call the third was not under way, and the second perhaps not there. */
	assert_in_range(pushes(w), before + 1 + BLOCKS, before + BLOCKS - 1 + BLOCKS);
	assert_int_equal(step_of(w), 1);
}

#define TEST(test, set_up) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_lane_is_told_before_the_call_returns, set_up),
		TEST(test_the_step_goes_on_with_a_finite_gradient, set_up),
		TEST(test_some_tensors_are_told_for_all_blocks, set_up),
		TEST(test_a_started_push_takes_its_turn_behind_others, set_up),
		TEST(test_a_rejection_behind_a_push_that_fails_is_not_told, set_up),
		TEST(test_a_server_that_is_away_holds_nobody_up_for_long, set_up),
		TEST(test_a_server_that_may_not_know_it_is_not_told, set_up_older),
		TEST(test_a_push_that_hears_of_another_ends_and_is_made_again_as_a_whole, set_up_narrow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
