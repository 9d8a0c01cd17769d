/* Answers that are a worker's own, under easgd: against its formula written down again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/core_world.h"
#include "tests/support/half.h"

/* alpha is a power of two where numbers are to be read off; 0.1 elsewhere. */
#define ELEMENTS 8

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

static void prepare(struct core_world *world, enum msg_mode mode, double alpha)
{
	core_world_init(world);
	world->open.optimizer = text_of("easgd");
	world->open.mode = mode;
	world->open.hypers[0] = (struct msg_hyper){.name = text_of("alpha"), .values = {alpha}, .count = 1};
}

static void start(struct core_world *world, enum msg_mode mode, double alpha)
{
	prepare(world, mode, alpha);
	core_world_start(world);
}

/* What a worker and the centre come to, element by element. */
static void elastic(float alpha, const float *x, float *centre, float *answer, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float e = alpha * (x[i] - centre[i]);

		answer[i] = x[i] - e;
		centre[i] = centre[i] + e;
	}
}

static void assert_values(const struct core_world *world, uint64_t request, const float *want, size_t n)
{
	core_assert_ok(world, request);
	assert_int_equal(core_answer(world, request)->count, n);
	assert_memory_equal(core_answer(world, request)->values, want, n * sizeof(float));
}

static void fill(float *x, size_t n, float from)
{
	for (size_t i = 0; i < n; i++)
		x[i] = from + 0.37f * (float)i;
}

