/* The table of peers: numbers, the index over routing ids, queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/net/peers.h"
#include "tests/support/rng_seed.h"

#define ROOM 64
#define ROOM_BYTES (1u << 20)

static int set_up(void **state)
{
	struct peers *peers = malloc(sizeof(*peers));

	assert_non_null(peers);
	assert_int_equal(peers_init(peers, ROOM), OPTD_OK);
	*state = peers;
	return 0;
}

static int tear_down(void **state)
{
	peers_deinit(*state);
	free(*state);
	return 0;
}

static void test_an_unknown_id_has_no_number(void **state)
{
	assert_int_equal(peers_find(*state, 5), PEERS_NONE);
}

static void test_a_peer_is_found_until_it_is_removed(void **state)
{
	uint32_t number = peers_add(*state, 5);

	assert_int_equal(peers_find(*state, 5), number);
	peers_remove(*state, number);
	assert_int_equal(peers_find(*state, 5), PEERS_NONE);
}

static void test_a_full_table_takes_nobody_until_one_leaves(void **state)
{
	for (uint32_t i = 0; i < ROOM; i++)
		assert_int_not_equal(peers_add(*state, 1000 + i), PEERS_NONE);
	assert_int_equal(peers_add(*state, 1), PEERS_NONE);
	peers_remove(*state, peers_find(*state, 1010));
	assert_int_not_equal(peers_add(*state, 1), PEERS_NONE);
}

/* Ids that meet in the index, coming and going, against a plain list. */
static void test_ids_that_collide_are_kept_apart(void **state)
{
	struct rng rng = rng_new(rng_seed());
	uint32_t numbers[ROOM / 2];

	memset(numbers, 0xff, sizeof(numbers));
	for (int i = 0; i < 20000; i++) {
		uint32_t which = rng_below(&rng, ROOM / 2);
		/* Multiples of a large power of two share their slot. */
		uint32_t id = which << 27 | which;
		if (numbers[which] == PEERS_NONE) {
			numbers[which] = peers_add(*state, id);
		} else {
			peers_remove(*state, numbers[which]);
			numbers[which] = PEERS_NONE;
		}
		for (uint32_t j = 0; j < ROOM / 2; j++)
			assert_int_equal(peers_find(*state, j << 27 | j), numbers[j]);
	}
}

static void test_answers_leave_in_the_order_they_came(void **state)
{
	struct peers *peers = *state;
	uint32_t number = peers_add(peers, 9);

	assert_int_equal(peers_queue(peers, number, "first", 5, NULL, 0, ROOM_BYTES), OPTD_OK);
	assert_int_equal(peers_queue(peers, number, "second", 6, NULL, 0, ROOM_BYTES), OPTD_OK);
	assert_int_equal(peers_unread(peers, number), 2 * sizeof(struct parcel) + 11);
	struct parcel *parcel = peers_unqueue(peers, number);
	assert_int_equal(parcel->header_bytes, 5);
	assert_memory_equal(parcel->header, "first", 5);
	free(parcel);
	parcel = peers_unqueue(peers, number);
	assert_memory_equal(parcel->header, "second", 6);
	free(parcel);
	assert_null(peers_unqueue(peers, number));
	assert_int_equal(peers->all[number].queued_bytes, 0);
}

static void test_a_peer_that_leaves_lets_go_of_its_answers(void **state)
{
	struct peers *peers = *state;
	struct buf_pool *pool = buf_pool_new(1 << 20);
	struct buf *payload = buf_pool_take(pool, 3000);
	uint32_t number = peers_add(peers, 9);

	assert_int_equal(peers_queue(peers, number, "h", 1, payload, 3000, ROOM_BYTES), OPTD_OK);
	assert_int_equal(atomic_load(&payload->holders), 2);
	peers_remove(peers, number);
	assert_int_equal(atomic_load(&payload->holders), 1);
	buf_drop(payload);
	buf_pool_free(pool);
}

static void test_answers_beyond_the_limit_are_not_kept(void **state)
{
	struct peers *peers = *state;
	uint32_t number = peers_add(peers, 9);
	size_t limit = 10 * (sizeof(struct parcel) + 5);

	for (int i = 0; i < 10; i++)
		assert_int_equal(peers_queue(peers, number, "empty", 5, NULL, 0, limit), OPTD_OK);
	assert_int_equal(peers_queue(peers, number, "empty", 5, NULL, 0, limit), OPTD_BUSY);
	assert_int_equal(peers_unread(peers, number), limit);
}

static void test_a_small_answer_keeps_no_large_buffer(void **state)
{
	struct peers *peers = *state;
	struct buf_pool *pool = buf_pool_new(1 << 20);
	struct buf *payload = buf_pool_take(pool, 100);
	uint32_t number = peers_add(peers, 9);

	memset(payload->data, 7, 100);
	assert_int_equal(peers_queue(peers, number, "h", 1, payload, 100, 1000), OPTD_OK);
	assert_int_equal(atomic_load(&payload->holders), 1);
	assert_memory_equal(peers->all[number].first->payload->data, payload->data, 100);
	buf_drop(payload);
	peers_remove(peers, number);
	buf_pool_free(pool);
}

