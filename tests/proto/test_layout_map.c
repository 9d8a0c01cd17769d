/* Shares: every block has one owner, for any number of daemons and lanes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "proto/layout.h"

enum { MOST = 7 };

static const uint32_t block_counts[] = {1, 2, 3, 5, 6, 7, 48, 49, 50, 1000};
#define COUNTS (sizeof(block_counts) / sizeof(block_counts[0]))

/* A layout of `count` tensors, cut. */
static struct layout *of(const uint64_t *elements, const uint8_t *whole, uint32_t count)
{
	struct layout *layout = layout_new();
	char name[16];

	for (uint32_t i = 0; i < count; i++) {
		int bytes = snprintf(name, sizeof(name), "t%u", i);
		assert_int_equal(layout_add(layout, name, (size_t)bytes, &elements[i], 1, 0), 0);
	}
	assert_int_equal(layout_cut(layout, whole), 0);
	return layout;
}

/* One tensor of so many blocks. */
static struct layout *blocks(uint32_t count)
{
	struct layout *layout = of((uint64_t[]){(uint64_t)count * LIMIT_BLOCK_ELEMENTS}, NULL, 1);
	assert_int_equal(layout_block_count(layout), count);
	return layout;
}

static void assert_runs_cover(const struct layout *layout, uint32_t daemons, uint32_t lanes)
{
	uint32_t next = 0;

	for (uint32_t d = 0; d < daemons; d++)
		for (uint32_t l = 0; l < lanes; l++) {
			struct layout_run run = layout_owned(layout, d, daemons, l, lanes);
			assert_int_equal(run.first, next);
			next += run.count;
		}
	assert_int_equal(next, layout_block_count(layout));
	for (uint32_t l = 1; l < lanes; l++)
		if (layout_owned(layout, 0, daemons, l, lanes).count > 0)
			assert_true(layout_owned(layout, 0, daemons, l - 1, lanes).count > 0);
	assert_true(layout_owned(layout, 0, daemons, 0, lanes).count > 0);
}

static void test_runs_cover_everything_and_the_first_is_never_empty(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNTS; i++) {
		struct layout *layout = blocks(block_counts[i]);
		for (uint32_t daemons = 1; daemons <= MOST; daemons++)
			for (uint32_t lanes = 1; lanes <= MOST; lanes++)
				assert_runs_cover(layout, daemons, lanes);
		layout_free(layout);
	}
}

static void test_shares_differ_by_at_most_one_block(void **state)
{
	(void)state;
	struct layout *layout = blocks(1011);
	for (size_t i = 0; i < COUNTS; i++)
		for (uint32_t owners = 1; owners <= MOST; owners++)
			for (uint32_t o = 0; o < owners; o++) {
				struct layout_run all = {11, block_counts[i]};
				uint32_t count = layout_share(layout, all, o, owners).count;
				assert_in_range(count, all.count / owners, (all.count + owners - 1) / owners);
			}
	layout_free(layout);
}

static void test_lanes_do_not_move_blocks_between_daemons(void **state)
{
	(void)state;
	struct layout *layout = blocks(100);
	for (uint32_t lanes = 1; lanes <= MOST; lanes++) {
		struct layout_run first = layout_owned(layout, 1, 3, 0, lanes);
		struct layout_run last = layout_owned(layout, 1, 3, lanes - 1, lanes);
		assert_int_equal(first.first, 34);
		assert_int_equal(last.first + last.count, 67);
	}
	layout_free(layout);
}

/* ---- whole tensors ------------------------------------------------------ */

static void test_a_unit_is_a_whole_tensor_or_one_block(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){LIMIT_BLOCK_ELEMENTS + 7, 3 * LIMIT_BLOCK_ELEMENTS, 5},
	                           (uint8_t[]){0, 1, 0}, 3);
	static const uint32_t firsts[] = {0, 1, 2, 2, 2, 5}, counts[] = {1, 1, 3, 3, 3, 1};

	assert_int_equal(layout_block_count(layout), 6);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(layout_unit(layout, i).first, firsts[i]);
		assert_int_equal(layout_unit(layout, i).count, counts[i]);
	}
	layout_free(layout);
}

static void test_a_border_goes_to_the_nearest_whole_tensor(void **state)
{
	(void)state;
	/* Half of the elements is inside the second; its begin is nearer. */
	struct layout *layout = of((uint64_t[]){4 * LIMIT_BLOCK_ELEMENTS, 6 * LIMIT_BLOCK_ELEMENTS},
	                           (uint8_t[]){1, 1}, 2);
	assert_int_equal(layout_owned(layout, 0, 2, 0, 1).count, 4);
	assert_int_equal(layout_owned(layout, 1, 2, 0, 1).count, 6);
	layout_free(layout);
}

static void test_the_first_owner_has_the_first_tensor_however_large(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){9 * LIMIT_BLOCK_ELEMENTS, 3}, (uint8_t[]){1, 0}, 2);
	assert_int_equal(layout_owned(layout, 0, 1, 0, 4).count, 9);
	assert_runs_cover(layout, 1, 4);
	layout_free(layout);
}

static void test_owners_without_blocks_are_the_last(void **state)
{
	(void)state;
	/* By elements alone the middle one of three would have nothing. */
	struct layout *layout = of((uint64_t[]){6 * LIMIT_BLOCK_ELEMENTS, 4 * LIMIT_BLOCK_ELEMENTS},
	                           (uint8_t[]){1, 1}, 2);
	assert_int_equal(layout_owned(layout, 0, 1, 0, 3).count, 6);
	assert_int_equal(layout_owned(layout, 0, 1, 1, 3).count, 4);
	assert_int_equal(layout_owned(layout, 0, 1, 2, 3).count, 0);
	layout_free(layout);
}

static void random_shares(unsigned *seed)
{
	uint64_t elements[12];
	uint8_t whole[12];
	uint32_t count = 1 + (uint32_t)rand_r(seed) % 12;

	for (uint32_t i = 0; i < count; i++) {
		elements[i] = rand_r(seed) % 3 == 0 ? (uint64_t)rand_r(seed) % 1000000 : (uint64_t)rand_r(seed) % 20;
		whole[i] = rand_r(seed) % 2 == 0;
	}
	elements[0] += 1;
	struct layout *layout = of(elements, whole, count);
	uint32_t daemons = 1 + (uint32_t)rand_r(seed) % MOST, lanes = 1 + (uint32_t)rand_r(seed) % MOST;
	assert_runs_cover(layout, daemons, lanes);
	for (uint32_t d = 0; d < daemons; d++)
		for (uint32_t l = 0; l < lanes; l++) {
			struct layout_run run = layout_owned(layout, d, daemons, l, lanes);
			if (run.count > 0)
				assert_int_equal(layout_unit(layout, run.first).first, run.first);
		}
	layout_free(layout);
}

static void test_random_whole_tensors_are_never_split(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);

	(void)state;
	print_message("SEED=%u\n", seed);
	for (int i = 0; i < 500; i++)
		random_shares(&seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_runs_cover_everything_and_the_first_is_never_empty),
	        cmocka_unit_test(test_shares_differ_by_at_most_one_block),
	        cmocka_unit_test(test_lanes_do_not_move_blocks_between_daemons),
	        cmocka_unit_test(test_a_unit_is_a_whole_tensor_or_one_block),
	        cmocka_unit_test(test_a_border_goes_to_the_nearest_whole_tensor),
	        cmocka_unit_test(test_the_first_owner_has_the_first_tensor_however_large),
	        cmocka_unit_test(test_owners_without_blocks_are_the_last),
	        cmocka_unit_test(test_random_whole_tensors_are_never_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