static void test_each_worker_is_answered_its_own_weights_and_readers_the_centre(void **state)
{
	(void)state;
	struct core_world world;
	float x[2][ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	start(&world, MSG_ASYNC, 0.1);
	struct core_client workers[2] = {core_join(&world, 0, 0), core_join(&world, 1, 1)};
	fill(x[0], ELEMENTS, 1);
	fill(x[1], ELEMENTS, -3);
	for (uint64_t step = 0; step < 5; step++) {
		for (int i = 0; i < 2; i++) {
			uint64_t push = core_push(&workers[i], MSG_PUSH_PULL, step, 0, 1, x[i]);
			elastic(0.1f, x[i], centre, answer, ELEMENTS);
			assert_values(&world, push, answer, ELEMENTS);
			memcpy(x[i], answer, sizeof(answer));
		}
		assert_values(&world, core_pull(&workers[0], 0, 1, 0), centre, ELEMENTS);
	}
	assert_int_equal(core_shard(&world)->own_bytes, 0);
	core_world_end(&world);
}

static void test_one_worker_in_sync_is_answered_as_well(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	start(&world, MSG_SYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	uint64_t push = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	assert_values(&world, push, answer, ELEMENTS);
	core_world_end(&world);
}

static void test_loss_scale_is_not_in_weights_nor_in_their_answer(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	start(&world, MSG_ASYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	/* And as it comes again, from the centre of then. */
	for (int i = 0; i < 2; i++) {
		float now[ELEMENTS];
		struct msg msg = core_msg(&worker, MSG_PUSH_PULL);
		msg.loss_scale = 1024;
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
		uint64_t push = core_send(&worker, &msg, x, ELEMENTS);
		memcpy(now, centre, sizeof(now));
		elastic(0.1f, x, i == 0 ? centre : now, answer, ELEMENTS);
		assert_values(&world, push, answer, ELEMENTS);
		assert_values(&world, core_pull(&worker, 0, 1, 0), centre, ELEMENTS);
	}
	core_world_end(&world);
}

static void test_push_alone_moves_the_centre(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	start(&world, MSG_ASYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	uint64_t push = core_push(&worker, MSG_PUSH, 0, 0, 1, x);
	core_assert_ok(&world, push);
	assert_null(core_answer(&world, push)->values);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	assert_values(&world, core_pull(&worker, 0, 1, 0), centre, ELEMENTS);
	core_world_end(&world);
}

static void test_push_that_comes_again_is_answered_from_the_centre_of_now(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, kept[ELEMENTS], answer[ELEMENTS];
	start(&world, MSG_ASYNC, 0.1);
	struct core_client one = core_join(&world, 0, 0), other = core_join(&world, 1, 1);
	fill(x, ELEMENTS, 1);
	core_push(&one, MSG_PUSH_PULL, 0, 0, 1, x);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	core_push_all(&other, 0, 7.0f);
	float sevens[ELEMENTS] = {7, 7, 7, 7, 7, 7, 7, 7};
	elastic(0.1f, sevens, centre, answer, ELEMENTS);
	uint64_t before = core_hash(&world);
	uint64_t again = core_push(&one, MSG_PUSH_PULL, 0, 0, 1, x);
	memcpy(kept, centre, sizeof(kept));
	elastic(0.1f, x, kept, answer, ELEMENTS);
	assert_values(&world, again, answer, ELEMENTS);
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

/* A step that is skipped answers the centre, and so does its push when it comes again. */
static void test_poisoned_push_that_comes_again_is_answered_the_centre(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0};
	start(&world, MSG_SYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	x[3] = NAN;
	for (int i = 0; i < 2; i++) {
		struct msg msg = core_msg(&worker, MSG_PUSH_PULL);
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
		msg.verdict = MSG_POISONED;
		msg.poison_tensor_plus_one = 1;
		assert_values(&world, core_send(&worker, &msg, x, ELEMENTS), centre, ELEMENTS);
	}
	core_world_end(&world);
}

static void test_weights_may_come_as_halves(void **state)
{
	(void)state;
	struct core_world world;
	uint16_t bits[ELEMENTS];
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	start(&world, MSG_ASYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0);
	for (uint16_t i = 0; i < ELEMENTS; i++)
		bits[i] = (uint16_t)(0x3c00 + 77 * i);
	half_values(DTYPE_F16, bits, x, ELEMENTS);
	struct msg msg = core_msg(&worker, MSG_PUSH_PULL);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	uint64_t push = core_send_typed(&worker, &msg, DTYPE_F16, bits, ELEMENTS);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	assert_values(&world, push, answer, ELEMENTS);
	core_world_end(&world);
}

/* t0 [4] under sgd, t1 [3] under easgd, t2 frozen; and a push of t1 and t2 only. */
static void test_groups_under_other_rules_are_answered_weights(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	const uint8_t mask = 6;
	struct msg_hyper lr = {.name = text_of("lr"), .values = {0.5}, .count = 1};
	struct msg_group groups[] = {
	        {.tensors = text_of("t0"), .optimizer = text_of("sgd"), .hyper_count = 1, .hypers = &lr},
	        {.tensors = text_of("t2"), .frozen = true},
	};
	start(&world, MSG_ASYNC, 0.1);
	world.open.groups = groups;
	world.open.group_count = 2;
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	uint64_t push = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	for (int i = 0; i < 4; i++)
		answer[i] = centre[i] = -0.5f * x[i];
	answer[7] = centre[7] = 0;
	assert_values(&world, push, answer, ELEMENTS);
	struct msg msg = core_msg(&worker, MSG_PUSH_PULL);
	msg.step = 1;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	push = core_send(&worker, &msg, x, 4);
	elastic(0.1f, x, centre + 4, answer, 3);
	answer[3] = 0;
	assert_values(&world, push, answer, 4);
	assert_values(&world, core_pull(&worker, 0, 1, 0), centre, ELEMENTS);
	core_world_end(&world);
}

/* Scalars, 4096 to a block: every other one of the first block and all of the next two; then
 * the first two whole and every other one of the third. */
static void test_answers_of_several_parts_are_in_their_order(void **state)
{
	(void)state;
	enum { SCALARS = 3 * LIMIT_BLOCK_SEGMENTS, HALF = LIMIT_BLOCK_SEGMENTS / 2 };
	static float x[SCALARS], centre[SCALARS], sent[SCALARS], want[SCALARS];
	static uint8_t mask[LIMIT_MASK_BYTES];
	struct core_world world;
	prepare(&world, MSG_ASYNC, 0.1);
	core_world_scalars(&world, SCALARS);
	core_world_start(&world);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, SCALARS, -100);
	memset(mask, 0x55, sizeof(mask));
	for (uint64_t step = 0; step < 2; step++) {
		struct msg msg = core_msg(&worker, MSG_PUSH_PULL);
		uint32_t n = 0, masked = step == 0 ? 0 : 2;
		msg.step = step;
		msg.part_count = 2;
		msg.parts[0] = (struct msg_part){.first = 0, .count = step == 0 ? 1 : 2};
		msg.parts[1] = (struct msg_part){.first = step == 0 ? 1 : 2, .count = step == 0 ? 2 : 1};
		msg.parts[step].mask = mask;
		msg.parts[step].mask_bytes = LIMIT_MASK_BYTES;
		for (uint32_t i = 0; i < SCALARS; i++) {
			if (i / LIMIT_BLOCK_SEGMENTS == masked && i % 2 == 1)
				continue;
			sent[n] = x[i];
			elastic(0.1f, &x[i], &centre[i], &want[n++], 1);
		}
		assert_int_equal(n, SCALARS - HALF);
		assert_values(&world, core_send(&worker, &msg, sent, n), want, n);
	}
	core_world_end(&world);
}

/* ---- blocks of a checkpoint --------------------------------------------- */

static void test_block_that_was_held_answers_from_the_centre_it_meets(void **state)
{
	(void)state;
	struct core_world world;
	float x[2][ELEMENTS], centre[ELEMENTS] = {0}, first[ELEMENTS], second[ELEMENTS];
	start(&world, MSG_ASYNC, 0.1);
	struct core_client one = core_join(&world, 0, 0), other = core_join(&world, 1, 1);
	fill(x[0], ELEMENTS, 1);
	fill(x[1], ELEMENTS, -2);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t a = core_push(&one, MSG_PUSH_PULL, 0, 0, 1, x[0]);
	uint64_t b = core_push(&other, MSG_PUSH_PULL, 0, 0, 1, x[1]);
	assert_null(core_answer(&world, a));
	assert_int_equal(core_shard(&world)->own_bytes, 2 * sizeof(centre));
	engine_cut_end(world.engine, core_shard(&world));
	core_collect(&world);
	elastic(0.1f, x[0], centre, first, ELEMENTS);
	elastic(0.1f, x[1], centre, second, ELEMENTS);
	assert_values(&world, a, first, ELEMENTS);
	assert_values(&world, b, second, ELEMENTS);
	core_world_end(&world);
}

static void test_push_that_comes_again_while_held_is_answered_once_by_the_first(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS], zeros[ELEMENTS] = {0};
	start(&world, MSG_ASYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	engine_cut_begin(core_shard(&world), 0, false);
	uint64_t first = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	uint64_t again = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, zeros);
	assert_int_equal(core_shard(&world)->own_bytes, sizeof(x));
	engine_cut_end(world.engine, core_shard(&world));
	core_collect(&world);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	core_assert_refused(&world, first, OPTD_CANCELLED, "takes its place");
	assert_values(&world, again, answer, ELEMENTS);
	core_world_end(&world);
}

/* The first push has t1 only; the one that takes its place names all of the block. */
static void test_segments_that_the_first_push_lacked_are_answered_the_centre(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], answer[ELEMENTS] = {0};
	const uint8_t mask = 2;
	start(&world, MSG_ASYNC, 0.5);
	struct core_client worker = core_join(&world, 0, 0);
	fill(x, ELEMENTS, 1);
	engine_cut_begin(core_shard(&world), 0, false);
	struct msg msg = core_msg(&worker, MSG_PUSH);
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	core_send(&worker, &msg, x, 3);
	uint64_t again = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	engine_cut_end(world.engine, core_shard(&world));
	core_collect(&world);
	for (int i = 0; i < 3; i++)
		answer[4 + i] = x[i] - 0.5f * x[i];
	assert_values(&world, again, answer, ELEMENTS);
	core_world_end(&world);
}

/* ---- no room ------------------------------------------------------------ */

static bool has_no_room(void *user, const struct wait *wait)
{
	(void)wait;
	return *(const bool *)user;
}

static void test_answer_that_waits_for_room_is_that_of_its_commit(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS], centre[ELEMENTS] = {0}, answer[ELEMENTS];
	bool has = false;
	const struct engine_room room = {has_no_room, &has};
	start(&world, MSG_ASYNC, 0.1);
	struct core_client worker = core_join(&world, 0, 0), other = core_join(&world, 1, 1);
	world.room = &room;
	fill(x, ELEMENTS, 1);
	uint64_t push = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	core_push_all(&other, 0, 9.0f);
	assert_null(core_answer(&world, push));
	assert_int_equal(core_shard(&world)->own_bytes, sizeof(x));
	has = true;
	core_collect(&world);
	elastic(0.1f, x, centre, answer, ELEMENTS);
	assert_values(&world, push, answer, ELEMENTS);
	assert_int_equal(core_shard(&world)->own_bytes, 0);
	core_world_end(&world);
}

static void test_answers_beyond_the_window_are_refused_before_anything_is_taken_in(void **state)
{
	(void)state;
	static float x[2 * LIMIT_BLOCK_SEGMENTS];
	struct core_world world;
	bool has = false;
	const struct engine_room room = {has_no_room, &has};
	prepare(&world, MSG_ASYNC, 0.5);
	core_world_scalars(&world, 2 * LIMIT_BLOCK_SEGMENTS);
	world.options.window_bytes = world.options.message_bytes = LIMIT_BLOCK_SEGMENTS * sizeof(float);
	core_world_start(&world);
	struct core_client worker = core_join(&world, 0, 0);
	world.room = &room;
	uint64_t first = core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	uint64_t second = core_push(&worker, MSG_PUSH_PULL, 0, 1, 1, x);
	/* A window and a message; the next takes the first's place, so there is room for it; a
	 * session of its own that asks for more has none. */
	assert_int_equal(core_shard(&world)->own_bytes, 2 * LIMIT_BLOCK_SEGMENTS * sizeof(float));
	uint64_t third = core_push(&worker, MSG_PUSH_PULL, 1, 0, 1, x);
	core_assert_refused(&world, first, OPTD_CANCELLED, "takes its place");
	assert_null(core_answer(&world, third));
	struct core_client other = core_client_of(&world, 1, 1);
	core_hello(&other);
	core_open(&other);
	core_shard(&world)->ranks = 1; /* as if it were the same rank's */
	uint64_t before = core_hash(&world);
	uint64_t fourth = core_push(&other, MSG_PUSH_PULL, 0, 0, 1, x);
	core_assert_refused(&world, fourth, OPTD_BUSY, "keep to the window|32768|49152");
	assert_int_equal(core_hash(&world), before);
	has = true;
	core_collect(&world);
	core_assert_ok(&world, second);
	core_assert_ok(&world, third);
	core_assert_ok(&world, core_push(&other, MSG_PUSH_PULL, 0, 0, 1, x));
	core_world_end(&world);
}

static void test_answers_go_with_their_session_and_their_model(void **state)
{
	(void)state;
	struct core_world world;
	float x[ELEMENTS] = {0};
	bool has = false;
	const struct engine_room room = {has_no_room, &has};
	start(&world, MSG_ASYNC, 0.5);
	struct core_client worker = core_join(&world, 0, 0), other = core_join(&world, 1, 1);
	world.room = &room;
	core_push(&worker, MSG_PUSH_PULL, 0, 0, 1, x);
	core_push(&other, MSG_PUSH_PULL, 0, 0, 1, x);
	assert_int_equal(core_shard(&world)->own_bytes, 2 * sizeof(x));
	engine_peer_gone(world.engine, 0, &world.out);
	assert_int_equal(core_shard(&world)->own_bytes, sizeof(x));
	assert_int_equal(engine_drop(world.engine, "m", &world.out), OPTD_OK);
	core_world_end(&world);
}

static void test_such_answers_are_in_the_formula(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, MSG_ASYNC, 0.5);
	core_join(&world, 0, 0);
	const struct model *model = core_shard(&world)->model;
	struct model_settings settings = model->settings, plain = model->settings;
	const struct shard_window window = {LIMIT_WINDOW_BYTES, LIMIT_MESSAGE_BYTES};
	char why[128];
	assert_int_equal(optim_init(&plain.optim, optim_find("average"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(shard_rank_bytes(&settings, model->layout, model->place, window),
	                 shard_rank_bytes(&plain, model->layout, model->place, window) + ELEMENTS * sizeof(float));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_each_worker_is_answered_its_own_weights_and_readers_the_centre),
	        cmocka_unit_test(test_one_worker_in_sync_is_answered_as_well),
	        cmocka_unit_test(test_loss_scale_is_not_in_weights_nor_in_their_answer),
	        cmocka_unit_test(test_push_alone_moves_the_centre),
	        cmocka_unit_test(test_push_that_comes_again_is_answered_from_the_centre_of_now),
	        cmocka_unit_test(test_poisoned_push_that_comes_again_is_answered_the_centre),
	        cmocka_unit_test(test_weights_may_come_as_halves),
	        cmocka_unit_test(test_groups_under_other_rules_are_answered_weights),
	        cmocka_unit_test(test_answers_of_several_parts_are_in_their_order),
	        cmocka_unit_test(test_block_that_was_held_answers_from_the_centre_it_meets),
	        cmocka_unit_test(test_push_that_comes_again_while_held_is_answered_once_by_the_first),
	        cmocka_unit_test(test_segments_that_the_first_push_lacked_are_answered_the_centre),
	        cmocka_unit_test(test_answer_that_waits_for_room_is_that_of_its_commit),
	        cmocka_unit_test(test_answers_beyond_the_window_are_refused_before_anything_is_taken_in),
	        cmocka_unit_test(test_answers_go_with_their_session_and_their_model),
	        cmocka_unit_test(test_such_answers_are_in_the_formula),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
