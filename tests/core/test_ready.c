/* Ready: a commit releases any number of waits, and answers are made one by one. */
#include <string.h>

#include "tests/support/core_world.h"

#define PULLS 200u
#define WORKERS 100u

static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	core_world_scalars(world, 2 * LIMIT_BLOCK_SEGMENTS);
	world->open.workers = workers;
	core_world_start(world);
}

/* Readers on peers 1 and 2 wait for version 1, and are answered by the test. */
static uint64_t readers_wait(struct core_world *world, struct core_client *readers)
{
	uint64_t first = 0;

	for (uint32_t i = 0; i < 2; i++)
		readers[i] = core_join(world, 1 + i, MSG_NO_RANK);
	for (uint32_t i = 0; i < PULLS; i++) {
		uint64_t pull = core_pull(&readers[0], 0, 1, 1);
		first = i == 0 ? pull : first;
	}
	world->kept_stay = true;
	return first;
}

static bool has_no_room(void *user, const struct wait *pull)
{
	return pull->peer != *(const uint32_t *)user;
}

/* The push that completes a step, by hand: its answers are not taken yet. */
static void complete_step(struct core_client *client, const float *values)
{
	struct core_world *world = client->world;
	struct msg msg = core_msg(client, MSG_PUSH_PULL);
	struct layout *none = NULL;
	struct buf buf = {.bytes = LIMIT_BLOCK_SEGMENTS * sizeof(float)};

	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	msg.payload = values;
	msg.payload_bytes = buf.bytes;
	atomic_store(&buf.holders, 2); /* never the last */
	engine_handle(world->engine, client->peer, &world->principal, &msg, &buf, &none, world->now_ms,
	              &world->out);
}

static void test_step_of_many_workers_is_answered_a_batch_at_a_time_and_before_pulls(void **state)
{
	(void)state;
	static const float ones[LIMIT_BLOCK_SEGMENTS] = {1.0f};
	struct core_world world;
	struct core_client clients[WORKERS];
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS);
	world.options.workers = world.open.workers = WORKERS;
	core_world_start(&world);
	for (uint32_t i = 0; i < WORKERS; i++)
		clients[i] = core_join(&world, i, (int32_t)i);
	uint64_t pull = core_pull(&clients[0], 0, 1, 1);
	for (uint32_t i = 0; i < WORKERS - 1; i++)
		core_push(&clients[i], MSG_PUSH_PULL, 0, 0, 1, ones);
	complete_step(&clients[WORKERS - 1], ones);
	assert_int_equal(world.out.count, 0);
	while (engine_answer(world.engine, NULL, &world.out))
		assert_true(world.out.count % ENGINE_BATCH == 0 || world.out.count == WORKERS);
	assert_int_equal(world.out.count, WORKERS);
	for (uint32_t i = 0; i < WORKERS; i++) {
		assert_int_equal(world.out.entries[i].head.verb, MSG_PUSH_PULL);
		assert_ptr_equal(world.out.entries[i].payload, world.out.entries[0].payload);
	}
	core_collect(&world);
	core_assert_ok(&world, pull);
	core_world_end(&world);
}

static void test_pulls_that_a_commit_releases_are_answered_one_at_a_time(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t first = readers_wait(&world, readers);
	core_assert_ok(&world, core_push_all(&client, 0, 1.0f));
	assert_null(core_answer(&world, first));
	assert_true(engine_has_kept(world.engine));
	for (uint32_t i = 0; i < PULLS; i++) {
		assert_true(engine_answer_kept(world.engine, NULL, &world.out));
		assert_int_equal(world.out.count, 1);
		core_collect(&world);
		core_assert_ok(&world, first + i);
	}
	assert_false(engine_answer_kept(world.engine, NULL, &world.out));
	assert_false(engine_has_kept(world.engine));
	core_world_end(&world);
}

static void test_readers_take_turns(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t first = readers_wait(&world, readers);
	uint64_t other = core_pull(&readers[1], 1, 1, 1);
	core_push_all(&client, 0, 1.0f);
	for (int i = 0; i < 2; i++) {
		engine_answer_kept(world.engine, NULL, &world.out);
		core_collect(&world);
	}
	core_assert_ok(&world, first);
	core_assert_ok(&world, other);
	assert_null(core_answer(&world, first + 1));
	core_world_end(&world);
}

static void test_reader_without_room_keeps_nobody_from_being_answered(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint32_t full = 1;
	const struct engine_room room = {has_no_room, &full};
	uint64_t first = readers_wait(&world, readers);
	uint64_t other = core_pull(&readers[1], 1, 1, 1);
	core_push_all(&client, 0, 1.0f);
	assert_true(engine_answer_kept(world.engine, &room, &world.out));
	core_collect(&world);
	core_assert_ok(&world, other);
	assert_false(engine_answer_kept(world.engine, &room, &world.out));
	assert_null(core_answer(&world, first));
	full = 9;
	assert_true(engine_answer_kept(world.engine, &room, &world.out));
	core_collect(&world);
	core_assert_ok(&world, first);
	core_world_end(&world);
}

