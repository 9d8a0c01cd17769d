/*
 * What a start makes of the checkpoints it finds: limits hold for them as they
 * do for models that are opened, and what a file says of its model stays true.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/disk/checkpoint.h"
#include "tests/e2e/blocks.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#include "client/optd.h"

#define EXIT_BAD_CONFIG 78
#define CREATED_S 1700000000

struct fixture {
	struct daemon_process daemon;
	struct speaker speaker;
	char file[128]; /* of model "a" */
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	snprintf(fixture->file, sizeof(fixture->file), "%s/models/a.safetensors", fixture->daemon.data);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	daemon_deinit(&fixture->daemon);
	free(fixture);
	return 0;
}

/* Leaves a checkpoint of the model behind. */
static void train(struct fixture *fixture, const char *model)
{
	daemon_start_tcp(&fixture->daemon, 1);
	blocks_join(&fixture->speaker, fixture->daemon.endpoints[0], model);
	blocks_push(&fixture->speaker, 0, 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	speak_close(&fixture->speaker);
}

static bool start_limited(struct fixture *fixture, const char *limits)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fprintf(file, "listen: tcp://127.0.0.1:0\nlimits: {%s}\n", limits) > 0);
	assert_int_equal(fclose(file), 0);
	return daemon_start_with(&fixture->daemon, (const char *[]){ "--config", path, NULL });
}

static void assert_refused(struct fixture *fixture, const char *limits, const char *why, const char *advice)
{
	assert_false(start_limited(fixture, limits));
	assert_int_equal(fixture->daemon.exit_code, EXIT_BAD_CONFIG);
	assert_null(strstr(fixture->daemon.said, "READY"));
	if (daemon_log_count(&fixture->daemon, why) != 1 || daemon_log_count(&fixture->daemon, advice) != 1) {
		char *log = daemon_log_text(&fixture->daemon);
		print_error("%s", log);
		free(log);
		fail();
	}
}

static void test_a_model_beyond_the_memory_is_refused_with_both_sizes(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, "a");
	assert_refused(fixture, "memory: 1MiB",
	               "/models/a.safetensors: model 'a' (393216 parameters) takes ",
	               " bytes without workers, 1048576 are left of 1048576, limits.memory; raise it, or move "
	               "the file away to start without the model");
	assert_true(start_limited(fixture, "memory: 7MiB"));
}

static void test_models_beyond_the_memory_together_are_refused(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, "a");
	train(fixture, "b");
	assert_refused(fixture, "memory: 2MiB", "/models/b.safetensors: model 'b' ", "are left of 2097152");
	assert_true(start_limited(fixture, "memory: 7MiB"));
}

/* ---- another config ----------------------------------------------------- */

/* Starts with settings for model "a", and stops; how often the log of all starts has the
 * words. */
static uint32_t warnings_of(struct fixture *fixture, const char *settings, const char *words)
{
	char text[256];

	snprintf(text, sizeof(text), "memory: 7MiB}\nmodels:\n- name: a\n  %s\n#{", settings);
	assert_true(start_limited(fixture, text));
	uint32_t count = daemon_log_count(&fixture->daemon, words);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	return count;
}

static void test_a_config_that_a_restored_model_does_not_follow_is_warned_of(void **state)
{
	struct fixture *fixture = *state;
	char out[1024];

	train(fixture, "a"); /* async, sgd with its defaults */
	assert_int_equal(warnings_of(fixture, "mode: async", "event=settings"), 0);
	assert_int_equal(warnings_of(fixture, "optimizer: {name: sgd, lr: 0.001}", "event=settings"), 0);
	assert_int_equal(warnings_of(fixture, "mode: sync",
	                             "event=settings model=a why=\"mode: sync is asked for, the model has async"),
	                 1);
	assert_int_equal(warnings_of(fixture, "nonfinite: zero", "why=\"nonfinite: zero is asked for"), 1);
	assert_int_equal(warnings_of(fixture, "optimizer: {name: sgd, lr: 0.25}",
	                             "lr: here 0.25, the model has 0.001; say the same"),
	                 1);
	assert_true(start_limited(fixture, "memory: 7MiB"));
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s set a lr=0.25", fixture->daemon.endpoints[0]), 0);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_int_equal(warnings_of(fixture, "optimizer: {name: sgd, lr: 0.25}", "event=settings"), 3); /* of before */
}

/* ---- other lanes -------------------------------------------------------- */

#define WORKERS 8
#define PARAMETERS (32 * (uint64_t)LIMIT_BLOCK_ELEMENTS)
/* 16 MiB of weights, as much for the step being collected, and 8 workers with a window
 * of 2 MiB to each lane and back: 64 MiB with one lane, 160 MiB with four. */
#define OF_THE_WORKERS "memory: 80MiB, window: 2MiB, message: 1MiB"

static bool start_lanes(struct fixture *fixture, uint32_t lanes, const char *limits)
{
	char text[160];

	snprintf(text, sizeof(text), "%s}\nlanes: %u\n#{", limits, lanes);
	return start_limited(fixture, text);
}

