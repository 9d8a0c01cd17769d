/*
 * What a worker asks for and must not get: each refusal names the object, both
 * values, and leaves the server as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

static const struct plan alone = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC,
	                           .nonfinite = OPTD_REJECT };

struct fixture {
	struct daemon_process all[2];
	struct trainer trainer;
	optd_client *other;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	for (int i = 0; i < 2; i++)
		daemon_init(&fixture->all[i]);
	daemon_start_tcp(&fixture->all[0], 2);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	optd_close(&fixture->other);
	for (int i = 0; i < 2; i++)
		daemon_deinit(&fixture->all[i]);
	free(fixture);
	return 0;
}

static const char *endpoint(const struct fixture *fixture)
{
	return fixture->all[0].endpoints[0];
}

static void train(struct fixture *fixture, uint64_t steps)
{
	int rc = trainer_open(&fixture->trainer, endpoint(fixture), &alone, 0);
	if (rc < 0)
		fail_msg("%s", trainer_error(&fixture->trainer));
	trainer_run(&fixture->trainer, steps);
}

static void connect_other(struct fixture *fixture, const char *endpoints, int32_t rank)
{
	optd_options options = { .rank = rank, .timeout_ms = 10000 };
	assert_int_equal(optd_connect(endpoints, &options, &fixture->other), OPTD_OK);
}

static void assert_refused(struct fixture *fixture, int rc, int status, const char *const *texts)
{
	if (rc != status)
		fail_msg("%s, not %s: %s", optd_status_name(rc), optd_status_name(status),
		         optd_error(fixture->other));
	for (; *texts != NULL; texts++) {
		if (strstr(optd_error(fixture->other), *texts) == NULL)
			fail_msg("\"%s\" is not in: %s", *texts, optd_error(fixture->other));
	}
}

#define SAYS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Opens "m" as another worker, with its layout unless another is given. */
static int open_other(struct fixture *fixture, const optd_layout *layout,
                      const optd_open_options *options)
{
	optd_layout *own = layout == NULL ? trainer_layout() : NULL;
	optd_model *model = NULL;

	int rc = optd_open(fixture->other, "m", layout != NULL ? layout : own, options, &model);
	optd_layout_free(own);
	return rc;
}

/* The worker that was there is none the worse. */
static void assert_unharmed(struct fixture *fixture)
{
	trainer_run(&fixture->trainer, fixture->trainer.step + 5);
	trainer_assert_exact(fixture->trainer.weights, &alone, fixture->trainer.step);
}

/* ---- ranks and gradients ------------------------------------------------ */

static void test_a_rank_taken_twice_names_host_and_pid(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);
	char host[64], holder[96];

	train(fixture, 3);
	connect_other(fixture, endpoint(fixture), 0);
	gethostname(host, sizeof(host));
	snprintf(holder, sizeof(holder), "%s:%d", host, (int)getpid());
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_RANK_HELD,
	               SAYS("rank 0", holder));
	assert_unharmed(fixture);
}

static void test_a_rank_beyond_the_workers_is_refused(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);

	train(fixture, 3);
	connect_other(fixture, endpoint(fixture), 1);
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_INVALID,
	               SAYS("rank 1", "0 to 0"));
	assert_unharmed(fixture);
}

static void check_not_finite(void **state, float value)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	const uint64_t *shape;
	uint64_t offset, count;
	uint32_t rank;

	train(fixture, 3);
	int64_t index = optd_model_find(trainer->model, "fc.weight");
	assert_non_null(optd_model_tensor(trainer->model, (uint32_t)index, &shape, &rank, &offset,
	                                  &count));
	trainer_gradient(trainer->gradient, trainer->weights, trainer->step, 0);
	trainer->gradient[offset + 4711] = value;
	int rc = optd_push_pull(trainer->model, trainer->gradient, trainer->weights);
	assert_int_equal(rc, OPTD_NOT_FINITE);
	assert_non_null(strstr(trainer_error(trainer), "fc.weight"));
	assert_non_null(strstr(trainer_error(trainer), "4711"));
	assert_unharmed(fixture);
}

static void test_nan_in_a_gradient_names_tensor_and_index(void **state)
{
	check_not_finite(state, NAN);
}

static void test_infinity_in_a_gradient_names_tensor_and_index(void **state)
{
	check_not_finite(state, -INFINITY);
}

