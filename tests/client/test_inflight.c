/*
 * Inflight: the order of requests, the window, notices, and what happens to
 * requests when a session is lost or a caller gives up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/inflight.h"
#include "tests/support/rng_seed.h"

#define OPEN_ALL UINT64_MAX

static int owner_a, owner_b;

static struct inflight with_window(uint64_t window)
{
	struct inflight inflight;
	inflight_init(&inflight);
	inflight.window = window;
	return inflight;
}

static uint64_t push(struct inflight *inflight, uint64_t bytes, void *owner)
{
	return inflight_add(inflight, MSG_PUSH, 0, bytes, owner, 0);
}

/* Sends the next request; returns its number or 0. */
static uint64_t send_next(struct inflight *inflight)
{
	struct inflight_request *r = inflight_next(inflight, OPEN_ALL);
	if (!r)
		return 0;
	inflight_sent(inflight, r);
	return r->number;
}

static enum inflight_outcome answer(struct inflight *inflight, uint64_t number, int status)
{
	struct inflight_request out;
	return inflight_reply(inflight, number, status, &out);
}

static void test_requests_go_out_in_the_order_they_came(void **state)
{
	struct inflight inflight = with_window(1000);
	(void)state;
	for (uint64_t i = 1; i <= 5; i++)
		assert_int_equal(push(&inflight, 10, &owner_a), i);
	for (uint64_t i = 1; i <= 5; i++)
		assert_int_equal(send_next(&inflight), i);
	assert_int_equal(send_next(&inflight), 0);
	inflight_deinit(&inflight);
}

static void test_a_full_window_holds_requests_back(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 60, &owner_a);
	push(&inflight, 40, &owner_a);
	push(&inflight, 1, &owner_a);
	assert_int_equal(send_next(&inflight), 1);
	assert_int_equal(send_next(&inflight), 2);
	assert_int_equal(send_next(&inflight), 0);
	assert_int_equal(answer(&inflight, 1, OPTD_OK), INFLIGHT_FINAL);
	assert_int_equal(send_next(&inflight), 3);
	inflight_deinit(&inflight);
}

static void test_one_request_is_always_allowed(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 500, &owner_a);
	push(&inflight, 1, &owner_a);
	assert_int_equal(send_next(&inflight), 1);
	assert_int_equal(send_next(&inflight), 0);
	inflight_deinit(&inflight);
}

static void test_folded_gives_the_bytes_back_once(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 100, &owner_a);
	push(&inflight, 100, &owner_a);
	push(&inflight, 100, &owner_a);
	send_next(&inflight);
	assert_int_equal(answer(&inflight, 1, OPTD_FOLDED), INFLIGHT_NOTICE);
	assert_int_equal(send_next(&inflight), 2);
	/* Neither a repeated notice nor the final answer frees them again. */
	assert_int_equal(answer(&inflight, 1, OPTD_FOLDED), INFLIGHT_NOTICE);
	assert_int_equal(answer(&inflight, 1, OPTD_OK), INFLIGHT_FINAL);
	assert_int_equal(inflight.used, 100);
	assert_int_equal(send_next(&inflight), 0);
	inflight_deinit(&inflight);
}

static void test_waiting_keeps_the_bytes(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 100, &owner_a);
	send_next(&inflight);
	assert_int_equal(answer(&inflight, 1, OPTD_WAITING), INFLIGHT_NOTICE);
	assert_int_equal(inflight.used, 100);
	inflight_deinit(&inflight);
}

static void test_a_repeated_answer_is_ignored(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 10, &owner_a);
	send_next(&inflight);
	assert_int_equal(answer(&inflight, 1, OPTD_OK), INFLIGHT_FINAL);
	assert_int_equal(answer(&inflight, 1, OPTD_OK), INFLIGHT_IGNORED);
	assert_int_equal(answer(&inflight, 99, OPTD_OK), INFLIGHT_IGNORED);
	assert_int_equal(inflight.used, 0);
	inflight_deinit(&inflight);
}

