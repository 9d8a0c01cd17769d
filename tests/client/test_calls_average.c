/* Averages of the weights through the library: what is said of versions, and servers that do
 * not know averages. */
#include "tests/support/calls_world.h"

static int open_with(struct world *w, const char *average)
{
	optd_layout *layout = calls_layout();
	optd_open_options options = {.average = average};
	optd_model *model;
	int rc = optd_open(w->client, "n", layout, &options, &model);

	optd_layout_free(layout);
	optd_model_close(&model);
	return rc;
}

static void test_settings_without_an_average_are_counted(void **state)
{
	struct world *w = *state;
	optd_layout *layout = calls_layout();
	const optd_hyper hypers[] = {{.name = "decay", .values = {0.5}, .count = 1}, {.name = "every", .values = {2}, .count = 1}};
	optd_open_options options = {.average_hypers = hypers, .average_hyper_count = 1};
	optd_model *model;

	assert_int_equal(optd_open(w->client, "n", layout, &options, &model), OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), ": 1 setting of an average, but"));
	options.average_hyper_count = 2;
	assert_int_equal(optd_open(w->client, "n", layout, &options, &model), OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), ": 2 settings of an average, but"));
	optd_layout_free(layout);
}

/* It passes over what it does not know. */
static void test_server_that_does_not_know_averages_is_told_apart_by_open(void **state)
{
	struct world *w = *state;

	assert_int_equal(open_with(w, "ema"), OPTD_UNSUPPORTED);
	assert_non_null(strstr(optd_error(w->client), "does not know averages of the weights"));
	assert_int_equal(open_with(w, NULL), OPTD_OK);
}

static void test_weights_are_not_taken_for_an_average(void **state)
{
	struct world *w = *state;

	for (uint32_t i = 0; i < N; i++)
		w->weights[i] = (float)i - 5;
	assert_int_equal(optd_pull_average(w->model, w->weights, 0), OPTD_UNSUPPORTED);
	calls_expect_weights(w, -5);
	assert_int_equal(optd_pull(w->model, w->weights, 0), OPTD_OK);
	calls_expect_weights(w, 0);
	atomic_store(&w->daemon.averages, 1);
	assert_int_equal(optd_pull_average(w->model, w->weights, 0), OPTD_OK);
}

static void test_gradient_is_computed_on_weights_not_on_an_average(void **state)
{
	struct world *w = *state;
	uint64_t lowest, highest;

	atomic_store(&w->daemon.averages, 1);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), OPTD_OK);
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_OK);
	assert_int_equal(optd_pull_average(w->model, w->weights, 0), OPTD_OK);
	optd_model_versions(w->model, &lowest, &highest);
	assert_int_equal(lowest, 2);
	assert_int_equal(highest, 2);
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_OK);
	assert_int_equal(atomic_load(&w->daemon.base_version), 1);
	assert_int_equal(optd_pull(w->model, w->weights, 0), OPTD_OK);
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_OK);
	assert_int_equal(atomic_load(&w->daemon.base_version), 3);
}

static void test_average_needs_an_array(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;

	assert_int_equal(optd_pull_average(w->model, NULL, 0), OPTD_INVALID);
	assert_int_equal(optd_pull_average_parts(w->model, NULL, 1, 0), OPTD_INVALID);
	assert_int_equal(optd_start_pull_average(w->model, NULL, 0, &ticket), OPTD_INVALID);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_settings_without_an_average_are_counted),
	        CASE(test_server_that_does_not_know_averages_is_told_apart_by_open),
	        CASE(test_weights_are_not_taken_for_an_average),
	        CASE(test_gradient_is_computed_on_weights_not_on_an_average),
	        CASE(test_average_needs_an_array),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
