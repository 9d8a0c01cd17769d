/* INIT: one worker gives the first weights, under a token with a lease. */
#include <math.h>
#include <string.h>

#include "tests/support/core_world.h"

static void start(struct core_world *world)
{
	core_world_init(world);
	world->open.workers = 2;
	core_world_start(world);
}

static struct core_client opened(struct core_world *world, uint32_t peer, int32_t rank)
{
	struct core_client client = core_client_of(world, peer, rank);
	core_hello(&client);
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	return client;
}

/* INIT of `count` blocks with every element 2, or without blocks: done. */
static uint64_t init(struct core_client *client, uint64_t token, uint32_t first, uint32_t count)
{
	float values[2 * LIMIT_BLOCK_SEGMENTS];
	const struct model *model = core_shard(client->world)->model;
	struct msg msg = core_msg(client, MSG_INIT);
	uint64_t elements = 0;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		values[i] = 2.0f;
	msg.token = token;
	msg.part_count = count > 0;
	msg.parts[0] = (struct msg_part){.first = first, .count = count};
	for (uint32_t i = 0; i < count; i++)
		elements += layout_block(model->layout, first + i)->count;
	return core_send(client, &msg, values, elements);
}

static void test_weights_given_are_pulled(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0);
	core_assert_ok(&world, init(&client, client.opened.token, 0, 1));
	core_assert_ok(&world, init(&client, client.opened.token, 0, 0));
	uint64_t pull = core_pull(&client, 0, 1, 0);
	assert_true(core_answer(&world, pull)->values[7] == 2.0f);
	assert_int_equal(core_answer(&world, pull)->head.version, 0);
	core_world_end(&world);
}

static void test_pull_waits_until_the_first_weights_are_complete(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0), reader = opened(&world, 1, MSG_NO_RANK);
	uint64_t pull = core_pull(&reader, 0, 1, 0);
	assert_null(core_answer(&world, pull));
	init(&client, client.opened.token, 0, 1);
	assert_null(core_answer(&world, pull));
	init(&client, client.opened.token, 0, 0);
	core_assert_ok(&world, pull);
	core_world_end(&world);
}

static void test_push_before_the_first_weights_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0);
	core_assert_refused(&world, core_push_all(&client, 0, 1.0f), OPTD_NOT_READY,
	                    "'m'|no weights yet|0 of 1 blocks");
	core_world_end(&world);
}

static void test_init_without_or_with_a_wrong_token_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0), other = opened(&world, 1, 1);
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, init(&client, 0, 0, 1), OPTD_NO_TOKEN, "another worker");
	core_assert_refused(&world, init(&client, 2, 0, 1), OPTD_NO_TOKEN, "another worker");
	core_assert_refused(&world, init(&other, 1, 0, 1), OPTD_NO_TOKEN, "another worker");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_lease_that_runs_out_goes_to_the_next_who_opens(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = opened(&world, 0, 0);
	core_tick(&world, 10000);
	struct core_client second = opened(&world, 1, 1);
	assert_int_equal(second.opened.state, MSG_MODEL_GRANTED);
	assert_int_equal(second.opened.token, 2);
	core_assert_refused(&world, init(&first, 1, 0, 1), OPTD_NO_TOKEN, "another worker");
	core_assert_ok(&world, init(&second, 2, 0, 1));
	core_world_end(&world);
}

static void test_lease_is_renewed_by_use(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = opened(&world, 0, 0);
	core_tick(&world, 9999);
	core_assert_ok(&world, init(&first, 1, 0, 1));
	core_tick(&world, 9999);
	assert_int_equal(opened(&world, 1, 1).opened.state, MSG_MODEL_WAITING);
	core_assert_ok(&world, init(&first, 1, 0, 0));
	core_world_end(&world);
}

static void test_grant_is_free_when_its_connection_is_gone(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	opened(&world, 0, 0);
	engine_peer_gone(world.engine, 0, &world.out);
	struct core_client second = opened(&world, 1, 1);
	assert_int_equal(second.opened.state, MSG_MODEL_GRANTED);
	assert_int_equal(second.opened.token, 2);
	core_world_end(&world);
}

