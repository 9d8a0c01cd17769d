/*
 * Steps that are decided as a whole: what is collected, decided by the lead, and applied;
 * and that a norm is PyTorch's.  Lanes are worlds of their own here; what one tells
 * another is carried by hand.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/clipping.h"
#include "server/core/lane_message.h"
#include "tests/support/core_world.h"
#include "tests/support/rng_seed.h"

#define LANES 2
/* One block for each lane. */
#define ELEMENTS (LANES * LIMIT_BLOCK_SEGMENTS)

static struct core_world lanes[LANES];
static struct core_client clients[LANES][2]; /* by rank */
static float gradient[ELEMENTS];

static void start(struct msg_clip clip, uint32_t lane_count, uint32_t workers)
{
	for (uint32_t i = 0; i < lane_count; i++) {
		core_world_init(&lanes[i]);
		core_world_scalars(&lanes[i], ELEMENTS);
		lanes[i].options.lane = i;
		lanes[i].options.lanes = lane_count;
		lanes[i].open.workers = workers;
		lanes[i].open.reduce = MSG_SUM;
		lanes[i].open.clip = clip;
		lanes[i].open.expect_run = i > 0 ? clients[0][0].opened.run_id : 0;
		core_world_start(&lanes[i]);
		for (uint32_t rank = 0; rank < workers; rank++) {
			clients[i][rank] = core_client_of(&lanes[i], rank, (int32_t)rank);
			assert_int_equal(core_hello(&clients[i][rank])->head.status, OPTD_OK);
			assert_int_equal(core_open(&clients[i][rank])->head.status, OPTD_OK);
		}
		clients[i][0].opened.token = clients[0][0].opened.token;
		core_init_weights(&clients[i][0], NULL);
	}
}

static void end(uint32_t lane_count)
{
	for (uint32_t i = 0; i < lane_count; i++)
		core_world_end(&lanes[i]);
}

static void fill(float first_lane, float second_lane)
{
	for (uint32_t i = 0; i < ELEMENTS; i++)
		gradient[i] = i < LIMIT_BLOCK_SEGMENTS ? first_lane : second_lane;
}

/* The lane's one block. */
static uint64_t push(uint32_t lane, uint32_t rank, uint64_t step)
{
	return core_push(&clients[lane][rank], MSG_PUSH, step, lane, 1, gradient + lane * LIMIT_BLOCK_SEGMENTS);
}

/* The message that a lane has for another, which must be there. */
static struct lane_message *take(uint32_t lane)
{
	struct lane_message *message = outbox_take_told(&lanes[lane].out);
	assert_non_null(message);
	assert_null(outbox_take_told(&lanes[lane].out));
	return message;
}

static void hear(uint32_t lane, struct lane_message *message)
{
	assert_int_equal(message->to, lane);
	engine_hear(lanes[lane].engine, message, lanes[lane].now_ms, &lanes[lane].out);
	core_collect(&lanes[lane]);
}

static void decide(void)
{
	hear(0, take(1));
	hear(1, take(0));
}

static uint64_t version(uint32_t lane)
{
	return core_shard(&lanes[lane])->model->versions[0];
}

static float weight(uint32_t lane)
{
	return core_shard(&lanes[lane])->model->weights[0];
}

/* ---- the numbers -------------------------------------------------------- */

/* torch.nn.utils.clip_grad_norm_ in double, and no more: that a norm is wrong shows. */
static double plain_factor(const float *x, uint32_t n, double p, double max_norm)
{
	double norm = 0;

	for (uint32_t i = 0; i < n; i++) {
		double size = fabs((double)x[i]);
		norm = isinf(p) ? fmax(norm, size) : norm + pow(size, p);
	}
	norm = isinf(p) ? norm : pow(norm, 1 / p);
	return fmin(1, max_norm / (norm + 1e-6));
}

