/* A rank of a sync model with nonfinite reject says that its gradient was: who hears of it. */
#include <math.h>
#include <string.h>

#include "server/base/mem.h"
#include "tests/support/core_world.h"

#define WHOLE 0, 2 /* blocks, of a model of two */
#define SECONDS 1000

static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	core_world_scalars(world, 2 * LIMIT_BLOCK_SEGMENTS);
	world->options.workers = LIMIT_WORKERS;
	world->open.workers = workers;
	world->open.nonfinite = MSG_REJECT;
	core_world_start(world);
}

/* Ones for these blocks, under a number of its own or, not 0, this one. */
static uint64_t send(struct core_client *client, enum msg_verb verb, uint64_t step, uint32_t first,
                     uint32_t count, uint64_t request)
{
	static float ones[2 * LIMIT_BLOCK_SEGMENTS];
	struct msg msg = core_msg(client, verb);

	for (uint32_t i = 0; i < 2 * LIMIT_BLOCK_SEGMENTS; i++)
		ones[i] = 1.0f;
	if (request > 0)
		msg.request = request;
	msg.step = step;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = first, .count = count};
	return core_send(client, &msg, ones, verb == MSG_CLOSE_STEP ? 0 : count * LIMIT_BLOCK_SEGMENTS);
}

static uint64_t push(struct core_client *client, uint64_t step)
{
	return send(client, MSG_PUSH, step, WHOLE, 0);
}

static struct msg rejection(struct core_client *client, uint64_t step, uint32_t tensor_plus_one)
{
	struct msg msg = core_msg(client, MSG_CLOSE_STEP);

	msg.step = step;
	msg.verdict = MSG_POISONED;
	msg.poison_tensor_plus_one = tensor_plus_one;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 2};
	return msg;
}

static uint64_t reject(struct core_client *client, uint64_t step, uint32_t tensor_plus_one)
{
	struct msg msg = rejection(client, step, tensor_plus_one);
	uint64_t request = core_send(client, &msg, NULL, 0);

	core_assert_refused(client->world, request, OPTD_NOT_FINITE, "this one has reject");
	return request;
}

static void assert_told(const struct core_world *world, uint64_t request)
{
	core_assert_refused(world, request, OPTD_NOT_FINITE, "waits for rank 1 (host:101)");
}

static void assert_waits(const struct core_world *world, uint64_t request)
{
	assert_null(core_answer(world, request));
}

static void test_everyone_hears_whose_gradient_it_was(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1), c = core_join(&world, 2, 2);
	uint64_t pull = core_pull(&a, 0, 2, 1), of_a = push(&a, 0), of_c = send(&c, MSG_PUSH_PULL, 0, 0, 1, 0),
	         closed = send(&c, MSG_CLOSE_STEP, 0, 1, 1, 0);
	uint64_t hash = core_hash(&world);
	reject(&b, 0, 4097);
	core_assert_refused(&world, of_a, OPTD_NOT_FINITE,
	                    "model 'm': step 0 waits for rank 1 (host:101), whose gradient was not finite|"
	                    "first in tensor 't4096'|this push stays and counts, make the same call again to go on "
	                    "waiting for rank 1's");
	assert_told(&world, of_c);
	assert_told(&world, closed);
	assert_waits(&world, pull);
	assert_int_equal(core_hash(&world), hash);
	core_world_end(&world);
}

static void test_the_step_completes_once_the_rank_has_mended_its_gradient(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1), c = core_join(&world, 2, 2);
	push(&a, 0);
	push(&c, 0);
	reject(&b, 0, 0);
	uint64_t of_a = push(&a, 0), of_c = push(&c, 0);
	assert_waits(&world, of_a);
	assert_waits(&world, of_c);
	core_assert_ok(&world, push(&b, 0));
	core_assert_ok(&world, of_a);
	core_assert_ok(&world, of_c);
	assert_true(core_shard(&world)->model->weights[5000] == -1.0f);
	/* And is forgotten. */
	of_a = push(&a, 1);
	assert_waits(&world, of_a);
	core_tick(&world, 5 * SECONDS);
	assert_null(strstr(core_notice(&world, of_a, OPTD_WAITING)->text, "finite"));
	core_world_end(&world);
}

static void test_a_push_that_comes_later_hears_it_once(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	reject(&b, 0, 1);
	assert_told(&world, push(&a, 0));
	assert_int_equal(gate_standing(core_shard(&world)->gate, 1, 0, 0), GATE_HAS);
	uint64_t again = push(&a, 0);
	assert_waits(&world, again);
	core_tick(&world, 5 * SECONDS);
	core_assert_text(core_notice(&world, again, OPTD_WAITING),
	                 "waiting for 2 of 3 workers: rank 1 (host:101, whose gradient was not finite), rank 2");
	core_tick(&world, 30 * SECONDS);
	core_assert_refused(&world, again, OPTD_STEP_TIMEOUT,
	                    "missing rank 1 (host:101, whose gradient was not finite)");
	assert_waits(&world, push(&a, 0));
	core_world_end(&world);
}

