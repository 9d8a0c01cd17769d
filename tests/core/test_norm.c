/*
 * Norms of a model that several daemons share: who asks for parts gets them when they are
 * there, and each daemon decides when it has been told those of all others.  Waiting is in
 * test_norm_wait.c, what is refused in test_norm_refusals.c.
 */
#include <math.h>
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

static uint64_t version(uint32_t daemon)
{
	return daemons_model(&d, daemon)->versions[0];
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

/* A step of two daemons with one worker, to its end. */
static void step(uint64_t number)
{
	for (uint32_t i = 0; i < 2; i++) {
		daemons_push(&d, i, 0, number, gradient);
		core_assert_ok(daemons_world(&d, i), daemons_tell(&d, i, 0, number, 1 - i, parts));
		assert_int_equal(version(i), number + 1);
	}
}

/* ---- asking ------------------------------------------------------------- */

static void test_an_ask_waits_until_the_daemon_has_collected_the_step(void **state)
{
	(void)state;
	start(2, 1, 2);
	fill(1, 2);
	uint64_t early = daemons_ask(&d, 1, 0, 0);
	daemons_push(&d, 1, 0, 0, gradient);
	assert_waits(1, early);
	daemons_push(&d, 1, 1, 0, gradient);
	assert_told(1, early, BLOCK);
	assert_told(1, daemons_ask(&d, 1, 0, 0), BLOCK);
	assert_int_equal(core_answers_to(daemons_world(&d, 1), early), 1);
	assert_int_equal(version(1), 0);
	daemons_end(&d);
}

static void test_an_ask_waits_for_all_lanes(void **state)
{
	(void)state;
	start(2, 2, 1);
	fill(2, 1);
	uint64_t request = daemons_ask(&d, 0, 0, 0);
	daemons_push_lane(&d, 1, 0, 0, gradient);
	daemons_carry(&d, 0);
	assert_waits(0, request);
	daemons_push_lane(&d, 0, 0, 0, gradient);
	assert_told(0, request, 2 * BLOCK);
	daemons_end(&d);
}

static void test_each_rank_that_asked_is_answered(void **state)
{
	(void)state;
	start(2, 1, 2);
	fill(3, 2);
	uint64_t one = daemons_ask(&d, 0, 0, 0), two = daemons_ask(&d, 0, 1, 0);
	daemons_push(&d, 0, 0, 0, gradient);
	daemons_push(&d, 0, 1, 0, gradient);
	assert_told(0, one, BLOCK);
	assert_told(0, two, BLOCK);
	const struct core_answer *answer = core_answer(daemons_world(&d, 0), two);
	assert_int_equal(answer->peer, 1);
	assert_int_equal(answer->head.session, d.clients[0][1].session);
	assert_int_equal(answer->head.rank, 1);
	assert_int_equal(answer->head.parts[0].count, 1);
	daemons_end(&d);
}

static void test_blocks_are_asked_for_by_themselves(void **state)
{
	(void)state;
	start(2, 2, 1);
	fill(4, 1);
	struct core_client *client = daemons_client(&d, 1, 0);
	uint64_t request = daemons_send(client, 0, (struct layout_run){3, 1}, NULL, 0);
	daemons_push(&d, 1, 0, 0, gradient);
	assert_memory_equal(daemons_told(&d, 1, request, BLOCK), parts + 3 * BLOCK, BLOCK * sizeof(double));
	daemons_end(&d);
}

static void test_ranks_that_ask_for_other_blocks_get_those(void **state)
{
	(void)state;
	start(2, 2, 2);
	fill(5, 2);
	uint64_t one = daemons_send(daemons_client(&d, 0, 0), 0, (struct layout_run){0, 1}, NULL, 0);
	uint64_t two = daemons_send(daemons_client(&d, 0, 1), 0, (struct layout_run){1, 1}, NULL, 0);
	daemons_push(&d, 0, 0, 0, gradient);
	daemons_push(&d, 0, 1, 0, gradient);
	assert_memory_equal(daemons_told(&d, 0, one, BLOCK), parts, BLOCK * sizeof(double));
	assert_memory_equal(daemons_told(&d, 0, two, BLOCK), parts + BLOCK, BLOCK * sizeof(double));
	daemons_end(&d);
}

static void test_the_step_before_is_known_while_the_next_is_under_way(void **state)
{
	(void)state;
	start(2, 1, 1);
	for (uint64_t number = 0; number < 3; number++) {
		fill(number, 1);
		step(number);
		assert_told(0, daemons_ask(&d, 0, 0, number), BLOCK);
		uint64_t next = daemons_ask(&d, 0, 0, number + 1);
		assert_waits(0, next);
		fill(number + 1, 1);
		daemons_push(&d, 0, 0, number + 1, gradient);
		assert_told(0, next, BLOCK);
		fill(number, 1);
		assert_told(0, daemons_ask(&d, 0, 0, number), BLOCK);
	}
	daemons_end(&d);
}

static bool guessed(uint32_t daemon, uint64_t request)
{
	const struct core_answer *answer = core_answer(daemons_world(&d, daemon), request);

	assert_non_null(answer);
	return answer->head.guessed;
}

/* One that repeats it after a crash is better off with numbers of about that size. */
static void test_a_step_that_is_forgotten_has_the_parts_of_the_last_one_and_says_so(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(6, 1);
	step(0);
	fill(7, 1);
	step(1);
	uint64_t last = daemons_ask(&d, 1, 0, 1), older = daemons_ask(&d, 1, 0, 0);
	assert_told(1, last, BLOCK);
	assert_told(1, older, BLOCK);
	assert_false(guessed(1, last));
	assert_true(guessed(1, older));
	daemons_end(&d);
}

/* As after a restart of the daemon from a checkpoint. */
static void restore(uint32_t daemon, uint64_t at)
{
	struct core_world *world = daemons_world(&d, daemon);
	struct model_settings settings = daemons_model(&d, daemon)->settings;
	struct model_place place = daemons_model(&d, daemon)->place;
	struct layout *layout = core_world_layout(world);
	char why[256];

	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_int_equal(engine_drop(world->engine, "m", &world->out), OPTD_OK);
	struct model *model = model_new("m", &settings, &layout, place);
	assert_non_null(model);
	model->restored = true;
	for (uint32_t i = 0; i < model->owned.count; i++)
		model->versions[i] = at;
	assert_int_equal(engine_adopt(world->engine, &model, why, sizeof(why)), OPTD_OK);
	assert_int_equal(core_open(daemons_client(&d, daemon, 0))->head.status, OPTD_OK);
}

static void test_the_step_before_a_restart_is_not_known(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(7, 1);
	restore(0, 4);
	uint64_t before = daemons_ask(&d, 0, 0, 3);
	assert_true(guessed(0, before));
	assert_true(daemons_told(&d, 0, before, BLOCK)[1] == 0);
	uint64_t request = daemons_ask(&d, 0, 0, 4);
	daemons_push(&d, 0, 0, 4, gradient);
	assert_told(0, request, BLOCK);
	daemons_tell(&d, 0, 0, 4, 1, parts);
	assert_int_equal(version(0), 5);
	daemons_end(&d);
}

static void test_a_step_ahead_is_a_gap(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(8, 1);
	core_assert_refused(daemons_world(&d, 0), daemons_ask(&d, 0, 0, 1), OPTD_STEP_GAP, "step 1|'m'|at step 0");
	core_assert_refused(daemons_world(&d, 0), daemons_tell(&d, 0, 0, 1, 1, parts), OPTD_STEP_GAP, "step 1|at step 0");
	step(0);
	daemons_end(&d);
}

/* ---- deciding ----------------------------------------------------------- */

static void test_a_daemon_decides_when_it_has_collected_and_been_told_all(void **state)
{
	(void)state;
	start(3, 1, 1);
	fill(16, 1);
	uint64_t push = daemons_push(&d, 1, 0, 0, gradient);
	daemons_tell(&d, 1, 0, 0, 2, parts);
	assert_waits(1, push);
	daemons_tell(&d, 1, 0, 0, 0, parts);
	core_assert_ok(daemons_world(&d, 1), push);
	/* And the other way round. */
	daemons_tell(&d, 0, 0, 0, 1, parts);
	daemons_tell(&d, 0, 0, 0, 2, parts);
	assert_int_equal(version(0), 0);
	daemons_push(&d, 0, 0, 0, gradient);
	assert_int_equal(version(0), 1);
	daemons_end(&d);
}

static void test_told_twice_counts_once(void **state)
{
	(void)state;
	start(3, 1, 1);
	fill(17, 1);
	daemons_push(&d, 0, 0, 0, gradient);
	for (int i = 0; i < 3; i++)
		core_assert_ok(daemons_world(&d, 0), daemons_tell(&d, 0, 0, 0, 1, parts));
	assert_int_equal(version(0), 0);
	/* Also as a piece of more. */
	core_assert_ok(daemons_world(&d, 0),
	               daemons_send(daemons_client(&d, 0, 0), 0, (struct layout_run){1, 2}, parts + BLOCK, 2 * BLOCK));
	assert_int_equal(version(0), 1);
	daemons_end(&d);
}

static void test_what_is_told_after_the_decision_is_passed_over(void **state)
{
	(void)state;
	start(2, 1, 1);
	fill(18, 1);
	step(0);
	daemons_push(&d, 0, 0, 1, gradient);
	for (uint32_t i = 0; i < BLOCK; i++)
		parts[BLOCK + i] = 1e9;
	core_assert_ok(daemons_world(&d, 0), daemons_tell(&d, 0, 0, 0, 1, parts));
	assert_int_equal(version(0), 1);
	fill(18, 1);
	daemons_tell(&d, 0, 0, 1, 1, parts);
	assert_int_equal(version(0), 2);
	assert_true(core_shard(daemons_world(&d, 0))->counts.last_norm < 1e4);
	daemons_end(&d);
}

static void test_all_daemons_clip_by_the_same_norm(void **state)
{
	double sum = 0;

	(void)state;
	start(2, 2, 1);
	fill(19, 1);
	for (uint32_t i = 0; i < ELEMENTS; i++)
		sum = clip_join(sum, parts[i], 2);
	double norm = clip_norm(sum, 2);
	float factor = clip_factor(norm, 1);
	assert_true(factor < 1);
	step(0);
	for (uint32_t i = 0; i < 4; i++) {
		const struct shard *shard = core_shard(&d.worlds[i]);
		assert_true(shard->counts.last_norm == norm);
		assert_int_equal(shard->counts.clipped, 1);
		for (uint32_t j = 0; j < BLOCK; j++)
			assert_true(shard->model->weights[j] == -(gradient[i * BLOCK + j] * factor));
	}
	daemons_end(&d);
}

static void test_a_tensor_of_two_daemons_has_one_factor(void **state)
{
	static const uint64_t tensors[] = {3, 2 * LIMIT_BLOCK_ELEMENTS - 10, 2};
	static float values[2 * LIMIT_BLOCK_ELEMENTS];
	double numbers[8], told[8];
	struct rng rng = rng_new(20);

	(void)state;
	d = (struct daemons){.daemons = 2, .lanes = 1, .workers = 1, .clip = {.tensor_norm = 0.5},
	                     .tensors = tensors, .tensor_count = 3};
	daemons_start(&d);
	for (uint32_t i = 0; i < 2 * LIMIT_BLOCK_ELEMENTS; i++)
		values[i] = rng_float(&rng);
	uint32_t here = daemons_segment(&d, daemons_blocks(&d, 1).first), all = daemons_segment(&d, 2);
	assert_true(here == 2 && all == 4); /* the tensor in the middle lies on both */
	for (uint32_t i = 0; i < 2; i++) {
		daemons_push(&d, i, 0, 0, values);
		uint64_t request = daemons_ask(&d, i, 0, 0);
		memcpy(numbers + 2 * i, daemons_told(&d, i, request, 2), 2 * sizeof(double));
	}
	memcpy(told, numbers, sizeof(told));
	daemons_tell(&d, 0, 0, 0, 1, told);
	daemons_tell(&d, 1, 0, 0, 0, told);
	float factor = clip_factor(clip_norm(clip_join(clip_join(0, numbers[1], 2), numbers[2], 2), 2), 0.5);
	assert_true(factor < 0.1f);
	for (uint32_t i = 3; i < 2 * LIMIT_BLOCK_ELEMENTS - 7; i++) {
		const struct model *model = daemons_model(&d, i / LIMIT_BLOCK_ELEMENTS);
		assert_true(model->weights[i % LIMIT_BLOCK_ELEMENTS] == -(values[i] * factor));
	}
	daemons_end(&d);
}

static void check_not_finite(double number)
{
	start(2, 2, 1);
	fill(21, 1);
	parts[2 * BLOCK + 7] = number;
	uint64_t push = daemons_push(&d, 0, 0, 0, gradient);
	daemons_tell(&d, 0, 0, 0, 1, parts);
	const struct core_answer *answer = core_answer(daemons_world(&d, 0), push);
	core_assert_ok(daemons_world(&d, 0), push);
	assert_int_equal(answer->head.skipped_rank_plus_one, MSG_SKIPPED_SUM);
	for (uint32_t lane = 0; lane < 2; lane++) {
		const struct shard *shard = core_shard(&d.worlds[lane]);
		assert_int_equal(shard->model->versions[0], 1);
		assert_int_equal(shard->model->updates[0], 0);
		assert_int_equal(shard->counts.overflowed, 1);
		assert_true(shard->model->weights[0] == 0);
	}
	daemons_end(&d);
}

static void test_a_norm_of_another_daemon_that_is_not_finite_skips_the_step(void **state)
{
	(void)state;
	check_not_finite(NAN);
	check_not_finite(INFINITY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_an_ask_waits_until_the_daemon_has_collected_the_step),
	        cmocka_unit_test(test_an_ask_waits_for_all_lanes),
	        cmocka_unit_test(test_each_rank_that_asked_is_answered),
	        cmocka_unit_test(test_blocks_are_asked_for_by_themselves),
	        cmocka_unit_test(test_ranks_that_ask_for_other_blocks_get_those),
	        cmocka_unit_test(test_the_step_before_is_known_while_the_next_is_under_way),
	        cmocka_unit_test(test_a_step_that_is_forgotten_has_the_parts_of_the_last_one_and_says_so),
	        cmocka_unit_test(test_the_step_before_a_restart_is_not_known),
	        cmocka_unit_test(test_a_step_ahead_is_a_gap),
	        cmocka_unit_test(test_a_daemon_decides_when_it_has_collected_and_been_told_all),
	        cmocka_unit_test(test_told_twice_counts_once),
	        cmocka_unit_test(test_what_is_told_after_the_decision_is_passed_over),
	        cmocka_unit_test(test_all_daemons_clip_by_the_same_norm),
	        cmocka_unit_test(test_a_tensor_of_two_daemons_has_one_factor),
	        cmocka_unit_test(test_a_norm_of_another_daemon_that_is_not_finite_skips_the_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