static void check_global(double p)
{
	struct rng rng = rng_new(5);

	start((struct msg_clip){.norm = 2.5, .norm_type = p}, LANES, 1);
	for (uint32_t i = 0; i < ELEMENTS; i++)
		gradient[i] = rng_float(&rng);
	double factor = plain_factor(gradient, ELEMENTS, p, 2.5);
	for (uint32_t lane = 0; lane < LANES; lane++)
		push(lane, 0, 0);
	decide();
	for (uint32_t i = 0; i < ELEMENTS; i++) {
		const struct model *model = core_shard(&lanes[i / LIMIT_BLOCK_SEGMENTS])->model;
		double expected = -factor * (double)gradient[i];
		assert_true(fabs((double)model->weights[i % LIMIT_BLOCK_SEGMENTS] - expected) <= 1e-6 * fabs(expected));
	}
	end(LANES);
}

static void test_the_whole_gradient_is_clipped_by_pytorchs_formula(void **state)
{
	(void)state;
	check_global(1);
	check_global(2);
	check_global(3);
	check_global(INFINITY);
}

static void test_each_tensor_is_clipped_by_its_own_norm(void **state)
{
	static const uint64_t tensors[] = {3, 200000, 5};
	static float values[200008];
	uint64_t begin = 0;
	struct core_world world;
	struct rng rng = rng_new(6);

	(void)state;
	for (uint32_t i = 0; i < 200008; i++)
		values[i] = i < 3 ? 1e-3f : rng_float(&rng);
	core_world_init(&world);
	world.tensors = tensors;
	world.tensor_count = 3;
	world.open.clip.tensor_norm = 0.5;
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	core_push(&client, MSG_PUSH, 0, 0, 2, values);
	for (uint32_t t = 0; t < 3; t++) {
		double factor = plain_factor(values + begin, (uint32_t)tensors[t], 2, 0.5);
		assert_true(t == 0 ? factor == 1 : factor < 1);
		for (uint64_t i = begin; i < begin + tensors[t]; i++) {
			double expected = -factor * (double)values[i];
			assert_true(fabs((double)core_shard(&world)->model->weights[i] - expected) <=
			            1e-6 * fabs(expected));
		}
		begin += tensors[t];
	}
	core_world_end(&world);
}

/* ---- collect, decide, apply --------------------------------------------- */

static void test_no_lane_commits_before_all_have_collected_and_been_told(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 2);
	fill(1, 1);
	uint64_t first = push(0, 0, 0);
	push(0, 1, 0);
	push(1, 0, 0);
	assert_null(outbox_take_told(&lanes[1].out)); /* rank 1's part is missing */
	uint64_t last = push(1, 1, 0);
	struct lane_message *parts = take(1);
	assert_int_equal(version(0) + version(1), 0);
	hear(0, parts);
	assert_int_equal(version(0), 1);
	core_assert_ok(&lanes[0], first);
	assert_int_equal(version(1), 0);
	assert_null(core_answer(&lanes[1], last));
	hear(1, take(0));
	assert_int_equal(version(1), 1);
	core_assert_ok(&lanes[1], last);
	end(LANES);
}

static void test_a_step_that_a_rank_closes_is_collected(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 2);
	fill(3, 4);
	push(0, 0, 0);
	push(1, 0, 0);
	core_close_step(&clients[0][1], 0, 0, 1);
	core_close_step(&clients[1][1], 0, 1, 1);
	decide();
	assert_int_equal(version(0), 1);
	assert_int_equal(version(1), 1);
	/* sqrt(4096 * (9 + 16)) is 320 */
	assert_true(fabs((double)weight(0) + 3.0 / 320) < 1e-7);
	end(LANES);
}

static void test_a_norm_that_is_not_finite_updates_nothing_on_any_lane(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 2);
	fill(1, 3e38f);
	for (uint32_t i = 0; i < 4; i++)
		push(i / 2, i % 2, 0);
	decide();
	for (uint32_t lane = 0; lane < LANES; lane++) {
		const struct shard *shard = core_shard(&lanes[lane]);
		assert_int_equal(version(lane), 1);
		assert_true(weight(lane) == 0);
		assert_int_equal(shard->model->updates[0], 0);
		assert_int_equal(shard->counts.overflowed, 1);
		assert_int_equal(shard->counts.clipped, 0);
		assert_true(isinf(shard->counts.last_norm));
	}
	fill(1, 1);
	for (uint32_t i = 0; i < 4; i++)
		push(i / 2, i % 2, 1);
	decide();
	assert_int_equal(version(1), 2);
	assert_true(weight(1) < 0);
	assert_int_equal(core_shard(&lanes[1])->counts.clipped, 1);
	end(LANES);
}

