/*
 * Layout: tensors, their names, and the cut into blocks and segments, which
 * for random layouts must equal a cut that goes element by element.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/layout.h"
#include "proto/status.h"

static int add(struct layout *layout, const char *name, uint64_t count)
{
	return layout_add(layout, name, strlen(name), &count, 1, 0);
}

static struct layout *of(const uint64_t *counts, uint32_t n)
{
	struct layout *layout = layout_new();
	char name[32];

	assert_non_null(layout);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		assert_int_equal(add(layout, name, counts[i]), 0);
	}
	return layout;
}

/* ---- tensors ---- */

static void test_tensors_lie_one_after_the_other(void **state)
{
	(void)state;
	struct layout *layout = layout_new();
	assert_int_equal(layout_add(layout, "w", 1, (uint64_t[]){3, 4}, 2, 7), 0);
	assert_int_equal(layout_add(layout, "empty", 5, (uint64_t[]){5, 0}, 2, 0), 0);
	assert_int_equal(layout_add(layout, "scalar", 6, NULL, 0, 0), 0);
	assert_int_equal(layout_elements(layout), 13);
	assert_int_equal(layout_tensor(layout, 0)->group, 7);
	assert_int_equal(layout_tensor(layout, 1)->offset, 12);
	assert_int_equal(layout_tensor(layout, 1)->count, 0);
	assert_int_equal(layout_tensor(layout, 2)->offset, 12);
	assert_int_equal(layout_tensor(layout, 2)->count, 1);
	layout_free(layout);
}

static void test_a_name_is_found_and_no_other(void **state)
{
	(void)state;
	struct layout *layout = layout_new();
	assert_int_equal(layout_find(layout, "w"), -1);
	add(layout, "w", 1);
	add(layout, "ww", 1);
	assert_int_equal(layout_find(layout, "w"), 0);
	assert_int_equal(layout_find(layout, "ww"), 1);
	assert_int_equal(layout_find(layout, ""), -1);
	assert_int_equal(layout_find(layout, "www"), -1);
	layout_free(layout);
}

static void test_a_name_need_not_end_in_nul(void **state)
{
	(void)state;
	struct layout *layout = layout_new();
	assert_int_equal(layout_add(layout, "weights", 1, NULL, 0, 0), 0);
	assert_string_equal(layout_tensor(layout, 0)->name, "w");
	layout_free(layout);
}

static void test_a_hundred_thousand_names_are_found(void **state)
{
	(void)state;
	struct layout *layout = layout_new();
	char name[32];
	for (uint32_t i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "layer.%u.weight", i);
		assert_int_equal(add(layout, name, 1), 0);
	}
	for (uint32_t i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "layer.%u.weight", i);
		assert_int_equal(layout_find(layout, name), i);
	}
	assert_int_equal(layout_find(layout, "layer.100000.weight"), -1);
	layout_free(layout);
}

static void refused(int status, const char *name, size_t name_bytes, const uint64_t *shape,
                    uint32_t rank)
{
	struct layout *layout = of((uint64_t[]){5}, 1);

	assert_int_equal(layout_add(layout, name, name_bytes, shape, rank, 0), status);
	assert_int_equal(layout_tensor_count(layout), 1);
	assert_int_equal(layout_elements(layout), 5);
	assert_int_equal(add(layout, "next", 1), 0);
	assert_int_equal(layout_tensor(layout, 1)->offset, 5);
	layout_free(layout);
}

static void test_a_name_twice_is_refused(void **state)
{
	(void)state;
	refused(OPTD_INVALID, "t0", 2, NULL, 0);
}

static void test_an_empty_name_is_refused(void **state)
{
	(void)state;
	refused(OPTD_INVALID, "", 0, NULL, 0);
}

static void test_a_name_with_nul_is_refused(void **state)
{
	(void)state;
	refused(OPTD_INVALID, "a\0b", 3, NULL, 0);
}

static void test_a_name_that_is_not_utf8_is_refused(void **state)
{
	(void)state;
	refused(OPTD_INVALID, "\xff", 1, NULL, 0);
}

static void test_a_name_may_have_512_bytes_and_no_more(void **state)
{
	char name[LIMIT_NAME_BYTES + 1];

	(void)state;
	memset(name, 'n', sizeof(name));
	refused(OPTD_TOO_LARGE, name, LIMIT_NAME_BYTES + 1, NULL, 0);
	struct layout *layout = layout_new();
	assert_int_equal(layout_add(layout, name, LIMIT_NAME_BYTES, NULL, 0, 0), 0);
	layout_free(layout);
}

