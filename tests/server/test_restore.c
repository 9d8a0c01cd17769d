/* Restore: checkpoints into the engines of lanes that do not run yet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>
#include <zmq.h>

#include "server/disk/checkpoint.h"
#include "server/restore.h"

#define LANES 2u
#define BLOCKS 3u
#define MEMORY (64u << 20)
#define CREATED_S 1700000000
#define SAVED_S 1700000900

static float weights[BLOCKS * LIMIT_BLOCK_ELEMENTS], average[BLOCKS * LIMIT_BLOCK_ELEMENTS];

struct fixture {
	char dir[32], why[2048];
	struct log log;
	void *context;
	struct lane *lanes[LANES];
	const char *endpoints[LANES];
	uint64_t memory_bytes, epoch;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char path[64];

	assert_non_null(fixture);
	*state = fixture;
	fixture->log = (struct log){ STDERR_FILENO, LOG_TEXT, LOG_ERROR };
	strcpy(fixture->dir, "/tmp/optd-restore.XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	snprintf(path, sizeof(path), "%s/models", fixture->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	fixture->context = zmq_ctx_new();
	for (uint32_t i = 0; i < LANES; i++) {
		const struct lane_options options = { .context = fixture->context,
			                              .log = &fixture->log,
			                              .index = i,
			                              .listen = "tcp://127.0.0.1:*",
			                              .message_bytes = LIMIT_MESSAGE_BYTES,
			                              .window_bytes = LIMIT_WINDOW_BYTES,
			                              .connections = 16 };
		assert_int_equal(lane_open(&options, &fixture->lanes[i], path, sizeof(path)), OPTD_OK);
		fixture->endpoints[i] = lane_endpoint(fixture->lanes[i]);
	}
	return 0;
}

static void remove_file(const struct fixture *fixture, const char *name)
{
	char why[512];

	assert_int_equal(checkpoint_remove(fixture->dir, name, why, sizeof(why)), OPTD_OK);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	char path[64];

	for (uint32_t i = 0; i < LANES; i++)
		lane_close_socket(fixture->lanes[i]);
	zmq_ctx_term(fixture->context);
	for (uint32_t i = 0; i < LANES; i++)
		lane_free(&fixture->lanes[i]);
	remove_file(fixture, "a");
	remove_file(fixture, "b");
	snprintf(path, sizeof(path), "%s/models", fixture->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(fixture->dir), 0);
	free(fixture);
	return 0;
}

/* memory_bytes: of each lane. */
static void start(struct fixture *fixture, uint64_t memory_bytes, uint32_t models)
{
	fixture->memory_bytes = memory_bytes;
	for (uint32_t i = 0; i < LANES; i++) {
		const struct engine_options options = { .lane = i,
			                                .lanes = LANES,
			                                .endpoints = fixture->endpoints,
			                                .epoch = 1,
			                                .memory_bytes = memory_bytes,
			                                .message_bytes = LIMIT_MESSAGE_BYTES,
			                                .window_bytes = LIMIT_WINDOW_BYTES,
			                                .models = models,
			                                .workers = 4,
			                                .step_timeout_ms = 1000 };
		assert_int_equal(lane_start(fixture->lanes[i], &options), OPTD_OK);
	}
}

/* A checkpoint of three blocks at these versions. */
static void write_versions(const struct fixture *fixture, const char *name, const uint64_t counts[BLOCKS],
                           enum msg_mode mode, struct msg_clip clip, struct average kept)
{
	const uint64_t shape = BLOCKS * LIMIT_BLOCK_ELEMENTS;
	const struct checkpoint_part part = { 0, BLOCKS, weights, NULL, counts, counts, NULL, NULL, average };
	struct checkpoint about = { .model = name,
		                    .run = "",
		                    .run_id = 1,
		                    .mode = mode,
		                    .clip = clip,
		                    .reduce = MSG_MEAN,
		                    .workers = 1,
		                    .step_timeout_ms = 1000,
		                    .average = kept,
		                    .skips = { .version = mode == MSG_SYNC ? 4 : 0, .rank = 2, .tensor_plus_one = 1 },
		                    .daemons = 1,
		                    .created_s = CREATED_S,
		                    .saved_s = SAVED_S };
	struct layout *layout = layout_new();
	const double lr = 1.0;
	char why[512];

	assert_int_equal(layout_add(layout, "w", 1, &shape, 1, 0), OPTD_OK);
	assert_int_equal(layout_cut(layout, NULL), OPTD_OK);
	about.layout = layout;
	assert_int_equal(optim_init(&about.optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&about.optim, "lr", &lr, 1, why, sizeof(why)), 0);
	if (checkpoint_write(fixture->dir, &about, &part, 1, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	layout_free(layout);
}

static void write_with(const struct fixture *fixture, const char *name, struct average kept)
{
	write_versions(fixture, name, (const uint64_t[]){ 5, 6, 7 }, MSG_ASYNC, (struct msg_clip){ 0 }, kept);
}

static void write_file(const struct fixture *fixture, const char *name)
{
	write_with(fixture, name, (struct average){ .start = 0 });
}

static int restore(struct fixture *fixture)
{
	return restore_all(fixture->dir, fixture->lanes, LANES, LANES * fixture->memory_bytes,
	                   &fixture->epoch, &fixture->log, fixture->why, sizeof(fixture->why));
}

static const struct model *model_of(const struct fixture *fixture, uint32_t lane)
{
	const struct shard *shard = engine_find(lane_engine(fixture->lanes[lane]), "a");

	assert_non_null(shard);
	assert_true(shard->ready);
	return shard->model;
}

static void test_lanes_share_what_a_file_has(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "a");
	start(fixture, MEMORY, 1);
	assert_int_equal(restore(fixture), 1);
	assert_int_equal(model_of(fixture, 0)->owned.count, 2);
	assert_int_equal(model_version(model_of(fixture, 0), 1), 6);
	assert_int_equal(model_version(model_of(fixture, 1), 2), 7);
}

static void test_a_restored_model_has_the_times_of_its_file(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "a");
	start(fixture, MEMORY, 1);
	assert_int_equal(restore(fixture), 1);
	const struct model *model = model_of(fixture, 1);
	assert_int_equal(model->created_s, CREATED_S);
	/* Its age is that of what it holds: more than a year. */
	assert_true(model->born_ms < (int64_t)(uv_hrtime() / 1000000) - INT64_C(31536000000));
}

