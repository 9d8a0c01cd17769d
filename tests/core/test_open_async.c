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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_steps_left_out_in_async_are_no_rollback),
	        cmocka_unit_test(test_updates_of_others_hide_no_rollback_in_async),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
