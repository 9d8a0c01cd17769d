/* Wait: what is remembered of a request, and the lists of them. */
#include <string.h>

#include "server/core/wait.h"
#include "tests/support/core_world.h"

static struct msg request_of(enum msg_verb verb)
{
	struct msg request = {.verb = verb, .request = 9, .session = 8, .rank = 1, .step = 4,
	                      .min_version = 6, .part_count = 2};
	request.parts[0] = (struct msg_part){.first = 2, .count = 3};
	request.parts[1] = (struct msg_part){.first = 7, .count = 1};
	return request;
}

static void test_wait_keeps_its_own_copy_of_parts_and_masks(void **state)
{
	(void)state;
	uint8_t mask[2] = {3, 1};
	struct msg request = request_of(MSG_PUSH);
	request.parts[1].mask = mask;
	request.parts[1].mask_bytes = sizeof(mask);
	struct wait *wait = wait_new(5, &request, 100);
	memset(mask, 0, sizeof(mask));
	memset(&request, 0, sizeof(request));
	assert_int_equal(wait->peer, 5);
	assert_int_equal(wait->request, 9);
	assert_int_equal(wait->since_ms, 100);
	assert_int_equal(wait->part_count, 2);
	assert_int_equal(wait->parts[0].count, 3);
	assert_null(wait->parts[0].mask);
	assert_int_equal(wait->parts[1].mask[0], 3);
	assert_int_equal(wait->parts[1].mask[1], 1);
	wait_free(wait);
}

static void test_waits_leave_a_list_from_any_place(void **state)
{
	(void)state;
	struct msg request = request_of(MSG_PUSH);
	struct wait_list list = {0};
	struct wait *waits[3];
	for (int i = 0; i < 3; i++) {
		waits[i] = wait_new((uint32_t)i, &request, 0);
		wait_append(&list, waits[i]);
	}
	wait_remove(&list, waits[1]);
	assert_ptr_equal(list.first->next, waits[2]);
	assert_ptr_equal(list.last->previous, waits[0]);
	wait_remove(&list, waits[0]);
	assert_ptr_equal(list.first, waits[2]);
	assert_int_equal(list.count, 1);
	wait_remove(&list, waits[2]);
	assert_null(list.first);
	assert_null(list.last);
	for (int i = 0; i < 3; i++)
		wait_free(waits[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_wait_keeps_its_own_copy_of_parts_and_masks),
	        cmocka_unit_test(test_waits_leave_a_list_from_any_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
