/* Steps with holes and with weights: what each rank has, and what it counts. */
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

/* A push of some tensors of block 0: bit i of mask is tensor i. */
static uint64_t push_masked(struct core_client *client, uint64_t step, uint8_t mask, float value)
{
	static const uint32_t counts[] = {4, 3, 1};
	float values[8];
	uint64_t elements = 0;
	struct msg msg = core_msg(client, MSG_PUSH);

	msg.step = step;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	for (int i = 0; i < 3; i++)
		elements += mask >> i & 1 ? counts[i] : 0;
	for (int i = 0; i < 8; i++)
		values[i] = value;
	return core_send(client, &msg, values, elements);
}

static uint64_t push_weighted(struct core_client *client, uint64_t step, float value, double weight)
{
	float values[8];
	struct msg msg = core_msg(client, MSG_PUSH);

	msg.step = step;
	msg.weight = weight;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	for (int i = 0; i < 8; i++)
		values[i] = value;
	return core_send(client, &msg, values, 8);
}

/* ---- masks and holes ---------------------------------------------------- */

static void test_mask_updates_its_segments_only(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_assert_ok(&world, push_masked(&client, 0, 0x5, 1.0f));
	const struct model *model = core_shard(&world)->model;
	assert_true(model->weights[0] == -1.0f);
	assert_true(model->weights[4] == 0.0f);
	assert_true(model->weights[7] == -1.0f);
	assert_int_equal(model->updates[0], 1);
	assert_int_equal(model->updates[1], 0);
	assert_int_equal(model->updates[2], 1);
	assert_int_equal(model->versions[0], 1);
	core_world_end(&world);
}

static void test_mask_of_a_wrong_size_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	const uint8_t mask[2] = {1, 0};
	const float values[4] = {0};
	struct msg msg = core_msg(&client, MSG_PUSH);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = mask, .mask_bytes = 2};
	core_assert_refused(&world, core_send(&client, &msg, values, 4), OPTD_INVALID,
	                    "block 0 has 2 bytes|3 segments it takes 1");
	core_world_end(&world);
}

static void test_mask_beyond_the_segments_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_assert_refused(&world, push_masked(&client, 0, 0x9, 1.0f), OPTD_INVALID, "block 0");
	core_world_end(&world);
}

static void test_segment_with_one_contributor_is_divided_by_all_members(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	push_masked(&first, 0, 0x3, 4.0f);
	push_masked(&second, 0, 0x6, 8.0f);
	const struct model *model = core_shard(&world)->model;
	assert_true(model->weights[0] == -2.0f);
	assert_true(model->weights[4] == -6.0f);
	assert_true(model->weights[7] == -4.0f);
	for (int i = 0; i < 3; i++)
		assert_int_equal(model->updates[i], 1);
	core_world_end(&world);
}

static void test_segment_without_contributor_stands_still(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	push_masked(&first, 0, 0x1, 4.0f);
	push_masked(&second, 0, 0x4, 8.0f);
	const struct model *model = core_shard(&world)->model;
	assert_int_equal(model->updates[0], 1);
	assert_int_equal(model->updates[1], 0);
	assert_true(model->weights[4] == 0.0f);
	core_world_end(&world);
}

static void test_old_sums_do_not_come_back_in_a_later_step(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&first, 0, 4.0f);
	core_push_all(&second, 0, 4.0f);
	push_masked(&first, 1, 0x1, 2.0f);
	push_masked(&second, 1, 0x1, 2.0f);
	const struct model *model = core_shard(&world)->model;
	assert_true(model->weights[0] == -6.0f);
	assert_true(model->weights[7] == -4.0f);
	assert_int_equal(model->updates[2], 1);
	core_world_end(&world);
}

static void test_close_step_completes_a_step_for_others(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t push = core_push_all(&first, 0, 4.0f);
	core_assert_ok(&world, core_close_step(&second, 0, 0, 1));
	core_assert_ok(&world, push);
	assert_true(weight_at(&first, 0, 0) == -2.0f);
	core_world_end(&world);
}

static void test_step_that_all_close_moves_the_version_and_nothing_else(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.workers = 2;
	world.open.hypers[1] =
	        (struct msg_hyper){.name = {"momentum", 8}, .values = {0.5}, .count = 1};
	world.open.hyper_count = 2;
	core_world_start(&world);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&first, 0, 4.0f);
	core_push_all(&second, 0, 4.0f);
	core_close_step(&first, 1, 0, 1);
	core_assert_ok(&world, core_close_step(&second, 1, 0, 1));
	const struct model *model = core_shard(&world)->model;
	assert_int_equal(model->versions[0], 2);
	assert_int_equal(model->updates[0], 1);
	assert_true(model->weights[0] == -4.0f);
	assert_true(model->slots[0][0] == 4.0f);
	core_world_end(&world);
}

