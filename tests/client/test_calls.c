/*
 * The library's calls, against a fake daemon on a thread of its own that loses,
 * damages, forgets and refuses as the test wants.
 */
#include "tests/support/calls_world.h"

/* ---- steps ---------------------------------------------------------------- */

static void test_push_pull_brings_the_weights_after_the_step(void **state)
{
	struct world *w = *state;
	uint64_t low, high;
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 1);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 2);
	optd_model_versions(w->model, &low, &high);
	assert_int_equal(low, 2);
	assert_int_equal(high, 2);
	assert_int_equal(calls_step(w), 2);
}

static void test_push_and_pull_apart_do_the_same(void **state)
{
	struct world *w = *state;
	assert_int_equal(optd_push(w->model, w->gradient), 0);
	assert_int_equal(optd_pull(w->model, w->weights, 1), 0);
	calls_expect_weights(w, 1);
}

static void test_one_array_may_serve_for_both(void **state)
{
	struct world *w = *state;
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->gradient), 0);
	for (uint32_t i = 0; i < N; i++)
		assert_true(w->gradient[i] == (float)i + 1);
}

static void test_some_tensors_are_a_whole_step(void **state)
{
	struct world *w = *state;
	float gradient[C], weights[C];
	for (uint32_t i = 0; i < C; i++)
		gradient[i] = 5;
	optd_part part = {.tensor = 2, .gradient = gradient, .weights = weights};
	assert_int_equal(optd_push_pull_parts(w->model, &part, 1), 0);
	for (uint32_t i = 0; i < C; i++)
		assert_true(weights[i] == (float)(A + B + i) + 5);
	assert_int_equal(atomic_load(&w->daemon.step_answers), 1);
	assert_int_equal(atomic_load(&w->daemon.closed_blocks), BLOCKS - 1);
	assert_int_equal(calls_step(w), 1);
}

static void test_pulling_parts_leaves_the_rest_alone(void **state)
{
	struct world *w = *state;
	float weights[A];
	optd_part part = {.tensor = 0, .weights = weights};
	assert_int_equal(optd_pull_parts(w->model, &part, 1, 0), 0);
	for (uint32_t i = 0; i < A; i++)
		assert_true(weights[i] == (float)i);
	assert_int_equal(calls_step(w), 0);
}

static void test_parts_out_of_order_are_refused_by_name(void **state)
{
	struct world *w = *state;
	optd_part parts[2] = {{.tensor = 1, .weights = w->weights}, {.tensor = 0, .weights = w->weights}};
	assert_int_equal(optd_pull_parts(w->model, parts, 2, 0), OPTD_INVALID);
	assert_non_null(strstr(optd_error(w->client), "ascending order"));
}

static void test_a_reader_takes_the_models_own_layout(void **state)
{
	struct world *w = *state;
	optd_client *client;
	optd_model *model;
	uint64_t count;
	assert_int_equal(optd_connect(w->daemon.endpoint, NULL, &client), 0);
	assert_int_equal(optd_open(client, "m", NULL, NULL, &model), 0);
	assert_int_equal(optd_model_tensor_count(model), 3);
	assert_string_equal(optd_model_tensor(model, 1, NULL, NULL, NULL, &count), "b");
	assert_int_equal(count, B);
	assert_int_equal(optd_model_find(model, "c"), 2);
	assert_int_equal(optd_model_find(model, "cc"), OPTD_NO_TENSOR);
	assert_non_null(strstr(optd_error(client), "'c'"));
	assert_int_equal(optd_push(model, w->gradient), OPTD_DENIED);
	optd_close(&client);
}

/* ---- the finite check --------------------------------------------------------- */

