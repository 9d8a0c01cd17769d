/* Model: what it holds, what it takes, and that only commits change it. */
#include <string.h>

#include "server/core/model.h"
#include "tests/support/core_world.h"

static struct model_settings settings_of(const char *optimizer)
{
	struct model_settings settings = {.mode = MSG_ASYNC, .reduce = MSG_MEAN, .workers = 1};
	char why[128];
	assert_int_equal(optim_init(&settings.optim, optim_find(optimizer), OPTIM_TORCH2, why, sizeof(why)), 0);
	return settings;
}

static struct layout *layout_of(uint64_t elements)
{
	struct layout *layout = layout_new();
	assert_int_equal(layout_add(layout, "w", 1, &elements, 1, 0), 0);
	assert_int_equal(layout_cut(layout, NULL), 0);
	return layout;
}

static const struct model_place ALONE = {0, 1, 0, 1};

static void test_model_takes_its_layout(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("adam");
	struct layout *layout = layout_of(10);
	struct model *model = model_new("m", &settings, &layout, ALONE);
	assert_null(layout);
	assert_string_equal(model->name, "m");
	assert_int_equal(model->elements, 10);
	assert_int_equal(model->slot_count, 2);
	assert_false(model_ready(model));
	model_free(model);
}

static void test_bytes_are_parameters_and_slots_in_huge_pages(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("adam");
	struct layout *layout = layout_of(1000000);
	uint64_t bytes = model_bytes(&settings, layout, ALONE);
	/* The layout's names take 64 KiB at least, room for groups 13, for changes 27. */
	assert_in_range(bytes, 3 * (4 << 20), 3 * (4 << 20) + 120000);
	layout_free(layout);
}

static void test_shards_of_a_model_hold_all_of_it_once(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("sgd");
	uint64_t elements = 5 * LIMIT_BLOCK_ELEMENTS + 17, sum = 0;
	for (uint32_t daemon = 0; daemon < 2; daemon++) {
		for (uint32_t lane = 0; lane < 2; lane++) {
			struct layout *layout = layout_of(elements);
			struct model *model =
			        model_new("m", &settings, &layout, (struct model_place){daemon, 2, lane, 2});
			assert_int_equal(model->begin, sum);
			sum += model->elements;
			model_free(model);
		}
	}
	assert_int_equal(sum, elements);
}

static void test_shard_without_blocks_is_a_model_of_nothing(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("adam");
	struct layout *layout = layout_of(3);
	struct model *model = model_new("m", &settings, &layout, (struct model_place){1, 2, 0, 1});
	uint64_t lowest = 9, highest = 9;
	assert_int_equal(model->owned.count, 0);
	assert_true(model_ready(model));
	model_versions(model, &lowest, &highest);
	assert_int_equal(lowest, 0);
	assert_int_equal(highest, 0);
	assert_int_equal(model_seat(model, 3), OPTD_OK);
	assert_false(model_owns(model, 0));
	model_free(model);
}

static void test_slots_begin_with_the_rules_values(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("adagrad");
	char why[128];
	const double initial = 0.5;
	struct layout *layout = layout_of(10);
	optim_set(&settings.optim, "initial_accumulator_value", &initial, 1, why, sizeof(why));
	struct model *model = model_new("m", &settings, &layout, ALONE);
	assert_true(model->slots[0][0] == 0.5f);
	assert_true(model->slots[0][9] == 0.5f);
	model_free(model);
}

static void test_hash_sees_every_kind_of_state(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("adam");
	struct layout *layout = layout_of(10);
	struct model *model = model_new("m", &settings, &layout, ALONE);
	uint64_t seen = model_hash(model);
	model->weights[9] = 1;
	assert_int_not_equal(model_hash(model), seen);
	seen = model_hash(model);
	model->slots[1][3] = 1;
	assert_int_not_equal(model_hash(model), seen);
	seen = model_hash(model);
	model->versions[0] = 1;
	assert_int_not_equal(model_hash(model), seen);
	seen = model_hash(model);
	model->updates[0] = 1;
	assert_int_not_equal(model_hash(model), seen);
	seen = model_hash(model);
	model->ready[0] = 1;
	assert_int_not_equal(model_hash(model), seen);
	model_free(model);
}

static void test_scalars_are_shared_by_segments_of_one_count(void **state)
{
	(void)state;
	struct core_world world;
	struct model_settings settings = settings_of("adam");
	struct commit_scalars scalars[3];
	const uint8_t present = 0x5;
	core_world_init(&world);
	struct layout *layout = core_world_layout(&world);
	layout_cut(layout, NULL);
	struct model *model = model_new("m", &settings, &layout, ALONE);
	assert_int_equal(model_scalars(model, 0, NULL, scalars), 1);
	assert_int_equal(scalars[0].t, 1);
	model->updates[1] = 7;
	assert_int_equal(model_scalars(model, 0, NULL, scalars), 2);
	assert_int_equal(scalars[1].t, 8);
	assert_int_equal(model_scalars(model, 0, &present, scalars), 1);
	model_free(model);
}

static void test_applied_step_is_remembered_with_its_rank(void **state)
{
	(void)state;
	struct model_settings settings = settings_of("sgd");
	struct layout *layout = layout_of(4);
	struct model *model = model_new("m", &settings, &layout, ALONE);
	const float gradient[4] = {1, 1, 1, 1};
	struct commit_contributor from = {.rank = 2, .incarnation = 1, .step = 5};
	struct commit_scalars scalars[1];
	struct commit commit = {.kind = COMMIT_STEP, .version = 1, .factor = 1.0f, .contributors = &from,
	                        .contributor_count = 1, .values = gradient, .scalars = scalars};
	assert_int_equal(model_seat(model, 2), OPTD_OK);
	commit.scalars_count = model_scalars(model, 0, NULL, scalars);
	model_apply(model, OPTIM_ISA_BASE, &commit);
	assert_int_equal(model_seen(model, 2, 0), 6);
	assert_int_equal(model_version(model, 0), 1);
	assert_int_equal(model->updates[0], 1);
	model_free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_model_takes_its_layout),
	        cmocka_unit_test(test_bytes_are_parameters_and_slots_in_huge_pages),
	        cmocka_unit_test(test_shards_of_a_model_hold_all_of_it_once),
	        cmocka_unit_test(test_shard_without_blocks_is_a_model_of_nothing),
	        cmocka_unit_test(test_slots_begin_with_the_rules_values),
	        cmocka_unit_test(test_hash_sees_every_kind_of_state),
	        cmocka_unit_test(test_scalars_are_shared_by_segments_of_one_count),
	        cmocka_unit_test(test_applied_step_is_remembered_with_its_rank),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
