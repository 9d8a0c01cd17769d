/*
 * Relay: which messages carry the parts of a norm between daemons, and when each is due.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client/relay.h"

#define BLOCK LIMIT_BLOCK_SEGMENTS
#define MOST (LIMIT_NORM_SEGMENTS / BLOCK) /* blocks of scalars in a message */

static struct layout *layout;
static struct relay *relay;
static double numbers[32 * BLOCK];

/* Of so many blocks of scalars. */
static void start(uint32_t blocks, uint32_t daemons)
{
	char name[16];

	layout = layout_new();
	assert_non_null(layout);
	for (uint32_t i = 0; i < blocks * BLOCK; i++) {
		int bytes = snprintf(name, sizeof(name), "t%u", i);
		assert_int_equal(layout_add(layout, name, (size_t)bytes, NULL, 0, 0), 0);
		numbers[i] = i;
	}
	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_int_equal(layout_block_count(layout), blocks);
	assert_int_equal(relay_new(layout, daemons, &relay), 0);
}

static void end(void)
{
	relay_free(relay);
	layout_free(layout);
}

static void is(uint32_t index, uint32_t daemon, bool tells, uint32_t first, uint32_t count)
{
	const struct relay_message *m = &relay->messages[index];

	assert_int_equal(m->daemon, daemon);
	assert_int_equal(m->tells, tells);
	assert_int_equal(m->part.first, first);
	assert_int_equal(m->part.count, count);
	assert_null(m->part.mask);
	assert_int_equal(m->first_segment, first * BLOCK);
	assert_int_equal(m->segments, count * BLOCK);
	assert_int_equal(relay_bytes(m), (uint64_t)count * BLOCK * sizeof(double));
}

/* Bit `index` of each message that is sent when a push of this step begins. */
static uint32_t begun(uint64_t step)
{
	uint32_t bits = 0;

	relay_begin(relay, step);
	for (uint32_t i = 0; i < relay->message_count; i++)
		bits |= (uint32_t)relay_begins_with(relay, i) << i;
	return bits;
}

static uint32_t told_to(uint32_t daemon)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < relay->message_count; i++)
		bits |= (uint32_t)relay_tells(relay, i, daemon) << i;
	return bits;
}

/* What follows from the answer to a message. */
static struct relay_due take(uint32_t index)
{
	return relay_take(relay, index, numbers + relay->messages[index].first_segment, false);
}

static void is_due(struct relay_due due, uint32_t first, uint32_t count)
{
	assert_int_equal(due.count, count);
	if (count > 0)
		assert_int_equal(due.first, first);
}

/* ---- messages ----------------------------------------------------------- */

static void test_one_daemon_has_nothing_to_carry(void **state)
{
	(void)state;
	start(3, 1);
	assert_null(relay);
	end();
}

static void test_blocks_that_are_all_on_the_first_daemon_need_no_carrying(void **state)
{
	(void)state;
	start(1, 2);
	assert_null(relay);
	relay_forget(relay);
	end();
}

static void test_two_daemons_are_asked_and_told_once_each(void **state)
{
	(void)state;
	start(3, 2);
	assert_int_equal(relay->ask_count, 2);
	assert_int_equal(relay->message_count, 4);
	is(0, 0, false, 0, 2);
	is(1, 1, false, 2, 1);
	is(2, 0, true, 2, 1);
	is(3, 1, true, 0, 2);
	end();
}

static void test_one_in_the_middle_is_told_what_is_before_and_behind(void **state)
{
	(void)state;
	start(3, 3);
	assert_int_equal(relay->ask_count, 3);
	assert_int_equal(relay->message_count, 7);
	for (uint32_t i = 0; i < 3; i++)
		is(i, i, false, i, 1);
	is(3, 0, true, 1, 2);
	is(4, 1, true, 0, 1);
	is(5, 1, true, 2, 1);
	is(6, 2, true, 0, 2);
	end();
}

static void test_a_daemon_without_blocks_is_neither_asked_nor_told(void **state)
{
	(void)state;
	start(2, 4);
	assert_int_equal(relay->ask_count, 2);
	assert_int_equal(relay->message_count, 4);
	is(2, 0, true, 1, 1);
	is(3, 1, true, 0, 1);
	assert_int_equal(told_to(2) | told_to(3), 0);
	end();
}

static void test_more_segments_than_a_message_takes_are_of_several(void **state)
{
	(void)state;
	start(2 * MOST + 2, 2);
	assert_int_equal(relay->ask_count, 4);
	assert_int_equal(relay->message_count, 8);
	is(0, 0, false, 0, MOST);
	is(1, 0, false, MOST, 1);
	is(2, 1, false, MOST + 1, MOST);
	is(3, 1, false, 2 * MOST + 1, 1);
	is(4, 0, true, MOST + 1, MOST);
	is(5, 0, true, 2 * MOST + 1, 1);
	is(6, 1, true, 0, MOST);
	is(7, 1, true, MOST, 1);
	end();
}

