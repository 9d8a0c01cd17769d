/* Loss scales: what divides a gradient, and one that follows the steps as GradScaler's. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/core_world.h"

static const struct msg_loss_scale USUAL = {.given = true};

static struct msg_loss_scale usual(void)
{
	struct msg_loss_scale settings = USUAL;
	char why[256];

	assert_int_equal(scaler_settings(&settings, why, sizeof(why)), OPTD_OK);
	return settings;
}

/* ---- alone -------------------------------------------------------------- */

static void test_defaults_are_those_of_pytorch(void **state)
{
	(void)state;
	struct msg_loss_scale settings = usual();
	assert_true(settings.init_scale == 65536 && settings.growth_factor == 2);
	assert_true(settings.backoff_factor == 0.5);
	assert_int_equal(settings.growth_interval, 2000);
}

static void test_trace_is_gradscalers(void **state)
{
	(void)state;
	FILE *file = fopen("tests/vectors/scaler.tsv", "r");
	char line[256], id[32], last[32] = "";
	struct msg_loss_scale settings = {.given = true};
	struct scaler scaler = {0};
	uint32_t rows = 0, t, bad, tracker, applied;
	double used, after;

	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	while (fgets(line, sizeof(line), file) != NULL) {
		assert_int_equal(sscanf(line, "%31s %lf %lf %lf %u %u %u %lf %lf %u %u", id, &settings.init_scale,
		                        &settings.growth_factor, &settings.backoff_factor, &settings.growth_interval,
		                        &t, &bad, &used, &after, &tracker, &applied), 11);
		if (strcmp(id, last) != 0)
			scaler_begin(&scaler, &settings);
		strcpy(last, id);
		assert_true((double)scaler.scale == used);
		scaler_update(&scaler, &settings, bad != 0);
		assert_true((double)scaler.scale == after);
		assert_int_equal(scaler.tracker, tracker);
		assert_int_equal(scaler.steps, t + 1);
		rows++;
	}
	fclose(file);
	assert_int_equal(rows, 30);
}

static void test_scale_does_not_fall_below_the_smallest_normal_number(void **state)
{
	(void)state;
	struct msg_loss_scale settings = usual();
	struct scaler scaler;
	settings.init_scale = (double)FLT_MIN * 2.5;
	scaler_begin(&scaler, &settings);
	scaler_update(&scaler, &settings, true);
	assert_true(scaler.scale == FLT_MIN * 1.25f);
	scaler_update(&scaler, &settings, true);
	assert_true(scaler.scale == FLT_MIN * 1.25f);
}

static void assert_out_of_range(struct msg_loss_scale settings, const char *words)
{
	struct core_answer answer = {0};

	assert_int_equal(scaler_settings(&settings, answer.text, sizeof(answer.text)), OPTD_HYPER);
	core_assert_text(&answer, words);
}

static void test_settings_out_of_range_are_refused(void **state)
{
	(void)state;
	assert_out_of_range((struct msg_loss_scale){.init_scale = -1}, "init_scale is -1");
	assert_out_of_range((struct msg_loss_scale){.init_scale = 1e39}, "init_scale is 1e+39");
	assert_out_of_range((struct msg_loss_scale){.init_scale = NAN}, "init_scale is");
	assert_out_of_range((struct msg_loss_scale){.growth_factor = 1}, "growth_factor is 1|more than 1");
	assert_out_of_range((struct msg_loss_scale){.backoff_factor = 1}, "backoff_factor is 1|less than 1");
	assert_out_of_range((struct msg_loss_scale){.growth_interval = 1u << 31}, "growth_interval is 2147483648");
}

/* ---- in a model --------------------------------------------------------- */

static uint64_t push(struct core_client *client, uint64_t step, float value, double weight, double scale,
                     bool poisoned)
{
	struct msg msg = core_msg(client, MSG_PUSH);
	float values[8];

	for (int i = 0; i < 8; i++)
		values[i] = value;
	msg.step = step;
	msg.weight = weight;
	msg.loss_scale = scale;
	msg.verdict = poisoned ? MSG_POISONED : MSG_FINITE;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = 0, .count = 1};
	return core_send(client, &msg, values, 8);
}

