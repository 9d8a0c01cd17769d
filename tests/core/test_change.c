/* The list of changes: their order, what they come to, and room for more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/core/change.h"

enum { LR, MOMENTUM };

static const struct optim *base(void)
{
	static struct optim optim;
	char why[256];
	double momentum = 0.5;

	assert_int_equal(optim_init(&optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "momentum", &momentum, 1, why, sizeof(why)), 0);
	return &optim;
}

static struct change change_of(uint64_t from, uint32_t group, uint32_t hyper, double value)
{
	struct change change = {.from = from, .group = group, .given = 1u << hyper};
	change.values[hyper][0] = value;
	return change;
}

static void add(struct changes *changes, uint64_t from, uint32_t hyper, double value)
{
	struct change change = change_of(from, 0, hyper, value);
	changes_add(changes, &change, 0);
}

static double value_at(const struct changes *changes, uint64_t version, uint32_t hyper)
{
	struct groups groups = {.count = 0};
	struct changed changed;

	changes_at(changes, NULL, &groups, base(), version, &changed);
	return changed.at[0]->values[hyper][0];
}

static void test_a_change_holds_from_its_version_on(void **state)
{
	(void)state;
	struct changes changes = {.count = 0};
	add(&changes, 10, LR, 0.25);
	assert_true(value_at(&changes, 9, LR) == 1e-3);
	assert_true(value_at(&changes, 10, LR) == 0.25);
	assert_true(value_at(&changes, 1000, LR) == 0.25);
	assert_true(value_at(&changes, 10, MOMENTUM) == 0.5);
}

static void test_an_earlier_version_lies_under_a_later_one_whenever_it_came(void **state)
{
	(void)state;
	struct changes changes = {.count = 0};
	add(&changes, 20, LR, 0.5);
	add(&changes, 10, LR, 0.25);
	add(&changes, 10, MOMENTUM, 0.75);
	assert_true(value_at(&changes, 19, LR) == 0.25);
	assert_true(value_at(&changes, 20, LR) == 0.5);
	assert_true(value_at(&changes, 20, MOMENTUM) == 0.75);
}

static void test_of_the_same_version_the_last_that_came_counts(void **state)
{
	(void)state;
	struct changes changes = {.count = 0};
	add(&changes, 10, LR, 0.25);
	add(&changes, 10, LR, 0.5);
	assert_true(value_at(&changes, 10, LR) == 0.5);
	assert_int_equal(changes.count, 2);
	assert_int_equal(changes.made, 2);
}

static void test_a_group_changes_alone(void **state)
{
	(void)state;
	struct groups groups = {.count = 2};
	struct changes changes = {.count = 0};
	struct change change = change_of(3, 2, LR, 0.25);
	struct changed changed;

	groups.list[0].frozen = true;
	groups.list[1].optim = *base();
	changes_add(&changes, &change, 0);
	changes_at(&changes, NULL, &groups, base(), 3, &changed);
	assert_true(changed.at[0]->values[LR][0] == 1e-3);
	assert_null(changed.at[1]);
	assert_true(changed.at[2]->values[LR][0] == 0.25);
}

static void test_one_that_is_not_made_lies_where_it_would(void **state)
{
	(void)state;
	struct groups groups = {.count = 0};
	struct changes changes = {.count = 0};
	struct change also = change_of(10, 0, LR, 0.25);
	struct changed changed;

	add(&changes, 5, LR, 0.125);
	add(&changes, 20, LR, 0.5);
	changes_at(&changes, &also, &groups, base(), 9, &changed);
	assert_true(changed.at[0]->values[LR][0] == 0.125);
	changes_at(&changes, &also, &groups, base(), 15, &changed);
	assert_true(changed.at[0]->values[LR][0] == 0.25);
	changes_at(&changes, &also, &groups, base(), 20, &changed);
	assert_true(changed.at[0]->values[LR][0] == 0.5);
}

static void test_of_a_full_list_the_oldest_that_is_over_is_joined_to_its_next(void **state)
{
	(void)state;
	struct changes changes = {.count = 0};
	struct change more = change_of(500, 0, LR, 0.5);

	add(&changes, 0, MOMENTUM, 0.75);
	for (uint32_t i = 1; i < LIMIT_CHANGES; i++)
		add(&changes, i, LR, i);
	assert_int_equal(changes_room(&changes), 1);
	changes_add(&changes, &more, 1);
	assert_int_equal(changes.count, LIMIT_CHANGES);
	assert_int_equal(changes.list[0].from, 1);
	assert_true(value_at(&changes, 1, MOMENTUM) == 0.75);
	assert_true(value_at(&changes, 1, LR) == 1);
	assert_true(value_at(&changes, 500, LR) == 0.5);
	assert_true(value_at(&changes, 499, LR) == LIMIT_CHANGES - 1);
}

static void test_what_joins_keeps_the_later_value(void **state)
{
	(void)state;
	struct changes changes = {.count = 0};
	struct change more = change_of(500, 0, MOMENTUM, 0.5);

	for (uint32_t i = 0; i < LIMIT_CHANGES; i++)
		add(&changes, i, LR, 1 + i);
	changes_add(&changes, &more, 1);
	assert_true(value_at(&changes, 1, LR) == 2);
	assert_true(value_at(&changes, 2, LR) == 3);
}

static void test_a_list_that_is_not_full_has_room_at_once(void **state)
{
	(void)state;
	struct changes changes = {.count = 0};

	for (uint32_t i = 0; i < LIMIT_CHANGES - 1; i++)
		add(&changes, 100 + i, LR, i);
	assert_int_equal(changes_room(&changes), 0);
	add(&changes, 1000, LR, 1);
	assert_int_equal(changes_room(&changes), 101);
}

static void test_the_text_has_each_value(void **state)
{
	(void)state;
	struct change change = {.given = 1u << 0 | 1u << 1, .values = {{0.01}, {0.9, 0.99}}};
	char text[100];

	change_text(&change, optim_find("adam"), text, sizeof(text));
	assert_string_equal(text, "lr=0.01 betas=[0.9,0.99]");
	change_text(&change, optim_find("adam"), text, 10);
	assert_string_equal(text, "lr=0.01 b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_change_holds_from_its_version_on),
	        cmocka_unit_test(test_an_earlier_version_lies_under_a_later_one_whenever_it_came),
	        cmocka_unit_test(test_of_the_same_version_the_last_that_came_counts),
	        cmocka_unit_test(test_a_group_changes_alone),
	        cmocka_unit_test(test_one_that_is_not_made_lies_where_it_would),
	        cmocka_unit_test(test_of_a_full_list_the_oldest_that_is_over_is_joined_to_its_next),
	        cmocka_unit_test(test_what_joins_keeps_the_later_value),
	        cmocka_unit_test(test_a_list_that_is_not_full_has_room_at_once),
	        cmocka_unit_test(test_the_text_has_each_value),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