/* ---- when --------------------------------------------------------------- */

static void test_a_push_begins_with_an_ask_of_each_daemon(void **state)
{
	(void)state;
	start(3, 3);
	assert_int_equal(begun(0), 7);
	end();
}

static void test_none_is_told_before_all_were_heard(void **state)
{
	(void)state;
	start(3, 3);
	begun(0);
	is_due(take(2), 0, 0);
	is_due(take(0), 0, 0);
	assert_int_equal(told_to(0) | told_to(1) | told_to(2), 0);
	is_due(take(1), 3, 4);
	assert_memory_equal(relay->numbers, numbers, 3 * BLOCK * sizeof(double));
	end();
}

static void test_a_daemon_of_many_segments_is_asked_for_some_after_the_others(void **state)
{
	(void)state;
	start(2 * MOST + 2, 2);
	assert_int_equal(begun(0), 1 + 4);
	is_due(take(0), 1, 1);
	is_due(take(1), 0, 0); /* the next is of another daemon, under way already */
	is_due(take(2), 3, 1);
	is_due(take(3), 4, 4);
	assert_memory_equal(relay->numbers, numbers, (2 * MOST + 2) * BLOCK * sizeof(double));
	end();
}

static void test_the_last_answer_may_be_of_any_daemon(void **state)
{
	(void)state;
	start(2 * MOST + 2, 2);
	begun(0);
	is_due(take(2), 3, 1);
	is_due(take(3), 0, 0);
	is_due(take(0), 1, 1);
	is_due(take(1), 4, 4);
	end();
}

static void test_a_daemon_that_restarts_is_told_again_alone(void **state)
{
	(void)state;
	start(3, 3);
	begun(0);
	for (uint32_t i = 0; i < 3; i++)
		take(i);
	assert_int_equal(told_to(0), 1 << 3);
	assert_int_equal(told_to(1), 3 << 4);
	assert_int_equal(told_to(2), 1 << 6);
	assert_int_equal(told_to(3), 0);
	end();
}

/* ---- steps -------------------------------------------------------------- */

static void test_another_call_of_the_step_tells_what_is_known(void **state)
{
	(void)state;
	start(2, 2);
	begun(7);
	take(0);
	take(1);
	assert_int_equal(begun(7), 4 + 8);
	assert_int_equal(begun(7), 4 + 8);
	end();
}

static void test_a_call_that_gave_up_before_all_came_is_asked_for_anew(void **state)
{
	(void)state;
	start(2, 2);
	begun(7);
	take(0);
	assert_int_equal(begun(7), 1 + 2);
	is_due(take(1), 0, 0);
	is_due(take(0), 2, 2);
	end();
}

static void test_the_next_step_is_asked_for_anew(void **state)
{
	(void)state;
	start(2, 2);
	for (uint64_t step = 0; step < 3; step++) {
		assert_int_equal(begun(step), 1 + 2);
		assert_int_equal(told_to(0) | told_to(1), 0);
		is_due(take(0), 0, 0);
		is_due(take(1), 2, 2);
	}
	end();
}

/* The workers push other gradients, so the numbers are of a step that never was. */
static void test_a_step_that_was_rolled_back_is_asked_for_anew(void **state)
{
	(void)state;
	start(2, 2);
	begun(0);
	take(0);
	take(1);
	relay_forget(relay);
	assert_int_equal(begun(0), 1 + 2);
	is_due(take(0), 0, 0);
	is_due(take(1), 2, 2);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_daemon_has_nothing_to_carry),
		cmocka_unit_test(test_blocks_that_are_all_on_the_first_daemon_need_no_carrying),
		cmocka_unit_test(test_two_daemons_are_asked_and_told_once_each),
		cmocka_unit_test(test_one_in_the_middle_is_told_what_is_before_and_behind),
		cmocka_unit_test(test_a_daemon_without_blocks_is_neither_asked_nor_told),
		cmocka_unit_test(test_more_segments_than_a_message_takes_are_of_several),
		cmocka_unit_test(test_a_push_begins_with_an_ask_of_each_daemon),
		cmocka_unit_test(test_none_is_told_before_all_were_heard),
		cmocka_unit_test(test_a_daemon_of_many_segments_is_asked_for_some_after_the_others),
		cmocka_unit_test(test_the_last_answer_may_be_of_any_daemon),
		cmocka_unit_test(test_a_daemon_that_restarts_is_told_again_alone),
		cmocka_unit_test(test_another_call_of_the_step_tells_what_is_known),
		cmocka_unit_test(test_a_call_that_gave_up_before_all_came_is_asked_for_anew),
		cmocka_unit_test(test_the_next_step_is_asked_for_anew),
		cmocka_unit_test(test_a_step_that_was_rolled_back_is_asked_for_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
