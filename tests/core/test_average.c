/* Averages of the weights: what they are, when they move, who is given them. */
#include <math.h>
#include <string.h>

#include "tests/support/core_world.h"

static char why[256];

static struct average average_of(const char *kind, double start, double every)
{
	struct average average;

	assert_int_equal(average_begin(&average, kind, why, sizeof(why)), OPTD_OK);
	assert_int_equal(average_set(&average, "start", &start, 1, why, sizeof(why)), OPTD_OK);
	assert_int_equal(average_set(&average, "every", &every, 1, why, sizeof(why)), OPTD_OK);
	return average;
}

static struct average ema(double decay, double num_updates)
{
	struct average average = average_of("ema", 0, 1);

	assert_int_equal(average_set(&average, "decay", &decay, 1, why, sizeof(why)), OPTD_OK);
	assert_int_equal(average_set(&average, "num_updates", &num_updates, 1, why, sizeof(why)), OPTD_OK);
	return average;
}

/* ---- the numbers -------------------------------------------------------- */

/* Weights 1, 2, 4, 8, ... after updates 1, 2, 3, 4, ...; what the average is then. */
static float after(const struct average *average, float first, uint32_t updates)
{
	float value = first;

	for (uint32_t i = 1; i <= updates; i++) {
		float w = (float)(1u << (i - 1));
		average_update(average, OPTIM_ISA_BASE, i, &value, &w, 1);
	}
	return value;
}

static void test_ema_begins_with_the_first_weights(void **state)
{
	(void)state;
	struct average half = ema(0.5, 0);
	assert_true(after(&half, 16, 1) == 8.5f);
	assert_true(after(&half, 16, 2) == 5.25f);
}

static void test_ema_with_num_updates_follows_sooner_at_first(void **state)
{
	(void)state;
	struct average average = ema(0.5, 1);
	float d = 2.0f / 11.0f;
	assert_true(after(&average, 16, 1) == (float)(2.0 / 11) * 16 + (float)(1 - 2.0 / 11));
	assert_true(fabsf(after(&average, 16, 1) - (d * 16 + (1 - d))) < 1e-5f);
}

static void test_swa_is_the_mean_of_what_came_after_start(void **state)
{
	(void)state;
	struct average all = average_of("swa", 0, 1), late = average_of("swa", 2, 1);
	assert_true(after(&all, 16, 1) == 1);
	assert_true(after(&all, 16, 3) == 7.0f / 3);
	assert_true(after(&late, 16, 3) == 4);
	assert_true(after(&late, 16, 4) == 6);
}

static void test_average_is_the_weights_up_to_start(void **state)
{
	(void)state;
	struct average late = average_of("ema", 2, 1);
	assert_true(after(&late, 16, 0) == 16);
	assert_true(after(&late, 16, 1) == 1);
	assert_true(after(&late, 16, 2) == 2);
	assert_true(after(&late, 16, 3) != 4);
}

static void test_one_update_in_every_is_averaged(void **state)
{
	(void)state;
	struct average average = average_of("swa", 1, 3);
	assert_true(after(&average, 16, 3) == 1); /* as it was after update 1 */
	assert_true(after(&average, 16, 4) == 8);
	assert_true(after(&average, 16, 6) == 8);
	assert_true(after(&average, 16, 7) == 36);
}

/* ---- settings ----------------------------------------------------------- */

static void refuses(const char *kind, const char *name, double value, const char *words)
{
	struct core_answer said = {.text = ""};
	struct average average, before;

	int rc = average_begin(&average, kind, said.text, sizeof(said.text));
	before = average;
	if (rc == OPTD_OK)
		rc = average_set(&average, name, &value, 1, said.text, sizeof(said.text));
	assert_int_equal(rc, OPTD_HYPER);
	core_assert_text(&said, words);
	assert_memory_equal(&average, &before, sizeof(average));
}

static void test_settings_that_are_none_are_refused_with_those_there_are(void **state)
{
	(void)state;
	refuses("mean", "start", 0, "'mean'|ema or swa");
	refuses("adam", "start", 0, "'adam'|ema or swa");
	refuses("swa", "decay", 0.5, "swa|'decay'|start every");
	refuses("ema", "dekay", 0.5, "'dekay'|decay num_updates start every");
	refuses("ema", "decay", 1.5, "decay=1.5|[0, 1]");
	refuses("ema", "num_updates", 2, "num_updates=2");
	refuses("swa", "every", 0, "every=0|[1, 2^53]");
	refuses("swa", "start", 0.5, "start=0.5|whole number");
	refuses("swa", "start", -1, "start=-1");
	refuses("swa", "start", NAN, "start");
	refuses("swa", "start", 1e16, "start");
}

