/*
 * optctl status, save and drop against a daemon of two lanes, each of which has its own
 * part of the model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/kept.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define LANES 2
#define STEPS 7

static const struct plan alone = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC };
static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };

struct fixture {
	struct daemon_process daemon;
	struct trainer trainer;
	char out[16384]; /* of optctl */
	json_t *json;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	daemon_start_tcp(&fixture->daemon, LANES);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	daemon_deinit(&fixture->daemon);
	json_decref(fixture->json);
	free(fixture);
	return 0;
}

static void train(struct fixture *fixture, const struct plan *plan, uint64_t steps)
{
	assert_int_equal(trainer_open(&fixture->trainer, fixture->daemon.endpoints[0], plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, steps);
}

static int optctl(struct fixture *fixture, const char *arguments)
{
	return optctl_run(fixture->out, sizeof(fixture->out), "-s %s %s", fixture->daemon.endpoints[0],
	                  arguments);
}

static void must(struct fixture *fixture, const char *arguments)
{
	if (optctl(fixture, arguments) != 0)
		fail_msg("%s", fixture->out);
}

static void assert_out_has(const struct fixture *fixture, const char *text)
{
	if (strstr(fixture->out, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, fixture->out);
}

/* The first model of status --json, good until the next. */
static const json_t *model_json(struct fixture *fixture)
{
	json_error_t error;

	must(fixture, "status --json");
	json_decref(fixture->json);
	fixture->json = json_loads(fixture->out, 0, &error);
	if (fixture->json == NULL)
		fail_msg("line %d: %s: %s", error.line, error.text, fixture->out);
	const json_t *models = json_object_get(fixture->json, "models");
	assert_int_equal(json_array_size(models), 1);
	return json_array_get(models, 0);
}

static uint64_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value))
		fail_msg("%s is not a number", key);
	return (uint64_t)json_integer_value(value);
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	if (value == NULL)
		fail_msg("%s is not a text", key);
	return value;
}

/* Checkpoints of the daemon; the path of the last. */
static size_t checkpoints(const struct daemon_process *daemon, char path[256])
{
	char pattern[128];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/models/*.safetensors", daemon->data);
	size_t count = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	path[0] = '\0';
	if (count > 0)
		snprintf(path, 256, "%s", found.gl_pathv[count - 1]);
	globfree(&found);
	return count;
}

/* ---- status --------------------------------------------------------------- */

static void test_status_as_json_describes_the_model(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, &alone, STEPS);
	const json_t *model = model_json(fixture);
	assert_string_equal(text(fixture->json, "server"), fixture->daemon.endpoints[0]);
	assert_string_equal(text(model, "name"), "m");
	assert_int_equal(strlen(text(model, "run")), 16);
	assert_string_equal(text(model, "mode"), "sync");
	assert_non_null(strstr(text(model, "optimizer"), "adam"));
	assert_string_equal(text(model, "waiting"), "");
	assert_true(json_is_true(json_object_get(model, "ready")));
	assert_true(json_is_false(json_object_get(model, "restored")));
	assert_int_equal(number(model, "elements"), trainer_elements());
	assert_int_equal(number(model, "tensors"), 8);
	assert_int_equal(number(model, "version"), STEPS);
	assert_int_equal(number(model, "version_max"), STEPS);
	assert_int_equal(number(model, "workers"), 1);
	assert_int_equal(number(model, "workers_present"), 1);
	assert_int_equal(number(model, "saved_version"), 0);
}

static void test_a_models_counters_are_the_sums_over_its_lanes(void **state)
{
	static const char *const summed[] = { "block_count", "bytes", "pushes", "pulls", "duplicates",
		                              "refused" };
	struct fixture *fixture = *state;

	train(fixture, &alone, STEPS);
	const json_t *model = model_json(fixture), *lanes = json_object_get(model, "lanes");
	assert_int_equal(json_array_size(lanes), LANES);
	for (size_t k = 0; k < sizeof(summed) / sizeof(*summed); k++) {
		uint64_t sum = 0;
		for (size_t i = 0; i < LANES; i++)
			sum += number(json_array_get(lanes, i), summed[k]);
		assert_int_equal(number(model, summed[k]), sum);
	}
	assert_int_equal(number(model, "block_count"), number(model, "blocks"));
	/* Weights, two slots and the rest: at least three numbers an element. */
	assert_true(number(model, "bytes") >= trainer_elements() * 12);
	for (size_t i = 0; i < LANES; i++) {
		const json_t *lane = json_array_get(lanes, i);
		assert_string_equal(text(lane, "endpoint"), fixture->daemon.endpoints[i]);
		assert_true(number(lane, "block_count") > 0);
		assert_int_equal(number(lane, "first_block"), i == 0 ? 0
		                 : number(json_array_get(lanes, 0), "block_count"));
		assert_int_equal(number(lane, "version"), STEPS);
		/* Each lane was sent at least a message a step. */
		assert_true(number(lane, "pushes") >= STEPS);
	}
}

