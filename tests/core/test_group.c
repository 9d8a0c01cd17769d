/* Groups: what each is under, which tensors it has, and what is refused. */
#include <string.h>

#include "server/core/group.h"
#include "tests/support/core_world.h"

static char why[1024];

static struct optim optim_of(const char *name, const char *hyper, double value)
{
	struct optim optim;

	assert_int_equal(optim_init(&optim, optim_find(name), OPTIM_TORCH2, why, sizeof(why)), 0);
	if (hyper != NULL)
		assert_int_equal(optim_set(&optim, hyper, &value, 1, why, sizeof(why)), 0);
	return optim;
}

static struct group group_of(const char *tensors, const struct optim *own, const char *name)
{
	struct group group;

	if (group_begin(&group, tensors, own, name, NULL, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return group;
}

static double lr_of(const struct group *group)
{
	return group->optim.values[0][0]; /* of every rule that has one, the first */
}

static struct layout *layout_of(const char *const *names, uint32_t count)
{
	struct layout *layout = layout_new();

	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(layout_add(layout, names[i], strlen(names[i]), NULL, 0, 0), 0);
	return layout;
}

static void refuses(const struct groups *groups, const char *const *names, uint32_t count, const char *words)
{
	struct layout *layout = layout_of(names, count);
	struct core_answer said = {.text = ""};

	assert_int_equal(groups_fit(groups, layout, said.text, sizeof(said.text)), OPTD_HYPER);
	core_assert_text(&said, words);
	layout_free(layout);
}

static void test_group_without_a_name_has_the_models_settings(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", "lr", 0.5);
	own.schedule.part_count = 1;
	schedule_part_init(&own.schedule.parts[0], SCHEDULE_CONSTANT_LR);
	struct group group = group_of("*.bias", &own, NULL);
	assert_int_equal(optim_compare(&group.optim, &own, why, sizeof(why)), 0);
	group = group_of("*.bias", &own, "adamw");
	assert_int_equal(optim_compare(&group.optim, &own, why, sizeof(why)), 0);
}

static void test_group_of_another_rule_has_that_rules_defaults(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", "lr", 0.5), defaults = optim_of("adam", NULL, 0);
	struct group group = group_of("*.bias", &own, "adam");
	assert_int_equal(optim_compare(&group.optim, &defaults, why, sizeof(why)), 0);
}

static void test_match_is_the_groups_own_where_the_rule_has_it(void **state)
{
	(void)state;
	struct optim own = optim_of("adam", "lr", 0.5);
	struct group group;
	assert_int_equal(group_begin(&group, "*", &own, NULL, "torch1", why, sizeof(why)), 0);
	assert_int_equal(group.optim.match, OPTIM_TORCH1);
	assert_true(lr_of(&group) == 0.5);
	assert_int_equal(group_begin(&group, "*", &own, NULL, "torch3", why, sizeof(why)), OPTD_HYPER);
	assert_non_null(strstr(why, "'torch3'; it may be torch2"));
	assert_int_equal(group_begin(&group, "*", &own, "adadelta", "numpy", why, sizeof(why)), OPTD_HYPER);
}

static void test_unknown_rule_names_the_nearest(void **state)
{
	(void)state;
	struct optim own = optim_of("adam", NULL, 0);
	struct group group;
	assert_int_equal(group_begin(&group, "*", &own, "averag", NULL, why, sizeof(why)), OPTD_HYPER);
	assert_non_null(strstr(why, "'averag'; the nearest is 'average'"));
	assert_int_equal(group_begin(&group, "a[", &own, NULL, NULL, why, sizeof(why)), OPTD_HYPER);
	assert_non_null(strstr(why, "'a[' has a '['"));
}

static void test_factor_multiplies_the_groups_rate(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", "lr", 0.5);
	struct group group = group_of("embed.*", &own, NULL);
	assert_int_equal(group_scale(&group, 0.25, why, sizeof(why)), 0);
	assert_true(lr_of(&group) == 0.125);
	assert_int_equal(group_scale(&group, -1, why, sizeof(why)), OPTD_HYPER);
	assert_non_null(strstr(why, "lr_factor=-1: adamw: lr=-0.125 is out of range"));
}

static void test_factor_without_effect_is_refused(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", NULL, 0);
	const double rate = 1, steps = 9;
	struct group group = group_of("*", &own, "average");
	assert_int_equal(group_scale(&group, 0.1, why, sizeof(why)), OPTD_HYPER);
	assert_non_null(strstr(why, "which average does not have"));
	group = group_of("*", &own, NULL);
	group.optim.schedule.part_count = 1;
	schedule_part_init(&group.optim.schedule.parts[0], SCHEDULE_ONECYCLE);
	schedule_set(&group.optim.schedule.parts[0], "max_lr", &rate, 1, why, sizeof(why));
	schedule_set(&group.optim.schedule.parts[0], "total_steps", &steps, 1, why, sizeof(why));
	assert_int_equal(group_scale(&group, 0.1, why, sizeof(why)), OPTD_HYPER);
	assert_non_null(strstr(why, "onecycle"));
}

static void test_first_group_that_matches_has_a_tensor(void **state)
{
	(void)state;
	struct optim own = optim_of("sgd", NULL, 0);
	struct groups groups = {.count = 2};
	struct group_finder finder;
	groups.list[0] = group_of("*.bias", &own, NULL);
	groups.list[1] = group_of("fc1.*", &own, NULL);
	group_finder_init(&finder, &groups);
	assert_int_equal(group_find(&finder, "fc1.bias"), 1);
	assert_int_equal(group_find(&finder, "fc1.weight"), 2);
	assert_int_equal(group_find(&finder, "fc2.weight"), 0);
}

static void test_pattern_that_matches_nothing_names_the_nearest_tensors(void **state)
{
	(void)state;
	static const char *const names[] = {"conv.weight", "fc1.bias", "embed", "fc2.bias", "fc2.weight"};
	struct optim own = optim_of("sgd", NULL, 0);
	struct groups groups = {.count = 2};
	groups.list[0] = group_of("embed", &own, NULL);
	groups.list[1] = group_of("*.baes", &own, NULL);
	refuses(&groups, names, 5, "group 2: '*.baes' matches no tensor|of the 5 the nearest are 'fc1.bias', 'fc2.bias', ");
}

static void test_pattern_that_misses_the_only_tensor_names_it(void **state)
{
	(void)state;
	static const char *const names[] = {"embed"};
	struct optim own = optim_of("sgd", NULL, 0);
	struct groups groups = {.count = 1};
	groups.list[0] = group_of("*.bias", &own, NULL);
	refuses(&groups, names, 1, "'*.bias' matches no tensor; there is only 'embed'");
}

static void test_group_whose_tensors_all_are_in_one_before_it_is_refused(void **state)
{
	(void)state;
	static const char *const names[] = {"fc1.bias", "fc1.weight"};
	struct optim own = optim_of("sgd", NULL, 0);
	struct groups groups = {.count = 2};
	groups.list[0] = group_of("fc1.*", &own, NULL);
	groups.list[1] = group_of("*.bias", &own, NULL);
	refuses(&groups, names, 2, "group 2: '*.bias' has no tensor|'fc1.bias'|1: 'fc1.*'");
}

static void test_counts_are_the_most_that_any_group_needs(void **state)
{
	(void)state;
	struct optim own = optim_of("sgd", NULL, 0);
	struct groups groups = {.count = 2};
	groups.list[0] = group_of("a", &own, "adam");
	groups.list[1] = group_of("b", &own, "nadam");
	assert_int_equal(groups_slot_count(&groups, &own), 2);
	assert_int_equal(groups_carry_count(&groups, &own), 1);
	groups.list[1].frozen = true;
	assert_int_equal(groups_carry_count(&groups, &own), 0);
	groups.list[0].frozen = true;
	assert_int_equal(groups_slot_count(&groups, &own), 0);
}

static void test_text_tells_what_groups_have_other_than_the_model(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", "lr", 0.5);
	struct groups groups = {.count = 5};
	char text[600];
	own.schedule.part_count = 1;
	schedule_part_init(&own.schedule.parts[0], SCHEDULE_CONSTANT_LR);
	const double decay = 0, limit = 2;
	groups.list[0] = group_of("a", &own, NULL);
	groups.list[1] = group_of("b", &own, NULL);
	assert_int_equal(group_scale(&groups.list[1], 0.5, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&groups.list[1].optim, "weight_decay", &decay, 1, why, sizeof(why)), 0);
	groups.list[2] = group_of("c", &own, NULL);
	groups.list[2].optim.schedule.part_count = 0;
	assert_int_equal(optim_set(&groups.list[2].optim, "clip_value", &limit, 1, why, sizeof(why)), 0);
	assert_int_equal(group_begin(&groups.list[3], "d", &own, "sgd", "numpy", why, sizeof(why)), 0);
	groups.list[4] = group_of("e", &own, "ema");
	groups_text(&groups, &own, text, sizeof(text));
	assert_string_equal(strchr(text, ';'), "; 5 groups: 'a' adamw, 'b' adamw lr=0.25 weight_decay=0, "
	                                       "'c' adamw clip_value=2 schedule=none, 'd' sgd match=numpy schedule=none, 'e' ema");
}

/* It begins with no schedule, and one that is the model's own is its own words. */
static void test_text_of_another_rule_says_whether_it_has_a_schedule(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", NULL, 0);
	struct groups groups = {.count = 1};
	char text[600];
	groups.list[0] = group_of("a", &own, "sgd");
	groups_text(&groups, &own, text, sizeof(text));
	assert_string_equal(strchr(text, ';'), "; 1 group: 'a' sgd");
	own.schedule.part_count = 1;
	schedule_part_init(&own.schedule.parts[0], SCHEDULE_CONSTANT_LR);
	groups_text(&groups, &own, text, sizeof(text));
	assert_string_equal(strchr(text, ';'), "; 1 group: 'a' sgd schedule=none");
	groups.list[0].optim.schedule = own.schedule;
	groups_text(&groups, &own, text, sizeof(text));
	assert_non_null(strstr(text, "'a' sgd schedule=constantlr("));
}

static void test_a_schedule_of_many_words_is_cut_visibly(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", NULL, 0);
	struct groups groups = {.count = 0};
	char text[1024];
	own.schedule.part_count = SCHEDULE_PARTS_MAX;
	for (uint32_t i = 0; i < SCHEDULE_PARTS_MAX; i++) {
		double values[SCHEDULE_MILESTONES_MAX];
		for (uint32_t k = 0; k < SCHEDULE_MILESTONES_MAX; k++)
			values[k] = 1e12 + k;
		schedule_part_init(&own.schedule.parts[i], SCHEDULE_MULTISTEP);
		schedule_set(&own.schedule.parts[i], "milestones", values, SCHEDULE_MILESTONES_MAX, why, sizeof(why));
		own.schedule.ends[i] = i + 1;
	}
	groups_text(&groups, &own, text, sizeof(text));
	assert_in_range(strlen(text), 300, 600);
	assert_string_equal(text + strlen(text) - 3, "...");
}

static void test_text_of_a_model_without_groups_is_cut_between_characters_too(void **state)
{
	(void)state;
	struct optim own = optim_of("adamw", NULL, 0);
	struct groups groups = {.count = 0};
	char text[300], all[300];
	groups_text(&groups, &own, all, sizeof(all));
	groups_text(&groups, &own, text, strlen(all) + 1);
	assert_string_equal(text, all);
	groups_text(&groups, &own, text, strlen(all));
	assert_int_equal(strlen(text), strlen(all) - 1);
	assert_string_equal(text + strlen(text) - 3, "...");
}

static void test_text_tells_groups_and_is_cut_between_characters(void **state)
{
	(void)state;
	struct optim own = optim_of("sgd", NULL, 0);
	struct groups groups = {.count = 3};
	char text[300], all[300];
	groups.list[0] = group_of("bn?.*", &own, "average");
	groups.list[1] = group_of("\xc3\xa9.*", &own, NULL);
	groups.list[1].frozen = true;
	groups.list[2] = group_of("\xc3\xa9", &own, NULL);
	groups.list[2].optim.values[0][0] = 0.25;
	groups_text(&groups, &own, all, sizeof(all));
	assert_non_null(strstr(all, "; 3 groups: 'bn?.*' average, '\xc3\xa9.*' frozen, '\xc3\xa9' sgd lr=0.25"));
	for (size_t room = 8; room <= strlen(all); room++) {
		groups_text(&groups, &own, text, room);
		size_t kept = strlen(text) - 3;
		assert_string_equal(text + kept, "...");
		assert_memory_equal(text, all, kept);
		assert_in_range(kept, room - 5, room - 4);
		assert_int_not_equal((unsigned char)all[kept] & 0xc0, 0x80);
	}
	groups_text(&groups, &own, text, strlen(all) + 1);
	assert_string_equal(text, all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_group_without_a_name_has_the_models_settings),
	        cmocka_unit_test(test_group_of_another_rule_has_that_rules_defaults),
	        cmocka_unit_test(test_match_is_the_groups_own_where_the_rule_has_it),
	        cmocka_unit_test(test_unknown_rule_names_the_nearest),
	        cmocka_unit_test(test_factor_multiplies_the_groups_rate),
	        cmocka_unit_test(test_factor_without_effect_is_refused),
	        cmocka_unit_test(test_first_group_that_matches_has_a_tensor),
	        cmocka_unit_test(test_pattern_that_matches_nothing_names_the_nearest_tensors),
	        cmocka_unit_test(test_pattern_that_misses_the_only_tensor_names_it),
	        cmocka_unit_test(test_group_whose_tensors_all_are_in_one_before_it_is_refused),
	        cmocka_unit_test(test_counts_are_the_most_that_any_group_needs),
	        cmocka_unit_test(test_text_tells_what_groups_have_other_than_the_model),
	        cmocka_unit_test(test_text_of_another_rule_says_whether_it_has_a_schedule),
	        cmocka_unit_test(test_a_schedule_of_many_words_is_cut_visibly),
	        cmocka_unit_test(test_text_of_a_model_without_groups_is_cut_between_characters_too),
	        cmocka_unit_test(test_text_tells_groups_and_is_cut_between_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