static void test_a_model_too_large_is_in_no_lane(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "a");
	start(fixture, 512u << 10, 1);
	assert_int_equal(restore(fixture), OPTD_TOO_LARGE);
	assert_non_null(strstr(fixture->why, "a.safetensors: model 'a' (393216 parameters) takes "));
	assert_non_null(strstr(fixture->why, " are left of 1048576, "));
	for (uint32_t i = 0; i < LANES; i++)
		assert_int_equal(engine_shard_count(lane_engine(fixture->lanes[i])), 0);
}

static void test_lanes_share_the_average_that_a_file_has(void **state)
{
	struct fixture *fixture = *state;
	struct average swa;
	char why[256];

	for (uint32_t i = 0; i < BLOCKS * LIMIT_BLOCK_ELEMENTS; i++)
		average[i] = (float)i;
	assert_int_equal(average_begin(&swa, "swa", why, sizeof(why)), OPTD_OK);
	swa.start = 3;
	write_with(fixture, "a", swa);
	start(fixture, MEMORY, 1);
	if (restore(fixture) != 1)
		fail_msg("%s", fixture->why);
	for (uint32_t lane = 0; lane < LANES; lane++) {
		const struct model *model = model_of(fixture, lane);
		assert_true(average_equal(&model->settings.average, &swa));
		assert_memory_equal(model->average, average + model->begin, model->elements * sizeof(float));
		assert_true(model->weights[7] == 0);
	}
}

/* It had room on one lane; of two the first has two blocks of three. */
static void test_a_model_may_be_shared_unevenly(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "a");
	start(fixture, 1u << 20, 1);
	assert_int_equal(restore(fixture), 1);
	assert_true(engine_bytes(lane_engine(fixture->lanes[0])) > 1u << 20);
}

static void test_one_model_too_many_is_refused_by_name(void **state)
{
	struct fixture *fixture = *state;

	write_file(fixture, "a");
	write_file(fixture, "b");
	start(fixture, MEMORY, 1);
	assert_int_equal(restore(fixture), OPTD_BUSY);
	assert_non_null(strstr(fixture->why, "model 'b' would be number 2 here, limits.models allows 1"));
}

static void test_a_model_that_clips_goes_on_with_the_step_of_its_file(void **state)
{
	struct fixture *fixture = *state;

	write_versions(fixture, "a", (const uint64_t[]){ 6, 6, 6 }, MSG_SYNC,
	               (struct msg_clip){ .norm = 0.5, .norm_type = 1 }, (struct average){ .start = 0 });
	start(fixture, MEMORY, 1);
	assert_int_equal(restore(fixture), 1);
	assert_true(model_of(fixture, 1)->settings.clip.norm == 0.5);
	assert_true(model_of(fixture, 1)->settings.clip.norm_type == 1);
	const struct gate *gate = engine_find(lane_engine(fixture->lanes[1]), "a")->gate;
	assert_true(gate_decides(gate));
	assert_int_equal(gate_step(gate), 6);
	/* Who pushes again to the step that was skipped is told so. */
	assert_int_equal(model_of(fixture, 1)->skips.version, 4);
	assert_int_equal(model_of(fixture, 1)->skips.rank, 2);
	assert_int_equal(model_of(fixture, 1)->skips.count, 0);
}

static void test_half_a_step_of_a_model_that_clips_is_refused(void **state)
{
	struct fixture *fixture = *state;

	write_versions(fixture, "a", (const uint64_t[]){ 6, 6, 7 }, MSG_SYNC,
	               (struct msg_clip){ .norm = 0.5, .norm_type = 2 }, (struct average){ .start = 0 });
	start(fixture, MEMORY, 1);
	assert_int_equal(restore(fixture), OPTD_CORRUPT);
	assert_non_null(strstr(fixture->why, "a.safetensors: model 'a' clips a norm, and has blocks at versions 6 to 7"));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lanes_share_what_a_file_has),
		TEST(test_a_restored_model_has_the_times_of_its_file),
		TEST(test_a_model_too_large_is_in_no_lane),
		TEST(test_lanes_share_the_average_that_a_file_has),
		TEST(test_a_model_may_be_shared_unevenly),
		TEST(test_one_model_too_many_is_refused_by_name),
		TEST(test_a_model_that_clips_goes_on_with_the_step_of_its_file),
		TEST(test_half_a_step_of_a_model_that_clips_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
