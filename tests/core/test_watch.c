/* Watch: a commit finds those it concerns, and nobody else. */
#include <string.h>

#include "server/core/watch.h"
#include "tests/support/core_world.h"

#define BLOCKS 3u

static const float ZEROS[2 * LIMIT_BLOCK_SEGMENTS];

/* Blocks of 4096, 4096 and 4 elements. */
static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	core_world_scalars(world, 2 * LIMIT_BLOCK_SEGMENTS + 4);
	world->open.workers = workers;
	core_world_start(world);
}

static struct wait *first_of(const struct core_world *world, uint32_t block)
{
	struct heap_node *node = core_shard(world)->watched[block].first;
	return node == NULL ? NULL : heap_owner(node, struct wait, watching);
}

static void push(struct core_client *client, uint64_t step, uint32_t block)
{
	core_assert_ok(client->world, core_push(client, MSG_PUSH, step, block, 1, ZEROS));
}

static void test_wait_looks_at_one_block_at_a_time(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t pull = core_pull(&client, 0, BLOCKS, 1);
	assert_int_equal(first_of(&world, 0)->request, pull);
	assert_null(first_of(&world, 1));
	push(&client, 0, 1);
	assert_int_equal(first_of(&world, 0)->request, pull);
	push(&client, 0, 0);
	/* Block 1 has come meanwhile. */
	assert_null(first_of(&world, 0));
	assert_null(first_of(&world, 1));
	assert_int_equal(first_of(&world, 2)->request, pull);
	push(&client, 0, 2);
	core_assert_ok(&world, pull);
	assert_null(first_of(&world, 2));
	core_world_end(&world);
}

static void test_commit_takes_out_only_waits_for_its_version(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	for (uint32_t i = 0; i < 100; i++)
		core_pull(&client, 0, 1, 1000 + i);
	uint64_t near = core_pull(&client, 0, 1, 2);
	push(&client, 0, 0);
	assert_null(watch_take(core_shard(&world), 0));
	assert_int_equal(first_of(&world, 0)->request, near);
	push(&client, 1, 0);
	core_assert_ok(&world, near);
	assert_null(watch_take(core_shard(&world), 0));
	assert_int_equal(first_of(&world, 0)->min_version, 1000);
	core_world_end(&world);
}

static uint32_t place_of(const struct core_world *world, uint64_t request, int status)
{
	for (uint32_t i = 0; i < world->answer_count; i++) {
		if (world->answers[i].head.request == request && world->answers[i].head.status == status)
			return i;
	}
	return UINT32_MAX;
}

static void test_waits_that_end_together_are_answered_as_they_came(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	/* They come to block 2, which is the last of them all, in another order. */
	uint64_t first = core_pull(&client, 1, 2, 1);
	uint64_t second = core_pull(&client, 2, 1, 1);
	uint64_t third = core_pull(&client, 0, 3, 1);
	push(&client, 0, 0);
	push(&client, 0, 1);
	assert_null(core_answer(&world, first));
	push(&client, 0, 2);
	assert_true(place_of(&world, first, OPTD_OK) < place_of(&world, second, OPTD_OK));
	assert_true(place_of(&world, second, OPTD_OK) < place_of(&world, third, OPTD_OK));
	core_world_end(&world);
}

static void test_those_folded_together_are_told_as_they_came(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 4);
	struct core_client clients[4];
	for (uint32_t i = 0; i < 4; i++)
		clients[i] = core_join(&world, i, (int32_t)i);
	/* Rank 2 before rank 1: they are folded the other way round. */
	uint64_t second = core_push(&clients[2], MSG_PUSH, 0, 0, 1, ZEROS);
	uint64_t first = core_push(&clients[1], MSG_PUSH, 0, 0, 1, ZEROS);
	assert_null(core_notice(&world, second, OPTD_FOLDED));
	core_push(&clients[0], MSG_PUSH, 0, 0, 1, ZEROS);
	assert_true(place_of(&world, second, OPTD_FOLDED) < place_of(&world, first, OPTD_FOLDED));
	assert_int_not_equal(place_of(&world, first, OPTD_FOLDED), UINT32_MAX);
	core_world_end(&world);
}

/* In async a push of one rank waits for its own commit, not for a version. */
static void test_held_async_pushes_wait_for_their_own_commits(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 4);
	world.open.mode = MSG_ASYNC;
	world.open.workers = 0;
	core_world_start(&world);
	struct core_client one = core_join(&world, 0, 0), two = core_join(&world, 1, 1);
	struct shard *shard = core_shard(&world);
	assert_int_equal(engine_cut_begin(shard, 0, false), OPTD_OK);
	uint64_t first = core_push(&one, MSG_PUSH, 0, 0, 2, ZEROS);
	uint64_t second = core_push(&two, MSG_PUSH, 5, 0, 2, ZEROS);
	assert_int_equal(first_of(&world, 0)->watching.key, 1);
	assert_null(core_answer(&world, second));
	engine_cut_saved(world.engine, shard, 0);
	core_collect(&world);
	assert_null(core_answer(&world, first));
	assert_int_equal(first_of(&world, 1)->request, first);
	engine_cut_saved(world.engine, shard, 1);
	core_collect(&world);
	core_assert_ok(&world, first);
	core_assert_ok(&world, second);
	engine_cut_end(world.engine, shard);
	core_world_end(&world);
}

static void test_wait_that_leaves_is_looked_for_no_more(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	struct core_client reader = core_join(&world, 1, MSG_NO_RANK);
	core_pull(&reader, 0, BLOCKS, 1);
	push(&client, 0, 0);
	assert_non_null(first_of(&world, 1));
	engine_peer_gone(world.engine, 1, &world.out);
	for (uint32_t block = 0; block < BLOCKS; block++)
		assert_null(first_of(&world, block));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_wait_looks_at_one_block_at_a_time),
	        cmocka_unit_test(test_commit_takes_out_only_waits_for_its_version),
	        cmocka_unit_test(test_waits_that_end_together_are_answered_as_they_came),
	        cmocka_unit_test(test_those_folded_together_are_told_as_they_came),
	        cmocka_unit_test(test_held_async_pushes_wait_for_their_own_commits),
	        cmocka_unit_test(test_wait_that_leaves_is_looked_for_no_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