static void test_messages_of_one_call_are_all_told_and_those_of_the_next_are_not(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t first = send(&a, MSG_PUSH, 0, 0, 1, 0);
	reject(&b, 0, 1);
	assert_told(&world, first);
	/* On its way meanwhile. */
	assert_told(&world, send(&a, MSG_PUSH, 0, 1, 1, 0));
	first = send(&a, MSG_PUSH, 0, 0, 1, 0);
	uint64_t second = send(&a, MSG_PUSH, 0, 1, 1, 0);
	assert_waits(&world, first);
	assert_waits(&world, second);
	core_world_end(&world);
}

static void test_what_was_not_sent_the_first_time_waits_in_the_call_made_again(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	reject(&b, 0, 1);
	assert_told(&world, send(&a, MSG_PUSH, 0, 0, 1, 0));
	assert_waits(&world, send(&a, MSG_PUSH, 0, 0, 1, 0));
	assert_waits(&world, send(&a, MSG_PUSH, 0, 1, 1, 0));
	core_world_end(&world);
}

static uint32_t times_told(const struct core_world *world, uint64_t request)
{
	uint32_t times = 0;
	for (uint32_t i = 0; i < world->answer_count; i++)
		times += world->answers[i].head.request == request &&
		         world->answers[i].head.status == OPTD_NOT_FINITE;
	return times;
}

static void come_back(struct core_client *client)
{
	engine_peer_gone(client->world->engine, client->peer, &client->world->out);
	core_hello(client);
	core_open(client);
}

/* With its connection: before it heard, or after. */
static void test_a_rank_whose_answer_was_lost_hears_it_of_every_message(void **state)
{
	(void)state;
	for (uint32_t told = 0; told < 2; told++) {
		struct core_world world;
		start(&world, 2);
		struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
		uint64_t first = send(&a, MSG_PUSH, 0, 0, 1, 0), second = send(&a, MSG_PUSH, 0, 1, 1, 0);
		if (told == 0)
			come_back(&a);
		reject(&b, 0, 1);
		if (told == 1)
			come_back(&a);
		send(&a, MSG_PUSH, 0, 0, 1, first);
		send(&a, MSG_PUSH, 0, 1, 1, second);
		assert_int_equal(times_told(&world, first), told + 1);
		assert_int_equal(times_told(&world, second), told + 1);
		assert_waits(&world, push(&a, 0));
		core_world_end(&world);
	}
}

static void test_a_rejection_that_comes_again_is_no_news_and_another_is(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t request = reject(&b, 0, 1);
	assert_told(&world, push(&a, 0));
	uint64_t again = push(&a, 0);
	struct msg msg = rejection(&b, 0, 1);
	msg.request = request;
	core_send(&b, &msg, NULL, 0);
	assert_waits(&world, again);
	reject(&b, 0, 2);
	core_assert_refused(&world, again, OPTD_NOT_FINITE, "'t1'");
	assert_waits(&world, push(&a, 0));
	core_world_end(&world);
}

static void test_a_rank_that_rejected_hears_of_another_once_it_has_mended(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1), c = core_join(&world, 2, 2);
	reject(&b, 0, 1);
	reject(&c, 0, 2);
	core_assert_refused(&world, push(&a, 0), OPTD_NOT_FINITE, "rank 2 (host:102)");
	assert_waits(&world, push(&a, 0));
	assert_told(&world, push(&c, 0));
	uint64_t of_c = push(&c, 0);
	assert_waits(&world, of_c);
	core_assert_ok(&world, push(&b, 0));
	core_assert_ok(&world, of_c);
	core_world_end(&world);
}

static void test_a_rank_whose_finite_gradient_begins_to_come_is_blamed_no_more(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	reject(&b, 0, 1);
	send(&b, MSG_PUSH, 0, 0, 1, 0);
	uint64_t of_a = push(&a, 0);
	assert_waits(&world, of_a);
	core_tick(&world, 5 * SECONDS);
	assert_null(strstr(core_notice(&world, of_a, OPTD_WAITING)->text, "finite"));
	core_world_end(&world);
}

static void test_a_rank_does_not_hear_of_itself(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	core_join(&world, 0, 0);
	struct core_client b = core_join(&world, 1, 1);
	uint64_t before = send(&b, MSG_PUSH, 0, 0, 1, 0);
	reject(&b, 0, 1);
	assert_waits(&world, before);
	core_world_end(&world);
}

