/*
 * Who waits for parts of a norm: who is answered, once, over which connection, and what ends
 * the wait without them.
 */
#include <string.h>

#include "optim/clip.h"
#include "server/core/verbs.h"
#include "tests/support/core_daemons.h"
#include "tests/support/rng_seed.h"

#define ELEMENTS (DAEMONS_MOST * LIMIT_BLOCK_SEGMENTS)
#define BLOCK LIMIT_BLOCK_SEGMENTS

static struct daemons d;
static float gradient[ELEMENTS];
static double parts[ELEMENTS];

static void start(uint32_t daemons, uint32_t lanes, uint32_t workers)
{
	d = (struct daemons){.daemons = daemons, .lanes = lanes, .workers = workers, .clip = {.norm = 1}};
	daemons_start(&d);
}

/* A gradient, and the parts of its norm if `ranks` push it. */
static void fill(uint64_t seed, uint32_t ranks)
{
	struct rng rng = rng_new(seed);

	for (uint32_t i = 0; i < ELEMENTS; i++) {
		gradient[i] = rng_float(&rng);
		float sum = (float)ranks * gradient[i];
		parts[i] = clip_part(OPTIM_ISA_BASE, &sum, 1, 2);
	}
}

static void assert_waits(uint32_t daemon, uint64_t request)
{
	assert_null(core_answer(daemons_world(&d, daemon), request));
}

/* The parts of the daemon's first `count` segments. */
static void assert_told(uint32_t daemon, uint64_t request, uint32_t count)
{
	uint32_t first = daemons_segment(&d, daemons_blocks(&d, daemon).first);
	assert_memory_equal(daemons_told(&d, daemon, request, count), parts + first, count * sizeof(double));
}

static void test_a_second_ask_of_a_rank_ends_the_first(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(9, 1);
	uint64_t first = daemons_ask(&d, 0, 0, 0), second = daemons_ask(&d, 0, 0, 0);
	core_assert_refused(daemons_world(&d, 0), first, OPTD_CANCELLED, "asked again");
	assert_waits(0, second);
	daemons_push(&d, 0, 0, 0, gradient);
	assert_told(0, second, BLOCK);
	assert_int_equal(core_answers_to(daemons_world(&d, 0), first), 1);
	daemons_end(&d);
}

static void test_the_same_ask_again_is_one(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(10, 1);
	uint64_t request = daemons_ask(&d, 0, 0, 0);
	struct msg again = daemons_norm(daemons_client(&d, 0, 0), 0, daemons_blocks(&d, 0));
	again.request = request;
	core_send(daemons_client(&d, 0, 0), &again, NULL, 0);
	assert_int_equal(core_answers_to(daemons_world(&d, 0), request), 0);
	daemons_push(&d, 0, 0, 0, gradient);
	assert_told(0, request, BLOCK);
	assert_int_equal(core_answers_to(daemons_world(&d, 0), request), 1);
	assert_int_equal(core_shard(daemons_world(&d, 0))->lead->norms->waiting, 0);
	daemons_end(&d);
}

static void test_an_ask_over_a_new_connection_ends_that_of_the_old_one_there(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(11, 1);
	struct core_world *world = daemons_world(&d, 0);
	struct core_client *client = daemons_client(&d, 0, 0);
	uint64_t old = daemons_ask(&d, 0, 0, 0), old_session = client->session;
	client->peer = 5;
	client->session = 99;
	core_hello(client);
	assert_int_equal(core_open(client)->head.status, OPTD_OK);
	uint64_t request = daemons_ask(&d, 0, 0, 0);
	core_assert_refused(world, old, OPTD_CANCELLED, "asked again");
	assert_int_equal(core_answer(world, old)->peer, 0);
	assert_int_equal(core_answer(world, old)->head.session, old_session);
	daemons_push(&d, 0, 0, 0, gradient);
	assert_told(0, request, BLOCK);
	assert_int_equal(core_answer(world, request)->peer, 5);
	daemons_end(&d);
}

static void test_a_peer_that_is_gone_is_not_answered(void **state)
{
	(void)state;
	start(2, 1, 2);
	fill(12, 2);
	struct core_world *world = daemons_world(&d, 0);
	uint64_t gone = daemons_ask(&d, 0, 0, 0), stays = daemons_ask(&d, 0, 1, 0);
	daemons_push(&d, 0, 0, 0, gradient);
	engine_peer_gone(world->engine, 0, &world->out);
	daemons_push(&d, 0, 1, 0, gradient);
	assert_waits(0, gone);
	assert_told(0, stays, BLOCK);
	assert_int_equal(core_shard(world)->lead->norms->waiting, 0);
	daemons_end(&d);
}

