/* Pushes of gradients of two bytes an element. */
#include "tests/support/calls_world.h"
#include "tests/support/half.h"

/* 1 and 1.5; as bf16 and as f16. */
#define BF16_ONE 0x3f80
#define BF16_MORE 0x3fc0
#define F16_ONE 0x3c00

static uint16_t *filled(uint16_t bits)
{
	uint16_t *gradient = malloc(N * sizeof(*gradient));

	for (uint32_t i = 0; i < N; i++)
		gradient[i] = bits;
	return gradient;
}

static void test_push_pull_sends_half_the_bytes_and_gets_float32(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(BF16_MORE);
	int before = atomic_load(&w->daemon.pushed_bytes);

	assert_int_equal(optd_push_pull_half(w->model, OPTD_BF16, gradient, w->weights), 0);
	calls_expect_weights(w, 1.5f);
	assert_int_equal(atomic_load(&w->daemon.pushed_bytes) - before, N * 2);
	assert_int_equal(atomic_load(&w->daemon.dtype), DTYPE_BF16);
	free(gradient);
}

static void test_types_may_change_from_step_to_step(void **state)
{
	struct world *w = *state;
	uint16_t *bf16 = filled(BF16_ONE), *f16 = filled(F16_ONE);

	assert_int_equal(optd_push_half(w->model, OPTD_BF16, bf16), 0);
	assert_int_equal(optd_push_half(w->model, OPTD_F16, f16), 0);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 3);
	assert_int_equal(calls_step(w), 3);
	free(bf16);
	free(f16);
}

static void test_started_pushes_keep_their_types(void **state)
{
	struct world *w = *state;
	uint16_t *bf16 = filled(BF16_ONE), *f16 = filled(F16_ONE);
	optd_ticket tickets[3];

	assert_int_equal(optd_start_push_half(w->model, OPTD_F16, f16, &tickets[0]), 0);
	assert_int_equal(optd_start_push(w->model, w->gradient, &tickets[1]), 0);
	assert_int_equal(optd_start_push_pull_half(w->model, OPTD_BF16, bf16, w->weights, &tickets[2]), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(optd_wait(w->client, tickets[i], 0), 0);
	calls_expect_weights(w, 3);
	free(bf16);
	free(f16);
}

static void test_what_was_lost_is_sent_again_as_it_was(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(F16_ONE);
	optd_ticket ticket;

	assert_int_equal(optd_push(w->model, w->gradient), 0);
	atomic_store(&w->daemon.lose_answers, 1);
	assert_int_equal(optd_start_push_pull_half(w->model, OPTD_F16, gradient, w->weights, &ticket), 0);
	while (atomic_load(&w->daemon.applied) < 2 * BLOCKS)
		assert_int_equal(optd_process(w->client), 0);
	/* The daemon goes back to the step's beginning and must get all of it again. */
	atomic_store(&w->daemon.back, 1);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_wait(w->client, ticket, 0), 0);
	assert_int_equal(atomic_load(&w->daemon.applied), 3 * BLOCKS);
	assert_int_equal(atomic_load(&w->daemon.dtype), DTYPE_F16);
	free(gradient);
}

static void test_parts_may_be_halves(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(BF16_ONE);
	const optd_half_part parts[] = {
		{.tensor = 0, .gradient = gradient, .weights = w->weights},
		{.tensor = 2, .gradient = gradient, .weights = w->weights + A + B},
	};
	int before = atomic_load(&w->daemon.pushed_bytes);

	assert_int_equal(optd_push_pull_parts_half(w->model, OPTD_BF16, parts, 2), 0);
	for (uint32_t i = 0; i < A; i++)
		assert_true(w->weights[i] == (float)i + 1);
	for (uint32_t i = A + B; i < N; i++)
		assert_true(w->weights[i] == (float)i + 1);
	assert_int_equal(atomic_load(&w->daemon.pushed_bytes) - before, (A + C) * 2);
	assert_int_equal(optd_push_parts_half(w->model, OPTD_BF16, parts, 1), 0);
	assert_int_equal(calls_step(w), 2);
	free(gradient);
}

static void expect_refused(struct world *w, int rc, int status, const char *why)
{
	assert_int_equal(rc, status);
	if (!strstr(optd_error(w->client), why))
		fail_msg("%s", optd_error(w->client));
	assert_int_equal(atomic_load(&w->daemon.applied), 0);
}

