/* PULL: which version, which bytes, and who waits. */
#include <string.h>

#include "tests/support/core_world.h"

static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	world->open.workers = workers;
	core_world_start(world);
}

static void test_pull_is_answered_at_once_with_the_current_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push_all(&client, 0, 1.0f);
	core_push_all(&client, 1, 1.0f);
	const struct core_answer *answer = core_answer(&world, core_pull(&client, 0, 1, 1));
	assert_int_equal(answer->head.version, 2);
	assert_int_equal(answer->head.version_max, 2);
	assert_int_equal(answer->head.payload_bytes, 32);
	assert_true(answer->values[0] == -2.0f);
	core_world_end(&world);
}

static void test_pull_waits_for_min_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t pull = core_pull(&client, 0, 1, 2);
	core_push_all(&client, 0, 1.0f);
	assert_null(core_answer(&world, pull));
	core_push_all(&client, 1, 1.0f);
	assert_int_equal(core_answer(&world, pull)->head.version, 2);
	assert_true(core_answer(&world, pull)->values[0] == -2.0f);
	core_world_end(&world);
}

static void test_pull_waits_for_the_last_of_its_blocks(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 4);
	core_world_start(&world);
	static const float ones[LIMIT_BLOCK_SEGMENTS] = {1.0f};
	struct core_client client = core_join(&world, 0, 0);
	uint64_t pull = core_pull(&client, 0, 2, 1);
	core_push(&client, MSG_PUSH, 0, 1, 1, ones);
	assert_null(core_answer(&world, pull));
	core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	const struct core_answer *answer = core_answer(&world, pull);
	assert_int_equal(answer->count, LIMIT_BLOCK_SEGMENTS + 4);
	assert_true(answer->values[0] == -1.0f);
	assert_true(answer->values[LIMIT_BLOCK_SEGMENTS] == -1.0f);
	core_world_end(&world);
}

static void test_pull_over_blocks_of_different_versions_says_both(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 4);
	core_world_start(&world);
	static const float ones[LIMIT_BLOCK_SEGMENTS];
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 1, 1, ones);
	const struct core_answer *answer = core_answer(&world, core_pull(&client, 0, 2, 0));
	assert_int_equal(answer->head.version, 0);
	assert_int_equal(answer->head.version_max, 1);
	core_world_end(&world);
}

