/*
 * Async on two daemons, one of which goes back to its checkpoint: what is answered
 * afterwards is applied everywhere, also where the other daemon is steps ahead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/optd.h"
#include "proto/limits.h"
#include "tests/support/daemon_process.h"

/* Two blocks, one for each daemon. */
#define HALF LIMIT_BLOCK_ELEMENTS
#define ELEMENTS (2 * HALF)

struct fixture {
	struct daemon_process ahead, behind;
	char endpoints[300];
	optd_client *client;
	optd_model *model;
	float *gradient, *weights;
	char notices[8192]; /* one a line */
};

static void note(void *user, const char *text)
{
	struct fixture *f = user;
	size_t used = strlen(f->notices);

	snprintf(f->notices + used, sizeof(f->notices) - used, "%s\n", text);
}

static void join(struct fixture *f)
{
	const optd_options worker = {.rank = 0, .timeout_ms = 20000, .notice = note, .user = f};
	static const optd_hyper lr = {.name = "lr", .values = {1}, .count = 1};
	const optd_open_options options = {
		.optimizer = "sgd", .hypers = &lr, .hyper_count = 1, .mode = OPTD_ASYNC};
	optd_layout *layout = optd_layout_new();
	assert_int_equal(optd_layout_add(layout, "w", (const uint64_t[]){ELEMENTS}, 1), 0);
	assert_int_equal(optd_connect(f->endpoints, &worker, &f->client), 0);
	assert_int_equal(optd_open(f->client, "m", layout, &options, &f->model), 0);
	optd_layout_free(layout);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	*state = f;
	daemon_init(&f->ahead);
	daemon_init(&f->behind);
	daemon_start_tcp(&f->ahead, 1);
	daemon_start_tcp(&f->behind, 1);
	snprintf(f->endpoints, sizeof(f->endpoints), "%s,%s", f->ahead.endpoints[0],
	         f->behind.endpoints[0]);
	f->gradient = calloc(ELEMENTS, sizeof(float));
	f->weights = calloc(ELEMENTS, sizeof(float));
	for (uint32_t i = 0; i < ELEMENTS; i++)
		f->gradient[i] = -1; /* with lr 1 each weight counts its updates */
	join(f);
	assert_int_equal(optd_init(f->model, f->weights), 1);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	optd_close(&f->client);
	daemon_deinit(&f->ahead);
	daemon_deinit(&f->behind);
	free(f->gradient);
	free(f->weights);
	free(f);
	return 0;
}

static void push(struct fixture *f, int times)
{
	for (int i = 0; i < times; i++)
		assert_int_equal(optd_push(f->model, f->gradient), 0);
}

/* Three steps are saved, two more are lost on the second daemon. */
static void fall_behind(struct fixture *f)
{
	push(f, 3);
	assert_int_equal(optd_save(f->client, "m"), 0);
	push(f, 2);
	daemon_kill(&f->behind);
	daemon_restart(&f->behind, 1);
}

static void expect_updates(struct fixture *f, float ahead, float behind)
{
	assert_int_equal(optd_pull(f->model, f->weights, 0), 0);
	for (uint32_t i = 0; i < ELEMENTS; i++)
		if (f->weights[i] != (i < HALF ? ahead : behind))
			fail_msg("weight %u has seen %g updates, not %g", i, (double)f->weights[i],
			         (double)(i < HALF ? ahead : behind));
}

static void test_pushes_after_an_accepted_rollback_count_on_both_daemons(void **state)
{
	struct fixture *f = *state;
	uint64_t step;
	fall_behind(f);
	assert_int_equal(optd_pull(f->model, f->weights, 0), OPTD_ROLLBACK);
	assert_int_equal(optd_resume_model(f->model, &step), 0);
	assert_int_equal(step, 5);
	expect_updates(f, 5, 3);
	push(f, 2);
	expect_updates(f, 7, 5);
}

static void test_pushes_of_a_new_worker_count_on_both_daemons(void **state)
{
	struct fixture *f = *state;
	fall_behind(f);
	optd_close(&f->client);
	join(f);
	push(f, 1);
	expect_updates(f, 6, 4);
}

static void test_a_daemon_behind_that_starts_again_is_no_rollback(void **state)
{
	struct fixture *f = *state;
	fall_behind(f);
	optd_close(&f->client);
	join(f);
	/* This client has seen nothing there that is gone. */
	assert_int_equal(daemon_stop(&f->behind), 0);
	daemon_restart(&f->behind, 1);
	expect_updates(f, 5, 3);
	push(f, 1);
	/* Its steps leave numbers out there: that is no rollback either. */
	assert_int_equal(daemon_stop(&f->behind), 0);
	daemon_restart(&f->behind, 1);
	push(f, 1);
	expect_updates(f, 7, 5);
}

/* The second one is heard of when the program has accepted what the first one said. */
static void test_a_second_daemon_that_went_back_is_not_said_to_have_the_same_state(void **state)
{
	struct fixture *f = *state;
	char said[400];

	push(f, 3);
	assert_int_equal(optd_save(f->client, "m"), 0);
	push(f, 2);
	daemon_kill(&f->ahead);
	daemon_kill(&f->behind);
	daemon_restart(&f->ahead, 1);
	assert_int_equal(optd_pull(f->model, f->weights, 0), OPTD_ROLLBACK);
	daemon_restart(&f->behind, 1);
	assert_int_equal(optd_resume_model(f->model, NULL), 0);
	snprintf(said, sizeof(said), "model 'm' on %s: the server restarted and went back from step 5 to step 3\n",
	         f->behind.endpoints[0]);
	if (strstr(f->notices, said) == NULL || strstr(f->notices, "same state") != NULL)
		fail_msg("%s", f->notices);
	/* What was said once is over. */
	push(f, 1);
	assert_int_equal(daemon_stop(&f->behind), 0);
	daemon_restart(&f->behind, 1);
	push(f, 1);
	assert_non_null(strstr(f->notices, ": the server restarted with the same state, step 4\n"));
	expect_updates(f, 5, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pushes_after_an_accepted_rollback_count_on_both_daemons,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pushes_of_a_new_worker_count_on_both_daemons,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_daemon_behind_that_starts_again_is_no_rollback,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_second_daemon_that_went_back_is_not_said_to_have_the_same_state,
		                                set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
