/* PUSH, PUSH_PULL, CLOSE_STEP: what is taken in, once, and what is refused. */
#include <math.h>
#include <string.h>

#include "tests/support/core_world.h"

static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	world->open.workers = workers;
	core_world_start(world);
}

/* Two blocks of 4096 and 4 scalars. */
static void start_blocks(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	core_world_scalars(world, LIMIT_BLOCK_SEGMENTS + 4);
	world->open.workers = workers;
	core_world_start(world);
}

static float weight_at(struct core_client *client, uint32_t block, uint32_t element)
{
	uint64_t pull = core_pull(client, block, 1, 0);
	return core_answer(client->world, pull)->values[element];
}

/* ---- steps -------------------------------------------------------------- */

static void test_single_worker_is_answered_at_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t push = core_push_all(&client, 0, 3.0f);
	core_assert_ok(&world, push);
	assert_int_equal(core_answers_to(&world, push), 1);
	assert_int_equal(core_answer(&world, push)->head.version, 1);
	assert_true(weight_at(&client, 0, 0) == -3.0f);
	core_world_end(&world);
}

static void test_push_waits_for_slowest_worker(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client clients[3];
	uint64_t pushes[3];
	for (uint32_t i = 0; i < 3; i++)
		clients[i] = core_join(&world, i, (int32_t)i);
	pushes[2] = core_push_all(&clients[2], 0, 3.0f);
	pushes[0] = core_push_all(&clients[0], 0, 1.0f);
	assert_null(core_answer(&world, pushes[2]));
	assert_null(core_answer(&world, pushes[0]));
	pushes[1] = core_push_all(&clients[1], 0, 2.0f);
	for (int i = 0; i < 3; i++)
		core_assert_ok(&world, pushes[i]);
	/* Scaled each by float(1/3), added in rank order. */
	float third = (float)(1.0 / 3.0);
	float mean = third * 1.0f;
	mean = mean + third * 2.0f;
	mean = mean + third * 3.0f;
	assert_true(weight_at(&clients[0], 0, 0) == -mean);
	core_world_end(&world);
}

static void test_push_pull_brings_the_weights_of_its_step(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	uint64_t a = core_push(&first, MSG_PUSH_PULL, 0, 0, 1, ones);
	uint64_t b = core_push(&second, MSG_PUSH_PULL, 0, 0, 1, ones);
	assert_int_equal(core_answer(&world, a)->count, 8);
	assert_int_equal(core_answer(&world, a)->head.version, 1);
	assert_true(core_answer(&world, a)->values[7] == -1.0f);
	assert_memory_equal(core_answer(&world, a)->values, core_answer(&world, b)->values, 32);
	core_world_end(&world);
}

static void test_sum_adds_without_dividing(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.workers = 2;
	world.open.reduce = MSG_SUM;
	core_world_start(&world);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&first, 0, 1.0f);
	core_push_all(&second, 0, 2.0f);
	assert_true(weight_at(&first, 0, 0) == -3.0f);
	core_world_end(&world);
}

static void test_bytes_are_folded_as_soon_as_lower_ranks_have_come(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client clients[3];
	for (uint32_t i = 0; i < 3; i++)
		clients[i] = core_join(&world, i, (int32_t)i);
	uint64_t second = core_push_all(&clients[1], 0, 1.0f);
	assert_null(core_notice(&world, second, OPTD_FOLDED));
	assert_int_equal(world.payloads, 1);
	uint64_t first = core_push_all(&clients[0], 0, 1.0f);
	assert_non_null(core_notice(&world, first, OPTD_FOLDED));
	assert_non_null(core_notice(&world, second, OPTD_FOLDED));
	assert_int_equal(world.payloads, 0);
	assert_null(core_answer(&world, first));
	core_world_end(&world);
}

static void test_folded_is_said_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t push = core_push_all(&first, 0, 1.0f);
	core_push_all(&second, 0, 1.0f);
	assert_int_equal(core_answers_to(&world, push), 1);
	core_world_end(&world);
}

static void test_message_of_two_blocks_is_answered_when_both_are_complete(void **state)
{
	(void)state;
	struct core_world world;
	start_blocks(&world, 2);
	static const float zeros[LIMIT_BLOCK_SEGMENTS];
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t push = core_push_all(&first, 0, 1.0f);
	core_push(&second, MSG_PUSH, 0, 0, 1, zeros);
	assert_null(core_answer(&world, push));
	core_push(&second, MSG_PUSH, 0, 1, 1, zeros);
	core_assert_ok(&world, push);
	core_world_end(&world);
}