static void test_pull_answered_late_has_the_weights_of_then(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t first = readers_wait(&world, readers);
	core_push_all(&client, 0, 1.0f);
	core_push_all(&client, 1, 1.0f);
	engine_answer_kept(world.engine, NULL, &world.out);
	core_collect(&world);
	assert_int_equal(core_answer(&world, first)->head.version, 2);
	assert_true(core_answer(&world, first)->values[0] == -2.0f);
	core_world_end(&world);
}

/* Worker 0 and worker 1 complete step 0; for the answer to worker 0 there is no room. */
static uint64_t push_without_room(struct core_world *world, struct core_client *workers,
                                  const struct engine_room *room)
{
	static float ones[2 * LIMIT_BLOCK_SEGMENTS];

	start(world, 2);
	for (uint32_t i = 0; i < 2; i++)
		workers[i] = core_join(world, i, (int32_t)i);
	world->room = room;
	for (uint32_t i = 0; i < 2 * LIMIT_BLOCK_SEGMENTS; i++)
		ones[i] = 1.0f;
	uint64_t push = core_push(&workers[0], MSG_PUSH_PULL, 0, 0, 2, ones);
	core_assert_ok(world, core_push_all(&workers[1], 0, 1.0f));
	assert_null(core_answer(world, push));
	return push;
}

static void test_push_whose_peer_has_no_room_is_answered_when_it_has(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client workers[2];
	uint32_t full = 0;
	const struct engine_room room = {has_no_room, &full};
	uint64_t push = push_without_room(&world, workers, &room);
	assert_true(engine_has_kept(world.engine));
	full = 9;
	core_collect(&world);
	core_assert_ok(&world, push);
	assert_true(core_answer(&world, push)->values[0] == -1.0f);
	core_tick(&world, 0);
	assert_false(engine_has_kept(world.engine));
	core_world_end(&world);
}

static void test_push_of_the_same_blocks_takes_the_place_of_one_that_is_kept(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client workers[2];
	uint32_t full = 0;
	const struct engine_room room = {has_no_room, &full};
	uint64_t push = push_without_room(&world, workers, &room);
	core_push_all(&workers[1], 1, 1.0f);
	assert_null(core_answer(&world, push));
	core_close_step(&workers[0], 1, 1, 1);
	core_assert_refused(&world, push, OPTD_CANCELLED, "takes its place");
	assert_null(core_answer(&world, push)->values);
	assert_false(engine_has_kept(world.engine) && engine_answer_kept(world.engine, NULL, &world.out));
	core_world_end(&world);
}