/* ---- layouts and settings ----------------------------------------------- */

static void test_another_shape_names_the_tensor_and_both(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);
	optd_layout *layout = optd_layout_new();

	train(fixture, 3);
	optd_layout_add(layout, "scale", NULL, 0);
	optd_layout_add(layout, "embed.weight", (const uint64_t[]){ 700, 512 }, 2);
	connect_other(fixture, endpoint(fixture), -1);
	assert_refused(fixture, open_other(fixture, layout, &options), OPTD_LAYOUT,
	               SAYS("embed.weight", "[700,512]", "[512,700]"));
	optd_layout_free(layout);
	assert_unharmed(fixture);
}

static void test_another_optimizer_names_both(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);

	train(fixture, 3);
	options.optimizer = "sgd";
	options.hyper_count = 0;
	connect_other(fixture, endpoint(fixture), -1);
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_CONFLICT,
	               SAYS("sgd", "adam"));
	assert_unharmed(fixture);
}

static void test_another_learning_rate_names_both(void **state)
{
	struct fixture *fixture = *state;
	const optd_hyper hypers[] = { { "lr", { 0.5 }, 1 } };
	optd_open_options options = trainer_options(&alone);

	train(fixture, 3);
	options.hypers = hypers;
	options.hyper_count = 1;
	connect_other(fixture, endpoint(fixture), -1);
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_CONFLICT,
	               SAYS("lr", "0.5", "0.003"));
	assert_unharmed(fixture);
}

static void check_hyper(void **state, const char *name, double value, const char *range)
{
	struct fixture *fixture = *state;
	const optd_hyper hypers[] = { { name, { value }, 1 } };
	optd_open_options options = trainer_options(&alone);

	options.hypers = hypers;
	options.hyper_count = 1;
	connect_other(fixture, endpoint(fixture), 0);
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_HYPER, SAYS(name, range));
}

static void test_a_hyper_parameter_out_of_range_names_value_and_range(void **state)
{
	check_hyper(state, "eps", -0.25, "-0.25");
}

static void test_an_unknown_hyper_parameter_names_the_nearest(void **state)
{
	check_hyper(state, "wieght_decay", 0.1, "weight_decay");
}

static void test_an_unknown_tensor_names_the_nearest(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, 1);
	assert_int_equal(optd_model_find(fixture->trainer.model, "embed.wieght"), OPTD_NO_TENSOR);
	assert_non_null(strstr(trainer_error(&fixture->trainer), "embed.weight"));
}

/* ---- runs --------------------------------------------------------------- */

static void save_a_run(struct fixture *fixture)
{
	train(fixture, 10);
	trainer_close(&fixture->trainer);
	assert_int_equal(daemon_stop(&fixture->all[0]), 0);
	daemon_restart(&fixture->all[0], 1);
	connect_other(fixture, endpoint(fixture), 0);
}

static void test_resume_never_refuses_the_model_of_an_earlier_run(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);

	save_a_run(fixture);
	options.resume = OPTD_RESUME_NEVER;
	options.run = "another";
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_EXISTS,
	               SAYS("'m'", "step 10"));
}

static void test_resume_auto_goes_on_and_says_so(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);
	optd_layout *layout = trainer_layout();
	optd_model *model;
	optd_model_info info;

	save_a_run(fixture);
	options.run = "another";
	assert_int_equal(optd_open(fixture->other, "m", layout, &options, &model), OPTD_OK);
	optd_layout_free(layout);
	optd_model_get_info(model, &info);
	assert_true(info.restored);
	assert_false(info.created);
	assert_int_equal(info.step, 10);
	assert_non_null(strstr(info.attached, "exists at step 10"));
}

static void test_resume_must_refuses_to_create(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);

	connect_other(fixture, endpoint(fixture), 0);
	options.resume = OPTD_RESUME_MUST;
	assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_NO_MODEL, SAYS("'m'"));
	/* Nothing was made of it: it may still be created. */
	options.resume = OPTD_RESUME_NEVER;
	assert_int_equal(open_other(fixture, NULL, &options), OPTD_OK);
}

/* ---- servers ------------------------------------------------------------ */

