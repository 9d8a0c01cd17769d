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
	               " bytes here, 1048576 are left of 1048576, this lane's share of limits.memory (1 of 1 "
	               "lanes); raise it, or move the file away to start without the model");
	assert_true(start_limited(fixture, "memory: 7MiB"));
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
	const struct checkpoint_target all = { 0, BLOCKS, weights, NULL, versions, updates };
	const struct checkpoint_part part = { 0, BLOCKS, weights, NULL, versions, updates, NULL };
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
		TEST(test_models_beyond_their_number_are_refused_with_both_numbers),
		TEST(test_a_model_keeps_its_time_of_creation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