static int open_large(struct fixture *fixture, int32_t rank, optd_mode mode, bool gives)
{
	const optd_options options = { .rank = rank };
	const optd_open_options how = { .optimizer = "sgd",
		                        .mode = mode,
		                        .workers = mode == OPTD_SYNC ? WORKERS : 1 };
	const uint64_t parameters = PARAMETERS;
	optd_layout *layout = optd_layout_new();
	optd_client *client;
	optd_model *model;

	assert_int_equal(optd_layout_add(layout, "w", &parameters, 1), 0);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &client), OPTD_OK);
	int rc = optd_open(client, "large", layout, &how, &model);
	if (rc == OPTD_OK && gives) {
		float *weights = calloc(parameters, sizeof(float));
		assert_int_equal(optd_init(model, weights), 1);
		free(weights);
	}
	optd_layout_free(layout);
	optd_close(&client);
	return rc;
}

static void leave_large(struct fixture *fixture, optd_mode mode)
{
	assert_true(start_lanes(fixture, 1, OF_THE_WORKERS));
	assert_int_equal(open_large(fixture, 0, mode, true), OPTD_OK);
	if (mode == OPTD_ASYNC)
		assert_int_equal(open_large(fixture, 1, mode, false), OPTD_OK);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_int_equal(daemon_log_count(&fixture->daemon, "event=memory "), 0);
}

static void test_a_model_that_was_served_comes_back_with_more_lanes(void **state)
{
	struct fixture *fixture = *state;

	leave_large(fixture, OPTD_SYNC);
	assert_true(start_lanes(fixture, 4, OF_THE_WORKERS));
	assert_int_equal(daemon_log_count(&fixture->daemon, "event=memory lanes=4 of=4 most="), 1);
	assert_int_equal(open_large(fixture, WORKERS - 1, OPTD_SYNC, false), OPTD_OK);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	assert_true(start_lanes(fixture, 1, OF_THE_WORKERS));
	assert_int_equal(daemon_log_count(&fixture->daemon, "event=memory "), 1);
}

static void test_the_limit_holds_for_what_the_model_is_whatever_the_lanes(void **state)
{
	struct fixture *fixture = *state;

	leave_large(fixture, OPTD_SYNC);
	assert_false(start_lanes(fixture, 4, "memory: 31MiB, window: 2MiB, message: 1MiB"));
	assert_int_equal(fixture->daemon.exit_code, EXIT_BAD_CONFIG);
}

/* One worker is in its settings; the other came. */
static void test_ranks_of_an_async_model_come_back_with_more_lanes(void **state)
{
	struct fixture *fixture = *state;
	const char *limits = "memory: 24MiB, window: 2MiB, message: 1MiB";

	leave_large(fixture, OPTD_ASYNC);
	assert_true(start_lanes(fixture, 4, limits));
	assert_int_equal(open_large(fixture, 0, OPTD_ASYNC, false), OPTD_OK);
	assert_int_equal(open_large(fixture, 1, OPTD_ASYNC, false), OPTD_OK);
	assert_int_equal(open_large(fixture, 2, OPTD_ASYNC, false), OPTD_TOO_LARGE);
}

static void test_models_beyond_their_number_are_refused_with_both_numbers(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, "a");
	train(fixture, "b");
	assert_refused(fixture, "models: 1",
	               "/models/b.safetensors: model 'b' would be number 2 here, limits.models allows 1; ",
	               "raise it, or move the file away to start without the model");
	assert_true(start_limited(fixture, "models: 2"));
}

/* ---- the time of creation ----------------------------------------------- */

/* Writes the file again as that of an older model. */
static void make_older(const struct fixture *fixture)
{
	static float weights[BLOCKS * LIMIT_BLOCK_ELEMENTS];
	uint64_t versions[BLOCKS], updates[BLOCKS];
	const struct checkpoint_target all = { 0, BLOCKS, weights, NULL, versions, updates, NULL, NULL };
	const struct checkpoint_part part = { 0, BLOCKS, weights, NULL, versions, updates, NULL, NULL, NULL };
	struct checkpoint_file *file;
	char why[512];

	assert_int_equal(checkpoint_open(fixture->file, &file, why, sizeof(why)), 0);
	struct checkpoint about = *checkpoint_about(file);
	assert_int_equal(checkpoint_read(file, &all, why, sizeof(why)), 0);
	about.created_s = CREATED_S;
	about.seats = 0;
	assert_int_equal(checkpoint_write(fixture->daemon.data, &about, &part, 1, why, sizeof(why)), 0);
	checkpoint_close(file);
}

static void test_a_model_keeps_its_time_of_creation(void **state)
{
	struct fixture *fixture = *state;
	struct checkpoint_file *file;
	char why[512];

	train(fixture, "a");
	make_older(fixture);
	train(fixture, "a");
	assert_int_equal(checkpoint_open(fixture->file, &file, why, sizeof(why)), 0);
	assert_int_equal(checkpoint_about(file)->created_s, CREATED_S);
	assert_true(checkpoint_about(file)->saved_s > CREATED_S);
	assert_int_equal(checkpoint_version(file, 0), 2);
	checkpoint_close(file);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_model_beyond_the_memory_is_refused_with_both_sizes),
		TEST(test_models_beyond_the_memory_together_are_refused),
		TEST(test_a_config_that_a_restored_model_does_not_follow_is_warned_of),
		TEST(test_a_model_that_was_served_comes_back_with_more_lanes),
		TEST(test_the_limit_holds_for_what_the_model_is_whatever_the_lanes),
		TEST(test_ranks_of_an_async_model_come_back_with_more_lanes),
		TEST(test_models_beyond_their_number_are_refused_with_both_numbers),
		TEST(test_a_model_keeps_its_time_of_creation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
