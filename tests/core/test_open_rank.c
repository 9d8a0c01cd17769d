/* OPEN with a rank: who holds it, and who takes it over. */
#include "tests/support/core_world.h"

static void start(struct core_world *world)
{
	core_world_init(world);
	world->open.workers = 2;
	core_world_start(world);
}

static void test_rank_is_free_when_its_connection_is_gone(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	core_join(&world, 0, 1);
	engine_peer_gone(world.engine, 0, &world.out);
	struct core_client other = core_join(&world, 1, 1);
	assert_int_equal(other.opened.incarnation, 2);
	core_world_end(&world);
}

static void test_same_client_takes_its_rank_over_on_a_new_connection(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client old = core_join(&world, 0, 0);
	struct core_client again = core_client_of(&world, 1, 0);
	again.client = old.client;
	core_hello(&again);
	assert_int_equal(core_open(&again)->head.status, OPTD_OK);
	assert_int_equal(again.opened.incarnation, 2);
	core_assert_refused(&world, core_push_all(&old, 0, 1.0f), OPTD_STALE_INCARNATION,
	                    "rank 0|host:101|incarnation 2, yours 1");
	/* The old connection's end does not free what is no longer its own. */
	engine_peer_gone(world.engine, 0, &world.out);
	assert_int_equal(shard_workers_present(core_shard(&world)), 1);
	core_world_end(&world);
}

static void test_open_again_in_the_same_session_keeps_the_incarnation(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_join(&world, 0, 0);
	core_open(&client);
	assert_int_equal(client.opened.incarnation, 1);
	core_world_end(&world);
}

static void test_returning_rank_hears_which_step_is_under_way(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = core_join(&world, 0, 0), second = core_join(&world, 1, 1);
	core_push_all(&first, 0, 1.0f);
	core_push_all(&second, 0, 1.0f);
	core_push_all(&first, 1, 1.0f);
	/* Also where its own part is in: it may lose its session again before the
	 * step is complete, and must not take that for a rollback. */
	core_open(&first);
	assert_int_equal(first.opened.step, 1);
	core_open(&second);
	assert_int_equal(second.opened.step, 1);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rank_is_free_when_its_connection_is_gone),
	        cmocka_unit_test(test_same_client_takes_its_rank_over_on_a_new_connection),
	        cmocka_unit_test(test_open_again_in_the_same_session_keeps_the_incarnation),
	        cmocka_unit_test(test_returning_rank_hears_which_step_is_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