static struct core_client opened_to_pull(struct core_world *world, uint32_t peer, int32_t rank)
{
	world->open.wants_init = false;
	struct core_client client = opened(world, peer, rank);
	world->open.wants_init = true;
	return client;
}

static void test_worker_that_opens_to_pull_leaves_the_grant_to_who_asks(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client puller = opened_to_pull(&world, 0, 1);
	assert_int_equal(puller.opened.state, MSG_MODEL_WAITING);
	assert_int_equal(puller.opened.token, 0);
	uint64_t pull = core_pull(&puller, 0, 1, 0);
	struct core_client giver = opened(&world, 1, 0);
	assert_int_equal(giver.opened.state, MSG_MODEL_GRANTED);
	core_init_weights(&giver, NULL);
	core_assert_ok(&world, pull);
	core_world_end(&world);
}

static void test_open_that_does_not_ask_keeps_no_lease_alive(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = opened(&world, 0, 0);
	core_tick(&world, 9999);
	world.open.wants_init = false;
	assert_int_equal(core_open(&first)->head.opened.state, MSG_MODEL_WAITING);
	world.open.wants_init = true;
	core_tick(&world, 1);
	assert_int_equal(opened(&world, 1, 1).opened.state, MSG_MODEL_GRANTED);
	core_world_end(&world);
}

static void test_done_before_all_blocks_names_how_many(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 5);
	core_world_start(&world);
	struct core_client client = opened(&world, 0, 0);
	init(&client, 1, 1, 1);
	core_assert_refused(&world, init(&client, 1, 0, 0), OPTD_NOT_READY, "1 of 2 blocks");
	core_world_end(&world);
}

static void test_resent_init_after_done_is_welcome_and_changes_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0);
	core_init_weights(&client, NULL);
	uint64_t before = core_hash(&world);
	core_assert_ok(&world, init(&client, 1, 0, 1));
	core_assert_ok(&world, init(&client, 1, 0, 0));
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_late_token_on_a_ready_model_is_told_to_pull(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = opened(&world, 0, 0);
	core_tick(&world, 10000);
	struct core_client second = opened(&world, 1, 1);
	core_init_weights(&second, NULL);
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, init(&first, 1, 0, 1), OPTD_NO_TOKEN, "has weights: pull them");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_push_before_done_leaves_the_weights_to_be_given(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0);
	core_assert_ok(&world, init(&client, 1, 0, 1));
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, core_push_all(&client, 0, 1.0f), OPTD_NOT_READY,
	                    "'m'|1 of 1 blocks|not declared complete");
	core_assert_refused(&world, core_close_step(&client, 0, 0, 1), OPTD_NOT_READY, "'m'");
	assert_int_equal(core_hash(&world), before);
	core_assert_ok(&world, init(&client, 1, 0, 1));
	core_assert_ok(&world, init(&client, 1, 0, 0));
	assert_null(core_answer(&world, core_push_all(&client, 0, 1.0f)));
	core_world_end(&world);
}

static void test_pull_for_an_update_waits_for_done_and_for_the_update(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_start(&world);
	struct core_client client = opened(&world, 0, 0), reader = opened(&world, 1, MSG_NO_RANK);
	uint64_t pull = core_pull(&reader, 0, 1, 1);
	core_init_weights(&client, NULL);
	assert_null(core_answer(&world, pull));
	core_push_all(&client, 0, 1.0f);
	core_assert_ok(&world, pull);
	assert_true(core_answer(&world, pull)->values[0] == -1.0f);
	core_world_end(&world);
}