/* ---- once --------------------------------------------------------------- */

static void test_duplicate_before_the_commit_counts_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&first, 0, 2.0f);
	uint64_t again = core_push_all(&first, 0, 2.0f);
	assert_null(core_answer(&world, again));
	core_push_all(&second, 0, 4.0f);
	core_assert_ok(&world, again);
	assert_true(weight_at(&first, 0, 0) == -3.0f);
	assert_int_equal(core_shard(&world)->counts.duplicates, 1);
	core_world_end(&world);
}

static void test_duplicate_whose_bytes_still_wait_counts_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&second, 0, 4.0f);
	uint64_t again = core_push_all(&second, 0, 4.0f);
	assert_int_equal(world.payloads, 1);
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, again);
	assert_true(weight_at(&first, 0, 0) == -3.0f);
	core_world_end(&world);
}

/* The same request once more, as a client sends it that missed the answer. */
static void push_again(struct core_client *client, uint64_t request, const float *values)
{
	struct msg msg = core_msg(client, MSG_PUSH);
	msg.request = request;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	core_send(client, &msg, values, 8);
}

static void test_repeated_push_waits_once_and_is_answered_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	const float values[8] = {4, 4, 4, 4, 4, 4, 4, 4};
	uint64_t push = core_push_all(&second, 0, 4.0f);
	for (int i = 0; i < 1000; i++)
		push_again(&second, push, values);
	assert_int_equal(core_shard(&world)->waits.count, 1);
	assert_int_equal(core_answers_to(&world, push), 0);
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, push);
	assert_int_equal(core_answers_to(&world, push), 1);
	assert_true(weight_at(&first, 0, 0) == -3.0f);
	core_world_end(&world);
}

static void test_push_repeated_under_a_new_number_ends_the_old_one(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t old = core_push_all(&second, 0, 4.0f);
	uint64_t push = core_push_all(&second, 0, 4.0f);
	core_assert_refused(&world, old, OPTD_CANCELLED, "takes its place");
	assert_int_equal(core_shard(&world)->waits.count, 1);
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, push);
	assert_int_equal(core_answers_to(&world, old), 1);
	core_world_end(&world);
}

static void test_repeated_closing_of_a_step_waits_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	for (int i = 0; i < 100; i++)
		core_close_step(&second, 0, 0, 1);
	assert_int_equal(core_shard(&world)->waits.count, 1);
	uint64_t close = core_close_step(&second, 0, 0, 1);
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, close);
	core_world_end(&world);
}

static void test_replaced_push_is_told_that_its_bytes_are_folded(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client clients[3];
	for (uint32_t i = 0; i < 3; i++)
		clients[i] = core_join(&world, i, (int32_t)i);
	core_push_all(&clients[1], 0, 4.0f);
	uint64_t push = core_push_all(&clients[1], 0, 4.0f);
	assert_null(core_notice(&world, push, OPTD_FOLDED));
	core_push_all(&clients[0], 0, 2.0f);
	assert_non_null(core_notice(&world, push, OPTD_FOLDED));
	core_world_end(&world);
}

static void test_duplicate_after_the_commit_gets_the_same_answer(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push_all(&client, 0, 2.0f);
	uint64_t before = core_hash(&world);
	const float values[8] = {2, 2, 2, 2, 2, 2, 2, 2};
	uint64_t again = core_push(&client, MSG_PUSH_PULL, 0, 0, 1, values);
	core_assert_ok(&world, again);
	assert_int_equal(core_answer(&world, again)->head.version, 1);
	assert_true(core_answer(&world, again)->values[0] == -2.0f);
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_duplicate_in_async_counts_once(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.mode = MSG_ASYNC;
	world.open.workers = 2;
	core_world_start(&world);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_assert_ok(&world, core_push_all(&first, 0, 2.0f));
	core_assert_ok(&world, core_push_all(&second, 0, 3.0f));
	uint64_t before = core_hash(&world);
	core_assert_ok(&world, core_push_all(&first, 0, 2.0f));
	assert_int_equal(core_hash(&world), before);
	assert_true(weight_at(&first, 0, 0) == -5.0f);
	core_world_end(&world);
}

static void test_push_resent_after_a_lost_session_counts_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&second, 0, 4.0f);
	engine_peer_gone(world.engine, 1, &world.out);
	/* The same process on a new connection. */
	struct core_client again = core_client_of(&world, 2, 1);
	again.client = second.client;
	core_hello(&again);
	core_open(&again);
	uint64_t push = core_push_all(&again, 0, 4.0f);
	assert_null(core_answer(&world, push));
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, push);
	assert_int_equal(core_answer(&world, push)->peer, 2);
	assert_true(weight_at(&first, 0, 0) == -3.0f);
	core_world_end(&world);
}