static void test_17_dimensions_are_refused(void **state)
{
	uint64_t shape[LIMIT_TENSOR_RANK + 1];

	(void)state;
	for (uint32_t i = 0; i <= LIMIT_TENSOR_RANK; i++)
		shape[i] = 1;
	refused(OPTD_INVALID, "w", 1, shape, LIMIT_TENSOR_RANK + 1);
}

static void test_a_shape_whose_product_overflows_is_refused(void **state)
{
	(void)state;
	refused(OPTD_TOO_LARGE, "w", 1, (uint64_t[]){UINT64_C(1) << 32, UINT64_C(1) << 32}, 2);
	refused(OPTD_TOO_LARGE, "w", 1, (uint64_t[]){UINT64_MAX}, 1);
	refused(OPTD_TOO_LARGE, "w", 1, (uint64_t[]){0, UINT64_MAX}, 2);
}

static void test_elements_are_limited_over_all_tensors(void **state)
{
	(void)state;
	refused(OPTD_TOO_LARGE, "w", 1, (uint64_t[]){LIMIT_ELEMENTS - 4}, 1);
	struct layout *layout = of((uint64_t[]){5, LIMIT_ELEMENTS - 5}, 2);
	assert_true(layout_elements(layout) == LIMIT_ELEMENTS);
	layout_free(layout);
}

/* ---- the cut ---- */

static void test_a_layout_without_elements_is_not_cut(void **state)
{
	(void)state;
	struct layout *layout = layout_new();
	assert_int_equal(layout_cut(layout, NULL), OPTD_INVALID);
	add(layout, "empty", 0);
	assert_int_equal(layout_cut(layout, NULL), OPTD_INVALID);
	layout_free(layout);
}

static void test_small_tensors_share_a_block(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){10, 0, 20}, 3);
	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_int_equal(layout_block_count(layout), 1);
	assert_int_equal(layout_block(layout, 0)->count, 30);
	assert_int_equal(layout_block(layout, 0)->segment_count, 2);
	assert_int_equal(layout_segment(layout, 1)->tensor, 2);
	assert_int_equal(layout_segment(layout, 1)->offset, 10);
	layout_free(layout);
}

static void test_a_large_tensor_spans_blocks(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){1, 2 * LIMIT_BLOCK_ELEMENTS}, 2);
	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_int_equal(layout_block_count(layout), 3);
	assert_int_equal(layout_block(layout, 2)->begin, 2 * LIMIT_BLOCK_ELEMENTS);
	assert_int_equal(layout_block(layout, 2)->count, 1);
	layout_free(layout);
}

static void test_a_whole_tensor_shares_no_block(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){3, 4, 0, 5}, 4);
	assert_int_equal(layout_cut(layout, (uint8_t[]){0, 1, 1, 0}), 0);
	assert_int_equal(layout_block_count(layout), 3);
	assert_int_equal(layout_block(layout, 1)->begin, 3);
	assert_int_equal(layout_block(layout, 1)->count, 4);
	layout_free(layout);
}

static void test_a_block_takes_4096_segments(void **state)
{
	uint64_t ones[LIMIT_BLOCK_SEGMENTS + 1];

	(void)state;
	for (uint32_t i = 0; i <= LIMIT_BLOCK_SEGMENTS; i++)
		ones[i] = 1;
	struct layout *layout = of(ones, LIMIT_BLOCK_SEGMENTS + 1);
	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_int_equal(layout_block_count(layout), 2);
	assert_int_equal(layout_block(layout, 0)->segment_count, LIMIT_BLOCK_SEGMENTS);
	assert_int_equal(layout_block(layout, 1)->segment_count, 1);
	layout_free(layout);
}

/* The specification: goes through the elements and begins a block, and a
 * segment, where an element cannot be in the one before. */
struct naive {
	uint32_t *block_of, *segment_of; /* by element */
	uint32_t blocks, segments;
};

static void naive_cut(const uint64_t *counts, const uint8_t *whole, uint32_t n, struct naive *out)
{
	uint32_t in_block = 0, in_segments = 0;
	bool after_whole = false;
	uint64_t at = 0;

	out->blocks = out->segments = 0;
	for (uint32_t t = 0; t < n; t++) {
		for (uint64_t e = 0; e < counts[t]; e++, at++) {
			bool first = e == 0;
			bool block = at == 0 || in_block == LIMIT_BLOCK_ELEMENTS ||
			             (first && (whole[t] || after_whole || in_segments == LIMIT_BLOCK_SEGMENTS));
			if (block) {
				out->blocks++;
				in_block = in_segments = 0;
			}
			if (block || first) {
				out->segments++;
				in_segments++;
			}
			in_block++;
			out->block_of[at] = out->blocks - 1;
			out->segment_of[at] = out->segments - 1;
		}
		if (counts[t])
			after_whole = whole[t];
	}
}