static void test_a_norm_below_the_limit_leaves_the_bits(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1000}, LANES, 1);
	fill(0.1f, 0.3f);
	push(0, 0, 0);
	push(1, 0, 0);
	decide();
	assert_true(weight(0) == -0.1f && weight(1) == -0.3f);
	assert_true(core_shard(&lanes[1])->counts.last_factor == 1);
	assert_int_equal(core_shard(&lanes[1])->counts.clipped, 0);
	end(LANES);
}

/* ---- models that come and go -------------------------------------------- */

static void test_parts_of_a_model_that_was_dropped_are_forgotten(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 1);
	fill(1, 1);
	push(0, 0, 0);
	push(1, 0, 0);
	struct lane_message *parts = take(1);
	assert_int_equal(engine_drop(lanes[0].engine, "m", &lanes[0].out), OPTD_OK);
	hear(0, parts);
	assert_null(outbox_take_told(&lanes[0].out));
	end(LANES);
}

static void test_parts_of_an_earlier_run_do_not_count(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 1);
	fill(1, 1);
	push(1, 0, 0);
	struct lane_message *parts = take(1);
	assert_int_equal(engine_drop(lanes[0].engine, "m", &lanes[0].out), OPTD_OK);
	assert_int_equal(core_open(&clients[0][0])->head.opened.created, true);
	core_init_weights(&clients[0][0], NULL);
	push(0, 0, 0);
	hear(0, parts);
	assert_int_equal(version(0), 0);
	end(LANES);
}

static void test_a_decision_for_a_shard_that_was_dropped_is_forgotten(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 1);
	fill(1, 1);
	push(0, 0, 0);
	push(1, 0, 0);
	hear(0, take(1));
	struct lane_message *decision = take(0);
	assert_int_equal(engine_drop(lanes[1].engine, "m", &lanes[1].out), OPTD_OK);
	/* Of the same run, as one that was made before the lead had its weights. */
	assert_int_equal(core_open(&clients[1][0])->head.opened.created, true);
	clients[1][0].opened.token = clients[0][0].opened.token;
	core_init_weights(&clients[1][0], NULL);
	push(1, 0, 0);
	hear(1, decision);
	assert_int_equal(version(1), 0);
	end(LANES);
}

/* ---- a checkpoint's cut ------------------------------------------------- */

static void test_a_held_block_commits_later_with_the_same_factor(void **state)
{
	struct core_world world;
	uint32_t block;

	(void)state;
	core_world_init(&world);
	core_world_scalars(&world, ELEMENTS);
	world.open.clip.norm = 1;
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	struct shard *shard = core_shard(&world);
	assert_int_equal(engine_cut_begin(shard, 0, false), OPTD_OK);
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_BLOCK);
	engine_cut_saved(world.engine, shard, 0);
	fill(3, 4);
	core_push(&client, MSG_PUSH, 0, 0, 2, gradient);
	assert_int_equal(shard->model->versions[0], 1);
	assert_int_equal(shard->model->versions[1], 0);
	engine_cut_saved(world.engine, shard, 1);
	assert_int_equal(shard->model->versions[1], 1);
	engine_cut_end(world.engine, shard);
	assert_true(fabs((double)shard->model->weights[0] + 3.0 / 320) < 1e-7);
	assert_true(fabs((double)shard->model->weights[ELEMENTS - 1] + 4.0 / 320) < 1e-7);
	core_world_end(&world);
}

