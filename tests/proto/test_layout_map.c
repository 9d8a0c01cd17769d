/* Shares: every block has one owner, for any number of daemons and lanes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/layout.h"

enum { MOST = 7 };

static const uint32_t block_counts[] = {0, 1, 2, 3, 5, 6, 7, 48, 49, 50, 1000, UINT32_MAX / 2};
#define COUNTS (sizeof(block_counts) / sizeof(block_counts[0]))

static void test_runs_follow_one_another_and_cover_everything(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNTS; i++)
		for (uint32_t daemons = 1; daemons <= MOST; daemons++)
			for (uint32_t lanes = 1; lanes <= MOST; lanes++) {
				uint32_t next = 0;
				for (uint32_t d = 0; d < daemons; d++)
					for (uint32_t l = 0; l < lanes; l++) {
						struct layout_run run =
						        layout_owned(block_counts[i], d, daemons, l, lanes);
						assert_int_equal(run.first, next);
						next += run.count;
					}
				assert_int_equal(next, block_counts[i]);
			}
}

static void test_the_first_lane_of_the_first_daemon_is_never_empty(void **state)
{
	(void)state;
	for (size_t i = 1; i < COUNTS; i++)
		for (uint32_t daemons = 1; daemons <= MOST; daemons++)
			for (uint32_t lanes = 1; lanes <= MOST; lanes++)
				assert_true(layout_owned(block_counts[i], 0, daemons, 0, lanes).count > 0);
}

static void test_shares_differ_by_at_most_one_block(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNTS; i++)
		for (uint32_t owners = 1; owners <= MOST; owners++)
			for (uint32_t o = 0; o < owners; o++) {
				struct layout_run all = {11, block_counts[i]};
				uint32_t count = layout_share(all, o, owners).count;
				assert_in_range(count, all.count / owners, (all.count + owners - 1) / owners);
			}
}

static void test_lanes_do_not_move_blocks_between_daemons(void **state)
{
	(void)state;
	for (uint32_t lanes = 1; lanes <= MOST; lanes++) {
		struct layout_run first = layout_owned(100, 1, 3, 0, lanes);
		struct layout_run last = layout_owned(100, 1, 3, lanes - 1, lanes);
		assert_int_equal(first.first, 34);
		assert_int_equal(last.first + last.count, 67);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_runs_follow_one_another_and_cover_everything),
	        cmocka_unit_test(test_the_first_lane_of_the_first_daemon_is_never_empty),
	        cmocka_unit_test(test_shares_differ_by_at_most_one_block),
	        cmocka_unit_test(test_lanes_do_not_move_blocks_between_daemons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