static void test_what_is_not_finite_is_found_by_its_type(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(BF16_ONE);
	const optd_half_part part = {.tensor = 2, .gradient = gradient + A + B};

	/* Inf of f16 is a number of bf16. */
	gradient[A + 5] = 0xfc00;
	expect_refused(w, optd_push_half(w->model, OPTD_F16, gradient), OPTD_NOT_FINITE, "'b' is -inf at index 5");
	gradient[A + 5] = BF16_ONE;
	gradient[A + B + 3] = 0x7f81;
	expect_refused(w, optd_push_half(w->model, OPTD_BF16, gradient), OPTD_NOT_FINITE, "'c' is nan at index 3");
	expect_refused(w, optd_push_parts_half(w->model, OPTD_BF16, &part, 1), OPTD_NOT_FINITE,
	               "'c' is nan at index 3");
	gradient[A + B + 3] = 0xfc00;
	assert_int_equal(optd_push_half(w->model, OPTD_BF16, gradient), 0);
	free(gradient);
}

static int set_up_skip_step(void **state)
{
	return calls_set_up_policy(state, OPTD_SKIP_STEP, 0);
}

static int set_up_zero(void **state)
{
	return calls_set_up_policy(state, OPTD_ZERO, 0);
}

static void test_what_is_not_finite_skips_the_step_where_that_is_the_policy(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(BF16_ONE);

	gradient[A + B + 3] = 0x7f81;
	assert_true(optd_push_half(w->model, OPTD_BF16, gradient) >= 0);
	assert_int_equal(atomic_load(&w->daemon.poisoned), BLOCKS);
	assert_int_equal(atomic_load(&w->daemon.poison_tensor_plus_one), 3);
	free(gradient);
}

static void test_what_is_not_finite_is_sent_as_it_is_where_the_server_looks(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(F16_ONE);

	gradient[0] = 0x7c00;
	assert_int_equal(optd_push_half(w->model, OPTD_F16, gradient), 0);
	assert_int_equal(atomic_load(&w->daemon.poisoned), 0);
	assert_int_equal(atomic_load(&w->daemon.dtype), DTYPE_F16);
	free(gradient);
}

static void test_gradient_and_weights_may_not_overlap(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = (uint16_t *)(void *)w->weights;
	optd_half_part part = {.tensor = 0, .gradient = gradient, .weights = w->weights};

	memset(w->weights, 0, N * sizeof(float));
	expect_refused(w, optd_push_pull_half(w->model, OPTD_BF16, gradient, w->weights), OPTD_INVALID,
	               "share memory");
	expect_refused(w, optd_push_pull_half(w->model, OPTD_F16, gradient + N, w->weights), OPTD_INVALID,
	               "share memory");
	expect_refused(w, optd_push_pull_parts_half(w->model, OPTD_F16, &part, 1), OPTD_INVALID, "share memory");
	part.gradient = gradient + 2 * A;
	assert_int_equal(optd_push_pull_parts_half(w->model, OPTD_F16, &part, 1), 0);
}

static void test_another_type_is_refused(void **state)
{
	struct world *w = *state;
	uint16_t *gradient = filled(0);
	const optd_half_part part = {.tensor = 0, .gradient = gradient};

	expect_refused(w, optd_push_half(w->model, (optd_half)0, gradient), OPTD_INVALID, "neither OPTD_BF16");
	expect_refused(w, optd_push_half(w->model, (optd_half)3, gradient), OPTD_INVALID, "neither OPTD_BF16");
	expect_refused(w, optd_push_parts_half(w->model, (optd_half)0, &part, 1), OPTD_INVALID, "neither OPTD_BF16");
	free(gradient);
}

#define CALL(name) cmocka_unit_test_setup_teardown(name, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALL(test_push_pull_sends_half_the_bytes_and_gets_float32),
		CALL(test_types_may_change_from_step_to_step),
		CALL(test_started_pushes_keep_their_types),
		CALL(test_what_was_lost_is_sent_again_as_it_was),
		CALL(test_parts_may_be_halves),
		CALL(test_what_is_not_finite_is_found_by_its_type),
		cmocka_unit_test_setup_teardown(test_what_is_not_finite_skips_the_step_where_that_is_the_policy,
		                                set_up_skip_step, calls_tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_not_finite_is_sent_as_it_is_where_the_server_looks,
		                                set_up_zero, calls_tear_down),
		CALL(test_gradient_and_weights_may_not_overlap),
		CALL(test_another_type_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
