/* What a connection is taken to hold, over a long life and under attack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "server/net/intake.h"

#define MESSAGE_BYTES (UINT64_C(4) << 20)
#define HEADER 40
#define PAYLOAD 256
#define PING_BYTES 9
#define PONG_BYTES 7
#define OPENING_BYTES 107

/* A connection as the guard sees it: what came, and a lane that keeps up. */
struct peer {
	struct intake intake;
	uint64_t taken;
	struct intake_turns turns;
};

static struct peer peer_open(void)
{
	struct peer peer = { .taken = OPENING_BYTES };
	intake_reset(&peer.intake);
	return peer;
}

static void look(struct peer *peer)
{
	struct intake_bytes bytes = { peer->intake.given, peer->taken, peer->taken };
	intake_look(&peer->intake, &bytes, &peer->turns, MESSAGE_BYTES);
}

static uint64_t held(const struct peer *peer)
{
	return intake_held(&peer->intake, peer->taken);
}

/* A tick of the guard, and the lane found nothing. */
static bool rest(struct peer *peer)
{
	peer->turns.all++;
	peer->turns.empty++;
	look(peer);
	return intake_stalled(&peer->intake, held(peer), &peer->turns, MESSAGE_BYTES);
}

/* Whether a rest of a second is taken for a flood. */
static bool is_cut_at_rest(struct peer *peer)
{
	bool stalled = false;
	for (int i = 0; i < 20; i++)
		stalled |= rest(peer);
	return stalled;
}

static void give(struct peer *peer, uint64_t bytes)
{
	peer->taken += bytes;
	intake_given(&peer->intake, bytes);
}

static void test_frames_count_as_on_the_wire(void **state)
{
	(void)state;
	assert_int_equal(intake_frame_bytes(0), 2);
	assert_int_equal(intake_frame_bytes(255), 257);
	assert_int_equal(intake_frame_bytes(256), 265);
}

static void test_a_million_messages_and_a_rest_are_no_flood(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	for (int i = 0; i < 1000000; i++) {
		/* Flags and lengths by hand: a byte each, and one and eight. */
		peer.taken += 1 + 1 + HEADER + 1 + 8 + PAYLOAD;
		intake_given(&peer.intake, intake_frame_bytes(HEADER) + intake_frame_bytes(PAYLOAD));
	}
	assert_int_equal(held(&peer), OPENING_BYTES);
	assert_false(is_cut_at_rest(&peer));
}

/* Five years of heartbeats, with a message and a rest each minute. */
static void test_commands_of_a_long_life_are_no_flood(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	for (int minute = 0; minute < 5 * 365 * 24 * 60; minute++) {
		peer.taken += 12 * (PING_BYTES + PONG_BYTES);
		for (int i = 0; i < 5; i++)
			assert_false(rest(&peer));
		give(&peer, MESSAGE_BYTES);
	}
	assert_true(held(&peer) < 1000);
}

static void test_parts_without_end_are_a_flood(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	give(&peer, 300);
	assert_false(is_cut_at_rest(&peer));
	peer.taken += MESSAGE_BYTES + 1;
	assert_true(is_cut_at_rest(&peer));
}

static void test_parts_that_trickle_in_are_a_flood(void **state)
{
	struct peer peer = peer_open();
	bool stalled = false;

	(void)state;
	for (uint64_t sent = 0; sent < MESSAGE_BYTES + 1000; sent += 100) {
		peer.taken += 100;
		stalled |= rest(&peer);
	}
	assert_true(stalled || is_cut_at_rest(&peer));
}

/* The most that can be made of it: beginnings of messages that are taken for commands,
 * time after time. */
static void test_beginnings_taken_for_commands_hide_one_message_at_most(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t beginning = MESSAGE_BYTES - (uint64_t)(i % 7);
		peer.taken += beginning;
		is_cut_at_rest(&peer);
		peer.taken += MESSAGE_BYTES - beginning;
		intake_given(&peer.intake, MESSAGE_BYTES);
		look(&peer);
	}
	peer.taken += 2 * MESSAGE_BYTES + 1;
	assert_true(held(&peer) > MESSAGE_BYTES);
	assert_true(is_cut_at_rest(&peer));
}

/* A flood that ends, as one message of many parts, proves nothing. */
static void test_a_message_larger_than_one_may_be_hides_nothing(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	peer.taken += 3 * MESSAGE_BYTES;
	is_cut_at_rest(&peer);
	peer.taken += 1000;
	intake_given(&peer.intake, 3 * MESSAGE_BYTES + 1000);
	look(&peer);
	peer.taken += MESSAGE_BYTES + 1;
	assert_true(held(&peer) > MESSAGE_BYTES);
}

/* The lane is behind: whole messages wait, and none of them is taken for a command. */
static void test_messages_that_wait_for_a_busy_lane_are_not_forgotten(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	peer.taken += 10 * MESSAGE_BYTES;
	for (int i = 0; i < 9; i++) {
		peer.turns.all++;
		intake_given(&peer.intake, MESSAGE_BYTES);
		look(&peer);
	}
	assert_int_equal(held(&peer), OPENING_BYTES + MESSAGE_BYTES);
}

static void test_the_last_messages_of_the_owner_before_give_no_credit(void **state)
{
	struct peer peer = peer_open();

	(void)state;
	intake_given(&peer.intake, 8 * MESSAGE_BYTES);
	look(&peer);
	peer.taken += MESSAGE_BYTES + 1;
	assert_true(is_cut_at_rest(&peer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_count_as_on_the_wire),
		cmocka_unit_test(test_a_million_messages_and_a_rest_are_no_flood),
		cmocka_unit_test(test_commands_of_a_long_life_are_no_flood),
		cmocka_unit_test(test_parts_without_end_are_a_flood),
		cmocka_unit_test(test_parts_that_trickle_in_are_a_flood),
		cmocka_unit_test(test_beginnings_taken_for_commands_hide_one_message_at_most),
		cmocka_unit_test(test_a_message_larger_than_one_may_be_hides_nothing),
		cmocka_unit_test(test_messages_that_wait_for_a_busy_lane_are_not_forgotten),
		cmocka_unit_test(test_the_last_messages_of_the_owner_before_give_no_credit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
