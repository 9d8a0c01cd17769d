/* Cut: blocks held for a checkpoint commit nothing, and go on after. */
#include <string.h>

#include "tests/support/core_world.h"

/* Two blocks of 4096 and 4 scalars. */
static void start(struct core_world *world, enum msg_mode mode, uint32_t workers)
{
	core_world_init(world);
	core_world_scalars(world, LIMIT_BLOCK_SEGMENTS + 4);
	world->open.mode = mode;
	world->open.workers = workers;
	core_world_start(world);
}

static const float ones[LIMIT_BLOCK_SEGMENTS] = {1.0f};

static void save(struct core_world *world, uint32_t block)
{
	engine_cut_saved(world->engine, core_shard(world), block);
	core_collect(world);
}

static void end(struct core_world *world)
{
	engine_cut_end(world->engine, core_shard(world));
	core_collect(world);
}

static void test_block_held_for_a_cut_commits_after_it_is_saved(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	assert_int_equal(engine_cut_begin(core_shard(&world), 0, false), OPTD_OK);
	uint64_t before = core_hash(&world);
	uint64_t push = core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	assert_null(core_answer(&world, push));
	assert_int_equal(core_hash(&world), before);
	save(&world, 0);
	core_assert_ok(&world, push);
	assert_int_equal(core_shard(&world)->model->versions[0], 1);
	end(&world);
	core_world_end(&world);
}

static void test_sync_cut_saves_all_blocks_at_one_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	/* Block 0 is one step ahead of block 1. */
	core_push_all(&first, 0, 1.0f);
	core_push(&second, MSG_PUSH, 0, 0, 1, ones);
	uint64_t lowest, highest;
	model_versions(core_shard(&world)->model, &lowest, &highest);
	assert_int_equal(lowest, 0);
	assert_int_equal(highest, 1);
	uint32_t block = 99;
	engine_cut_begin(core_shard(&world), highest, false);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(block, 0);
	save(&world, 0);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_WAIT);
	core_push(&second, MSG_PUSH, 0, 1, 1, ones);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(block, 1);
	assert_int_equal(core_shard(&world)->model->versions[1], 1);
	save(&world, 1);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_DONE);
	end(&world);
	core_world_end(&world);
}

static void test_a_cut_goes_on_behind_the_block_saved_last(void **state)
{
	(void)state;
	struct core_world world;
	uint32_t block;
	core_world_init(&world);
	core_world_scalars(&world, 2 * LIMIT_BLOCK_SEGMENTS + 4);
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 1, 1, ones);
	assert_int_equal(engine_cut_begin(core_shard(&world), 1, false), OPTD_OK);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(block, 1);
	save(&world, 1);
	core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	core_push(&client, MSG_PUSH, 0, 2, 1, ones);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
		assert_int_equal(block, i == 0 ? 2 : 0);
		save(&world, block);
	}
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_DONE);
	end(&world);
	core_world_end(&world);
}

static void test_block_not_yet_saved_never_passes_the_cut(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	engine_cut_begin(core_shard(&world), 1, false);
	core_push_all(&first, 0, 1.0f);
	core_push_all(&second, 0, 1.0f);
	uint64_t push = core_push_all(&first, 1, 1.0f);
	core_push_all(&second, 1, 1.0f);
	const struct model *model = core_shard(&world)->model;
	assert_int_equal(model->versions[0], 1);
	assert_int_equal(model->versions[1], 1);
	save(&world, 1);
	assert_int_equal(model->versions[0], 1);
	assert_int_equal(model->versions[1], 2);
	assert_null(core_answer(&world, push));
	save(&world, 0);
	core_assert_ok(&world, push);
	end(&world);
	core_world_end(&world);
}

static void test_pushes_are_folded_while_a_cut_holds_their_block(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 2);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t push = core_push_all(&first, 0, 1.0f);
	assert_non_null(core_notice(&world, push, OPTD_FOLDED));
	core_push_all(&second, 0, 1.0f);
	assert_int_equal(world.payloads, 0);
	end(&world);
	core_assert_ok(&world, push);
	core_world_end(&world);
}

static void test_cut_that_ends_unsaved_lets_everything_go_on(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	assert_null(core_answer(&world, push));
	end(&world);
	core_assert_ok(&world, push);
	end(&world); /* harmless without one */
	core_world_end(&world);
}

static void test_forced_cut_takes_blocks_as_they_are(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 1, 1, ones);
	engine_cut_begin(core_shard(&world), 1, false);
	uint32_t block = 99;
	engine_cut_force(core_shard(&world));
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(block, 0);
	end(&world);
	core_world_end(&world);
}

static void test_async_cut_takes_each_block_as_it_is(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_ASYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 1, 1, ones);
	engine_cut_begin(core_shard(&world), 1, false);
	uint32_t block = 99;
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(block, 0);
	uint64_t push = core_push(&client, MSG_PUSH, 1, 0, 1, ones);
	assert_null(core_answer(&world, push));
	save(&world, 0);
	core_assert_ok(&world, push);
	end(&world);
	core_world_end(&world);
}

static void test_duplicate_of_a_held_push_counts_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_ASYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	engine_cut_begin(core_shard(&world), 0, false);
	core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	uint64_t again = core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	assert_int_equal(world.payloads, 1);
	end(&world);
	core_assert_ok(&world, again);
	assert_int_equal(core_shard(&world)->model->versions[0], 1);
	core_world_end(&world);
}