static void compare_with_naive(const struct layout *layout, const struct naive *naive)
{
	uint64_t at = 0;

	assert_int_equal(layout_block_count(layout), naive->blocks);
	assert_int_equal(layout_segment_count(layout), naive->segments);
	for (uint32_t b = 0; b < naive->blocks; b++) {
		const struct layout_block *block = layout_block(layout, b);
		uint32_t in_block = 0;
		assert_int_equal(block->begin, at);
		for (uint32_t i = 0; i < block->segment_count; i++) {
			uint32_t s = block->first_segment + i;
			const struct layout_segment *segment = layout_segment(layout, s);
			const struct layout_tensor *tensor = layout_tensor(layout, segment->tensor);
			assert_int_equal(segment->offset, in_block);
			assert_true(segment->count > 0);
			assert_true(at >= tensor->offset);
			assert_true(at + segment->count <= tensor->offset + tensor->count);
			for (uint32_t e = 0; e < segment->count; e++, at++)
				if (naive->block_of[at] != b || naive->segment_of[at] != s)
					fail_msg("element %zu is in another block or segment", (size_t)at);
			in_block += segment->count;
		}
		assert_int_equal(block->count, in_block);
	}
	assert_int_equal(at, layout_elements(layout));
}

static uint64_t random_count(unsigned *seed)
{
	switch (rand_r(seed) % 8) {
	case 0:
		return 0;
	case 1:
		return (uint64_t)rand_r(seed) % (3 * LIMIT_BLOCK_ELEMENTS);
	case 2:
		return LIMIT_BLOCK_ELEMENTS;
	default:
		return 1 + (uint64_t)rand_r(seed) % 2000;
	}
}

static void random_layout(unsigned *seed)
{
	enum { MOST = 9000 };
	static uint64_t counts[MOST];
	static uint8_t whole[MOST];
	bool tiny = rand_r(seed) % 4 == 0;
	uint32_t n = 1 + (uint32_t)rand_r(seed) % (tiny ? MOST : 20);
	uint64_t total = 0;
	struct naive naive;

	for (uint32_t i = 0; i < n; i++) {
		counts[i] = tiny ? (uint64_t)rand_r(seed) % 3 : random_count(seed);
		whole[i] = rand_r(seed) % (tiny ? 3000 : 4) == 0;
		total += counts[i];
	}
	counts[0] += total == 0;
	total += total == 0;
	naive.block_of = malloc(total * sizeof(uint32_t));
	naive.segment_of = malloc(total * sizeof(uint32_t));
	naive_cut(counts, whole, n, &naive);
	struct layout *layout = of(counts, n);
	assert_int_equal(layout_cut(layout, whole), 0);
	compare_with_naive(layout, &naive);
	layout_free(layout);
	free(naive.block_of);
	free(naive.segment_of);
}

static void test_random_layouts_are_cut_as_the_naive_way_does(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);

	(void)state;
	print_message("SEED=%u\n", seed);
	for (int i = 0; i < 60; i++)
		random_layout(&seed);
}

/* ---- hashes ---- */

static uint64_t hash_of(const char *name, const uint64_t *shape, uint32_t rank, uint32_t group,
                        const uint8_t *whole)
{
	struct layout *layout = layout_new();

	assert_int_equal(layout_add(layout, name, strlen(name), shape, rank, group), 0);
	assert_int_equal(add(layout, "bias", 10), 0);
	assert_int_equal(layout_cut(layout, whole), 0);
	uint64_t hash = layout_hash(layout);
	layout_free(layout);
	return hash;
}

static void test_equal_layouts_have_equal_hashes(void **state)
{
	(void)state;
	assert_true(hash_of("w", (uint64_t[]){4, 6}, 2, 0, NULL) ==
	            hash_of("w", (uint64_t[]){4, 6}, 2, 0, NULL));
}

/* XXH3 of the bytes that PROTOCOL.md lists, computed apart from layout.c. */
static void test_the_hash_is_the_same_in_every_build(void **state)
{
	(void)state;
	assert_true(hash_of("w", (uint64_t[]){4, 6}, 2, 0, NULL) == UINT64_C(0x0cf896842e0ca7ec));
}