static void test_each_rank_is_divided_by_its_own_scale(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.workers = 2;
	core_world_start(&world);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	push(&a, 0, 3000.0f, 1, 3, false);
	push(&b, 0, 70.0f, 2, 0, false);
	/* Rounded once, in double: not (float)(1/3) / 3. */
	float sum = (float)(1.0 / 3.0 / 3.0) * 3000.0f;
	sum += (float)(2.0 / 3.0) * 70.0f;
	assert_true(core_shard(&world)->model->weights[0] == -sum);
	core_world_end(&world);
}

static void test_one_worker_and_async_are_divided_as_they_come(void **state)
{
	(void)state;
	for (enum msg_mode mode = MSG_SYNC; mode <= MSG_ASYNC; mode++) {
		struct core_world world;
		core_world_init(&world);
		world.open.mode = mode;
		core_world_start(&world);
		struct core_client a = core_join(&world, 0, 0);
		push(&a, 0, 10.0f, 0, 3, false);
		assert_true(core_shard(&world)->model->weights[7] == -((float)(1.0 / 3.0) * 10.0f));
		core_world_end(&world);
	}
}

/* As people have the statistics of a normalization: t1, in the midst of the block, is assigned. */
static void begin_mixed(struct core_world *world, const struct msg_group *group, enum msg_mode mode,
                        uint32_t workers)
{
	core_world_init(world);
	world->open.mode = mode;
	world->open.workers = workers;
	world->open.groups = group;
	world->open.group_count = 1;
	core_world_start(world);
}

static const struct msg_group ASSIGNED = {.tensors = {"t1", 2}, .optimizer = {"assign", 6}};

static void expect_mixed(struct core_world *world)
{
	const float *weights = core_shard(world)->model->weights;

	for (int i = 0; i < 8; i++)
		assert_true(weights[i] == (i >= 4 && i < 7 ? 5.0f : -(1.0f / 65536.0f) * 5.0f));
}