static void test_status_for_people_says_the_same(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, &alone, STEPS);
	must(fixture, "status");
	assert_out_has(fixture, "m: training\n");
	assert_out_has(fixture, "  step        7\n");
	assert_out_has(fixture, "  parameters  436,122 in 8 tensors, ");
	assert_out_has(fixture, "  optimizer   adam");
	assert_out_has(fixture, "  workers     1 of 1 present, sync\n");
	assert_out_has(fixture, "  saved       nothing yet\n");
	trainer_close(&fixture->trainer);
	must(fixture, "status");
	assert_out_has(fixture, "m: idle: no workers\n");
	assert_out_has(fixture, "  workers     0 of 1 present, sync\n");
}

static void test_status_names_the_rank_that_a_step_lacks(void **state)
{
	struct fixture *fixture = *state;
	optd_ticket ticket;

	train(fixture, &pair, 0);
	assert_int_equal(optd_start_push(fixture->trainer.model, fixture->trainer.gradient, &ticket), 0);
	/* Answered behind the push, by whichever lane. */
	assert_int_equal(optd_pull(fixture->trainer.model, fixture->trainer.weights, 0), OPTD_OK);
	must(fixture, "status");
	assert_out_has(fixture, "m: waiting for rank 1\n");
	assert_out_has(fixture, "  workers     1 of 2 present, sync\n");
	assert_string_equal(text(model_json(fixture), "waiting"), "rank 1");
	optd_cancel(fixture->trainer.client, ticket);
}

static void test_status_of_a_daemon_without_models_says_so(void **state)
{
	struct fixture *fixture = *state;

	must(fixture, "status");
	assert_out_has(fixture, "no models on tcp://127.0.0.1:");
	must(fixture, "status --json");
	assert_out_has(fixture, "\"models\": []");
}

/* ---- save ------------------------------------------------------------------- */

static void test_save_returns_when_the_checkpoint_is_on_disk(void **state)
{
	struct fixture *fixture = *state;
	char path[256];

	train(fixture, &alone, STEPS);
	must(fixture, "save m");
	assert_string_equal(fixture->out, "saved 'm'\n");
	assert_int_equal(checkpoints(&fixture->daemon, path), 1);
	kept_assert_at(path, STEPS, STEPS);
	const json_t *model = model_json(fixture);
	assert_int_equal(number(model, "saved_version"), STEPS);
	for (size_t i = 0; i < LANES; i++)
		assert_int_equal(number(json_array_get(json_object_get(model, "lanes"), i), "saved_version"),
		                 STEPS);
}

static void test_save_without_a_name_saves_all(void **state)
{
	struct fixture *fixture = *state;
	char path[256];

	must(fixture, "save");
	assert_out_has(fixture, "there is nothing to save");
	train(fixture, &alone, STEPS);
	must(fixture, "save");
	assert_string_equal(fixture->out, "saved all models\n");
	assert_int_equal(checkpoints(&fixture->daemon, path), 1);
	trainer_run(&fixture->trainer, STEPS + 2);
	must(fixture, "status");
	assert_out_has(fixture, "  saved       step 7, 2 behind\n");
}

static void test_saving_a_model_that_is_not_there_fails(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, &alone, 1);
	assert_int_equal(optctl(fixture, "save other"), 1);
	assert_out_has(fixture, "optctl: ");
	assert_out_has(fixture, "'other'");
}

/* ---- drop ------------------------------------------------------------------- */

static void test_drop_without_a_terminal_wants_yes(void **state)
{
	struct fixture *fixture = *state;

	train(fixture, &alone, 1);
	assert_int_equal(optctl(fixture, "drop m"), 64);
	assert_out_has(fixture, "--yes");
	trainer_run(&fixture->trainer, 2);
}

static void test_drop_forgets_the_model_and_its_checkpoint(void **state)
{
	struct fixture *fixture = *state;
	char path[256];

	train(fixture, &alone, STEPS);
	must(fixture, "save m");
	must(fixture, "drop --yes m");
	assert_string_equal(fixture->out, "dropped 'm'\n");
	assert_int_equal(checkpoints(&fixture->daemon, path), 0);
	must(fixture, "status");
	assert_out_has(fixture, "no models on ");
	assert_int_equal(trainer_step(&fixture->trainer), OPTD_MODEL_LOST);
	daemon_kill(&fixture->daemon);
	daemon_restart(&fixture->daemon, LANES);
	must(fixture, "status");
	assert_out_has(fixture, "no models on ");
}

static void test_dropping_a_model_that_is_not_there_fails(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(optctl(fixture, "drop --yes other"), 1);
	assert_out_has(fixture, "'other'");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_status_as_json_describes_the_model),
		TEST(test_a_models_counters_are_the_sums_over_its_lanes),
		TEST(test_status_for_people_says_the_same),
		TEST(test_status_names_the_rank_that_a_step_lacks),
		TEST(test_status_of_a_daemon_without_models_says_so),
		TEST(test_save_returns_when_the_checkpoint_is_on_disk),
		TEST(test_save_without_a_name_saves_all),
		TEST(test_saving_a_model_that_is_not_there_fails),
		TEST(test_drop_without_a_terminal_wants_yes),
		TEST(test_drop_forgets_the_model_and_its_checkpoint),
		TEST(test_dropping_a_model_that_is_not_there_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