static void check_servers(void **state, bool swapped)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);
	char right[300], wrong[300];

	daemon_start_tcp(&fixture->all[1], 1);
	snprintf(right, sizeof(right), "%s,%s", fixture->all[0].endpoints[0],
	         fixture->all[1].endpoints[0]);
	snprintf(wrong, sizeof(wrong), "%s,%s", fixture->all[1].endpoints[0],
	         fixture->all[0].endpoints[0]);
	assert_int_equal(trainer_open(&fixture->trainer, right, &alone, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 3);
	connect_other(fixture, swapped ? wrong : fixture->all[0].endpoints[0], -1);
	if (swapped)
		assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_WRONG_MAP,
		               SAYS("of 2", "'m'"));
	else
		assert_refused(fixture, open_other(fixture, NULL, &options), OPTD_WRONG_MAP,
		               SAYS("1 of 1", "1 of 2"));
	assert_unharmed(fixture);
}

static void test_servers_in_another_order_are_refused(void **state)
{
	check_servers(state, true);
}

static void test_another_number_of_servers_is_refused(void **state)
{
	check_servers(state, false);
}

static void test_the_same_server_twice_is_refused(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options options = trainer_options(&alone);
	optd_options connect = { .rank = 0, .timeout_ms = 5000 };
	char twice[300];

	snprintf(twice, sizeof(twice), "%s,%s", endpoint(fixture), endpoint(fixture));
	int rc = optd_connect(twice, &connect, &fixture->other);
	if (rc == OPTD_OK)
		rc = open_other(fixture, NULL, &options);
	assert_true(rc < 0);
}

/* ---- what could not be saved --------------------------------------------- */

#define TINY_TENSORS 300000u

static optd_layout *tiny_tensors(void)
{
	optd_layout *layout = optd_layout_new();
	char name[16];

	assert_non_null(layout);
	for (uint32_t i = 0; i < TINY_TENSORS; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(optd_layout_add(layout, name, NULL, 0), (int)i);
	}
	return layout;
}

static void no_model(void *user, const optd_status_row *row)
{
	(void)user;
	fail_msg("model '%s' was made", row->model);
}

/* Such a layout still fits its message. */
static void test_a_model_that_no_checkpoint_can_hold_is_refused(void **state)
{
	struct fixture *fixture = *state;
	optd_hyper amsgrad = { .name = "amsgrad", .values = { 1 }, .count = 1 };
	optd_open_options options = { .optimizer = "adam", .hypers = &amsgrad, .hyper_count = 1 };
	optd_layout *layout = tiny_tensors();
	optd_model *model;

	connect_other(fixture, endpoint(fixture), 0);
	assert_refused(fixture, optd_open(fixture->other, "dust", layout, &options, &model),
	               OPTD_TOO_LARGE,
	               SAYS("'dust'", "300000 tensors", "3 state vectors", "accept 100000000"));
	assert_int_equal(optd_get_status(fixture->other, no_model, NULL), OPTD_OK);
	/* Without state it can be saved. */
	options = (optd_open_options){ .optimizer = "sgd" };
	assert_int_equal(optd_open(fixture->other, "dust", layout, &options, &model), OPTD_OK);
	assert_int_equal(optd_drop(fixture->other, "dust"), OPTD_OK);
	optd_layout_free(layout);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_rank_taken_twice_names_host_and_pid),
		TEST(test_a_rank_beyond_the_workers_is_refused),
		TEST(test_nan_in_a_gradient_names_tensor_and_index),
		TEST(test_infinity_in_a_gradient_names_tensor_and_index),
		TEST(test_another_shape_names_the_tensor_and_both),
		TEST(test_another_optimizer_names_both),
		TEST(test_another_learning_rate_names_both),
		TEST(test_a_hyper_parameter_out_of_range_names_value_and_range),
		TEST(test_an_unknown_hyper_parameter_names_the_nearest),
		TEST(test_an_unknown_tensor_names_the_nearest),
		TEST(test_resume_never_refuses_the_model_of_an_earlier_run),
		TEST(test_resume_auto_goes_on_and_says_so),
		TEST(test_resume_must_refuses_to_create),
		TEST(test_servers_in_another_order_are_refused),
		TEST(test_another_number_of_servers_is_refused),
		TEST(test_the_same_server_twice_is_refused),
		TEST(test_a_model_that_no_checkpoint_can_hold_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