static void test_a_nan_names_its_tensor_and_index_and_nothing_is_sent(void **state)
{
	struct world *w = *state;
	int before = atomic_load(&w->daemon.pushes);
	w->gradient[A + 70000] = NAN;
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), OPTD_NOT_FINITE);
	assert_non_null(strstr(optd_error(w->client), "'b'"));
	assert_non_null(strstr(optd_error(w->client), "index 70000"));
	w->gradient[A + 70000] = 1;
	w->gradient[N - 1] = -INFINITY;
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_NOT_FINITE);
	assert_non_null(strstr(optd_error(w->client), "'c' is -inf at index 16"));
	assert_int_equal(atomic_load(&w->daemon.pushes), before);
	assert_int_equal(calls_step(w), 0);
}

/* ---- accidents on the way ------------------------------------------------------- */

static void test_a_damaged_answer_is_asked_for_again(void **state)
{
	struct world *w = *state;
	atomic_store(&w->daemon.damage_answers, 2);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 1);
}

static void test_nonsense_from_the_server_is_ignored(void **state)
{
	struct world *w = *state;
	atomic_store(&w->daemon.odd_frames, 2);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 1);
}

static void test_lost_answers_over_a_replaced_connection_come_again(void **state)
{
	struct world *w = *state;
	/* The messages arrive and count; then the connection is replaced, and the
	 * answers with it.  The probe finds out. */
	atomic_store(&w->daemon.lose_answers, BLOCKS);
	optd_ticket ticket;
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &ticket), 0);
	while (atomic_load(&w->daemon.lose_answers) > 0)
		assert_int_equal(optd_process(w->client), 0);
	atomic_store(&w->daemon.forget_sessions, 1);
	assert_int_equal(optd_wait(w->client, ticket, 0), 0);
	calls_expect_weights(w, 1);
	assert_int_equal(atomic_load(&w->daemon.applied), BLOCKS);
	assert_int_equal(atomic_load(&w->daemon.hellos), 2);
}

static void test_a_restart_with_the_same_state_is_survived(void **state)
{
	struct world *w = *state;
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 2);
	assert_non_null(strstr(w->noticed, "same state, step 1"));
}

static void keep_text(void *user, const char *text)
{
	snprintf(user, 2048, "%s", text);
}

static void test_a_reader_is_told_the_version_that_a_restart_left(void **state)
{
	struct world *w = *state;
	optd_client *client;
	optd_model *model;
	char noticed[2048] = "";
	optd_options reader = {.rank = -1, .timeout_ms = 20000, .notice = keep_text, .user = noticed};
	for (int i = 0; i < 3; i++)
		assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	assert_int_equal(optd_connect(w->daemon.endpoint, &reader, &client), 0);
	assert_int_equal(optd_open(client, "m", NULL, NULL, &model), 0);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_pull(model, w->weights, 0), 0);
	assert_non_null(strstr(noticed, "same state, version 3"));
	optd_close(&client);
}

static void test_a_restart_in_the_middle_of_a_step_resends_all_of_it(void **state)
{
	struct world *w = *state;
	assert_int_equal(optd_push(w->model, w->gradient), 0);
	/* Two blocks of the step are answered; the daemon then goes back to the step's
	 * beginning, and must get those two again. */
	optd_ticket ticket;
	float *other = malloc(N * sizeof(float));
	atomic_store(&w->daemon.lose_answers, 1);
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, other, &ticket), 0);
	while (atomic_load(&w->daemon.applied) < 2 * BLOCKS)
		assert_int_equal(optd_process(w->client), 0);
	/* The accident happens at the next request, which is the probe. */
	atomic_store(&w->daemon.back, 1);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_wait(w->client, ticket, 0), 0);
	assert_int_equal(atomic_load(&w->daemon.step_answers), 2);
	assert_int_equal(atomic_load(&w->daemon.applied), 3 * BLOCKS);
	free(other);
}

static void test_closing_blocks_carries_the_weight_too(void **state)
{
	struct world *w = *state;
	optd_part part = {.tensor = 0, .gradient = w->gradient};
	assert_int_equal(optd_set_weight(w->model, 32), 0);
	assert_int_equal(optd_push_parts(w->model, &part, 1), 0);
	assert_int_equal(atomic_load(&w->daemon.close_weight), 32);
}

