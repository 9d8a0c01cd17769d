/* What the state of whole tensors takes. */
#include <string.h>

#include "server/core/whole.h"
#include "tests/support/core_world.h"

static struct model_settings settings_of(const char *own, const char *beside)
{
	struct model_settings settings = {.mode = MSG_SYNC, .reduce = MSG_MEAN, .workers = 1};
	char why[256];

	assert_int_equal(optim_init(&settings.optim, optim_find(own), OPTIM_TORCH2, why, sizeof(why)), 0);
	if (beside != NULL) {
		settings.groups.count = 1;
		assert_int_equal(group_begin(&settings.groups.list[0], "*.bias", &settings.optim, beside, NULL, why,
		                             sizeof(why)), 0);
	}
	return settings;
}

/* A matrix of four million elements and a vector. */
static struct layout *layout_of(const struct model_settings *settings)
{
	struct layout *layout = layout_new();

	assert_int_equal(layout_add(layout, "fc.weight", 9, (uint64_t[]){2048, 2048}, 2, 0), 0);
	assert_int_equal(layout_add(layout, "fc.bias", 7, (uint64_t[]){2048}, 1, 0), 0);
	assert_int_equal(whole_cut(&settings->groups, &settings->optim, layout), 0);
	return layout;
}

static struct whole_sizes measure(const char *own, const char *beside)
{
	struct model_settings settings = settings_of(own, beside);
	struct layout *layout = layout_of(&settings);
	struct layout_run all = {0, layout_block_count(layout)};
	struct whole_sizes sizes = whole_measure(&settings.groups, &settings.optim, layout, all);

	layout_free(layout);
	return sizes;
}

static void test_adafactor_takes_a_number_a_row_and_a_column(void **state)
{
	struct whole_sizes sizes = measure("adafactor", "adamw");

	(void)state;
	assert_int_equal(sizes.slots[0], 2048 + 2048);
	assert_int_equal(sizes.slots[1], 2048 + 2048);
	assert_int_equal(sizes.tensors, 1);
}

static void test_a_group_with_more_slots_does_not_make_the_matrix_have_them(void **state)
{
	struct whole_sizes sizes = measure("muon", "adamw");

	(void)state;
	assert_int_equal(sizes.slots[0], 2048 * 2048 + 2048);
	assert_int_equal(sizes.slots[1], 2048);
	assert_true(sizes.scratch >= 4 * UINT64_C(2048) * 2048);
}

static void test_the_formula_has_slots_and_working_memory(void **state)
{
	struct model_settings adafactor = settings_of("adafactor", NULL), muon = settings_of("muon", "adamw");
	struct model_settings adam = settings_of("adam", NULL);
	struct model_place place = {0, 1, 0, 1};
	struct layout *small = layout_of(&adafactor), *large = layout_of(&muon), *plain = layout_of(&adam);
	const uint64_t vector = UINT64_C(2048) * 2048 * 4;

	(void)state;
	assert_in_range(model_bytes(&adafactor, small, place), vector, vector + (4u << 20));
	assert_in_range(model_bytes(&muon, large, place), 6 * vector, 6 * vector + (10u << 20));
	assert_in_range(model_bytes(&adam, plain, place), 3 * vector, 3 * vector + (10u << 20));
	layout_free(small);
	layout_free(large);
	layout_free(plain);
}

static void test_a_frozen_tensor_is_not_whole(void **state)
{
	struct model_settings settings = settings_of("lars", "lars");

	(void)state;
	settings.groups.list[0].frozen = true;
	struct layout *layout = layout_of(&settings);
	assert_true(layout_whole(layout, 0));
	assert_false(layout_whole(layout, 1));
	layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_adafactor_takes_a_number_a_row_and_a_column),
	        cmocka_unit_test(test_a_group_with_more_slots_does_not_make_the_matrix_have_them),
	        cmocka_unit_test(test_the_formula_has_slots_and_working_memory),
	        cmocka_unit_test(test_a_frozen_tensor_is_not_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
