/* How a limit on descriptors is shared among connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/limits.h"
#include "server/descriptors.h"

static void test_what_is_needed_allows_what_was_asked_for(void **state)
{
	(void)state;
	for (uint32_t lanes = 1; lanes <= LIMIT_LANES; lanes++) {
		uint64_t needed = descriptors_needed(lanes, 4096);
		assert_int_equal(descriptors_share(needed, lanes, 4096), 4096);
		assert_int_equal(descriptors_share(needed - 1, lanes, 4096), 4095);
		assert_int_equal(descriptors_share(UINT64_MAX, lanes, 4096), 4096);
	}
}

static void test_a_usual_limit_leaves_most_to_connections(void **state)
{
	(void)state;
	assert_in_range(descriptors_share(1024, 1, 4096), 700, 1000);
}

static void test_a_limit_below_the_reserve_allows_none(void **state)
{
	(void)state;
	assert_int_equal(descriptors_share(0, 1, 4096), 0);
	assert_int_equal(descriptors_share(descriptors_needed(4, 0), 4, 4096), 0);
	assert_int_equal(descriptors_share(descriptors_needed(4, 1) - 1, 4, 4096), 0);
	assert_int_equal(descriptors_share(descriptors_needed(4, 1), 4, 4096), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_needed_allows_what_was_asked_for),
		cmocka_unit_test(test_a_usual_limit_leaves_most_to_connections),
		cmocka_unit_test(test_a_limit_below_the_reserve_allows_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