/* ---- what the program must hear --------------------------------------------------- */

static void test_a_rollback_sticks_until_it_is_accepted(void **state)
{
	struct world *w = *state;
	uint64_t step = 99;
	for (int i = 0; i < 3; i++)
		assert_int_equal(optd_push(w->model, w->gradient), 0);
	atomic_store(&w->daemon.back, 2);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_ROLLBACK);
	assert_non_null(strstr(optd_error(w->client), "from step 3 to step 1"));
	assert_int_equal(optd_pull(w->model, w->weights, 0), OPTD_ROLLBACK);
	assert_int_equal(optd_resume_model(w->model, &step), 0);
	assert_int_equal(step, 1);
	assert_int_equal(optd_push(w->model, w->gradient), 0);
	assert_int_equal(calls_step(w), 2);
}

static void test_a_reader_hears_of_a_rollback_too(void **state)
{
	struct world *w = *state;
	optd_client *client;
	optd_model *model;
	for (int i = 0; i < 3; i++)
		assert_int_equal(optd_push(w->model, w->gradient), 0);
	assert_int_equal(optd_connect(w->daemon.endpoint, NULL, &client), 0);
	assert_int_equal(optd_open(client, "m", NULL, NULL, &model), 0);
	assert_int_equal(optd_pull(model, w->weights, 0), 0);
	atomic_store(&w->daemon.back, 2);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_pull(model, w->weights, 0), OPTD_ROLLBACK);
	assert_int_equal(optd_resume_model(model, NULL), 0);
	assert_int_equal(optd_pull(model, w->weights, 0), 0);
	optd_close(&client);
}

static void test_a_lost_model_sticks_until_it_is_opened_anew(void **state)
{
	struct world *w = *state;
	atomic_store(&w->daemon.lose_model, 1);
	atomic_store(&w->daemon.restart, 1);
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_MODEL_LOST);
	assert_int_equal(optd_push(w->model, w->gradient), OPTD_MODEL_LOST);
	assert_int_equal(optd_resume_model(w->model, NULL), OPTD_MODEL_LOST);
	optd_model_close(&w->model);
	optd_layout *layout = calls_layout();
	assert_int_equal(optd_open(w->client, "m", layout, NULL, &w->model), 0);
	optd_layout_free(layout);
	assert_int_equal(optd_init(w->model, w->weights), 1);
	assert_int_equal(optd_push(w->model, w->gradient), 0);
}

static void test_a_refusal_does_not_advance_the_step(void **state)
{
	struct world *w = *state;
	atomic_store(&w->daemon.refuse_push, OPTD_STEP_TIMEOUT);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), OPTD_STEP_TIMEOUT);
	assert_non_null(strstr(optd_error(w->client), "refused for the test"));
	assert_non_null(strstr(optd_error(w->client), w->daemon.endpoint));
	assert_int_equal(calls_step(w), 0);
	/* The same call again: what the server has counts once. */
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 1);
	assert_int_equal(atomic_load(&w->daemon.applied), BLOCKS);
}

static void test_a_timeout_tells_what_the_server_waits_for(void **state)
{
	struct world *w = *state;
	atomic_store(&w->daemon.hold, 1);
	optd_set_timeout(w->client, 300);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), OPTD_TIMEOUT);
	assert_non_null(strstr(optd_error(w->client),
	                       "waiting for 1 of 2 workers: rank 1; start rank 1, or make the same call "
	                       "again to go on waiting"));
	assert_non_null(strstr(w->noticed, "rank 1"));
	atomic_store(&w->daemon.hold, 0);
	optd_set_timeout(w->client, 0);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), 0);
	calls_expect_weights(w, 1);
}

/* ---- tickets and event loops -------------------------------------------------------- */