static void test_push_that_is_kept_times_out_and_says_that_there_was_no_room(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client workers[2];
	uint32_t full = 0;
	const struct engine_room room = {has_no_room, &full};
	uint64_t push = push_without_room(&world, workers, &room);
	core_tick(&world, 30000);
	core_assert_refused(&world, push, OPTD_TIMEOUT, "step 0 of model 'm' is complete|for 30 s|the same call again");
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

static void test_who_takes_answers_slowly_does_not_time_out(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t first = readers_wait(&world, readers);
	core_push_all(&client, 0, 1.0f);
	for (uint32_t i = 0; i < 4; i++) {
		core_tick(&world, 29000);
		assert_true(engine_answer_kept(world.engine, NULL, &world.out));
		core_collect(&world);
		core_assert_ok(&world, first + i);
	}
	core_tick(&world, 30000);
	core_assert_refused(&world, first + 4, OPTD_TIMEOUT, "no room");
	core_world_end(&world);
}

static void test_kept_push_of_a_peer_that_left_is_forgotten(void **state)
{
	(void)state;
	struct core_world world;
	struct core_client workers[2];
	uint32_t full = 0;
	const struct engine_room room = {has_no_room, &full};
	push_without_room(&world, workers, &room);
	engine_peer_gone(world.engine, 0, &world.out);
	assert_false(engine_answer_kept(world.engine, NULL, &world.out));
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

static void test_pull_that_nobody_takes_times_out_from_when_it_was_ready(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t first = readers_wait(&world, readers);
	core_tick(&world, 29000);
	core_push_all(&client, 0, 1.0f);
	core_tick(&world, 29000);
	assert_null(core_answer(&world, first));
	core_tick(&world, 1000);
	core_assert_refused(&world, first, OPTD_TIMEOUT, "have been there for 30 s|no room");
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

static void test_ready_pulls_of_a_peer_that_left_are_forgotten(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t bytes = engine_bytes(world.engine);
	readers_wait(&world, readers);
	core_push_all(&client, 0, 1.0f);
	engine_peer_gone(world.engine, 1, &world.out);
	assert_false(engine_answer_kept(world.engine, NULL, &world.out));
	assert_int_equal(engine_bytes(world.engine), bytes);
	core_world_end(&world);
}

static void test_receivers_of_other_parts_between_them_do_not_cost_a_copy(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	readers_wait(&world, readers);
	core_pull(&readers[1], 1, 1, 1);
	core_push_all(&client, 0, 1.0f);
	for (int i = 0; i < 3; i++)
		engine_answer_kept(world.engine, NULL, &world.out);
	assert_int_equal(world.out.count, 3);
	assert_ptr_not_equal(world.out.entries[0].payload, world.out.entries[1].payload);
	assert_ptr_equal(world.out.entries[0].payload, world.out.entries[2].payload);
	core_world_end(&world);
}

static void test_weights_of_another_version_are_not_shared(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0), readers[2];
	uint64_t first = readers_wait(&world, readers);
	core_push_all(&client, 0, 1.0f);
	engine_answer_kept(world.engine, NULL, &world.out);
	core_collect(&world);
	core_push_all(&client, 1, 1.0f);
	engine_answer_kept(world.engine, NULL, &world.out);
	core_collect(&world);
	assert_true(core_answer(&world, first)->values[0] == -1.0f);
	assert_true(core_answer(&world, first + 1)->values[0] == -2.0f);
	core_world_end(&world);
}

static void test_notices_and_timeouts_come_a_batch_at_a_time(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	core_join(&world, 0, 0);
	struct core_client readers[2];
	uint64_t first = readers_wait(&world, readers);
	assert_true(engine_tick(world.engine, world.now_ms + 5000, &world.out));
	assert_int_equal(world.out.count, ENGINE_BATCH);
	core_collect(&world);
	while (engine_tick(world.engine, world.now_ms + 5000, &world.out))
		core_collect(&world);
	core_collect(&world);
	for (uint32_t i = 0; i < PULLS; i++)
		assert_int_equal(core_answers_to(&world, first + i), 1);
	core_tick(&world, 30000);
	for (uint32_t i = 0; i < PULLS; i++)
		assert_int_equal(core_answer(&world, first + i)->head.status, OPTD_TIMEOUT);
	core_world_end(&world);
}

static void test_those_who_wait_for_a_dropped_model_hear_it_a_batch_at_a_time(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	core_join(&world, 0, 0);
	struct core_client readers[2];
	uint64_t first = readers_wait(&world, readers);
	assert_int_equal(engine_drop(world.engine, "m", &world.out), OPTD_WAITING);
	assert_int_equal(world.out.count, ENGINE_BATCH);
	core_collect(&world);
	while (engine_drop(world.engine, "m", &world.out) == OPTD_WAITING)
		core_collect(&world);
	core_collect(&world);
	for (uint32_t i = 0; i < PULLS; i++)
		assert_int_equal(core_answer(&world, first + i)->head.status, OPTD_MODEL_LOST);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(
	                test_step_of_many_workers_is_answered_a_batch_at_a_time_and_before_pulls),
	        cmocka_unit_test(test_pulls_that_a_commit_releases_are_answered_one_at_a_time),
	        cmocka_unit_test(test_readers_take_turns),
	        cmocka_unit_test(test_reader_without_room_keeps_nobody_from_being_answered),
	        cmocka_unit_test(test_pull_answered_late_has_the_weights_of_then),
	        cmocka_unit_test(test_push_whose_peer_has_no_room_is_answered_when_it_has),
	        cmocka_unit_test(test_push_of_the_same_blocks_takes_the_place_of_one_that_is_kept),
	        cmocka_unit_test(test_push_that_is_kept_times_out_and_says_that_there_was_no_room),
	        cmocka_unit_test(test_who_takes_answers_slowly_does_not_time_out),
	        cmocka_unit_test(test_kept_push_of_a_peer_that_left_is_forgotten),
	        cmocka_unit_test(test_pull_that_nobody_takes_times_out_from_when_it_was_ready),
	        cmocka_unit_test(test_ready_pulls_of_a_peer_that_left_are_forgotten),
	        cmocka_unit_test(test_receivers_of_other_parts_between_them_do_not_cost_a_copy),
	        cmocka_unit_test(test_weights_of_another_version_are_not_shared),
	        cmocka_unit_test(test_notices_and_timeouts_come_a_batch_at_a_time),
	        cmocka_unit_test(test_those_who_wait_for_a_dropped_model_hear_it_a_batch_at_a_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