static void test_after_a_reset_the_same_numbers_go_out_in_order(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	for (int i = 0; i < 5; i++)
		push(&inflight, 25, &owner_a);
	for (int i = 0; i < 4; i++)
		send_next(&inflight);
	answer(&inflight, 2, OPTD_OK);
	answer(&inflight, 3, OPTD_FOLDED);
	inflight_reset(&inflight);
	assert_int_equal(inflight.used, 0);
	assert_int_equal(send_next(&inflight), 1);
	assert_int_equal(send_next(&inflight), 3);
	assert_int_equal(send_next(&inflight), 4);
	assert_int_equal(send_next(&inflight), 5);
	assert_int_equal(inflight.used, 100);
	inflight_deinit(&inflight);
}

static void test_a_closed_model_does_not_hold_up_another(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	inflight_add(&inflight, MSG_PUSH, 3, 10, &owner_a, 0);
	inflight_add(&inflight, MSG_PUSH, 5, 10, &owner_a, 0);
	struct inflight_request *r = inflight_next(&inflight, UINT64_C(1) << 5);
	assert_int_equal(r->number, 2);
	inflight_sent(&inflight, r);
	assert_null(inflight_next(&inflight, UINT64_C(1) << 5));
	inflight_deinit(&inflight);
}

static void test_a_reset_restores_the_order_of_asking(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	inflight_add(&inflight, MSG_PUSH, 3, 10, &owner_a, 0);
	inflight_add(&inflight, MSG_PUSH, 5, 10, &owner_a, 0);
	inflight_sent(&inflight, inflight_next(&inflight, UINT64_C(1) << 5));
	inflight_reset(&inflight);
	assert_int_equal(send_next(&inflight), 1);
	assert_int_equal(send_next(&inflight), 2);
	inflight_deinit(&inflight);
}

static void test_a_request_without_a_model_needs_none_open(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	inflight_add(&inflight, MSG_STATUS, INFLIGHT_NO_SLOT, 0, &owner_a, 0);
	assert_non_null(inflight_next(&inflight, 0));
	inflight_deinit(&inflight);
}

static void test_a_cancelled_request_counts_until_the_server_lets_go(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 100, &owner_a);
	push(&inflight, 100, &owner_a);
	push(&inflight, 100, &owner_b);
	send_next(&inflight);
	inflight_cancel(&inflight, &owner_a);
	assert_int_equal(send_next(&inflight), 0);
	assert_int_equal(answer(&inflight, 1, OPTD_OK), INFLIGHT_IGNORED);
	assert_int_equal(send_next(&inflight), 3);
	inflight_deinit(&inflight);
}

static void test_a_cancelled_request_that_fills_the_window_is_waited_for(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 100, &owner_a);
	send_next(&inflight);
	inflight_cancel(&inflight, &owner_a);
	assert_false(inflight_waiting(&inflight));
	push(&inflight, 100, &owner_b);
	/* Should its answer be lost, somebody must find out. */
	assert_int_equal(send_next(&inflight), 0);
	assert_true(inflight_waiting(&inflight));
	inflight_deinit(&inflight);
}

static void test_a_cancelled_request_is_not_sent_again(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	push(&inflight, 10, &owner_a);
	send_next(&inflight);
	inflight_cancel(&inflight, &owner_a);
	inflight_reset(&inflight);
	assert_int_equal(send_next(&inflight), 0);
	assert_int_equal(inflight.used, 0);
	inflight_deinit(&inflight);
}

static void test_a_damaged_message_is_asked_for_again_in_its_place(void **state)
{
	struct inflight inflight = with_window(100);
	(void)state;
	for (int i = 0; i < 3; i++)
		push(&inflight, 50, &owner_a);
	send_next(&inflight);
	send_next(&inflight);
	assert_true(inflight_again(&inflight, 1));
	assert_false(inflight_again(&inflight, 7));
	assert_int_equal(send_next(&inflight), 1);
	assert_int_equal(inflight.used, 100);
	inflight_deinit(&inflight);
}