static void test_a_large_answer_counts_with_all_its_buffer_takes(void **state)
{
	struct peers *peers = *state;
	struct buf_pool *pool = buf_pool_new(1 << 20);
	struct buf *payload = buf_pool_take(pool, ROOM_BYTES / 2 + 4);
	uint32_t number = peers_add(peers, 9);

	assert_int_equal(peers_queue(peers, number, "h", 1, payload, payload->bytes, ROOM_BYTES),
	                 OPTD_BUSY);
	assert_int_equal(peers_queue(peers, number, "h", 1, payload, payload->bytes, 2 * ROOM_BYTES),
	                 OPTD_OK);
	assert_true(peers_unread(peers, number) >= ROOM_BYTES);
	peers_remove(peers, number);
	buf_drop(payload);
	buf_pool_free(pool);
}

/* A peer of which ZeroMQ holds so many bytes since 1 s; looked at then. */
static uint32_t unread_peer(struct peers *peers, uint32_t id, size_t bytes)
{
	uint32_t number = peers_add(peers, id);

	peers_look(peers, 1000);
	atomic_store(&peers->accounts[number], bytes);
	peers_look(peers, 1001);
	return number;
}

static void reads(struct peers *peers, uint32_t number, size_t bytes)
{
	atomic_fetch_sub(&peers->accounts[number], bytes);
	atomic_fetch_add(&peers->returned[number], bytes);
}

static void test_of_those_that_read_nothing_the_one_with_most_is_idle(void **state)
{
	uint32_t less = unread_peer(*state, 1, 1000), most = unread_peer(*state, 2, 2000);

	assert_int_equal(peers_idle(*state, false, 999 + PEERS_IDLE_MS), PEERS_NONE);
	assert_int_equal(peers_idle(*state, false, 1001 + PEERS_IDLE_MS), most);
	reads(*state, less, 1000);
	reads(*state, most, 2000);
}

static void test_one_who_reads_a_little_is_not_idle(void **state)
{
	uint32_t number = unread_peer(*state, 1, 2000);

	reads(*state, number, 1);
	assert_int_equal(peers_idle(*state, false, 1001 + PEERS_IDLE_MS), PEERS_NONE);
	peers_look(*state, 1001 + PEERS_IDLE_MS);
	assert_int_equal(peers_idle(*state, false, 1002 + PEERS_IDLE_MS), PEERS_NONE);
	reads(*state, number, 1999);
}

static void test_a_rank_is_idle_only_where_ranks_are_asked_for(void **state)
{
	struct peers *peers = *state;
	uint32_t number = unread_peer(peers, 1, 2000);

	peers->all[number].grant.share = 1;
	assert_int_equal(peers_idle(peers, false, 1001 + PEERS_IDLE_MS), PEERS_NONE);
	assert_int_equal(peers_idle(peers, true, 1001 + PEERS_IDLE_MS), number);
	/* Its answers are in the formula. */
	peers->all[number].grant.counted = 2000;
	assert_int_equal(peers_idle(peers, true, 1001 + PEERS_IDLE_MS), PEERS_NONE);
	reads(peers, number, 2000);
}

static void test_answers_that_the_formula_has_are_not_beyond_it(void **state)
{
	struct peers *peers = *state;
	uint32_t rank = unread_peer(peers, 1, 2000), reader = unread_peer(peers, 2, 500);

	peers->all[rank].grant.counted = 1500;
	assert_int_equal(peers_beyond(peers, rank), 500);
	assert_int_equal(peers_beyond_all(peers), 1000);
	peers->all[rank].grant.counted = 3000;
	assert_int_equal(peers_beyond_all(peers), 500);
	reads(peers, rank, 2000);
	reads(peers, reader, 500);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_an_unknown_id_has_no_number),
		TEST(test_a_peer_is_found_until_it_is_removed),
		TEST(test_a_full_table_takes_nobody_until_one_leaves),
		TEST(test_ids_that_collide_are_kept_apart),
		TEST(test_answers_leave_in_the_order_they_came),
		TEST(test_a_peer_that_leaves_lets_go_of_its_answers),
		TEST(test_answers_beyond_the_limit_are_not_kept),
		TEST(test_a_small_answer_keeps_no_large_buffer),
		TEST(test_a_large_answer_counts_with_all_its_buffer_takes),
		TEST(test_of_those_that_read_nothing_the_one_with_most_is_idle),
		TEST(test_one_who_reads_a_little_is_not_idle),
		TEST(test_a_rank_is_idle_only_where_ranks_are_asked_for),
		TEST(test_answers_that_the_formula_has_are_not_beyond_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
