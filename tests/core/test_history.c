/* History: who has seen what was lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "server/core/history.h"

static void assert_lost(const struct history *history, uint64_t epoch, uint64_t version, uint64_t to)
{
	uint64_t left = 0;
	assert_true(history_lost(history, epoch, version, &left));
	assert_int_equal(left, to);
}

static void assert_kept(const struct history *history, uint64_t epoch, uint64_t version)
{
	uint64_t left;
	assert_false(history_lost(history, epoch, version, &left));
}

static void test_nothing_is_lost_without_a_restart(void **state)
{
	(void)state;
	const struct history history = { .count = 0 };
	assert_kept(&history, 0, UINT64_MAX);
}

static void test_lost_is_what_was_seen_before_a_restart_below_it(void **state)
{
	(void)state;
	struct history history = { .count = 0 };
	history_add(&history, 2, 100);
	history_add(&history, 5, 200);
	assert_lost(&history, 1, 101, 100);
	assert_kept(&history, 1, 100);
	assert_kept(&history, 2, 200);
	assert_lost(&history, 2, 201, 200);
	assert_lost(&history, 4, 300, 200);
	assert_kept(&history, 5, 300);
}

static void test_a_later_restart_that_goes_further_back_counts_for_all(void **state)
{
	(void)state;
	struct history history = { .count = 0 };
	history_add(&history, 2, 100);
	history_add(&history, 3, 150);
	history_add(&history, 4, 100);
	assert_int_equal(history.count, 1);
	assert_lost(&history, 3, 101, 100);
	assert_lost(&history, 1, 150, 100);
	assert_kept(&history, 3, 100);
}

static void test_beyond_the_marks_that_fit_nothing_lost_is_missed(void **state)
{
	(void)state;
	struct history history = { .count = 0 };
	for (uint64_t epoch = 1; epoch <= 3 * HISTORY_MARKS; epoch++)
		history_add(&history, epoch, 10 * epoch);
	assert_int_equal(history.count, HISTORY_MARKS);
	for (uint64_t epoch = 0; epoch < 3 * HISTORY_MARKS; epoch++) {
		uint64_t left;
		assert_true(history_lost(&history, epoch, 10 * (epoch + 1) + 1, &left));
	}
	assert_kept(&history, 3 * HISTORY_MARKS - 1, 30 * HISTORY_MARKS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_lost_without_a_restart),
		cmocka_unit_test(test_lost_is_what_was_seen_before_a_restart_below_it),
		cmocka_unit_test(test_a_later_restart_that_goes_further_back_counts_for_all),
		cmocka_unit_test(test_beyond_the_marks_that_fit_nothing_lost_is_missed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
