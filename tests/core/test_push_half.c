/* Pushes of two bytes an element: sizes, windows, refusals, and what comes back. */
#include <stdlib.h>
#include <string.h>

#include "tests/support/core_world.h"
#include "tests/support/half.h"

/* 1, 2, 3, -1 and so on, as bf16. */
static const uint16_t VALUES[8] = {0x3f80, 0x4000, 0x4040, 0xbf80, 0x3f00, 0x4080, 0xc000, 0x3e80};

static struct msg push_msg(struct core_client *client, enum msg_verb verb, uint64_t step)
{
	struct msg msg = core_msg(client, verb);

	msg.step = step;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	return msg;
}

static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	world->open.workers = workers;
	core_world_start(world);
}

static void test_answer_is_float32_and_exact(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	struct msg msg = push_msg(&client, MSG_PUSH_PULL, 0);
	uint64_t push = core_send_typed(&client, &msg, DTYPE_BF16, VALUES, 8);
	core_assert_ok(&world, push);
	const struct core_answer *answer = core_answer(&world, push);
	assert_int_equal(answer->head.dtype, DTYPE_F32);
	assert_int_equal(answer->head.payload_bytes, 8 * sizeof(float));
	for (int i = 0; i < 8; i++)
		assert_true(answer->values[i] == -half_value(DTYPE_BF16, VALUES[i]));
	core_world_end(&world);
}

static void test_payload_of_another_size_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	float values[8] = {0};
	/* As long as float32 would be; and float32 as short as bf16 would be. */
	struct msg msg = push_msg(&client, MSG_PUSH, 0);
	core_assert_refused(&world, core_send_typed(&client, &msg, DTYPE_F16, values, 16), OPTD_INVALID,
	                    "take 16 bytes|32 came");
	msg = push_msg(&client, MSG_PUSH, 0);
	core_assert_refused(&world, core_send_typed(&client, &msg, DTYPE_F32, values, 4), OPTD_INVALID,
	                    "take 32 bytes|16 came");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_not_finite_is_refused_with_block_and_element(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint16_t values[8] = {0};
	values[5] = 0xfc00; /* of f16: -Inf; of bf16 a large number */
	struct msg msg = push_msg(&client, MSG_PUSH, 0);
	core_assert_refused(&world, core_send_typed(&client, &msg, DTYPE_F16, values, 8), OPTD_NOT_FINITE,
	                    "block 0|element 5|-inf");
	msg = push_msg(&client, MSG_PUSH, 0);
	core_assert_ok(&world, core_send_typed(&client, &msg, DTYPE_BF16, values, 8));
	core_world_end(&world);
}

static void test_window_counts_the_bytes_that_came(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client zero = core_join(&world, 0, 0), one = core_join(&world, 1, 1);
	struct msg msg = push_msg(&one, MSG_PUSH, 0);
	uint64_t late = core_send_typed(&one, &msg, DTYPE_BF16, VALUES, 8);
	assert_null(core_answer(&world, late));
	assert_int_equal(gate_waiting_bytes(core_shard(&world)->gate), 16);
	float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	msg = push_msg(&zero, MSG_PUSH_PULL, 0);
	uint64_t push = core_send(&zero, &msg, ones, 8);
	core_assert_ok(&world, late);
	assert_int_equal(gate_waiting_bytes(core_shard(&world)->gate), 0);
	/* The mean of 1 and 3. */
	assert_true(core_answer(&world, push)->values[2] == -2.0f);
	core_world_end(&world);
}

static void test_push_pull_whose_answer_no_message_takes_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.options.message_bytes = 16;
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	struct msg msg = push_msg(&client, MSG_PUSH_PULL, 0);
	core_assert_refused(&world, core_send_typed(&client, &msg, DTYPE_BF16, VALUES, 8), OPTD_TOO_LARGE,
	                    "take 32 bytes|a message has 16");
	assert_int_equal(core_hash(&world), before);
	msg = push_msg(&client, MSG_PUSH, 0);
	core_assert_ok(&world, core_send_typed(&client, &msg, DTYPE_BF16, VALUES, 8));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_answer_is_float32_and_exact),
	        cmocka_unit_test(test_payload_of_another_size_is_refused),
	        cmocka_unit_test(test_not_finite_is_refused_with_block_and_element),
	        cmocka_unit_test(test_window_counts_the_bytes_that_came),
	        cmocka_unit_test(test_push_pull_whose_answer_no_message_takes_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