static void test_name_shape_and_group_change_the_hash(void **state)
{
	(void)state;
	uint64_t hash = hash_of("w", (uint64_t[]){4, 6}, 2, 0, NULL);
	assert_true(hash != hash_of("v", (uint64_t[]){4, 6}, 2, 0, NULL));
	assert_true(hash != hash_of("w", (uint64_t[]){6, 4}, 2, 0, NULL));
	assert_true(hash != hash_of("w", (uint64_t[]){24}, 1, 0, NULL));
	assert_true(hash != hash_of("w", (uint64_t[]){4, 6}, 2, 1, NULL));
}

static void test_the_hash_is_known_before_the_cut_and_not_changed_by_whole_tensors(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){5, 2 * LIMIT_BLOCK_ELEMENTS}, 2);
	struct layout *plain = of((uint64_t[]){5, 2 * LIMIT_BLOCK_ELEMENTS}, 2);
	uint64_t hash = layout_hash(layout);

	assert_int_equal(layout_cut(layout, (uint8_t[]){0, 1}), 0);
	assert_int_equal(layout_cut(plain, NULL), 0);
	assert_true(layout_hash(layout) == hash && layout_hash(plain) == hash);
	layout_free(layout);
	layout_free(plain);
}

static void test_whole_tensors_change_the_id(void **state)
{
	(void)state;
	/* Cut into the same blocks, but owned in another way. */
	struct layout *layout = of((uint64_t[]){2 * LIMIT_BLOCK_ELEMENTS}, 1);
	struct layout *plain = of((uint64_t[]){2 * LIMIT_BLOCK_ELEMENTS}, 1);

	assert_int_equal(layout_cut(layout, (uint8_t[]){1}), 0);
	assert_int_equal(layout_cut(plain, (uint8_t[]){0}), 0);
	assert_true(layout_id(layout, 0, 1, 1) != layout_id(plain, 0, 1, 1));
	layout_free(layout);
	layout_free(plain);
}

static void test_place_and_lanes_change_the_id(void **state)
{
	(void)state;
	struct layout *layout = of((uint64_t[]){5}, 1);
	layout_cut(layout, NULL);
	uint64_t id = layout_id(layout, 0, 2, 1);
	assert_true(id == layout_id(layout, 0, 2, 1));
	assert_true(id != layout_id(layout, 1, 2, 1));
	assert_true(id != layout_id(layout, 0, 3, 1));
	assert_true(id != layout_id(layout, 0, 2, 2));
	layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_tensors_lie_one_after_the_other),
	        cmocka_unit_test(test_a_name_is_found_and_no_other),
	        cmocka_unit_test(test_a_name_need_not_end_in_nul),
	        cmocka_unit_test(test_a_hundred_thousand_names_are_found),
	        cmocka_unit_test(test_a_name_twice_is_refused),
	        cmocka_unit_test(test_an_empty_name_is_refused),
	        cmocka_unit_test(test_a_name_with_nul_is_refused),
	        cmocka_unit_test(test_a_name_that_is_not_utf8_is_refused),
	        cmocka_unit_test(test_a_name_may_have_512_bytes_and_no_more),
	        cmocka_unit_test(test_17_dimensions_are_refused),
	        cmocka_unit_test(test_a_shape_whose_product_overflows_is_refused),
	        cmocka_unit_test(test_elements_are_limited_over_all_tensors),
	        cmocka_unit_test(test_a_layout_without_elements_is_not_cut),
	        cmocka_unit_test(test_small_tensors_share_a_block),
	        cmocka_unit_test(test_a_large_tensor_spans_blocks),
	        cmocka_unit_test(test_a_whole_tensor_shares_no_block),
	        cmocka_unit_test(test_a_block_takes_4096_segments),
	        cmocka_unit_test(test_random_layouts_are_cut_as_the_naive_way_does),
	        cmocka_unit_test(test_equal_layouts_have_equal_hashes),
	        cmocka_unit_test(test_the_hash_is_the_same_in_every_build),
	        cmocka_unit_test(test_name_shape_and_group_change_the_hash),
	        cmocka_unit_test(test_the_hash_is_known_before_the_cut_and_not_changed_by_whole_tensors),
	        cmocka_unit_test(test_whole_tensors_change_the_id),
	        cmocka_unit_test(test_place_and_lanes_change_the_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