static void test_close_step_of_a_single_worker_moves_the_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_assert_ok(&world, core_close_step(&client, 0, 0, 1));
	assert_int_equal(core_shard(&world)->model->versions[0], 1);
	assert_int_equal(core_shard(&world)->model->updates[0], 0);
	core_world_end(&world);
}

/* ---- weights of contributions ------------------------------------------- */

static void test_mean_is_weighted_by_samples(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	push_weighted(&second, 0, 7.0f, 2.0);
	push_weighted(&first, 0, 3.0f, 1.0);
	float mean = (float)(1.0 / 3.0) * 3.0f;
	mean = mean + (float)(2.0 / 3.0) * 7.0f;
	assert_true(weight_at(&first, 0, 0) == -mean);
	core_world_end(&world);
}

static void test_weighted_bytes_are_held_until_all_weights_are_known(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0);
	core_join(&world, 1, 1);
	uint64_t push = push_weighted(&first, 0, 3.0f, 1.0);
	assert_null(core_notice(&world, push, OPTD_FOLDED));
	assert_int_equal(world.payloads, 1);
	core_world_end(&world);
}

static void test_step_with_and_without_weights_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	uint64_t push = push_weighted(&first, 0, 3.0f, 1.0);
	core_assert_refused(&world, core_push_all(&second, 0, 1.0f), OPTD_CONFLICT,
	                    "step 0|rank 1 gives no weight|others of this step do|every rank or on none");
	assert_null(core_answer(&world, push));
	core_assert_ok(&world, push_weighted(&second, 0, 3.0f, 1.0));
	core_assert_ok(&world, push);
	core_world_end(&world);
}

static void test_conflict_of_weights_takes_in_none_of_the_blocks(void **state)
{
	(void)state;
	struct core_world world;
	start_blocks(&world, 2);
	static const float zeros[LIMIT_BLOCK_SEGMENTS + 4];
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	/* Rank 0 has pushed block 1 with a weight and block 0 not yet. */
	struct msg msg = core_msg(&first, MSG_PUSH);
	msg.weight = 2.0;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 1, .count = 1};
	core_send(&first, &msg, zeros, 4);
	core_assert_refused(&world, core_push(&second, MSG_PUSH, 0, 0, 2, zeros), OPTD_CONFLICT, "rank 1");
	assert_int_equal(gate_standing(core_shard(&world)->gate, 0, 1, 0), GATE_DUE);
	core_world_end(&world);
}

static void test_rank_without_samples_may_close_a_weighted_step(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client clients[3];
	for (uint32_t i = 0; i < 3; i++)
		clients[i] = core_join(&world, i, (int32_t)i);
	core_close_step(&clients[0], 0, 0, 1);
	uint64_t push = push_weighted(&clients[2], 0, 5.0f, 3.0);
	core_assert_ok(&world, push_weighted(&clients[1], 0, 1.0f, 1.0));
	core_assert_ok(&world, push);
	assert_true(weight_at(&clients[0], 0, 0) == -4.0f);
	/* And in any order. */
	push_weighted(&clients[2], 1, 5.0f, 3.0);
	push_weighted(&clients[1], 1, 1.0f, 1.0);
	core_assert_ok(&world, core_close_step(&clients[0], 1, 0, 1));
	assert_true(weight_at(&clients[0], 0, 0) == -8.0f);
	core_world_end(&world);
}

static void test_weight_of_a_closed_step_counts_in_the_mean(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	struct msg msg = core_msg(&first, MSG_CLOSE_STEP);
	msg.weight = 3.0;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	core_send(&first, &msg, NULL, 0);
	core_assert_ok(&world, push_weighted(&second, 0, 4.0f, 1.0));
	assert_true(weight_at(&first, 0, 0) == -1.0f);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_mask_updates_its_segments_only),
	        cmocka_unit_test(test_mask_of_a_wrong_size_is_refused),
	        cmocka_unit_test(test_mask_beyond_the_segments_is_refused),
	        cmocka_unit_test(test_segment_with_one_contributor_is_divided_by_all_members),
	        cmocka_unit_test(test_segment_without_contributor_stands_still),
	        cmocka_unit_test(test_old_sums_do_not_come_back_in_a_later_step),
	        cmocka_unit_test(test_close_step_completes_a_step_for_others),
	        cmocka_unit_test(test_step_that_all_close_moves_the_version_and_nothing_else),
	        cmocka_unit_test(test_close_step_of_a_single_worker_moves_the_version),
	        cmocka_unit_test(test_mean_is_weighted_by_samples),
	        cmocka_unit_test(test_weighted_bytes_are_held_until_all_weights_are_known),
	        cmocka_unit_test(test_step_with_and_without_weights_is_refused),
	        cmocka_unit_test(test_conflict_of_weights_takes_in_none_of_the_blocks),
	        cmocka_unit_test(test_rank_without_samples_may_close_a_weighted_step),
	        cmocka_unit_test(test_weight_of_a_closed_step_counts_in_the_mean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
