/* optd_open and limits on a norm: what is refused before anything is sent, and by whom. */
#include <math.h>

#include "tests/support/calls_world.h"

static int open_with(struct world *w, optd_open_options options)
{
	optd_layout *layout = calls_layout();
	optd_model *model;
	int rc = optd_open(w->client, "n", layout, &options, &model);

	optd_layout_free(layout);
	optd_model_close(&model);
	return rc;
}

static void refused(struct world *w, optd_open_options options, const char *words)
{
	int opens = atomic_load(&w->daemon.opens);

	assert_int_equal(open_with(w, options), OPTD_HYPER);
	assert_non_null(strstr(optd_error(w->client), words));
	assert_int_equal(atomic_load(&w->daemon.opens), opens);
}

static void test_limits_that_are_none_are_refused_at_once(void **state)
{
	struct world *w = *state;

	refused(w, (optd_open_options){.clip_norm = -1}, "clip_norm is -1; give a limit above 0");
	refused(w, (optd_open_options){.clip_norm = NAN}, "clip_norm is nan");
	refused(w, (optd_open_options){.clip_tensor_norm = INFINITY}, "clip_tensor_norm is inf");
	refused(w, (optd_open_options){.clip_norm = 1, .clip_norm_type = 0.5}, "clip_norm_type is 0.5; give 1 or more");
}

/* It passes over what it does not know. */
static void test_server_that_does_not_know_clipping_is_told_apart(void **state)
{
	struct world *w = *state;

	assert_int_equal(open_with(w, (optd_open_options){.clip_norm = 1}), OPTD_UNSUPPORTED);
	assert_non_null(strstr(optd_error(w->client), "does not know clipping by a norm"));
	assert_int_equal(open_with(w, (optd_open_options){.optimizer = "sgd"}), OPTD_OK);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_limits_that_are_none_are_refused_at_once),
	        CASE(test_server_that_does_not_know_clipping_is_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
