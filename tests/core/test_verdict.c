/* Gradients that are not finite, under each policy: who is told, what changes. */
#include <math.h>
#include <string.h>

#include "tests/support/core_world.h"

static void start(struct core_world *world, uint32_t workers, enum msg_nonfinite policy)
{
	core_world_init(world);
	world->open.workers = workers;
	world->open.nonfinite = policy;
	core_world_start(world);
}

/* Pushes all of the model, eight elements of this value, or closes it. */
static uint64_t send(struct core_client *client, enum msg_verb verb, uint64_t step, float value,
                     uint32_t poison_tensor_plus_one)
{
	struct msg msg = core_msg(client, verb);
	float values[8];

	for (int i = 0; i < 8; i++)
		values[i] = value;
	msg.step = step;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	msg.verdict = poison_tensor_plus_one > 0 ? MSG_POISONED : MSG_FINITE;
	msg.poison_tensor_plus_one = poison_tensor_plus_one;
	return core_send(client, &msg, values, verb == MSG_CLOSE_STEP ? 0 : 8);
}

static uint64_t push(struct core_client *client, uint64_t step, float value)
{
	return send(client, MSG_PUSH, step, value, 0);
}

static uint64_t poison(struct core_client *client, uint64_t step, uint32_t tensor)
{
	return send(client, MSG_PUSH, step, NAN, tensor + 1);
}

static void assert_skipped(const struct core_world *world, uint64_t request, uint32_t rank,
                           uint32_t tensor)
{
	core_assert_ok(world, request);
	const struct msg *head = &core_answer(world, request)->head;
	assert_int_equal(head->skipped_rank_plus_one, rank + 1);
	assert_int_equal(head->skipped_tensor_plus_one, tensor + 1);
}

static void assert_applied(const struct core_world *world, uint64_t request)
{
	core_assert_ok(world, request);
	assert_int_equal(core_answer(world, request)->head.skipped_rank_plus_one, 0);
}

/* ---- skip_step ---------------------------------------------------------- */

static void test_poisoned_step_changes_nothing_but_the_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1), c = core_join(&world, 2, 2);
	push(&a, 0, 1.0f);
	poison(&b, 0, 1);
	push(&c, 0, 1.0f);
	const struct model *model = core_shard(&world)->model;
	assert_int_equal(model->versions[0], 1);
	for (int i = 0; i < 8; i++)
		assert_true(model->weights[i] == 0.0f);
	for (int i = 0; i < 3; i++)
		assert_int_equal(model->updates[i], 0);
	core_world_end(&world);
}

static void test_everyone_hears_the_lowest_rank_and_its_tensor(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1), c = core_join(&world, 2, 2);
	uint64_t of_c = poison(&c, 0, 0), of_b = send(&b, MSG_PUSH_PULL, 0, INFINITY, 3);
	assert_null(core_answer(&world, of_c));
	uint64_t of_a = send(&a, MSG_CLOSE_STEP, 0, 0, 0);
	assert_skipped(&world, of_a, 1, 2);
	assert_skipped(&world, of_b, 1, 2);
	assert_skipped(&world, of_c, 1, 2);
	assert_int_equal(core_answer(&world, of_b)->count, 8);
	core_world_end(&world);
}

static void test_step_after_a_skipped_one_is_applied(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	push(&a, 0, 1.0f);
	poison(&b, 0, 0);
	uint64_t of_a = push(&a, 1, 1.0f), of_b = push(&b, 1, 3.0f);
	assert_applied(&world, of_a);
	assert_applied(&world, of_b);
	const struct model *model = core_shard(&world)->model;
	assert_true(model->weights[0] == -2.0f);
	assert_int_equal(model->updates[0], 1);
	assert_int_equal(model->versions[0], 2);
	core_world_end(&world);
}