static void test_text_names_every_setting(void **state)
{
	(void)state;
	char text[AVERAGE_TEXT_BYTES];
	struct average none = {.start = 0}, average = average_of("ema", 1000, 10);
	average_text(&average, text, sizeof(text));
	assert_string_equal(text, "ema decay=0.999 num_updates=0 start=1000 every=10");
	average = average_of("swa", 9007199254740992.0, 9007199254740992.0);
	average_text(&average, text, sizeof(text));
	assert_string_equal(text, "swa start=9007199254740992 every=9007199254740992");
	average_text(&none, text, sizeof(text));
	assert_string_equal(text, "none");
}

/* ---- in a model --------------------------------------------------------- */

/* sgd with lr 1 over t0 [4], t1 [3] and the scalar t2, whose first weights are zeros. */
struct fixture {
	struct core_world world;
	struct engine_preset preset;
};

static void begin(struct fixture *fixture, struct average average)
{
	const double lr = 1;

	memset(fixture, 0, sizeof(*fixture));
	core_world_init(&fixture->world);
	fixture->preset = (struct engine_preset){.model = "m", .optim_given = true};
	struct model_settings *settings = &fixture->preset.settings;
	settings->average = average;
	assert_int_equal(optim_init(&settings->optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&settings->optim, "lr", &lr, 1, why, sizeof(why)), 0);
	fixture->world.options.presets = &fixture->preset;
	fixture->world.options.preset_count = 1;
}

static uint64_t pull(struct core_client *client, enum msg_source source, uint64_t min_version)
{
	struct msg msg = core_msg(client, MSG_PULL);

	msg.source = source;
	msg.min_version = min_version;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	return core_send(client, &msg, NULL, 0);
}

static void is(const struct core_world *world, uint64_t request, enum msg_source source, float value)
{
	const struct core_answer *answer = core_answer(world, request);

	core_assert_ok(world, request);
	assert_int_equal(answer->head.source, source);
	assert_int_equal(answer->count, 8);
	for (uint64_t i = 0; i < answer->count; i++)
		assert_true(answer->values[i] == value);
}

static void test_pull_brings_the_weights_or_their_average(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f, ema(0.5, 0));
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0), reader = core_join(&f.world, 1, MSG_NO_RANK);
	core_push_all(&client, 0, -4);
	is(&f.world, pull(&reader, MSG_WEIGHTS, 0), MSG_WEIGHTS, 4);
	is(&f.world, pull(&reader, MSG_AVERAGE, 0), MSG_AVERAGE, 2);
	core_world_end(&f.world);
}

static void test_average_begins_with_the_first_weights(void **state)
{
	(void)state;
	struct fixture f;
	const float first[8] = {3, 3, 3, 3, 3, 3, 3, 3};
	begin(&f, ema(0.5, 0));
	core_world_start(&f.world);
	struct core_client client = core_client_of(&f.world, 0, 0);
	core_hello(&client);
	core_open(&client);
	core_init_weights(&client, first);
	is(&f.world, pull(&client, MSG_AVERAGE, 0), MSG_AVERAGE, 3);
	core_world_end(&f.world);
}

static void test_push_pull_brings_the_weights(void **state)
{
	(void)state;
	struct fixture f;
	const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	begin(&f, ema(0.5, 0));
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	is(&f.world, core_push(&client, MSG_PUSH_PULL, 0, 0, 1, ones), MSG_WEIGHTS, -1);
	core_world_end(&f.world);
}

static void test_readers_that_waited_get_each_what_they_asked_for(void **state)
{
	(void)state;
	struct fixture f;
	uint64_t weights[2], averages[2];
	begin(&f, ema(0.5, 0));
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0), reader = core_join(&f.world, 1, MSG_NO_RANK);
	for (int i = 0; i < 2; i++) {
		weights[i] = pull(&reader, MSG_WEIGHTS, 1);
		averages[i] = pull(&reader, MSG_AVERAGE, 1);
		assert_null(core_answer(&f.world, averages[i]));
	}
	core_push_all(&client, 0, -4);
	for (int i = 0; i < 2; i++) {
		is(&f.world, weights[i], MSG_WEIGHTS, 4);
		is(&f.world, averages[i], MSG_AVERAGE, 2);
	}
	core_world_end(&f.world);
}