static void test_masked_pull_brings_its_segments_one_after_the_other(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_client_of(&world, 0, 0);
	const float weights[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	core_hello(&client);
	core_open(&client);
	core_init_weights(&client, weights);
	const uint8_t mask = 0x5;
	struct msg msg = core_msg(&client, MSG_PULL);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	const struct core_answer *answer = core_answer(&world, core_send(&client, &msg, NULL, 0));
	const float expected[5] = {1, 2, 3, 4, 8};
	assert_int_equal(answer->count, 5);
	assert_memory_equal(answer->values, expected, sizeof(expected));
	core_world_end(&world);
}

static void test_pull_beyond_the_message_limit_is_refused_with_both_numbers(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.options.message_bytes = 16;
	core_world_start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	core_open(&client);
	core_assert_refused(&world, core_pull(&client, 0, 1, 0), OPTD_TOO_LARGE, "32 bytes|16");
	core_world_end(&world);
}

static void test_workers_of_a_step_share_one_answer_payload(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	core_push(&first, MSG_PUSH_PULL, 0, 0, 1, ones);
	/* By hand, to look at the outbox itself. */
	struct layout *none = NULL;
	struct msg msg = core_msg(&second, MSG_PUSH_PULL);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	msg.payload = ones;
	msg.payload_bytes = sizeof(ones);
	struct buf buf = {.data = NULL};
	atomic_store(&buf.holders, 2); /* never the last */
	engine_handle(world.engine, 1, &world.principal, &msg, &buf, &none, world.now_ms, &world.out);
	assert_true(engine_answer(world.engine, NULL, &world.out));
	assert_int_equal(world.out.count, 2);
	assert_non_null(world.out.entries[0].payload);
	assert_ptr_equal(world.out.entries[0].payload, world.out.entries[1].payload);
	core_collect(&world);
	core_world_end(&world);
}

static void test_answer_keeps_its_version_while_the_model_goes_on(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	struct layout *none = NULL;
	struct msg msg = core_msg(&client, MSG_PULL);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	engine_handle(world.engine, 0, &world.principal, &msg, NULL, &none, world.now_ms, &world.out);
	/* Not sent yet when the next update comes. */
	core_push_all(&client, 0, 1.0f);
	assert_true(core_answer(&world, msg.request)->values[0] == 0.0f);
	core_world_end(&world);
}

static void test_waiting_pull_of_a_peer_that_left_is_forgotten(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	struct core_client reader = core_join(&world, 1, MSG_NO_RANK);
	uint64_t pull = core_pull(&reader, 0, 1, 1);
	engine_peer_gone(world.engine, 1, &world.out);
	core_push_all(&client, 0, 1.0f);
	assert_null(core_answer(&world, pull));
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

static void test_waiting_pulls_of_a_session_are_bounded(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	struct core_client greedy = core_join(&world, 1, MSG_NO_RANK);
	struct core_client reader = core_join(&world, 2, MSG_NO_RANK);
	for (uint32_t i = 0; i < LIMIT_WAITS; i++)
		core_pull(&greedy, 0, 1, 1);
	core_assert_refused(&world, core_pull(&greedy, 0, 1, 1), OPTD_BUSY, "8192");
	uint64_t pull = core_pull(&reader, 0, 1, 1);
	core_push_all(&client, 0, 1.0f);
	core_assert_ok(&world, pull);
	core_world_end(&world);
}

/* A pull that takes 34 KB to remember: 64 parts with a mask each. */
static uint64_t pull_many_parts(struct core_client *client, uint64_t min_version)
{
	static const uint8_t mask[LIMIT_MASK_BYTES] = {1};
	struct msg msg = core_msg(client, MSG_PULL);
	msg.min_version = min_version;
	msg.part_count = LIMIT_PARTS;
	for (uint32_t i = 0; i < LIMIT_PARTS; i++)
		msg.parts[i] = (struct msg_part){.count = 1, .mask = mask, .mask_bytes = sizeof(mask)};
	return core_send(client, &msg, NULL, 0);
}

static void test_waiting_pulls_of_all_sessions_keep_to_their_memory(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 4);
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	struct core_client first = core_join(&world, 1, MSG_NO_RANK);
	struct core_client second = core_join(&world, 2, MSG_NO_RANK);
	uint64_t bytes = engine_bytes(world.engine), pull;
	do
		pull = pull_many_parts(world.requests % 2 == 0 ? &first : &second, 9);
	while (core_answer(&world, pull) == NULL);
	core_assert_refused(&world, pull, OPTD_BUSY, "pulls that wait|67108864 are allowed");
	assert_in_range(engine_bytes(world.engine) - bytes, LIMIT_PULLS_BYTES - 40000, LIMIT_PULLS_BYTES);
	/* Others are served what is there. */
	core_assert_ok(&world, pull_many_parts(&first, 0));
	core_assert_ok(&world, core_push_all(&client, 0, 1.0f));
	engine_peer_gone(world.engine, 1, &world.out);
	assert_null(core_answer(&world, pull_many_parts(&second, 9)));
	engine_peer_gone(world.engine, 2, &world.out);
	assert_int_equal(engine_bytes(world.engine), bytes);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_pull_is_answered_at_once_with_the_current_version),
	        cmocka_unit_test(test_pull_waits_for_min_version),
	        cmocka_unit_test(test_pull_waits_for_the_last_of_its_blocks),
	        cmocka_unit_test(test_pull_over_blocks_of_different_versions_says_both),
	        cmocka_unit_test(test_masked_pull_brings_its_segments_one_after_the_other),
	        cmocka_unit_test(test_pull_beyond_the_message_limit_is_refused_with_both_numbers),
	        cmocka_unit_test(test_workers_of_a_step_share_one_answer_payload),
	        cmocka_unit_test(test_answer_keeps_its_version_while_the_model_goes_on),
	        cmocka_unit_test(test_waiting_pull_of_a_peer_that_left_is_forgotten),
	        cmocka_unit_test(test_waiting_pulls_of_a_session_are_bounded),
	        cmocka_unit_test(test_waiting_pulls_of_all_sessions_keep_to_their_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
