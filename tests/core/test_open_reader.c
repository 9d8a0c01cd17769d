/* OPEN without a rank: it attaches to what there is. */
#include <string.h>

#include "tests/support/core_world.h"

static void start(struct core_world *world)
{
	core_world_init(world);
	world->open.workers = 2;
	core_world_start(world);
}

static const struct core_answer *open_as_reader(struct core_world *world, struct core_client *reader)
{
	*reader = core_client_of(world, 1, MSG_NO_RANK);
	core_hello(reader);
	return core_open(reader);
}

static void assert_creates_nothing(struct core_world *world)
{
	struct core_client reader;

	open_as_reader(world, &reader);
	core_assert_refused(world, world->requests, OPTD_NO_MODEL, "no model 'm' here|nor any other");
	assert_int_equal(engine_shard_count(world->engine), 0);
}

static void test_reader_without_a_layout_attaches_and_holds_no_rank(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client reader;
	start(&world);
	core_join(&world, 0, 0);
	world.open = (struct msg_open){.model = {"m", 1}, .daemons = 1, .layout_hash = UINT64_MAX};
	assert_int_equal(open_as_reader(&world, &reader)->head.status, OPTD_OK);
	assert_int_equal(shard_workers_present(core_shard(&world)), 1);
	core_world_end(&world);
}

static void test_reader_without_a_layout_creates_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.layout_hash = UINT64_MAX;
	assert_creates_nothing(&world);
	core_world_end(&world);
}

static void test_reader_with_a_layout_creates_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	assert_creates_nothing(&world);
	core_world_end(&world);
}

/* The lead has it; no worker has come to this lane yet. */
static void test_reader_that_knows_the_leads_run_creates_nothing_on_another_lane(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client reader;
	core_world_init(&world);
	world.options.lane = 1;
	world.options.lanes = 2;
	core_world_start(&world);
	world.open.expect_run = 77;
	open_as_reader(&world, &reader);
	core_assert_refused(&world, world.requests, OPTD_NO_MODEL, "lane 2 of 2|server 1 of 1|'m'");
	assert_int_equal(engine_shard_count(world.engine), 0);
	core_world_end(&world);
}

static void test_reader_is_never_asked_for_weights(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client reader, worker;
	start(&world);
	worker = core_client_of(&world, 0, 0);
	world.open.wants_init = false;
	core_hello(&worker);
	core_open(&worker);
	world.open.wants_init = true;
	assert_int_equal(open_as_reader(&world, &reader)->head.opened.state, MSG_MODEL_WAITING);
	assert_int_equal(core_open(&worker)->head.opened.state, MSG_MODEL_GRANTED);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_reader_without_a_layout_attaches_and_holds_no_rank),
	        cmocka_unit_test(test_reader_without_a_layout_creates_nothing),
	        cmocka_unit_test(test_reader_with_a_layout_creates_nothing),
	        cmocka_unit_test(test_reader_that_knows_the_leads_run_creates_nothing_on_another_lane),
	        cmocka_unit_test(test_reader_is_never_asked_for_weights),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
