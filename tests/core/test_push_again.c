/* A rank waits for a block once: the newer push of two that share one stands for both. */
#include "tests/support/core_world.h"

/* Scalars, two workers. */
static void start(struct core_world *world, uint32_t tensors)
{
	core_world_init(world);
	core_world_scalars(world, tensors);
	world->open.workers = 2;
	core_world_start(world);
}

/* Step 0 of some of three scalars. */
static uint64_t push_masked(struct core_client *client, const uint8_t *mask)
{
	static const float values[3] = {9, 9, 9};
	struct msg msg = core_msg(client, MSG_PUSH);
	uint32_t count = (*mask & 1u) + (*mask >> 1 & 1u) + (*mask >> 2 & 1u);

	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.count = 1, .mask = mask, .mask_bytes = 1};
	return core_send(client, &msg, values, count);
}

static void test_push_of_other_segments_takes_the_place_of_one_that_counted(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t old = core_push_all(&second, 0, 4.0f), push = 0;
	for (uint8_t mask = 1; mask < 7; mask++) {
		push = push_masked(&second, &mask);
		core_assert_refused(&world, old, OPTD_CANCELLED, "takes its place");
		assert_int_equal(core_shard(&world)->waits.count, 1);
		old = push;
	}
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, push);
	assert_true(core_shard(&world)->model->weights[0] == -3.0f);
	core_world_end(&world);
}

static void test_push_takes_the_place_of_all_that_it_has_a_block_in_common_with(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, LIMIT_BLOCK_SEGMENTS + 4);
	static const float ones[LIMIT_BLOCK_SEGMENTS];
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t one = core_push(&second, MSG_PUSH, 0, 0, 1, ones);
	uint64_t other = core_push(&second, MSG_PUSH, 0, 1, 1, ones);
	uint64_t both = core_push_all(&second, 0, 4.0f);
	core_assert_refused(&world, one, OPTD_CANCELLED, "takes its place");
	core_assert_refused(&world, other, OPTD_CANCELLED, "takes its place");
	uint64_t again = core_push(&second, MSG_PUSH, 0, 1, 1, ones);
	core_assert_refused(&world, both, OPTD_CANCELLED, "takes its place");
	assert_int_equal(core_shard(&world)->waits.count, 1);
	core_push_all(&first, 0, 2.0f);
	core_assert_ok(&world, again);
	core_world_end(&world);
}

static void test_push_of_a_completed_step_leaves_the_one_under_way_alone(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&second, 0, 4.0f);
	core_push_all(&first, 0, 2.0f);
	uint64_t push = core_push_all(&second, 1, 4.0f);
	core_assert_ok(&world, core_push_all(&second, 0, 4.0f));
	assert_null(core_answer(&world, push));
	core_push_all(&first, 1, 2.0f);
	core_assert_ok(&world, push);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_push_of_other_segments_takes_the_place_of_one_that_counted),
	        cmocka_unit_test(test_push_takes_the_place_of_all_that_it_has_a_block_in_common_with),
	        cmocka_unit_test(test_push_of_a_completed_step_leaves_the_one_under_way_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