static void test_who_asked_of_a_model_that_is_dropped_hears_so(void **state)
{
	(void)state;
	start(2, 1, 2);
	struct core_world *world = daemons_world(&d, 0);
	uint64_t one = daemons_ask(&d, 0, 0, 0), two = daemons_ask(&d, 0, 1, 0);
	assert_int_equal(engine_drop(world->engine, "m", &world->out), OPTD_OK);
	core_collect(world);
	core_assert_refused(world, one, OPTD_MODEL_LOST, "'m' was dropped");
	core_assert_refused(world, two, OPTD_MODEL_LOST, "'m' was dropped");
	daemons_end(&d);
}

/* Without answers being made in between. */
static uint64_t handle(struct core_world *world, struct core_client *client, struct msg *msg, const float *values,
                       uint64_t count)
{
	struct layout *none = NULL;

	msg->payload = values;
	msg->payload_bytes = count * sizeof(float);
	struct buf *payload = values != NULL ? buf_pool_take(world->pool, msg->payload_bytes) : NULL;
	if (payload != NULL) {
		memcpy(payload->data, values, msg->payload_bytes);
		msg->payload = payload->data;
	}
	engine_handle(world->engine, client->peer, &world->principal, msg, payload, &none, world->now_ms, &world->out);
	buf_drop(payload);
	return msg->request;
}

static void push_only(struct core_client *client, uint64_t number, const float *values)
{
	struct msg msg = daemons_norm(client, number, (struct layout_run){0, 1});

	msg.verb = MSG_PUSH;
	handle(client->world, client, &msg, values, BLOCK);
}

static void test_asks_of_two_steps_get_each_its_own(void **state)
{
	(void)state;
	start(2, 1, 2);
	fill(13, 2);
	struct core_client *one = daemons_client(&d, 0, 0), *two = daemons_client(&d, 0, 1);
	uint64_t first = daemons_ask(&d, 0, 0, 0);
	daemons_tell(&d, 0, 0, 0, 1, parts);
	push_only(one, 0, gradient);
	push_only(two, 0, gradient);
	struct msg ask = daemons_norm(two, 1, (struct layout_run){0, 1});
	uint64_t second = handle(daemons_world(&d, 0), two, &ask, NULL, 0);
	fill(14, 2);
	push_only(one, 1, gradient);
	push_only(two, 1, gradient);
	core_collect(daemons_world(&d, 0));
	assert_told(0, second, BLOCK);
	fill(13, 2);
	assert_told(0, first, BLOCK);
	daemons_end(&d);
}

/* 150 ranks: three batches. */
static void test_many_who_wait_are_answered_in_batches_that_share_the_numbers(void **state)
{
	static struct core_client clients[150];
	uint32_t answers = 0, batches = 0;

	(void)state;
	start(2, 1, 150);
	fill(15, 1);
	struct core_world *world = daemons_world(&d, 0);
	for (uint32_t rank = 0; rank < 150; rank++) {
		clients[rank] = core_join(world, rank, (int32_t)rank);
		daemons_send(&clients[rank], 0, daemons_blocks(&d, 0), NULL, 0);
	}
	for (uint32_t rank = 0; rank < 150; rank++)
		push_only(&clients[rank], 0, gradient);
	outbox_clear(&world->out);
	for (bool more = true; more; batches += more) {
		const struct buf *shared = NULL;
		more = engine_answer(world->engine, NULL, &world->out);
		assert_true(world->out.count <= ENGINE_BATCH);
		for (uint32_t i = 0; i < world->out.count; i++) {
			const struct outbox_entry *entry = &world->out.entries[i];
			if (entry->head.verb != MSG_NORM)
				continue;
			assert_true(shared == NULL || shared == entry->payload);
			shared = entry->payload;
			answers++;
		}
		outbox_clear(&world->out);
	}
	assert_int_equal(answers, 150);
	assert_true(batches >= 3);
	daemons_end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_second_ask_of_a_rank_ends_the_first),
	        cmocka_unit_test(test_the_same_ask_again_is_one),
	        cmocka_unit_test(test_an_ask_over_a_new_connection_ends_that_of_the_old_one_there),
	        cmocka_unit_test(test_a_peer_that_is_gone_is_not_answered),
	        cmocka_unit_test(test_who_asked_of_a_model_that_is_dropped_hears_so),
	        cmocka_unit_test(test_asks_of_two_steps_get_each_its_own),
	        cmocka_unit_test(test_many_who_wait_are_answered_in_batches_that_share_the_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