static void test_push_of_a_worker_that_died_still_counts(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0);
	core_join(&world, 1, 1);
	core_push_all(&first, 0, 2.0f);
	engine_peer_gone(world.engine, 0, &world.out);
	struct core_client second = core_client_of(&world, 1, 1);
	core_open(&second);
	core_assert_ok(&world, core_push_all(&second, 0, 4.0f));
	assert_true(weight_at(&second, 0, 0) == -3.0f);
	core_world_end(&world);
}

static void test_old_wait_taken_over_ends_and_is_not_answered_twice(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t old = core_push_all(&second, 0, 4.0f);
	struct core_client again = core_client_of(&world, 2, 1);
	again.client = second.client;
	core_hello(&again);
	core_open(&again);
	uint64_t push = core_push_all(&again, 0, 4.0f);
	core_assert_refused(&world, old, OPTD_CANCELLED, "takes its place");
	engine_peer_gone(world.engine, 1, &world.out);
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, push);
	assert_int_equal(core_answers_to(&world, old), 1);
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

/* ---- refusals ----------------------------------------------------------- */

static void test_payload_of_a_wrong_size_is_refused_with_both_numbers(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	const float values[9] = {0};
	for (uint64_t count = 7; count <= 9; count += 2) {
		struct msg msg = core_msg(&client, MSG_PUSH);
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
		core_assert_refused(&world, core_send(&client, &msg, values, count), OPTD_INVALID,
		                    count == 7 ? "'m'|32 bytes|28 came" : "'m'|32 bytes|36 came");
	}
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_nan_names_block_and_element_and_applies_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start_blocks(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	static float values[LIMIT_BLOCK_SEGMENTS + 4];
	values[LIMIT_BLOCK_SEGMENTS + 2] = -INFINITY;
	uint64_t push = core_push(&client, MSG_PUSH_PULL, 0, 0, 2, values);
	core_assert_refused(&world, push, OPTD_NOT_FINITE, "'m'|block 1|element 2|-inf|nothing");
	assert_int_equal(core_hash(&world), before);
	values[LIMIT_BLOCK_SEGMENTS + 2] = 0;
	core_assert_ok(&world, core_push(&client, MSG_PUSH, 0, 0, 2, values));
	core_world_end(&world);
}

static void test_step_ahead_is_refused_with_both_steps(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, core_push_all(&client, 3, 1.0f), OPTD_STEP_GAP,
	                    "rank 0|step 3|block 0|'m'|at step 0");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_step_with_a_gap_is_taken_in_async(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.mode = MSG_ASYNC;
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	core_assert_ok(&world, core_push_all(&client, 3, 1.0f));
	uint64_t before = core_hash(&world);
	core_assert_ok(&world, core_push_all(&client, 2, 1.0f)); /* an old one: seen */
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_reader_may_not_push(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	core_join(&world, 0, 0);
	struct core_client reader = core_join(&world, 1, MSG_NO_RANK);
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, core_push_all(&reader, 0, 1.0f), OPTD_DENIED, "this session reads");
	core_assert_refused(&world, core_close_step(&reader, 0, 0, 1), OPTD_DENIED, "reads");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_rank_of_somebody_else_may_not_be_pushed_for(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	core_join(&world, 0, 0);
	struct core_client second = core_join(&world, 1, 1);
	second.rank = 0;
	core_assert_refused(&world, core_push_all(&second, 0, 1.0f), OPTD_STALE_INCARNATION,
	                    "rank 0|host:100");
	core_world_end(&world);
}

static void test_rank_that_nobody_holds_may_not_be_pushed_for(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client second = core_join(&world, 1, 1);
	core_init_weights(&second, NULL);
	second.rank = 0;
	core_assert_refused(&world, core_push_all(&second, 0, 1.0f), OPTD_STALE_INCARNATION,
	                    "rank 0|'m'|not held");
	core_world_end(&world);
}

static void test_stale_incarnation_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	client.opened.incarnation = 0;
	core_assert_refused(&world, core_push_all(&client, 0, 1.0f), OPTD_STALE_INCARNATION,
	                    "incarnation 1, yours 0");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_bytes_beyond_all_windows_are_refused(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 4);
	world.open.workers = 2;
	world.options.window_bytes = 64;
	world.options.message_bytes = 16384;
	core_world_start(&world);
	static const float zeros[LIMIT_BLOCK_SEGMENTS];
	core_join(&world, 0, 0);
	struct core_client client = core_join(&world, 1, 1);
	/* Rank 0 has not come, so nothing of rank 1 can be folded. */
	core_push(&client, MSG_PUSH, 0, 0, 1, zeros);
	assert_int_equal(world.payloads, 1);
	uint64_t push = core_push(&client, MSG_PUSH, 0, 1, 1, zeros);
	assert_null(core_answer(&world, push));
	uint64_t more = core_push(&client, MSG_PUSH, 0, 0, 1, zeros);
	core_assert_refused(&world, more, OPTD_BUSY, "16400 bytes|16512 are allowed|window");
	core_world_end(&world);
}

/* A message of which one block waits is in memory as a whole. */
static void test_payload_counts_until_the_last_of_it_is_folded(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 4);
	world.open.workers = 2;
	world.options.window_bytes = 64;
	world.options.message_bytes = 16400;
	core_world_start(&world);
	static const float zeros[LIMIT_BLOCK_SEGMENTS + 4];
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t push = core_push(&second, MSG_PUSH, 0, 0, 2, zeros);
	core_close_step(&first, 0, 0, 1);
	assert_int_equal(world.payloads, 1);
	assert_int_equal(gate_waiting_bytes(core_shard(&world)->gate), 16400);
	assert_null(core_notice(&world, push, OPTD_FOLDED));
	uint64_t more = core_push(&second, MSG_PUSH, 1, 0, 1, zeros);
	core_assert_refused(&world, more, OPTD_BUSY, "16400 bytes|16528 are allowed|window");
	core_close_step(&first, 0, 1, 1);
	assert_int_equal(world.payloads, 0);
	assert_int_equal(gate_waiting_bytes(core_shard(&world)->gate), 0);
	core_assert_ok(&world, push);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_single_worker_is_answered_at_once),
	        cmocka_unit_test(test_push_waits_for_slowest_worker),
	        cmocka_unit_test(test_push_pull_brings_the_weights_of_its_step),
	        cmocka_unit_test(test_sum_adds_without_dividing),
	        cmocka_unit_test(test_bytes_are_folded_as_soon_as_lower_ranks_have_come),
	        cmocka_unit_test(test_folded_is_said_once),
	        cmocka_unit_test(test_message_of_two_blocks_is_answered_when_both_are_complete),
	        cmocka_unit_test(test_duplicate_before_the_commit_counts_once),
	        cmocka_unit_test(test_duplicate_whose_bytes_still_wait_counts_once),
	        cmocka_unit_test(test_repeated_push_waits_once_and_is_answered_once),
	        cmocka_unit_test(test_push_repeated_under_a_new_number_ends_the_old_one),
	        cmocka_unit_test(test_repeated_closing_of_a_step_waits_once),
	        cmocka_unit_test(test_replaced_push_is_told_that_its_bytes_are_folded),
	        cmocka_unit_test(test_duplicate_after_the_commit_gets_the_same_answer),
	        cmocka_unit_test(test_duplicate_in_async_counts_once),
	        cmocka_unit_test(test_push_resent_after_a_lost_session_counts_once),
	        cmocka_unit_test(test_push_of_a_worker_that_died_still_counts),
	        cmocka_unit_test(test_old_wait_taken_over_ends_and_is_not_answered_twice),
	        cmocka_unit_test(test_payload_of_a_wrong_size_is_refused_with_both_numbers),
	        cmocka_unit_test(test_nan_names_block_and_element_and_applies_nothing),
	        cmocka_unit_test(test_step_ahead_is_refused_with_both_steps),
	        cmocka_unit_test(test_step_with_a_gap_is_taken_in_async),
	        cmocka_unit_test(test_reader_may_not_push),
	        cmocka_unit_test(test_rank_of_somebody_else_may_not_be_pushed_for),
	        cmocka_unit_test(test_rank_that_nobody_holds_may_not_be_pushed_for),
	        cmocka_unit_test(test_stale_incarnation_is_refused),
	        cmocka_unit_test(test_bytes_beyond_all_windows_are_refused),
	        cmocka_unit_test(test_payload_counts_until_the_last_of_it_is_folded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