static void the_later_wait_is_answered(enum msg_mode mode)
{
	struct core_world world;
	start(&world, mode, 1);
	struct core_client client = core_join(&world, 0, 0);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t push = core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	uint64_t again = core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	end(&world);
	core_assert_ok(&world, again);
	core_assert_refused(&world, push, OPTD_CANCELLED, "takes its place");
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

static void test_later_wait_for_a_held_push_is_answered_in_sync(void **state)
{
	(void)state;
	the_later_wait_is_answered(MSG_SYNC);
}

static void test_later_wait_for_a_held_push_is_answered_in_async(void **state)
{
	(void)state;
	the_later_wait_is_answered(MSG_ASYNC);
}

static void test_step_timeout_during_a_cut_says_so(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	core_tick(&world, 30000);
	core_assert_refused(&world, push, OPTD_STEP_TIMEOUT, "a checkpoint is being written");
	end(&world);
	core_assert_ok(&world, core_push_all(&client, 0, 1.0f)); /* it was kept */
	core_world_end(&world);
}

/* Lanes that were asked in different steps agree on the later one: what was held back
 * for the earlier has come already, so nobody would ask again. */
static void test_raised_cut_lets_held_blocks_go_on(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint32_t block = 99;
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	assert_null(core_answer(&world, push));
	engine_cut_raise(world.engine, core_shard(&world), 1);
	core_collect(&world);
	core_assert_ok(&world, push);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(core_shard(&world)->model->versions[block], 1);
	uint64_t next = core_push_all(&client, 1, 1.0f);
	assert_null(core_answer(&world, next));
	end(&world);
	core_assert_ok(&world, next);
	core_world_end(&world);
}

static void test_cut_raised_to_where_it_is_changes_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	engine_cut_raise(world.engine, core_shard(&world), 0);
	core_collect(&world);
	assert_null(core_answer(&world, push));
	end(&world);
	core_assert_ok(&world, push);
	core_world_end(&world);
}

/* The step goes on where it stood still, but not in a block not yet saved. */
static void test_forced_last_cut_holds_every_block(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	engine_cut_begin(core_shard(&world), 1, true);
	engine_cut_force(core_shard(&world));
	save(&world, 0);
	uint64_t before = core_hash(&world);
	uint64_t late = core_push(&client, MSG_PUSH, 0, 1, 1, ones);
	assert_null(core_answer(&world, late));
	uint32_t block = 99;
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	assert_int_equal(block, 1);
	save(&world, 1);
	assert_null(core_answer(&world, late));
	assert_int_equal(core_hash(&world), before);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_DONE);
	core_world_end(&world);
}

static void last_cut_holds(enum msg_mode mode)
{
	struct core_world world;
	start(&world, mode, 1);
	struct core_client client = core_join(&world, 0, 0);
	engine_cut_begin(core_shard(&world), 0, true);
	save(&world, 0);
	save(&world, 1);
	uint64_t before = core_hash(&world);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	end(&world);
	assert_null(core_answer(&world, push));
	assert_int_equal(core_hash(&world), before);
	uint32_t block = 99;
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_DONE);
	core_world_end(&world);
}

static void test_last_cut_keeps_saved_blocks_held_in_sync(void **state)
{
	(void)state;
	last_cut_holds(MSG_SYNC);
}

static void test_last_cut_keeps_saved_blocks_held_in_async(void **state)
{
	(void)state;
	last_cut_holds(MSG_ASYNC);
}

/* What the file is to hold may still come about: only what is saved stands still. */
static void test_last_cut_lets_blocks_reach_its_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_SYNC, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 0, 1, ones);
	engine_cut_begin(core_shard(&world), 1, true);
	save(&world, 0);
	core_assert_ok(&world, core_push(&client, MSG_PUSH, 0, 1, 1, ones));
	assert_int_equal(core_shard(&world)->model->versions[1], 1);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_block_held_for_a_cut_commits_after_it_is_saved),
	        cmocka_unit_test(test_sync_cut_saves_all_blocks_at_one_version),
	        cmocka_unit_test(test_a_cut_goes_on_behind_the_block_saved_last),
	        cmocka_unit_test(test_block_not_yet_saved_never_passes_the_cut),
	        cmocka_unit_test(test_pushes_are_folded_while_a_cut_holds_their_block),
	        cmocka_unit_test(test_cut_that_ends_unsaved_lets_everything_go_on),
	        cmocka_unit_test(test_forced_cut_takes_blocks_as_they_are),
	        cmocka_unit_test(test_async_cut_takes_each_block_as_it_is),
	        cmocka_unit_test(test_duplicate_of_a_held_push_counts_once),
	        cmocka_unit_test(test_later_wait_for_a_held_push_is_answered_in_sync),
	        cmocka_unit_test(test_later_wait_for_a_held_push_is_answered_in_async),
	        cmocka_unit_test(test_step_timeout_during_a_cut_says_so),
	        cmocka_unit_test(test_raised_cut_lets_held_blocks_go_on),
	        cmocka_unit_test(test_cut_raised_to_where_it_is_changes_nothing),
	        cmocka_unit_test(test_forced_last_cut_holds_every_block),
	        cmocka_unit_test(test_last_cut_keeps_saved_blocks_held_in_sync),
	        cmocka_unit_test(test_last_cut_keeps_saved_blocks_held_in_async),
	        cmocka_unit_test(test_last_cut_lets_blocks_reach_its_version),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