static void test_pulls_see_the_weights_of_one_token_only(void **state)
{
	(void)state;
	struct core_world world;
	static float fives[LIMIT_BLOCK_SEGMENTS + 5];
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 5);
	world.open.workers = 2;
	core_world_start(&world);
	for (uint32_t i = 0; i < LIMIT_BLOCK_SEGMENTS + 5; i++)
		fives[i] = 5.0f;
	struct core_client first = opened(&world, 0, 0), reader = opened(&world, 2, MSG_NO_RANK);
	uint64_t pulls[3] = {core_pull(&reader, 0, 1, 0), core_pull(&reader, 1, 1, 0)};
	core_assert_ok(&world, init(&first, 1, 0, 1));
	pulls[2] = core_pull(&reader, 0, 1, 0);
	assert_null(core_answer(&world, pulls[2]));
	engine_peer_gone(world.engine, 0, &world.out);
	assert_null(core_answer(&world, pulls[0]));
	struct core_client second = opened(&world, 1, 1);
	core_init_weights(&second, fives);
	for (int i = 0; i < 3; i++)
		assert_true(core_answer(&world, pulls[i])->values[0] == 5.0f);
	core_world_end(&world);
}

static void test_init_with_nan_names_block_and_element(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = opened(&world, 0, 0);
	const float values[8] = {0, 0, 0, NAN};
	struct msg msg = core_msg(&client, MSG_INIT);
	msg.token = 1;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	core_assert_refused(&world, core_send(&client, &msg, values, 8), OPTD_NOT_FINITE,
	                    "block 0|element 3|nan");
	assert_false(model_block_ready(core_shard(&world)->model, 0));
	core_world_end(&world);
}

static void test_mask_in_init_is_refused_before_anything_is_taken(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 5);
	core_world_start(&world);
	struct core_client client = opened(&world, 0, 0);
	static const float values[LIMIT_BLOCK_SEGMENTS + 1];
	const uint8_t mask[1] = {1};
	uint64_t before = core_hash(&world);
	struct msg msg = core_msg(&client, MSG_INIT);
	msg.token = 1;
	msg.part_count = 2;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	msg.parts[1] = (struct msg_part){.first = 1, .count = 1, .mask = mask, .mask_bytes = 1};
	core_assert_refused(&world, core_send(&client, &msg, values, LIMIT_BLOCK_SEGMENTS + 1),
	                    OPTD_INVALID, "whole blocks|block 1");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

/* ---- lanes that do not own block 0 -------------------------------------- */

static void start_second_lane(struct core_world *world, uint32_t lanes, uint32_t scalars)
{
	core_world_init(world);
	world->options.lanes = lanes;
	world->options.lane = lanes - 1;
	core_world_scalars(world, scalars);
	world->open.workers = 2;
	world->open.expect_run = 0x77;
	core_world_start(world);
}

static void test_other_lane_grants_nothing_and_takes_the_leads_token(void **state)
{
	(void)state;
	struct core_world world;
	start_second_lane(&world, 2, LIMIT_BLOCK_SEGMENTS + 5);
	struct core_client client = opened(&world, 0, 0);
	assert_int_equal(client.opened.state, MSG_MODEL_WAITING);
	core_assert_ok(&world, init(&client, 3, 1, 1));
	core_assert_ok(&world, init(&client, 3, 0, 0));
	core_world_end(&world);
}

static void test_other_lane_refuses_a_token_older_than_one_it_has_seen(void **state)
{
	(void)state;
	struct core_world world;
	start_second_lane(&world, 2, LIMIT_BLOCK_SEGMENTS + 5);
	struct core_client old = opened(&world, 0, 0), new = opened(&world, 1, 1);
	core_assert_ok(&world, init(&new, 3, 1, 1));
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, init(&old, 2, 1, 1), OPTD_NO_TOKEN, "another worker");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_other_lane_begins_again_under_a_newer_token(void **state)
{
	(void)state;
	struct core_world world;
	start_second_lane(&world, 2, LIMIT_BLOCK_SEGMENTS + 5);
	struct core_client old = opened(&world, 0, 0), new = opened(&world, 1, 1);
	/* The first worker has ended this lane and dies before it ends the lead. */
	core_assert_ok(&world, init(&old, 1, 1, 1));
	core_assert_ok(&world, init(&old, 1, 0, 0));
	core_assert_ok(&world, init(&new, 2, 1, 1));
	core_assert_refused(&world, init(&old, 1, 0, 0), OPTD_NO_TOKEN, "another worker");
	core_assert_ok(&world, init(&new, 2, 0, 0));
	core_assert_refused(&world, init(&old, 1, 1, 1), OPTD_NO_TOKEN, "has weights");
	core_world_end(&world);
}