static void test_a_ticket_is_done_and_waited_for_once(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &ticket), 0);
	assert_int_equal(optd_wait(w->client, ticket, 0), 0);
	calls_expect_weights(w, 1);
	assert_int_equal(optd_wait(w->client, ticket, 0), OPTD_INVALID);
	assert_int_equal(optd_done(w->client, ticket), OPTD_INVALID);
}

static void test_the_descriptor_alone_drives_a_call(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;
	int finished = 0;
	struct pollfd p = {.fd = optd_fd(w->client), .events = POLLIN};
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &ticket), 0);
	while (!optd_done(w->client, ticket)) {
		assert_int_equal(poll(&p, 1, 10000), 1);
		int rc = optd_process(w->client);
		assert_true(rc >= 0);
		finished += rc;
	}
	assert_int_equal(finished, 1);
	assert_int_equal(optd_wait(w->client, ticket, 0), 0);
	calls_expect_weights(w, 1);
}

static void test_the_descriptor_wakes_for_a_probe(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;
	struct pollfd p = {.fd = optd_fd(w->client), .events = POLLIN};
	atomic_store(&w->daemon.lose_answers, BLOCKS);
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &ticket), 0);
	while (!optd_done(w->client, ticket)) {
		if (atomic_load(&w->daemon.lose_answers) == 0 && atomic_load(&w->daemon.hellos) == 1)
			atomic_store(&w->daemon.forget_sessions, 1);
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_true(optd_process(w->client) >= 0);
	}
	assert_int_equal(optd_wait(w->client, ticket, 0), 0);
	calls_expect_weights(w, 1);
}

static void test_pushes_started_together_are_steps_in_their_order(void **state)
{
	struct world *w = *state;
	optd_ticket first, second;
	float *later = malloc(N * sizeof(float));
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &first), 0);
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, later, &second), 0);
	assert_int_equal(optd_wait(w->client, second, 0), 0);
	assert_int_equal(optd_done(w->client, first), 1);
	assert_int_equal(optd_wait(w->client, first, 0), 0);
	calls_expect_weights(w, 1);
	assert_true(later[5] == 7);
	free(later);
}

static void test_a_push_behind_a_failed_one_is_given_up(void **state)
{
	struct world *w = *state;
	optd_ticket first, second;
	atomic_store(&w->daemon.refuse_push, OPTD_STEP_TIMEOUT);
	assert_int_equal(optd_start_push(w->model, w->gradient, &first), 0);
	assert_int_equal(optd_start_push(w->model, w->gradient, &second), 0);
	assert_int_equal(optd_wait(w->client, first, 0), OPTD_STEP_TIMEOUT);
	assert_int_equal(optd_wait(w->client, second, 0), OPTD_CANCELLED);
	assert_int_equal(calls_step(w), 0);
}

static void test_a_push_behind_a_cancelled_one_is_given_up(void **state)
{
	struct world *w = *state;
	optd_ticket first, second;
	/* Or the first may be done before it is cancelled. */
	atomic_store(&w->daemon.hold, 1);
	assert_int_equal(optd_start_push(w->model, w->gradient, &first), 0);
	assert_int_equal(optd_start_push(w->model, w->gradient, &second), 0);
	optd_cancel(w->client, first);
	assert_int_equal(optd_wait(w->client, second, 0), OPTD_CANCELLED);
}

static void test_a_model_the_server_dropped_is_lost(void **state)
{
	struct world *w = *state;
	atomic_store(&w->daemon.refuse_push, OPTD_MODEL_LOST);
	assert_int_equal(optd_push_pull(w->model, w->gradient, w->weights), OPTD_MODEL_LOST);
	assert_int_equal(optd_pull(w->model, w->weights, 0), OPTD_MODEL_LOST);
}