static void test_poison_gives_back_the_bytes_of_all(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 4, MSG_SKIP_STEP);
	struct core_client b = core_join(&world, 1, 1), c = core_join(&world, 2, 2), d = core_join(&world, 3, 3);
	uint64_t of_c = push(&c, 0, 1.0f);
	assert_int_equal(world.payloads, 1);
	assert_null(core_notice(&world, of_c, OPTD_FOLDED));
	uint64_t of_b = poison(&b, 0, 0);
	assert_int_equal(world.payloads, 0);
	uint64_t of_d = push(&d, 0, 1.0f);
	assert_int_equal(world.payloads, 0);
	assert_int_equal(gate_waiting_bytes(core_shard(&world)->gate), 0);
	assert_non_null(core_notice(&world, of_b, OPTD_FOLDED));
	assert_non_null(core_notice(&world, of_c, OPTD_FOLDED));
	assert_non_null(core_notice(&world, of_d, OPTD_FOLDED));
	core_world_end(&world);
}

static void test_poison_after_part_of_the_sum_leaves_nothing_of_it(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	push(&a, 0, 5.0f); /* folded at once */
	poison(&b, 0, 0);
	push(&b, 1, 1.0f);
	push(&a, 1, 1.0f);
	assert_true(core_shard(&world)->model->weights[3] == -1.0f);
	core_world_end(&world);
}

static void test_resend_while_the_step_goes_on_takes_the_first_ones_place(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t first = poison(&b, 0, 1);
	/* Another gradient in its place is not looked at either. */
	uint64_t again = push(&b, 0, 2.0f);
	assert_int_equal(core_answer(&world, first)->head.status, OPTD_CANCELLED);
	assert_non_null(core_notice(&world, again, OPTD_FOLDED));
	assert_skipped(&world, push(&a, 0, 1.0f), 1, 1);
	assert_skipped(&world, again, 1, 1);
	core_world_end(&world);
}

static void test_resend_after_the_step_hears_that_it_was_skipped(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	push(&a, 0, 1.0f);
	poison(&b, 0, 2);
	uint64_t hash = core_hash(&world);
	assert_skipped(&world, push(&a, 0, 1.0f), 1, 2);
	assert_skipped(&world, poison(&b, 0, 2), 1, 2);
	assert_int_equal(core_hash(&world), hash);
	/* Of a step that was applied it does not. */
	push(&a, 1, 1.0f);
	push(&b, 1, 1.0f);
	assert_applied(&world, push(&a, 1, 1.0f));
	core_world_end(&world);
}

static void test_close_step_poisons_as_well(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t of_a = push(&a, 0, 1.0f);
	assert_skipped(&world, send(&b, MSG_CLOSE_STEP, 0, 0, 1), 1, 0);
	assert_skipped(&world, of_a, 1, 0);
	core_world_end(&world);
}

static void test_one_worker_skips_its_own_step(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0);
	assert_skipped(&world, poison(&a, 0, 1), 0, 1);
	assert_applied(&world, push(&a, 1, 1.0f));
	assert_true(core_shard(&world)->model->weights[0] == -1.0f);
	assert_int_equal(core_shard(&world)->model->skips.count, 1);
	core_world_end(&world);
}

static void test_poisoned_rank_gives_its_weight_like_any_other(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	const float values[8] = {1};
	struct msg msg = core_msg(&a, MSG_PUSH);
	msg.weight = 3;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	uint64_t weighted = core_send(&a, &msg, values, 8);
	core_assert_refused(&world, poison(&b, 0, 0), OPTD_CONFLICT, "rank 1 gives no weight");
	msg = core_msg(&b, MSG_PUSH);
	msg.weight = 1;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	msg.verdict = MSG_POISONED;
	assert_int_equal(core_answer(&world, core_send(&b, &msg, values, 8))->head.skipped_rank_plus_one, 2);
	assert_int_equal(core_answer(&world, weighted)->head.skipped_tensor_plus_one, 0);
	core_world_end(&world);
}

static void test_nan_that_is_not_marked_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0);
	core_assert_refused(&world, push(&a, 0, NAN), OPTD_NOT_FINITE, "block 0|nothing of it was applied");
	assert_int_equal(gate_standing(core_shard(&world)->gate, 0, 0, 0), GATE_DUE);
	core_world_end(&world);
}

