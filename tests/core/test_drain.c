/* A daemon that stops takes nothing new: it would be in no checkpoint. */
#include "tests/support/core_world.h"

static void start(struct core_world *world)
{
	core_world_init(world);
	world->open.workers = 2;
	core_world_start(world);
}

static uint64_t init_done(struct core_client *client)
{
	struct msg msg = core_msg(client, MSG_INIT);

	msg.token = client->opened.token;
	return core_send(client, &msg, NULL, 0);
}

static void test_no_model_is_made_while_draining(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	engine_drain(world.engine);
	core_open(&client);
	core_assert_refused(&world, world.requests, OPTD_DRAINING, "shutting down|'m'|when it is back");
	assert_int_equal(engine_shard_count(world.engine), 0);
	core_world_end(&world);
}

static void test_no_first_weights_are_taken_while_draining(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	core_open(&client);
	engine_drain(world.engine);
	uint64_t init = init_done(&client);
	core_assert_refused(&world, init, OPTD_DRAINING, "shutting down|model 'm'|no weights");
	assert_false(core_shard(&world)->ready);
	core_world_end(&world);
}

static void test_first_weights_resent_while_draining_are_welcome(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_join(&world, 0, 0);
	engine_drain(world.engine);
	core_assert_ok(&world, init_done(&client));
	core_world_end(&world);
}

static void test_a_step_is_completed_while_draining_by_one_who_comes_back(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = core_join(&world, 0, 0);
	uint64_t push = core_push_all(&first, 0, 1.0f);
	engine_drain(world.engine);
	struct core_client second = core_join(&world, 1, 1);
	core_assert_ok(&world, core_push_all(&second, 0, 1.0f));
	core_assert_ok(&world, push);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_no_model_is_made_while_draining),
	        cmocka_unit_test(test_no_first_weights_are_taken_while_draining),
	        cmocka_unit_test(test_first_weights_resent_while_draining_are_welcome),
	        cmocka_unit_test(test_a_step_is_completed_while_draining_by_one_who_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