/* ---- against a model of it ---------------------------------------------- */

#define MANY 200

struct shadow {
	uint64_t bytes;
	bool sent, folded, over;
};

static uint64_t shadow_used(const struct shadow *all, uint32_t count)
{
	uint64_t used = 0;
	for (uint32_t i = 0; i < count; i++)
		if (all[i].sent && !all[i].folded && !all[i].over)
			used += all[i].bytes;
	return used;
}

/* Adds, sends, answers, folds and resets at random; the window is kept, and in the
 * end every request had exactly one final answer. */
static void random_life(struct rng *rng)
{
	struct inflight inflight = with_window(1000);
	struct shadow all[MANY] = {{0}};
	uint32_t count = 0, over = 0;
	while (over < MANY) {
		uint32_t i = count ? rng_below(rng, count) : 0;
		switch (rng_below(rng, 6)) {
		case 0:
			if (count == MANY)
				break;
			all[count].bytes = rng_below(rng, 700);
			assert_int_equal(push(&inflight, all[count].bytes, &owner_a), count + 1);
			count++;
			break;
		case 1:
		case 2: {
			uint64_t before = inflight.used;
			uint64_t number = send_next(&inflight);
			if (number == 0)
				break;
			assert_false(all[number - 1].over);
			all[number - 1].sent = true;
			assert_true(before == 0 || inflight.used <= inflight.window);
			break;
		}
		case 3:
			if (!all[i].sent || all[i].over)
				break;
			assert_int_equal(answer(&inflight, i + 1, OPTD_FOLDED), INFLIGHT_NOTICE);
			all[i].folded = true;
			break;
		case 4:
			if (!all[i].sent)
				break;
			assert_int_equal(answer(&inflight, i + 1, OPTD_OK),
			                 all[i].over ? INFLIGHT_IGNORED : INFLIGHT_FINAL);
			over += !all[i].over;
			all[i].over = true;
			break;
		default:
			if (rng_below(rng, 20) != 0)
				break;
			inflight_reset(&inflight);
			for (uint32_t k = 0; k < count; k++)
				if (!all[k].over)
					all[k].sent = all[k].folded = false;
		}
		assert_int_equal(inflight.used, shadow_used(all, count));
	}
	assert_false(inflight_waiting(&inflight));
	assert_false(inflight_queued(&inflight));
	inflight_deinit(&inflight);
}

static void test_random_lives_keep_the_window_and_lose_nothing(void **state)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);
	(void)state;
	print_message("seed: OPTD_SEED=%llu\n", (unsigned long long)seed);
	for (int i = 0; i < 25; i++)
		random_life(&rng);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_go_out_in_the_order_they_came),
		cmocka_unit_test(test_a_full_window_holds_requests_back),
		cmocka_unit_test(test_one_request_is_always_allowed),
		cmocka_unit_test(test_folded_gives_the_bytes_back_once),
		cmocka_unit_test(test_waiting_keeps_the_bytes),
		cmocka_unit_test(test_a_repeated_answer_is_ignored),
		cmocka_unit_test(test_after_a_reset_the_same_numbers_go_out_in_order),
		cmocka_unit_test(test_a_closed_model_does_not_hold_up_another),
		cmocka_unit_test(test_a_reset_restores_the_order_of_asking),
		cmocka_unit_test(test_a_request_without_a_model_needs_none_open),
		cmocka_unit_test(test_a_cancelled_request_counts_until_the_server_lets_go),
		cmocka_unit_test(test_a_cancelled_request_that_fills_the_window_is_waited_for),
		cmocka_unit_test(test_a_cancelled_request_is_not_sent_again),
		cmocka_unit_test(test_a_damaged_message_is_asked_for_again_in_its_place),
		cmocka_unit_test(test_random_lives_keep_the_window_and_lose_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