static void test_a_cancelled_ticket_leaves_its_arrays_alone(void **state)
{
	struct world *w = *state;
	optd_ticket ticket;
	atomic_store(&w->daemon.hold, 1);
	assert_int_equal(optd_start_push_pull(w->model, w->gradient, w->weights, &ticket), 0);
	optd_cancel(w->client, ticket);
	assert_int_equal(optd_done(w->client, ticket), OPTD_INVALID);
	for (uint32_t i = 0; i < N; i++)
		w->weights[i] = -1;
	atomic_store(&w->daemon.hold, 0);
	float *other = malloc(N * sizeof(float));
	assert_int_equal(optd_pull(w->model, other, 0), 0);
	for (uint32_t i = 0; i < N; i++)
		assert_true(w->weights[i] == -1);
	free(other);
}

/* ---- opening and closing --------------------------------------------------------------- */

static void test_a_model_is_opened_once_per_client(void **state)
{
	struct world *w = *state;
	optd_layout *layout = calls_layout();
	optd_model *again;
	assert_int_equal(optd_open(w->client, "m", layout, NULL, &again), OPTD_INVALID);
	assert_null(again);
	optd_layout_free(layout);
}

/* Opens a model that is not there with these options; the answer is the client's own. */
static void expect_refused(struct world *w, const char *name, optd_open_options options, int status,
                           const char *why)
{
	optd_layout *layout = calls_layout();
	optd_model *model;
	int opens = atomic_load(&w->daemon.opens);
	assert_int_equal(optd_open(w->client, name, layout, &options, &model), status);
	assert_null(model);
	assert_non_null(strstr(optd_error(w->client), why));
	assert_int_equal(atomic_load(&w->daemon.opens), opens);
	optd_layout_free(layout);
}

static void test_hypers_that_are_not_finite_are_refused_by_name(void **state)
{
	const double bad[] = {NAN, INFINITY, -INFINITY};
	for (int i = 0; i < 3; i++) {
		optd_hyper lr = {"lr", {bad[i], 0}, 1}, betas = {"betas", {0.9, bad[i]}, 2};
		expect_refused(*state, "n", (optd_open_options){.hypers = &lr, .hyper_count = 1}, OPTD_HYPER,
		               "'lr' is ");
		expect_refused(*state, "n", (optd_open_options){.hypers = &betas, .hyper_count = 1},
		               OPTD_HYPER, "'betas' is ");
	}
}

static void test_what_the_wire_would_refuse_is_refused_at_once(void **state)
{
	struct world *w = *state;
	char longer[LIMIT_NAME_BYTES + 2];
	optd_hyper many[LIMIT_HYPERS + 1], unnamed = {"", {1, 0}, 1}, four = {"lr", {1, 0}, 4};
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	for (uint32_t i = 0; i <= LIMIT_HYPERS; i++)
		many[i] = (optd_hyper){"lr", {1, 0}, 1};
	expect_refused(w, "a\xff", (optd_open_options){0}, OPTD_INVALID, "UTF-8");
	expect_refused(w, longer, (optd_open_options){0}, OPTD_INVALID, "513 bytes");
	expect_refused(w, "n", (optd_open_options){.run = longer}, OPTD_INVALID, "run has 513 bytes");
	expect_refused(w, "n", (optd_open_options){.run = "\xc3"}, OPTD_INVALID, "run is not UTF-8");
	expect_refused(w, "n", (optd_open_options){.optimizer = longer}, OPTD_INVALID, "optimizer");
	expect_refused(w, "n", (optd_open_options){.match = "\xff"}, OPTD_INVALID, "match");
	expect_refused(w, "n", (optd_open_options){.workers = 1025}, OPTD_TOO_LARGE, "1025 workers");
	expect_refused(w, "n", (optd_open_options){.mode = (optd_mode)3}, OPTD_INVALID, "mode is 3");
	expect_refused(w, "n", (optd_open_options){.resume = (optd_resume)3}, OPTD_INVALID, "resume");
	expect_refused(w, "n", (optd_open_options){.hypers = many, .hyper_count = LIMIT_HYPERS + 1},
	               OPTD_TOO_LARGE, "33 hyper-parameters");
	expect_refused(w, "n", (optd_open_options){.hypers = &unnamed, .hyper_count = 1}, OPTD_INVALID, "");
	expect_refused(w, "n", (optd_open_options){.hypers = &four, .hyper_count = 1}, OPTD_INVALID, "");
	optd_schedule nameless = {.name = ""}, stretches[LIMIT_SCHEDULE_PARTS + 1];
	optd_schedule_param nan = {"gamma", {NAN}, 1}, empty = {"gamma", {0.5}, 0};
	optd_schedule bad = {.name = "step", .params = &nan, .param_count = 1};
	expect_refused(w, "n", (optd_open_options){.schedule = &nameless, .schedule_count = 1},
	               OPTD_INVALID, "stretch 0 of the schedule has no name");
	expect_refused(w, "n", (optd_open_options){.schedule = stretches, .schedule_count = 5},
	               OPTD_TOO_LARGE, "5 stretches");
	expect_refused(w, "n", (optd_open_options){.schedule = &bad, .schedule_count = 1}, OPTD_HYPER,
	               "schedule 'step': 'gamma' is nan");
	bad.params = &empty;
	expect_refused(w, "n", (optd_open_options){.schedule = &bad, .schedule_count = 1}, OPTD_INVALID,
	               "'gamma' has 0 values");
	assert_int_equal(optd_set_weight(w->model, 1e-310), OPTD_INVALID);
	assert_int_equal(optd_pull(w->model, w->weights, UINT64_MAX), OPTD_INVALID);
	assert_int_equal(optd_drop(w->client, "\xff"), OPTD_INVALID);
}