static void test_who_takes_the_rank_over_has_rejected_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	reject(&b, 0, 1);
	engine_peer_gone(world.engine, 1, &world.out);
	core_join(&world, 2, 1);
	uint64_t of_a = push(&a, 0);
	core_tick(&world, 5 * SECONDS);
	core_assert_text(core_notice(&world, of_a, OPTD_WAITING), "rank 1 (host:102)");
	core_world_end(&world);
}

static void test_a_rank_that_is_not_due_holds_up_nobody(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t of_a = push(&a, 0);
	push(&b, 0);
	reject(&b, 0, 1); /* has given this one */
	reject(&b, 1, 1); /* comes later */
	assert_waits(&world, of_a);
	core_tick(&world, 5 * SECONDS);
	core_assert_text(core_notice(&world, of_a, OPTD_WAITING), "1 of 3 workers: rank 2");
	core_world_end(&world);
}

static void test_rejections_that_name_what_there_is_not_are_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	struct msg msg = rejection(&b, 0, 8193);
	core_assert_refused(&world, core_send(&b, &msg, NULL, 0), OPTD_INVALID, "tensor 8192|the model has 8192");
	msg = rejection(&b, 0, 1);
	msg.parts[0].count = 3;
	core_assert_refused(&world, core_send(&b, &msg, NULL, 0), OPTD_INVALID, "blocks 0 to 2");
	assert_waits(&world, push(&a, 0));
	core_world_end(&world);
}

/* Whatever waits, what is not sent yet is a batch. */
static void test_many_are_told_in_batches(void **state)
{
	(void)state;
	enum { RANKS = 200 };
	struct core_world world;
	uint64_t requests[RANKS];
	start(&world, RANKS + 1);
	struct core_client last = core_join(&world, RANKS, RANKS);
	for (uint32_t i = 0; i < RANKS; i++) {
		struct core_client client = core_join(&world, i, (int32_t)i);
		requests[i] = send(&client, MSG_PUSH, 0, WHOLE, 0);
	}
	struct msg msg = rejection(&last, 0, 1);
	uint32_t batches = 0;
	engine_handle(world.engine, RANKS, &world.principal, &msg, NULL, NULL, world.now_ms, &world.out);
	outbox_clear(&world.out);
	while (engine_answer(world.engine, NULL, &world.out)) {
		assert_true(world.out.count <= ENGINE_BATCH);
		for (uint32_t i = 0; i < world.out.count; i++)
			assert_int_equal(world.out.entries[i].head.status, OPTD_NOT_FINITE);
		batches += world.out.count;
		outbox_clear(&world.out);
		/* The next one leaves meanwhile. */
		if (batches == ENGINE_BATCH)
			engine_peer_gone(world.engine, ENGINE_BATCH, &world.out);
	}
	assert_int_equal(batches, RANKS - 1);
	assert_int_equal(core_shard(&world)->waits.count, 0);
	assert_waits(&world, requests[0]);
	core_world_end(&world);
}

static void test_what_is_kept_is_in_the_formula(void **state)
{
	(void)state;
	uint64_t bytes[2];
	for (int i = 0; i < 2; i++) {
		struct core_world world;
		start(&world, 3);
		world.open.nonfinite = i == 0 ? MSG_ZERO : MSG_REJECT;
		core_join(&world, 0, 0);
		bytes[i] = engine_bytes(world.engine);
		assert_int_equal(core_shard(&world)->rejects != NULL, i);
		core_world_end(&world);
	}
	assert_int_equal(bytes[1] - bytes[0], sizeof(struct rejects) + 3 * sizeof(struct reject) + MALLOC_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_everyone_hears_whose_gradient_it_was),
	        cmocka_unit_test(test_the_step_completes_once_the_rank_has_mended_its_gradient),
	        cmocka_unit_test(test_a_push_that_comes_later_hears_it_once),
	        cmocka_unit_test(test_messages_of_one_call_are_all_told_and_those_of_the_next_are_not),
	        cmocka_unit_test(test_what_was_not_sent_the_first_time_waits_in_the_call_made_again),
	        cmocka_unit_test(test_a_rank_whose_answer_was_lost_hears_it_of_every_message),
	        cmocka_unit_test(test_a_rejection_that_comes_again_is_no_news_and_another_is),
	        cmocka_unit_test(test_a_rank_that_rejected_hears_of_another_once_it_has_mended),
	        cmocka_unit_test(test_a_rank_whose_finite_gradient_begins_to_come_is_blamed_no_more),
	        cmocka_unit_test(test_a_rank_does_not_hear_of_itself),
	        cmocka_unit_test(test_who_takes_the_rank_over_has_rejected_nothing),
	        cmocka_unit_test(test_a_rank_that_is_not_due_holds_up_nobody),
	        cmocka_unit_test(test_rejections_that_name_what_there_is_not_are_refused),
	        cmocka_unit_test(test_many_are_told_in_batches),
	        cmocka_unit_test(test_what_is_kept_is_in_the_formula),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
