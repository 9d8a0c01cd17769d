/* Push_pull with one array for gradient and weights, when it fails half way. */
#include "tests/support/calls_world.h"

static void test_an_overwritten_gradient_is_never_resent(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;
	assert_int_equal(optd_push(w->model, w->gradient), 0);
	atomic_store(&w->daemon.lose_answers, 1);
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->gradient, &ticket), 0);
	while (atomic_load(&w->daemon.applied) < 2 * BLOCKS)
		assert_int_equal(optd_process(w->client), 0);
	/* The accident happens at the next request, which is the probe. */
	atomic_store(&w->daemon.back, 1);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_wait(w->client, ticket, 0), OPTD_ROLLBACK);
	assert_non_null(strstr(optd_error(w->client), "overwritten"));
}

/* A push_pull with one array that times out when some of it is overwritten. */
static void spoil(struct world *w)
{
	atomic_store(&w->daemon.lose_answers, 1);
	optd_set_timeout(w->client, 300);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->gradient), OPTD_TIMEOUT);
	optd_set_timeout(w->client, 20000);
}

static void test_an_overwritten_gradient_is_not_pushed_again(void **state)
{
	struct world *w = *state;
	spoil(w);
	int pushes = atomic_load(&w->daemon.pushes);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->gradient), OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), "overwritten part of its gradient"));
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_INVALID);
	optd_part part = {.tensor = 1, .gradient = w->gradient + A};
	assert_int_equal(optd_push_parts(w->model, &part, 1), OPTD_INVALID);
	assert_int_equal(atomic_load(&w->daemon.pushes), pushes);
	/* From another array the step goes on; then the first is as good as any. */
	assert_int_equal(optd_push_pull(w->model, w->weights, w->weights), 0);
	calls_expect_weights(w, 1);
	assert_int_equal(optd_push(w->model, w->gradient), 0);
	assert_int_equal(calls_step(w), 2);
}

static void test_two_arrays_overwritten_in_one_step_are_both_remembered(void **state)
{
	struct world *w = *state;
	spoil(w);
	float *gradient = w->gradient;
	w->gradient = w->weights;
	spoil(w);
	w->gradient = gradient;
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_INVALID);
	assert_int_equal(optd_push(w->model, w->weights), OPTD_INVALID);
}

static void test_an_array_with_a_gradient_again_is_pushed_after_resume(void **state)
{
	struct world *w = *state;
	uint64_t step = 99;
	spoil(w);
	for (uint32_t i = 0; i < N; i++)
		w->gradient[i] = 1;
	assert_int_equal(optd_resume_model(w->model, &step), 0);
	assert_int_equal(step, 0);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->gradient), 0);
	assert_int_equal(calls_step(w), 1);
}

static void test_an_overwritten_part_is_refused_by_its_tensor(void **state)
{
	struct world *w = *state;
	optd_part parts[] = {{.tensor = 0, .gradient = w->weights, .weights = w->gradient},
	                     {.tensor = 1, .gradient = w->gradient + A, .weights = w->gradient + A}};
	atomic_store(&w->daemon.lose_answers, 1);
	optd_set_timeout(w->client, 300);
	assert_int_equal(optd_push_pull_parts(w->model, parts, 2), OPTD_TIMEOUT);
	optd_set_timeout(w->client, 20000);
	assert_int_equal(optd_push_pull_parts(w->model, parts, 2), OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), "tensor 'b'"));
	/* Tensor a had two arrays. */
	assert_int_equal(optd_push_parts(w->model, parts, 1), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_an_overwritten_gradient_is_never_resent),
		CASE(test_an_overwritten_gradient_is_not_pushed_again),
		CASE(test_two_arrays_overwritten_in_one_step_are_both_remembered),
		CASE(test_an_array_with_a_gradient_again_is_pushed_after_resume),
		CASE(test_an_overwritten_part_is_refused_by_its_tensor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