static void test_closing_says_goodbye(void **state)
{
	struct world *w = *state;
	optd_client *client;
	assert_int_equal(optd_connect(w->daemon.endpoint, NULL, &client), 0);
	optd_close(&client);
	assert_int_equal(atomic_load(&w->daemon.goodbyes), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, calls_set_up, calls_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_push_pull_brings_the_weights_after_the_step),
		CASE(test_push_and_pull_apart_do_the_same),
		CASE(test_one_array_may_serve_for_both),
		CASE(test_some_tensors_are_a_whole_step),
		CASE(test_pulling_parts_leaves_the_rest_alone),
		CASE(test_parts_out_of_order_are_refused_by_name),
		CASE(test_a_reader_takes_the_models_own_layout),
		CASE(test_a_nan_names_its_tensor_and_index_and_nothing_is_sent),
		CASE(test_a_damaged_answer_is_asked_for_again),
		CASE(test_nonsense_from_the_server_is_ignored),
		CASE(test_lost_answers_over_a_replaced_connection_come_again),
		CASE(test_a_restart_with_the_same_state_is_survived),
		CASE(test_a_reader_is_told_the_version_that_a_restart_left),
		CASE(test_a_restart_in_the_middle_of_a_step_resends_all_of_it),
		CASE(test_closing_blocks_carries_the_weight_too),
		CASE(test_a_rollback_sticks_until_it_is_accepted),
		CASE(test_a_reader_hears_of_a_rollback_too),
		CASE(test_a_lost_model_sticks_until_it_is_opened_anew),
		CASE(test_a_refusal_does_not_advance_the_step),
		CASE(test_a_timeout_tells_what_the_server_waits_for),
		CASE(test_a_ticket_is_done_and_waited_for_once),
		CASE(test_the_descriptor_alone_drives_a_call),
		CASE(test_the_descriptor_wakes_for_a_probe),
		CASE(test_pushes_started_together_are_steps_in_their_order),
		CASE(test_a_push_behind_a_failed_one_is_given_up),
		CASE(test_a_push_behind_a_cancelled_one_is_given_up),
		CASE(test_a_model_the_server_dropped_is_lost),
		CASE(test_a_cancelled_ticket_leaves_its_arrays_alone),
		CASE(test_a_model_is_opened_once_per_client),
		CASE(test_hypers_that_are_not_finite_are_refused_by_name),
		CASE(test_what_the_wire_would_refuse_is_refused_at_once),
		CASE(test_closing_says_goodbye),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