static void test_pull_that_was_not_answered_gets_the_weights_of_the_newer_token(void **state)
{
	(void)state;
	struct core_world world;
	start_second_lane(&world, 2, LIMIT_BLOCK_SEGMENTS + 5);
	struct core_client old = opened(&world, 0, 0), new = opened(&world, 1, 1);
	uint64_t pull = core_pull(&new, 1, 1, 0);
	world.kept_stay = true;
	init(&old, 1, 1, 1);
	core_assert_ok(&world, init(&old, 1, 0, 0));
	core_assert_ok(&world, init(&new, 2, 1, 1));
	assert_false(engine_answer_kept(world.engine, NULL, &world.out));
	core_assert_ok(&world, init(&new, 2, 0, 0));
	assert_true(engine_answer_kept(world.engine, NULL, &world.out));
	core_collect(&world);
	core_assert_ok(&world, pull);
	core_world_end(&world);
}

static void test_lane_that_has_trained_does_not_begin_again(void **state)
{
	(void)state;
	struct core_world world;
	start_second_lane(&world, 2, LIMIT_BLOCK_SEGMENTS + 5);
	world.open.workers = 1;
	struct core_client client = opened(&world, 0, 0);
	const float ones[5] = {1};
	init(&client, 1, 1, 1);
	init(&client, 1, 0, 0);
	core_assert_ok(&world, core_push(&client, MSG_PUSH, 0, 1, 1, ones));
	uint64_t before = core_hash(&world);
	core_assert_refused(&world, init(&client, 2, 1, 1), OPTD_CONFLICT, "block 1|step 1");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_done_may_be_repeated_on_a_lane_without_blocks(void **state)
{
	(void)state;
	struct core_world world;
	start_second_lane(&world, 2, 3);
	struct core_client client = opened(&world, 0, 0);
	assert_int_equal(core_shard(&world)->model->owned.count, 0);
	core_assert_ok(&world, init(&client, 3, 0, 0));
	core_assert_ok(&world, init(&client, 3, 0, 0));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_weights_given_are_pulled),
	        cmocka_unit_test(test_pull_waits_until_the_first_weights_are_complete),
	        cmocka_unit_test(test_push_before_the_first_weights_is_refused),
	        cmocka_unit_test(test_init_without_or_with_a_wrong_token_is_refused),
	        cmocka_unit_test(test_lease_that_runs_out_goes_to_the_next_who_opens),
	        cmocka_unit_test(test_lease_is_renewed_by_use),
	        cmocka_unit_test(test_grant_is_free_when_its_connection_is_gone),
	        cmocka_unit_test(test_worker_that_opens_to_pull_leaves_the_grant_to_who_asks),
	        cmocka_unit_test(test_open_that_does_not_ask_keeps_no_lease_alive),
	        cmocka_unit_test(test_done_before_all_blocks_names_how_many),
	        cmocka_unit_test(test_resent_init_after_done_is_welcome_and_changes_nothing),
	        cmocka_unit_test(test_late_token_on_a_ready_model_is_told_to_pull),
	        cmocka_unit_test(test_push_before_done_leaves_the_weights_to_be_given),
	        cmocka_unit_test(test_pull_for_an_update_waits_for_done_and_for_the_update),
	        cmocka_unit_test(test_pulls_see_the_weights_of_one_token_only),
	        cmocka_unit_test(test_init_with_nan_names_block_and_element),
	        cmocka_unit_test(test_mask_in_init_is_refused_before_anything_is_taken),
	        cmocka_unit_test(test_other_lane_grants_nothing_and_takes_the_leads_token),
	        cmocka_unit_test(test_other_lane_refuses_a_token_older_than_one_it_has_seen),
	        cmocka_unit_test(test_other_lane_begins_again_under_a_newer_token),
	        cmocka_unit_test(test_pull_that_was_not_answered_gets_the_weights_of_the_newer_token),
	        cmocka_unit_test(test_lane_that_has_trained_does_not_begin_again),
	        cmocka_unit_test(test_done_may_be_repeated_on_a_lane_without_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
