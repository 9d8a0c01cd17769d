/* OPEN of an async model: how far a worker is said to be. */
#include "tests/support/core_world.h"

static void start(struct core_world *world)
{
	core_world_init(world);
	world->open.mode = MSG_ASYNC;
	world->open.workers = 0;
	core_world_start(world);
}

static void test_steps_left_out_in_async_are_no_rollback(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_join(&world, 0, 0);
	core_assert_ok(&world, core_push_all(&client, 40, 1.0f));
	world.open.expect_run = client.opened.run_id;
	world.open.seen_step = 41;
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	assert_int_equal(client.opened.step, 41);
	core_world_end(&world);
}

static void test_updates_of_others_hide_no_rollback_in_async(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_join(&world, 0, 0);
	for (uint64_t step = 0; step < 5; step++)
		core_assert_ok(&world, core_push_all(&client, step, 1.0f));
	world.open.expect_run = client.opened.run_id;
	world.open.seen_step = 3;
	struct core_client other = core_client_of(&world, 9, 1);
	core_hello(&other);
	core_open(&other);
	core_assert_refused(&world, world.requests, OPTD_ROLLBACK, "'m'|from step 3 to 0");
	core_world_end(&world);
}

static void test_ranks_beyond_those_of_the_formula_are_counted_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	core_join(&world, 0, 3);
	uint64_t one = engine_bytes(world.engine);
	core_join(&world, 1, 0);
	uint64_t more = engine_bytes(world.engine) - one;
	/* 8 parameters: two windows of 32 bytes, and what is kept about a rank. */
	assert_in_range(more, 64, 1000);
	core_join(&world, 2, 7);
	assert_int_equal(engine_bytes(world.engine), one + 2 * more);
	engine_peer_gone(world.engine, 2, &world.out);
	core_join(&world, 3, 7);
	core_join(&world, 4, MSG_NO_RANK);
	assert_int_equal(engine_bytes(world.engine), one + 2 * more);
	assert_int_equal(core_shard(&world)->bytes, one + 2 * more);
	assert_int_equal(engine_drop(world.engine, "m", &world.out), OPTD_OK);
	assert_int_equal(engine_bytes(world.engine), 0);
	core_world_end(&world);
}

static void test_rank_whose_window_does_not_fit_is_refused(void **state)
{
	(void)state;
	static const uint64_t tensors[] = {100000};
	struct core_world world;
	core_world_init(&world);
	world.open.mode = MSG_ASYNC;
	world.open.workers = 0;
	world.options.memory_bytes = 3 << 20;
	world.tensors = tensors;
	world.tensor_count = 1;
	core_world_start(&world);
	core_join(&world, 0, 0);
	core_join(&world, 1, 1);
	uint64_t bytes = engine_bytes(world.engine);
	struct core_client third = core_client_of(&world, 2, 2);
	core_hello(&third);
	core_open(&third);
	core_assert_refused(&world, world.requests, OPTD_TOO_LARGE,
	                    "rank 2 would be worker 3 of model 'm'|left of 3145728|limits.memory");
	assert_int_equal(engine_bytes(world.engine), bytes);
	assert_int_equal(core_shard(&world)->holder_count, 2);
	/* Those who were there before come again. */
	engine_peer_gone(world.engine, 1, &world.out);
	core_join(&world, 3, 1);
	core_world_end(&world);
}

static void test_rank_whose_window_unread_answers_take_is_put_off(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.mode = MSG_ASYNC;
	world.open.workers = 0;
	core_world_start(&world);
	core_join(&world, 0, 0);
	engine_set_unread(world.engine, world.options.memory_bytes);
	struct core_client second = core_client_of(&world, 1, 1);
	core_hello(&second);
	core_open(&second);
	core_assert_refused(&world, world.requests, OPTD_BUSY,
	                    "rank 1 would be worker 2 of model 'm'|once answers that wait have been read");
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_steps_left_out_in_async_are_no_rollback),
	        cmocka_unit_test(test_updates_of_others_hide_no_rollback_in_async),
	        cmocka_unit_test(test_ranks_beyond_those_of_the_formula_are_counted_once),
	        cmocka_unit_test(test_rank_whose_window_does_not_fit_is_refused),
	        cmocka_unit_test(test_rank_whose_window_unread_answers_take_is_put_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