static void test_mark_with_a_tensor_beyond_the_model_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1, MSG_SKIP_STEP);
	struct core_client a = core_join(&world, 0, 0);
	core_assert_refused(&world, poison(&a, 0, 3), OPTD_INVALID, "tensor 3|the model has 3");
	core_assert_ok(&world, poison(&a, 0, 2));
	core_world_end(&world);
}

/* ---- reject and zero ---------------------------------------------------- */

static void test_mark_is_refused_where_steps_are_not_skipped(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_REJECT);
	struct core_client a = core_join(&world, 0, 0);
	core_assert_refused(&world, poison(&a, 0, 0), OPTD_NOT_FINITE, "this one has reject");
	core_assert_refused(&world, send(&a, MSG_CLOSE_STEP, 0, 0, 1), OPTD_NOT_FINITE, "this one has reject");
	assert_int_equal(core_shard(&world)->model->versions[0], 0);
	core_world_end(&world);
}

static void test_reject_waits_for_a_finite_gradient(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_REJECT);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t of_a = push(&a, 0, 1.0f);
	core_assert_refused(&world, push(&b, 0, INFINITY), OPTD_NOT_FINITE, "inf");
	assert_null(core_answer(&world, of_a));
	assert_applied(&world, push(&b, 0, 1.0f));
	assert_applied(&world, of_a);
	core_world_end(&world);
}

static void test_zero_counts_what_is_not_finite_as_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2, MSG_ZERO);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	float values[8] = {NAN, 2, INFINITY, 2, -INFINITY, 2, 2, NAN};
	struct msg msg = core_msg(&b, MSG_PUSH);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	uint64_t of_b = core_send(&b, &msg, values, 8);
	assert_applied(&world, push(&a, 0, 2.0f));
	assert_applied(&world, of_b);
	assert_int_equal(core_answer(&world, of_b)->head.zeroed, 4);
	const struct model *model = core_shard(&world)->model;
	assert_true(model->weights[0] == -1.0f && model->weights[1] == -2.0f);
	assert_true(model->weights[4] == -1.0f && model->weights[7] == -1.0f);
	core_world_end(&world);
}

static void test_zeroed_elements_of_a_resend_are_not_counted_again(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1, MSG_ZERO);
	struct core_client a = core_join(&world, 0, 0);
	push(&a, 0, NAN);
	uint64_t again = push(&a, 0, NAN);
	assert_int_equal(core_answer(&world, again)->head.zeroed, 0);
	assert_int_equal(core_shard(&world)->counts.zeroed, 8);
	core_world_end(&world);
}

static void test_zero_looks_at_the_segments_of_a_mask(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1, MSG_ZERO);
	world.open.mode = MSG_SYNC;
	struct core_client a = core_join(&world, 0, 0);
	const float values[4] = {1, NAN, 1, NAN};
	const uint8_t mask = 0x6; /* t1 [3] and t2 */
	struct msg msg = core_msg(&a, MSG_PUSH);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	uint64_t request = core_send(&a, &msg, values, 4);
	assert_int_equal(core_answer(&world, request)->head.zeroed, 2);
	const struct model *model = core_shard(&world)->model;
	assert_true(model->weights[4] == -1.0f && model->weights[5] == 0.0f && model->weights[7] == 0.0f);
	core_world_end(&world);
}

