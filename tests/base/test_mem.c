/* Mem: zeroed, aligned, and nothing for nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/base/mem.h"

static void test_memory_is_zeroed_and_aligned(void **state)
{
	(void)state;
	static const size_t sizes[] = {1, 63, 64, 65, 100000, (2 << 20) - 1, 2 << 20, (6 << 20) + 12345};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char *memory = mem_new(sizes[i]);
		assert_non_null(memory);
		assert_int_equal((uintptr_t)memory % 64, 0);
		for (size_t j = 0; j < sizes[i]; j += 997)
			assert_int_equal(memory[j], 0);
		memset(memory, 0xff, sizes[i]);
		mem_free(memory, sizes[i]);
	}
}

static void test_large_memory_begins_on_a_huge_page(void **state)
{
	(void)state;
	void *memory = mem_new(3 << 20);
	assert_int_equal((uintptr_t)memory % (2 << 20), 0);
	mem_free(memory, 3 << 20);
}

static void test_bytes_are_whole_huge_pages_where_memory_is(void **state)
{
	(void)state;
	assert_int_equal(mem_bytes(0), 0);
	assert_int_equal(mem_bytes(1), 64);
	assert_int_equal(mem_bytes(1000000), 1000000);
	assert_int_equal(mem_bytes(2 << 20), 2 << 20);
	assert_int_equal(mem_bytes((2 << 20) + 1), 4 << 20);
	assert_true(mem_bytes(SIZE_MAX) == SIZE_MAX);
}

static void test_nothing_and_too_much_give_null(void **state)
{
	(void)state;
	assert_null(mem_new(0));
	assert_null(mem_new(SIZE_MAX));
	assert_null(mem_new(SIZE_MAX - (1 << 20)));
	mem_free(NULL, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_memory_is_zeroed_and_aligned),
	        cmocka_unit_test(test_large_memory_begins_on_a_huge_page),
	        cmocka_unit_test(test_bytes_are_whole_huge_pages_where_memory_is),
	        cmocka_unit_test(test_nothing_and_too_much_give_null),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