static void test_segments_that_a_step_has_nothing_for_are_not_averaged(void **state)
{
	(void)state;
	struct fixture f;
	const float values[4] = {-4, -4, -4, -4};
	const uint8_t mask = 0x1;
	begin(&f, ema(0.5, 0));
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	core_push_all(&client, 0, -4);
	struct msg msg = core_msg(&client, MSG_PUSH);
	msg.step = 1;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	core_assert_ok(&f.world, core_send(&client, &msg, values, 4));
	const float *average = core_shard(&f.world)->model->average;
	assert_true(average[0] == 5 && average[3] == 5); /* of 0, 4, 8 */
	assert_true(average[4] == 2 && average[7] == 2); /* of 0, 4 */
	core_world_end(&f.world);
}

static void test_average_of_frozen_tensors_is_their_weights(void **state)
{
	(void)state;
	struct fixture f;
	const float first[8] = {3, 3, 3, 3, 3, 3, 3, 3};
	begin(&f, ema(0.5, 0));
	struct groups *groups = &f.preset.settings.groups;
	assert_int_equal(group_begin(&groups->list[0], "t1", &f.preset.settings.optim, NULL, NULL, why, sizeof(why)), 0);
	groups->list[0].frozen = true;
	groups->count = 1;
	core_world_start(&f.world);
	struct core_client client = core_client_of(&f.world, 0, 0);
	core_hello(&client);
	core_open(&client);
	core_init_weights(&client, first);
	core_push_all(&client, 0, -4);
	const struct model *model = core_shard(&f.world)->model;
	assert_true(model->average[0] == 5 && model->average[7] == 5);
	assert_true(model->average[4] == 3 && model->average[6] == 3 && model->weights[4] == 3);
	core_world_end(&f.world);
}

static void test_model_without_an_average_refuses_to_give_it(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f, (struct average){.start = 0});
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	core_assert_refused(&f.world, pull(&client, MSG_AVERAGE, 0), OPTD_INVALID, "'m'|no average|ema or swa");
	core_assert_ok(&f.world, pull(&client, MSG_WEIGHTS, 0));
	assert_null(core_shard(&f.world)->model->average);
	core_world_end(&f.world);
}

static void test_average_takes_one_more_vector(void **state)
{
	(void)state;
	struct model_settings settings = {.mode = MSG_ASYNC, .reduce = MSG_MEAN, .workers = 1};
	uint64_t elements = 1 << 20;
	const struct model_place alone = {0, 1, 0, 1};
	struct layout *layout = layout_new();
	assert_int_equal(optim_init(&settings.optim, optim_find("adam"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(layout_add(layout, "w", 1, &elements, 1, 0), 0);
	assert_int_equal(layout_cut(layout, NULL), 0);
	uint64_t without = model_bytes(&settings, layout, alone);
	assert_int_equal(model_vector_count(&settings), 3);
	settings.average = ema(0.5, 0);
	assert_int_equal(model_vector_count(&settings), 4);
	assert_int_equal(model_bytes(&settings, layout, alone) - without, elements * sizeof(float));
	layout_free(layout);
}

static void test_hash_of_a_model_covers_its_average(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f, ema(0.5, 0));
	core_world_start(&f.world);
	core_join(&f.world, 0, 0);
	uint64_t hash = core_hash(&f.world);
	core_shard(&f.world)->model->average[7] = 1;
	assert_true(core_hash(&f.world) != hash);
	core_world_end(&f.world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_ema_begins_with_the_first_weights),
	        cmocka_unit_test(test_ema_with_num_updates_follows_sooner_at_first),
	        cmocka_unit_test(test_swa_is_the_mean_of_what_came_after_start),
	        cmocka_unit_test(test_average_is_the_weights_up_to_start),
	        cmocka_unit_test(test_one_update_in_every_is_averaged),
	        cmocka_unit_test(test_settings_that_are_none_are_refused_with_those_there_are),
	        cmocka_unit_test(test_text_names_every_setting),
	        cmocka_unit_test(test_pull_brings_the_weights_or_their_average),
	        cmocka_unit_test(test_average_begins_with_the_first_weights),
	        cmocka_unit_test(test_push_pull_brings_the_weights),
	        cmocka_unit_test(test_readers_that_waited_get_each_what_they_asked_for),
	        cmocka_unit_test(test_segments_that_a_step_has_nothing_for_are_not_averaged),
	        cmocka_unit_test(test_average_of_frozen_tensors_is_their_weights),
	        cmocka_unit_test(test_model_without_an_average_refuses_to_give_it),
	        cmocka_unit_test(test_average_takes_one_more_vector),
	        cmocka_unit_test(test_hash_of_a_model_covers_its_average),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
