/* Layout: what it says that it takes is what the allocator gave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <malloc.h>

#include "proto/layout.h"

/* 0 with a sanitizer, which has an allocator of its own. */
static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

static struct layout *of_scalars(uint32_t count, const char *prefix)
{
	struct layout *layout = layout_new();
	char name[64];

	assert_non_null(layout);
	for (uint32_t i = 0; i < count; i++) {
		int bytes = snprintf(name, sizeof(name), "%s%x", prefix, i);
		assert_int_equal(layout_add(layout, name, (size_t)bytes, NULL, 0, 0), 0);
	}
	return layout;
}

static void assert_honest(uint32_t count, const char *prefix)
{
	size_t before = allocated();
	struct layout *layout = of_scalars(count, prefix);
	assert_int_equal(layout_cut(layout, NULL), 0);
	size_t taken = allocated() - before;
	uint64_t bytes = layout_bytes(layout);
	print_message("# %u tensors: %llu bytes said, %zu taken\n", count, (unsigned long long)bytes,
	              taken);
	if (allocated() != 0)
		assert_in_range(taken, bytes - bytes / 100, bytes + bytes / 100 + 4096);
	layout_free(layout);
}

static void test_layouts_take_what_they_say(void **state)
{
	(void)state;
	assert_honest(1, "");
	assert_honest(1000, "a.name.of.usual.length.weight.");
	assert_honest(70000, "");
}

/* The room that growing leaves, up to half of it, is not kept. */
static void test_cutting_gives_back_the_room_for_more(void **state)
{
	(void)state;
	struct layout *layout = of_scalars(70000, "");
	uint64_t before = layout_bytes(layout);
	assert_int_equal(layout_cut(layout, NULL), 0);
	uint64_t room = (131072 - 70000) * sizeof(struct layout_tensor);
	uint64_t tables = layout_block_count(layout) * sizeof(struct layout_block) +
	                  layout_segment_count(layout) * sizeof(struct layout_segment);
	assert_int_equal(layout_bytes(layout), before - room + tables);
	layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_layouts_take_what_they_say),
	        cmocka_unit_test(test_cutting_gives_back_the_room_for_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