static void test_values_of_several_workers_are_not_divided(void **state)
{
	(void)state;
	struct core_world world;
	begin_mixed(&world, &ASSIGNED, MSG_SYNC, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	push(&a, 0, 5.0f, 0, 65536, false);
	push(&b, 0, 5.0f, 0, 65536, false);
	expect_mixed(&world);
	core_world_end(&world);
}

static void test_values_of_one_worker_and_of_async_are_not_divided(void **state)
{
	(void)state;
	for (enum msg_mode mode = MSG_SYNC; mode <= MSG_ASYNC; mode++) {
		struct core_world world;
		begin_mixed(&world, &ASSIGNED, mode, 1);
		struct core_client a = core_join(&world, 0, 0);
		push(&a, 0, 5.0f, 0, 65536, false);
		expect_mixed(&world);
		core_world_end(&world);
	}
}

static void test_values_that_come_without_the_rest_are_not_divided(void **state)
{
	(void)state;
	const uint8_t mask = 6;
	const float values[4] = {5, 5, 5, 65536};
	for (uint32_t workers = 1; workers <= 2; workers++) {
		struct core_world world;
		begin_mixed(&world, &ASSIGNED, MSG_SYNC, workers);
		struct core_client clients[2];
		for (uint32_t i = 0; i < workers; i++)
			clients[i] = core_join(&world, i, (int32_t)i);
		for (uint32_t i = 0; i < workers; i++) {
			struct msg msg = core_msg(&clients[i], MSG_PUSH);
			msg.loss_scale = 65536;
			msg.part_count = 1;
			msg.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
			core_send(&clients[i], &msg, values, 4);
		}
		const float *weights = core_shard(&world)->model->weights;
		assert_true(weights[3] == 0 && weights[4] == 5 && weights[6] == 5 && weights[7] == -1);
		core_world_end(&world);
	}
}

/* Differences of weights: fedavgm without momentum adds them. */
static void test_deltas_are_not_divided(void **state)
{
	(void)state;
	for (uint32_t workers = 1; workers <= 2; workers++) {
		struct core_world world;
		core_world_init(&world);
		world.open.workers = workers;
		world.open.optimizer = (struct msg_text){"fedavgm", 7};
		world.open.hypers[1] = (struct msg_hyper){.name = {"momentum", 8}, .values = {0.0}, .count = 1};
		world.open.hyper_count = 2;
		core_world_start(&world);
		struct core_client clients[2];
		for (uint32_t i = 0; i < workers; i++)
			clients[i] = core_join(&world, i, (int32_t)i);
		for (uint32_t i = 0; i < workers; i++)
			push(&clients[i], 0, 3.0f, 0, 1024, false);
		assert_true(core_shard(&world)->model->weights[0] == 3.0f);
		core_world_end(&world);
	}
}

static void test_factors_of_mixed_blocks_are_in_the_formula(void **state)
{
	(void)state;
	struct core_world world;
	begin_mixed(&world, &ASSIGNED, MSG_ASYNC, 1);
	core_join(&world, 0, 0);
	const struct model *model = core_shard(&world)->model;
	struct model_settings plain = model->settings;
	plain.groups.count = 0;
	assert_int_equal(gate_bytes(&model->settings, model->layout, model->place),
	                 gate_bytes(&plain, model->layout, model->place) + (3 + 1) * sizeof(float));
	core_world_end(&world);
}

static void test_answers_tell_the_scale_of_the_next_step(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.workers = 2;
	world.open.loss_scale = (struct msg_loss_scale){.given = true, .init_scale = 8, .growth_interval = 2};
	core_world_start(&world);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	static const bool bad[] = {false, false, true, true, false};
	static const double next[] = {8, 16, 8, 4, 4};
	assert_true(a.opened.loss_scale_now == 8);
	for (uint64_t step = 0; step < 5; step++) {
		uint64_t of_a = push(&a, step, 1, 0, 8, false), of_b = push(&b, step, 1, 0, 8, bad[step]);
		assert_true(core_answer(&world, of_a)->head.next_loss_scale == next[step]);
		assert_true(core_answer(&world, of_b)->head.next_loss_scale == next[step]);
	}
	/* A resend of the last step is told it, too, and changes nothing. */
	uint64_t again = push(&a, 4, 1, 0, 8, false);
	assert_true(core_answer(&world, again)->head.next_loss_scale == 4);
	assert_int_equal(core_shard(&world)->model->scaler.tracker, 1);
	assert_true(core_open(&a)->head.opened.loss_scale_now == 4);
	core_world_end(&world);
}

static void test_a_step_of_several_blocks_counts_once(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, 2 * LIMIT_BLOCK_SEGMENTS + 1);
	world.open.loss_scale = (struct msg_loss_scale){.given = true, .init_scale = 8, .growth_interval = 3};
	core_world_start(&world);
	struct core_client a = core_join(&world, 0, 0);
	core_push_all(&a, 0, 1.0f);
	assert_int_equal(core_shard(&world)->model->scaler.tracker, 1);
	core_push_all(&a, 1, 1.0f);
	assert_int_equal(core_shard(&world)->model->scaler.tracker, 2);
	assert_true(core_shard(&world)->model->scaler.scale == 8);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_defaults_are_those_of_pytorch),
	        cmocka_unit_test(test_trace_is_gradscalers),
	        cmocka_unit_test(test_scale_does_not_fall_below_the_smallest_normal_number),
	        cmocka_unit_test(test_settings_out_of_range_are_refused),
	        cmocka_unit_test(test_each_rank_is_divided_by_its_own_scale),
	        cmocka_unit_test(test_one_worker_and_async_are_divided_as_they_come),
	        cmocka_unit_test(test_values_of_several_workers_are_not_divided),
	        cmocka_unit_test(test_values_of_one_worker_and_of_async_are_not_divided),
	        cmocka_unit_test(test_values_that_come_without_the_rest_are_not_divided),
	        cmocka_unit_test(test_deltas_are_not_divided),
	        cmocka_unit_test(test_factors_of_mixed_blocks_are_in_the_formula),
	        cmocka_unit_test(test_answers_tell_the_scale_of_the_next_step),
	        cmocka_unit_test(test_a_step_of_several_blocks_counts_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
