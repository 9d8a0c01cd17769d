/*
 * OPEN of a sync model that came back torn: block 0 has completed step 7 and block 1
 * has not, because a worker was gone while the checkpoint was written.
 */
#include "tests/support/core_world.h"

#define STEP 7u

static const float ZEROS[LIMIT_BLOCK_SEGMENTS];

static void start(struct core_world *world)
{
	core_world_init(world);
	core_world_scalars(world, LIMIT_BLOCK_SEGMENTS + 4);
	core_world_start(world);
	struct core_client client = core_join(world, 0, 0);
	struct model *model = core_shard(world)->model;
	model->versions[0] = STEP + 1;
	model->versions[1] = STEP;
	model->restored = true;
	engine_peer_gone(world->engine, 0, &world->out);
	world->open.expect_run = client.opened.run_id;
}

static struct core_client open_after(struct core_world *world, uint32_t peer, int32_t rank,
                                     uint64_t seen_step)
{
	struct core_client client = core_client_of(world, peer, rank);
	world->open.seen_step = seen_step;
	core_hello(&client);
	core_open(&client);
	return client;
}

static void test_reader_that_has_seen_the_step_hears_of_the_rollback(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	open_after(&world, 1, MSG_NO_RANK, STEP + 1);
	core_assert_refused(&world, world.requests, OPTD_ROLLBACK, "'m'|from step 8 to 7");
	assert_int_equal(core_answer(&world, world.requests)->head.version, STEP);
	core_world_end(&world);
}

static void test_reader_that_has_not_goes_on_and_hears_the_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	open_after(&world, 1, MSG_NO_RANK, STEP);
	core_assert_ok(&world, world.requests);
	assert_int_equal(core_answer(&world, world.requests)->head.version, STEP);
	assert_int_equal(core_answer(&world, world.requests)->head.version_max, STEP + 1);
	core_world_end(&world);
}

static void test_worker_that_has_not_seen_it_completes_the_step(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client worker = open_after(&world, 1, 0, STEP);
	core_assert_ok(&world, world.requests);
	assert_int_equal(worker.opened.step, STEP);
	uint64_t commits = core_shard(&world)->counts.commits;
	core_assert_ok(&world, core_push(&worker, MSG_PUSH, STEP, 0, 1, ZEROS));
	assert_int_equal(core_shard(&world)->counts.commits, commits);
	core_assert_ok(&world, core_push(&worker, MSG_PUSH, STEP, 1, 1, ZEROS));
	assert_int_equal(model_version(core_shard(&world)->model, 1), STEP + 1);
	core_assert_ok(&world, core_push_all(&worker, STEP + 1, 1.0f));
	core_world_end(&world);
}

static void test_worker_that_has_seen_it_hears_where_to_go_on(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	open_after(&world, 1, 0, STEP + 1);
	core_assert_refused(&world, world.requests, OPTD_ROLLBACK, "'m'|from step 8 to 7");
	assert_int_equal(core_answer(&world, world.requests)->head.step, STEP);
	struct core_client worker = open_after(&world, 1, 0, STEP);
	assert_int_equal(worker.opened.step, STEP);
	core_assert_ok(&world, core_push_all(&worker, STEP, 1.0f));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_reader_that_has_seen_the_step_hears_of_the_rollback),
	        cmocka_unit_test(test_reader_that_has_not_goes_on_and_hears_the_version),
	        cmocka_unit_test(test_worker_that_has_not_seen_it_completes_the_step),
	        cmocka_unit_test(test_worker_that_has_seen_it_hears_where_to_go_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
