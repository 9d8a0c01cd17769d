/* Outbox: entries, texts that stay, payloads that are let go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/lane_message.h"
#include "server/core/outbox.h"
#include "tests/support/core_world.h"

static void test_entry_starts_as_an_empty_reply(void **state)
{
	(void)state;
	struct outbox out;
	outbox_init(&out);
	outbox_add(&out, 1)->head.request = 99;
	outbox_clear(&out);
	struct outbox_entry *entry = outbox_add(&out, 7);
	assert_int_equal(entry->peer, 7);
	assert_true(entry->head.reply);
	assert_int_equal(entry->head.rank, MSG_NO_RANK);
	assert_int_equal(entry->head.request, 0);
	assert_null(entry->payload);
	outbox_deinit(&out);
}

static void test_entries_keep_their_order_when_the_outbox_grows(void **state)
{
	(void)state;
	struct outbox out;
	outbox_init(&out);
	for (uint32_t i = 0; i < 1000; i++)
		outbox_add(&out, i);
	assert_int_equal(out.count, 1000);
	assert_int_equal(out.lost, 0);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(out.entries[i].peer, i);
	outbox_deinit(&out);
}

static void test_texts_stay_where_they_are_while_more_are_added(void **state)
{
	(void)state;
	struct outbox out;
	struct msg_text texts[200];
	outbox_init(&out);
	for (int i = 0; i < 200; i++)
		texts[i] = outbox_printf(&out, "text %d, and some words to fill the chunk, %0400d", i, i);
	for (int i = 0; i < 200; i++) {
		char expected[32];
		int n = snprintf(expected, sizeof(expected), "text %d,", i);
		assert_memory_equal(texts[i].bytes, expected, (size_t)n);
	}
	outbox_deinit(&out);
}

static void test_text_is_cut_at_its_limit(void **state)
{
	(void)state;
	struct outbox out;
	outbox_init(&out);
	struct msg_text text = outbox_printf(&out, "%05000d", 1);
	assert_int_equal(text.size, LIMIT_TEXT_BYTES - 1);
	outbox_deinit(&out);
}

static void test_outbox_gives_back_what_an_unusual_turn_took(void **state)
{
	(void)state;
	struct outbox out;
	outbox_init(&out);
	for (uint32_t i = 0; i < 1000; i++)
		outbox_add(&out, i);
	outbox_clear(&out);
	assert_int_equal(out.room, 0);
	outbox_add(&out, 7);
	outbox_clear(&out);
	assert_true(out.room > 0);
	outbox_deinit(&out);
}

static void test_empty_text_is_no_text(void **state)
{
	(void)state;
	struct outbox out;
	outbox_init(&out);
	assert_int_equal(outbox_printf(&out, "%s", "").size, 0);
	outbox_deinit(&out);
}

static void test_bytes_are_copied(void **state)
{
	(void)state;
	struct outbox out;
	uint8_t mask[LIMIT_MASK_BYTES] = {5, 6};
	outbox_init(&out);
	const uint8_t *copy = outbox_bytes(&out, mask, sizeof(mask));
	memset(mask, 0, sizeof(mask));
	assert_int_equal(copy[0], 5);
	assert_int_equal(copy[1], 6);
	outbox_deinit(&out);
}

static void count_release(struct buf *buf)
{
	(*(int *)buf->data)++;
}

static void test_clear_lets_go_of_every_payload_once(void **state)
{
	(void)state;
	struct outbox out;
	int released = 0;
	struct buf buf = {.data = &released, .release = count_release};
	atomic_store(&buf.holders, 1);
	outbox_init(&out);
	outbox_add(&out, 1)->payload = buf_hold(&buf);
	outbox_add(&out, 2)->payload = buf_hold(&buf);
	outbox_clear(&out);
	assert_int_equal(released, 0);
	buf_drop(&buf);
	assert_int_equal(released, 1);
	outbox_deinit(&out);
}

static void test_messages_to_lanes_are_taken_in_order_and_outlive_a_clear(void **state)
{
	(void)state;
	struct outbox out;
	struct lane_message *messages[3];
	outbox_init(&out);
	for (uint32_t i = 0; i < 3; i++) {
		messages[i] = calloc(1, sizeof(*messages[i]));
		outbox_tell(&out, messages[i]);
	}
	outbox_clear(&out);
	for (uint32_t i = 0; i < 2; i++) {
		assert_ptr_equal(outbox_take_told(&out), messages[i]);
		free(messages[i]);
	}
	outbox_deinit(&out); /* frees what nobody took */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_entry_starts_as_an_empty_reply),
	        cmocka_unit_test(test_entries_keep_their_order_when_the_outbox_grows),
	        cmocka_unit_test(test_texts_stay_where_they_are_while_more_are_added),
	        cmocka_unit_test(test_text_is_cut_at_its_limit),
	        cmocka_unit_test(test_outbox_gives_back_what_an_unusual_turn_took),
	        cmocka_unit_test(test_empty_text_is_no_text),
	        cmocka_unit_test(test_bytes_are_copied),
	        cmocka_unit_test(test_clear_lets_go_of_every_payload_once),
	        cmocka_unit_test(test_messages_to_lanes_are_taken_in_order_and_outlive_a_clear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