/* Over several blocks and pieces, as bf16: one in three, all of a stretch, none of another. */
static void test_zero_finds_each_element_of_a_large_push(void **state)
{
	(void)state;
	enum { SCALARS = 2 * LIMIT_BLOCK_SEGMENTS + 77 };
	static uint16_t values[SCALARS];
	struct core_world world;
	uint64_t bad = 0;
	core_world_init(&world);
	world.open.nonfinite = MSG_ZERO;
	core_world_scalars(&world, SCALARS);
	core_world_start(&world);
	struct core_client a = core_join(&world, 0, 0);
	for (uint32_t i = 0; i < SCALARS; i++) {
		bool is_bad = i < 3000 ? i % 3 == 0 : i < 6000;
		values[i] = is_bad ? (i % 2 == 0 ? 0x7fc0 : 0xff80) : 0x3f80;
		bad += is_bad;
	}
	struct msg msg = core_msg(&a, MSG_PUSH);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 3};
	uint64_t request = core_send_typed(&a, &msg, DTYPE_BF16, values, SCALARS);
	assert_applied(&world, request);
	assert_int_equal(core_answer(&world, request)->head.zeroed, bad);
	const struct model *model = core_shard(&world)->model;
	for (uint32_t i = 0; i < SCALARS; i++)
		assert_true(model->weights[i] == (values[i] == 0x3f80 ? -1.0f : 0.0f));
	core_world_end(&world);
}

/* ---- what the policies are ---------------------------------------------- */

static enum msg_nonfinite policy_of(enum msg_mode mode)
{
	struct core_world world;
	start(&world, 1, MSG_NONFINITE_UNSET);
	world.open.mode = mode;
	enum msg_nonfinite told = core_join(&world, 0, 0).opened.nonfinite;
	core_world_end(&world);
	return told;
}

static void test_sync_skips_and_async_rejects_unless_told_otherwise(void **state)
{
	(void)state;
	assert_int_equal(policy_of(MSG_SYNC), MSG_SKIP_STEP);
	assert_int_equal(policy_of(MSG_ASYNC), MSG_REJECT);
}

static void test_first_weights_are_finite_under_every_policy(void **state)
{
	(void)state;
	for (enum msg_nonfinite policy = MSG_SKIP_STEP; policy <= MSG_ZERO; policy++) {
		struct core_world world;
		const float values[8] = {NAN};
		start(&world, 1, policy);
		struct core_client a = core_client_of(&world, 0, 0);
		core_hello(&a);
		core_open(&a);
		struct msg msg = core_msg(&a, MSG_INIT);
		msg.token = a.opened.token;
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
		core_assert_refused(&world, core_send(&a, &msg, values, 8), OPTD_NOT_FINITE, "block 0");
		core_world_end(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_poisoned_step_changes_nothing_but_the_version),
	        cmocka_unit_test(test_everyone_hears_the_lowest_rank_and_its_tensor),
	        cmocka_unit_test(test_step_after_a_skipped_one_is_applied),
	        cmocka_unit_test(test_poison_gives_back_the_bytes_of_all),
	        cmocka_unit_test(test_poison_after_part_of_the_sum_leaves_nothing_of_it),
	        cmocka_unit_test(test_resend_while_the_step_goes_on_takes_the_first_ones_place),
	        cmocka_unit_test(test_resend_after_the_step_hears_that_it_was_skipped),
	        cmocka_unit_test(test_close_step_poisons_as_well),
	        cmocka_unit_test(test_one_worker_skips_its_own_step),
	        cmocka_unit_test(test_poisoned_rank_gives_its_weight_like_any_other),
	        cmocka_unit_test(test_nan_that_is_not_marked_is_refused),
	        cmocka_unit_test(test_mark_with_a_tensor_beyond_the_model_is_refused),
	        cmocka_unit_test(test_mark_is_refused_where_steps_are_not_skipped),
	        cmocka_unit_test(test_reject_waits_for_a_finite_gradient),
	        cmocka_unit_test(test_zero_counts_what_is_not_finite_as_nothing),
	        cmocka_unit_test(test_zeroed_elements_of_a_resend_are_not_counted_again),
	        cmocka_unit_test(test_zero_looks_at_the_segments_of_a_mask),
	        cmocka_unit_test(test_zero_finds_each_element_of_a_large_push),
	        cmocka_unit_test(test_sync_skips_and_async_rejects_unless_told_otherwise),
	        cmocka_unit_test(test_first_weights_are_finite_under_every_policy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