static void test_a_cut_waits_for_a_decision_on_its_way(void **state)
{
	uint32_t block;

	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 1);
	fill(1, 1);
	push(0, 0, 0);
	push(1, 0, 0);
	hear(0, take(1));
	struct shard *shard = core_shard(&lanes[1]);
	assert_int_equal(engine_cut_begin(shard, 0, true), OPTD_OK);
	engine_cut_raise(lanes[1].engine, shard, version(0));
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_WAIT);
	engine_cut_force(shard);
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_WAIT);
	hear(1, take(0));
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_BLOCK);
	assert_int_equal(version(1), 1);
	end(LANES);
}

/* ---- waiting ------------------------------------------------------------ */

static void test_who_waits_hears_of_the_rank_that_another_block_lacks(void **state)
{
	struct core_world world;

	(void)state;
	core_world_init(&world);
	core_world_scalars(&world, ELEMENTS);
	world.open.clip.norm = 1;
	world.open.workers = 2;
	core_world_start(&world);
	struct core_client one = core_join(&world, 0, 0), two = core_join(&world, 1, 1);
	fill(1, 1);
	uint64_t request = core_push(&one, MSG_PUSH, 0, 0, 2, gradient);
	core_push(&two, MSG_PUSH, 0, 0, 1, gradient);
	core_tick(&world, 6000);
	core_assert_text(core_notice(&world, request, OPTD_WAITING), "1 of 2 workers|rank 1");
	core_world_end(&world);
}

static void test_who_waits_for_another_lane_hears_so(void **state)
{
	(void)state;
	start((struct msg_clip){.norm = 1}, LANES, 1);
	fill(1, 1);
	uint64_t request = push(0, 0, 0);
	core_tick(&lanes[0], 6000);
	core_assert_text(core_notice(&lanes[0], request, OPTD_WAITING), "other lanes|all of step 0");
	core_tick(&lanes[0], 31000);
	core_assert_refused(&lanes[0], request, OPTD_STEP_TIMEOUT, "another lane");
	uint64_t again = push(0, 0, 0);
	push(1, 0, 0);
	decide();
	core_assert_ok(&lanes[0], again);
	assert_int_equal(version(0), 1);
	end(LANES);
}

/* ---- memory ------------------------------------------------------------- */

static void test_the_formula_counts_what_is_collected_also_of_one_worker(void **state)
{
	struct core_world world;
	struct model_place place = {0, 1, 0, 1};

	(void)state;
	core_world_init(&world);
	core_world_scalars(&world, ELEMENTS);
	core_world_start(&world);
	core_join(&world, 0, 0);
	const struct model *model = core_shard(&world)->model;
	struct model_settings settings = model->settings;
	uint64_t without = shard_own_bytes(&settings, model->layout, place);
	settings.clip.norm = 1;
	/* Sums, parts, and the message with them. */
	assert_true(shard_own_bytes(&settings, model->layout, place) >=
	            without + ELEMENTS * (sizeof(float) + 2 * sizeof(double)));
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_the_whole_gradient_is_clipped_by_pytorchs_formula),
	        cmocka_unit_test(test_each_tensor_is_clipped_by_its_own_norm),
	        cmocka_unit_test(test_no_lane_commits_before_all_have_collected_and_been_told),
	        cmocka_unit_test(test_a_step_that_a_rank_closes_is_collected),
	        cmocka_unit_test(test_a_norm_that_is_not_finite_updates_nothing_on_any_lane),
	        cmocka_unit_test(test_a_norm_below_the_limit_leaves_the_bits),
	        cmocka_unit_test(test_parts_of_a_model_that_was_dropped_are_forgotten),
	        cmocka_unit_test(test_parts_of_an_earlier_run_do_not_count),
	        cmocka_unit_test(test_a_decision_for_a_shard_that_was_dropped_is_forgotten),
	        cmocka_unit_test(test_a_held_block_commits_later_with_the_same_factor),
	        cmocka_unit_test(test_a_cut_waits_for_a_decision_on_its_way),
	        cmocka_unit_test(test_who_waits_hears_of_the_rank_that_another_block_lacks),
	        cmocka_unit_test(test_who_waits_for_another_lane_hears_so),
	        cmocka_unit_test(test_the_formula_counts_what_is_collected_also_of_one_worker),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
