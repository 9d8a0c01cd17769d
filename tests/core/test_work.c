/* Whole tensors in the engine: collected, updated in slices, and what others see meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "optim/tensor.h"
#include "tests/support/core_world.h"

#define SIDE 600u /* a matrix of three blocks */
#define MATRIX ((uint64_t)SIDE * SIDE)
#define SMALL 100

static const uint64_t TENSORS[] = {SMALL, MATRIX, 7};

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

/* t0 and t2 are vectors under sgd, t1 is a matrix of blocks 1 to 3 under `optimizer`. */
static void begin(struct core_world *world, const char *optimizer, uint32_t workers)
{
	static struct msg_hyper lr = {.name = {"lr", 2}, .values = {1.0}, .count = 1};
	static struct msg_group groups[2];

	core_world_init(world);
	world->options.isa = optim_isa_best();
	world->tensors = TENSORS;
	world->tensor_count = 3;
	world->columns = SIDE;
	world->open.optimizer = text_of(optimizer);
	world->open.hyper_count = 0;
	world->open.workers = workers;
	world->open.group_count = 2;
	world->open.groups = groups;
	groups[0] = (struct msg_group){.tensors = text_of("t0"), .optimizer = text_of("sgd")};
	groups[1] = groups[0];
	groups[1].tensors = text_of("t2");
	groups[0].hyper_count = groups[1].hyper_count = 1;
	groups[0].hypers = groups[1].hypers = &lr;
	core_world_start(world);
}

static float *values_of(uint64_t count, unsigned seed)
{
	float *values = malloc(count * sizeof(float));

	assert_non_null(values);
	for (uint64_t i = 0; i < count; i++)
		values[i] = (float)(rand_r(&seed) % 2001) / 1000 - 1;
	return values;
}

/* One update as it is without a server. */
static void update(const char *rule, uint64_t t, float *w, float *slot, const float *g)
{
	struct optim optim;
	struct optim_scalars scalars;
	struct optim_carry carry = {{0}};
	struct tensor_shape shape = tensor_shape_of((uint64_t[]){SIDE, SIDE}, 2);
	char why[200];

	assert_int_equal(optim_init(&optim, optim_find(rule), OPTIM_TORCH2, why, sizeof(why)), 0);
	optim_scalars(&optim, t, &carry, &scalars);
	float *scratch = malloc((tensor_scratch(&optim, &shape) + 1) * sizeof(float));
	struct tensor_update u = {.optim = &optim, .isa = optim_isa_best(), .scalars = &scalars, .shape = shape, .w = w,
	                          .slots = &slot, .g = {g, 1.0f, DTYPE_F32}, .scratch = scratch};
	tensor_begin(&u);
	while (!tensor_run(&u, UINT64_MAX))
		continue;
	free(scratch);
}

static void assert_matrix(const struct core_world *world, const float *wants)
{
	const struct model *model = core_shard(world)->model;
	assert_memory_equal(model->weights + SMALL, wants, MATRIX * sizeof(float));
}

/* ---- collecting --------------------------------------------------------- */

static void test_a_tensor_is_updated_when_its_last_block_is_complete(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 1), *w = calloc(MATRIX, 4), *b = calloc(MATRIX, 4);

	(void)state;
	begin(&world, "lars", 1);
	struct core_client a = core_join(&world, 0, 0);
	const struct model *model = core_shard(&world)->model;
	assert_int_equal(model->owned.count, 5);
	uint64_t last = core_push(&a, MSG_PUSH, 0, 3, 1, g + model_block(model, 3)->begin);
	uint64_t first = core_push(&a, MSG_PUSH, 0, 1, 1, g + model_block(model, 1)->begin);
	assert_int_equal(model_version(model, 1), 0);
	assert_null(core_answer(&world, first));
	uint64_t middle = core_push(&a, MSG_PUSH_PULL, 0, 2, 1, g + model_block(model, 2)->begin);
	core_assert_ok(&world, last);
	core_assert_ok(&world, first);
	for (uint32_t block = 1; block <= 3; block++) {
		assert_int_equal(model_version(model, block), 1);
		assert_int_equal(model->updates[block], 1);
	}
	update("lars", 1, w, b, g + SMALL);
	assert_matrix(&world, w);
	const struct core_answer *answer = core_answer(&world, middle);
	assert_memory_equal(answer->values, w + LIMIT_BLOCK_ELEMENTS, answer->count * sizeof(float));
	/* The vectors did not wait for it, nor it for them. */
	assert_int_equal(model_version(model, 0), 0);
	core_world_end(&world);
	free(g);
	free(w);
	free(b);
}

static void test_parts_that_nobody_has_given_count_as_zero(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX, 2), *w = calloc(MATRIX, 4), *b = calloc(MATRIX, 4);

	(void)state;
	begin(&world, "lamb", 2);
	struct core_client one = core_join(&world, 0, 0), two = core_join(&world, 1, 1);
	const struct model *model = core_shard(&world)->model;
	/* A step before it: what is left in the sums must not come again. */
	for (uint32_t step = 0; step < 2; step++) {
		core_push(&one, MSG_PUSH, step, 2, 1, g + LIMIT_BLOCK_ELEMENTS);
		if (step == 0)
			core_push(&one, MSG_PUSH, step, 1, 1, g);
		else
			core_close_step(&one, step, 1, 1);
		core_close_step(&one, step, 3, 1);
		core_close_step(&two, step, 1, 3);
	}
	assert_int_equal(model_version(model, 3), 2);
	assert_int_equal(model->updates[3], 2);
	float *slots[2] = {calloc(MATRIX, 4), b}, *half = calloc(MATRIX, 4);
	struct optim optim;
	struct optim_carry carry = {{0}};
	char why[100];
	optim_init(&optim, optim_find("lamb"), OPTIM_TORCH2, why, sizeof(why));
	for (uint64_t t = 1; t <= 2; t++) {
		struct optim_scalars scalars;
		optim_scalars(&optim, t, &carry, &scalars);
		for (uint64_t i = 0; i < 2 * (uint64_t)LIMIT_BLOCK_ELEMENTS; i++)
			half[i] = t == 2 && i < LIMIT_BLOCK_ELEMENTS ? 0 : 0.5f * g[i];
		struct tensor_update u = {.optim = &optim, .scalars = &scalars, .w = w, .slots = slots,
		                          .shape = tensor_shape_of((uint64_t[]){SIDE, SIDE}, 2), .g = {half, 1.0f, DTYPE_F32}};
		tensor_begin(&u);
		while (!tensor_run(&u, 1))
			continue;
	}
	assert_matrix(&world, w);
	core_world_end(&world);
	free(g);
	free(w);
	free(b);
	free(slots[0]);
	free(half);
}

static void test_a_step_without_any_part_passes_and_counts_no_update(void **state)
{
	struct core_world world;

	(void)state;
	begin(&world, "muon", 1);
	struct core_client a = core_join(&world, 0, 0);
	const struct model *model = core_shard(&world)->model;
	core_assert_ok(&world, core_close_step(&a, 0, 0, 5));
	for (uint32_t block = 0; block < 5; block++) {
		assert_int_equal(model_version(model, block), 1);
		assert_int_equal(model->updates[block], 0);
	}
	core_world_end(&world);
}

/* ---- slices ------------------------------------------------------------- */

/* Rank 0 has pushed all of a step, and the update of its matrix has begun. */
static uint64_t begin_update(struct core_world *world, struct core_client *client, enum msg_verb verb,
                             uint64_t step, const float *g)
{
	world->work_stays = true;
	uint64_t request = core_push(client, verb, step, 0, 5, g);

	assert_true(engine_has_work(world->engine));
	assert_int_equal(engine_work(world->engine, 1000), ENGINE_WORKED);
	core_collect(world);
	assert_true(model_busy(core_shard(world)->model, 2));
	return request;
}

static uint32_t finish(struct core_world *world, uint64_t budget)
{
	uint32_t slices = 1;

	for (; engine_work(world->engine, budget) == ENGINE_WORKED; slices++)
		core_collect(world);
	core_collect(world);
	return slices;
}

static void test_another_model_is_pulled_while_a_large_update_is_under_way(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 3);

	(void)state;
	begin(&world, "muon", 1);
	struct core_client a = core_join(&world, 0, 0);
	world.open.model = text_of("other");
	world.open.optimizer = text_of("sgd");
	world.open.group_count = 0;
	world.tensor_count = 1;
	struct core_client other = core_join(&world, 1, -1 + 1);
	world.open.model = text_of("m");
	uint64_t push = begin_update(&world, &a, MSG_PUSH_PULL, 0, g);
	uint64_t pull = core_pull(&other, 0, 1, 0);
	core_assert_ok(&world, pull);
	assert_int_equal(core_answer(&world, pull)->count, SMALL);
	/* And the elementwise tensors of the same one. */
	core_assert_ok(&world, core_pull(&a, 0, 1, 1));
	assert_null(core_answer(&world, push));
	assert_in_range(finish(&world, 10000000), 20, 1000);
	core_assert_ok(&world, push);
	core_world_end(&world);
	free(g);
}

static void test_who_waits_for_a_large_update_is_told_which(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 12);

	(void)state;
	begin(&world, "muon", 1);
	struct core_client a = core_join(&world, 0, 0);
	core_assert_ok(&world, core_push(&a, MSG_PUSH, 0, 0, 5, g));
	uint64_t push = begin_update(&world, &a, MSG_PUSH, 1, g);
	core_tick(&world, world.options.notice_ms);
	core_assert_text(core_notice(&world, push, OPTD_WAITING), "update 2 of block 1, which is under way");
	core_world_end(&world);
	free(g);
}

static void test_pulls_of_a_tensor_are_answered_before_or_after_its_update(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 4), *w = calloc(MATRIX, 4), *b = calloc(MATRIX, 4);
	uint64_t pulls[64], count = 0;

	(void)state;
	begin(&world, "lars", 1);
	struct core_client a = core_join(&world, 0, 0), reader = core_join(&world, 1, -1);
	for (uint64_t step = 0; step < 3; step++) {
		uint64_t before = core_pull(&reader, 2, 1, 0);
		assert_memory_equal(core_answer(&world, before)->values, w + LIMIT_BLOCK_ELEMENTS,
		                    LIMIT_BLOCK_BYTES);
		begin_update(&world, &a, MSG_PUSH, step, g);
		do {
			pulls[count++ % 64] = core_pull(&reader, 2, 1, 0);
			assert_null(core_answer(&world, pulls[(count - 1) % 64]));
		} while (engine_work(world.engine, 100000) == ENGINE_WORKED);
		core_collect(&world);
		update("lars", step + 1, w, b, g + SMALL);
		for (uint64_t i = 0; i < count; i++) {
			const struct core_answer *answer = core_answer(&world, pulls[i]);
			assert_non_null(answer);
			assert_int_equal(answer->head.version, step + 1);
			assert_memory_equal(answer->values, w + LIMIT_BLOCK_ELEMENTS, LIMIT_BLOCK_BYTES);
		}
		assert_in_range(count, 4, 60);
		count = 0;
	}
	core_world_end(&world);
	free(g);
	free(w);
	free(b);
}

/* A pull that waits for another block as well, and whose tensor is updated again when that
 * comes. */
static void test_who_waited_is_not_answered_from_the_middle_of_the_next_update(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 5);

	(void)state;
	begin(&world, "lars", 1);
	struct core_client a = core_join(&world, 0, 0), reader = core_join(&world, 1, -1);
	core_push(&a, MSG_PUSH, 0, 0, 4, g);
	uint64_t pull = core_pull(&reader, 1, 4, 1);
	world.work_stays = true;
	core_push(&a, MSG_PUSH, 1, 1, 3, g + SMALL);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_WORKED);
	core_push(&a, MSG_PUSH, 0, 4, 1, g + SMALL + MATRIX);
	assert_null(core_answer(&world, pull));
	finish(&world, 1000000);
	assert_int_equal(core_answer(&world, pull)->head.version, 1);
	assert_int_equal(core_answer(&world, pull)->head.version_max, 2);
	assert_memory_equal(core_answer(&world, pull)->values, core_shard(&world)->model->weights + SMALL,
	                    MATRIX * sizeof(float));
	core_world_end(&world);
	free(g);
}

static void test_first_weights_are_not_given_anew_to_what_is_being_updated(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 6);

	(void)state;
	begin(&world, "lars", 1);
	/* Not the lead: it learns tokens from use. */
	world.open.daemon = 1;
	world.open.daemons = 2;
	struct core_client a = core_client_of(&world, 0, 0);
	core_hello(&a);
	a.opened.token = 5;
	world.open.expect_run = 9;
	assert_int_equal(core_open(&a)->head.status, OPTD_OK);
	const struct model *model = core_shard(&world)->model;
	uint32_t first = model->owned.first;
	assert_int_equal(model->owned.count, 4);
	a.opened.token = 5;
	core_init_weights(&a, NULL);
	world.work_stays = true;
	core_push(&a, MSG_PUSH, 0, first, 3, g);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_WORKED);
	struct msg msg = core_msg(&a, MSG_INIT);
	msg.token = 6;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = first, .count = 1};
	core_assert_refused(&world, core_send(&a, &msg, g, LIMIT_BLOCK_ELEMENTS), OPTD_CONFLICT,
	                    "first weights come before any push");
	core_world_end(&world);
	free(g);
}

/* ---- a checkpoint, and the end ------------------------------------------ */

static void test_a_checkpoint_saves_no_block_in_the_middle_of_an_update(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 7);
	uint32_t block, saved = 0;

	(void)state;
	begin(&world, "muon", 1);
	struct core_client a = core_join(&world, 0, 0);
	struct shard *shard = core_shard(&world);
	begin_update(&world, &a, MSG_PUSH, 0, g);
	assert_int_equal(engine_cut_reach(shard, 0), 1);
	assert_int_equal(engine_cut_reach(shard, 1), 1);
	assert_int_equal(engine_cut_begin(shard, 1, false), OPTD_OK);
	while (engine_cut_next(shard, &block) == ENGINE_CUT_BLOCK) {
		assert_true(block == 0 || block == 4);
		engine_cut_saved(world.engine, shard, block);
		saved++;
	}
	assert_int_equal(saved, 2);
	engine_cut_force(shard);
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_WAIT);
	finish(&world, 100000000);
	/* It is held now, all of it until the last of its blocks is saved. */
	core_push(&a, MSG_PUSH, 1, 1, 3, g);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(engine_work(world.engine, 1000), ENGINE_IDLE);
		assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_BLOCK);
		assert_int_equal(block, i);
		engine_cut_saved(world.engine, shard, block);
	}
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_DONE);
	engine_cut_end(world.engine, shard);
	assert_int_equal(engine_work(world.engine, UINT64_MAX), ENGINE_FINISHED);
	assert_int_equal(model_version(shard->model, 2), 2);
	core_collect(&world);
	core_world_end(&world);
	free(g);
}

/* Blocks 0 and 4 have a step, and the matrix all of it but its update. */
static struct shard *begin_cut(struct core_world *world, const float *g, bool last)
{
	uint32_t block;

	begin(world, "lars", 1);
	struct core_client a = core_join(world, 0, 0);
	struct shard *shard = core_shard(world);
	world->work_stays = true;
	core_push(&a, MSG_PUSH, 0, 0, 5, g);
	assert_int_equal(engine_cut_begin(shard, 1, last), OPTD_OK);
	while (engine_cut_next(shard, &block) == ENGINE_CUT_BLOCK)
		engine_cut_saved(world->engine, shard, block);
	engine_cut_force(shard);
	return shard;
}

static void test_a_cut_is_not_forced_while_tensors_are_updated(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 13);
	uint32_t block;

	(void)state;
	struct shard *shard = begin_cut(&world, g, false);
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_WAIT);
	finish(&world, 1000000);
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_BLOCK);
	assert_int_equal(model_version(shard->model, block), 1);
	core_world_end(&world);
	free(g);
}

static void test_the_last_cut_takes_tensors_that_wait_for_their_update_as_they_are(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 14);
	uint32_t block;

	(void)state;
	struct shard *shard = begin_cut(&world, g, true);
	assert_int_equal(engine_cut_next(shard, &block), ENGINE_CUT_BLOCK);
	assert_int_equal(model_version(shard->model, block), 0);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_IDLE);
	core_world_end(&world);
	free(g);
}

static void test_a_cut_in_the_middle_of_an_update_has_the_loss_scale_behind_it(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 11);

	(void)state;
	begin(&world, "muon", 1);
	world.open.loss_scale = (struct msg_loss_scale){true, 1024, 2, 0.5, 1};
	struct core_client a = core_join(&world, 0, 0);
	const struct shard *shard = core_shard(&world);
	world.work_stays = true;
	/* The matrix alone: no other block has told of the step. */
	core_push(&a, MSG_PUSH, 0, 1, 3, g);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_WORKED);
	assert_int_equal(engine_cut_reach(shard, 1), 1);
	assert_int_equal(shard->model->scaler.steps, 1);
	assert_true(shard->model->scaler.scale == 2048);
	finish(&world, 100000000);
	assert_int_equal(shard->model->scaler.steps, 1);
	core_world_end(&world);
	free(g);
}

static void test_a_model_is_dropped_in_the_middle_of_an_update(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 8);

	(void)state;
	begin(&world, "muon", 1);
	struct core_client a = core_join(&world, 0, 0), reader = core_join(&world, 1, -1);
	uint64_t push = begin_update(&world, &a, MSG_PUSH_PULL, 0, g);
	uint64_t pull = core_pull(&reader, 1, 1, 0);
	assert_int_equal(engine_drop(world.engine, "m", &world.out), OPTD_OK);
	core_collect(&world);
	core_assert_refused(&world, push, OPTD_MODEL_LOST, "dropped");
	core_assert_refused(&world, pull, OPTD_MODEL_LOST, "dropped");
	assert_false(engine_has_work(world.engine));
	core_world_end(&world);
	free(g);
}

static void test_a_change_of_settings_is_of_updates_after_the_one_under_way(void **state)
{
	struct core_world world;
	float *g = values_of(MATRIX + SMALL + 7, 10);
	struct msg_set set = {.model = {"m", 1}, .hyper_count = 1};
	char why[LIMIT_TEXT_BYTES];

	(void)state;
	set.hypers[0] = (struct msg_hyper){.name = {"lr", 2}, .values = {0.5}, .count = 1};
	begin(&world, "muon", 1);
	struct core_client a = core_join(&world, 0, 0);
	struct shard *shard = core_shard(&world);
	world.work_stays = true;
	/* The matrix alone: no block has come further yet. */
	core_push(&a, MSG_PUSH, 0, 1, 3, g);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_WORKED);
	set.has_from = true;
	assert_int_equal(engine_set_begin(shard, &set, why, sizeof(why)), OPTD_INVALID);
	set.has_from = false;
	assert_int_equal(engine_set_begin(shard, &set, why, sizeof(why)), OPTD_OK);
	assert_int_equal(shard->set.from, 1);
	assert_int_equal(engine_set_agree(world.engine, shard, 1, 0, why, sizeof(why)), OPTD_OK);
	finish(&world, 100000000);
	/* The next one waits until the change is made. */
	core_push(&a, MSG_PUSH, 1, 1, 3, g);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_IDLE);
	engine_set_make(world.engine, shard);
	assert_int_equal(engine_work(world.engine, 1000), ENGINE_WORKED);
	assert_true(shard->model->update.optim.values[0][0] == 0.5);
	finish(&world, 100000000);
	core_world_end(&world);
	free(g);
}

/* ---- async -------------------------------------------------------------- */

static void begin_async(struct core_world *world, uint32_t workers)
{
	static const uint64_t one[] = {SMALL};

	begin(world, "adafactor", workers);
	world->open.mode = MSG_ASYNC;
	world->open.group_count = 0;
	world->tensors = one;
	world->tensor_count = 1;
	world->work_stays = true;
}

static void test_in_async_pushes_of_a_tensor_are_applied_one_after_the_other(void **state)
{
	struct core_world world;
	float *g = values_of(2 * SMALL, 9);

	(void)state;
	begin_async(&world, 2);
	struct core_client a = core_join(&world, 0, 0), b = core_join(&world, 1, 1);
	uint64_t first = core_push(&a, MSG_PUSH, 0, 0, 1, g), second = core_push(&b, MSG_PUSH, 0, 0, 1, g + SMALL);
	assert_null(core_answer(&world, first));
	assert_int_equal(engine_work(world.engine, UINT64_MAX), ENGINE_FINISHED);
	core_collect(&world);
	core_assert_ok(&world, first);
	assert_null(core_answer(&world, second));
	assert_int_equal(finish(&world, UINT64_MAX), 1);
	core_assert_ok(&world, second);
	assert_int_equal(core_shard(&world)->model->updates[0], 2);
	core_world_end(&world);
	free(g);
}

static void test_in_async_a_checkpoint_waits_for_an_update_too(void **state)
{
	struct core_world world;
	float *g = values_of(SMALL, 10);
	uint32_t block;

	(void)state;
	begin_async(&world, 1);
	struct core_client a = core_join(&world, 0, 0);
	core_push(&a, MSG_PUSH, 0, 0, 1, g);
	assert_int_equal(engine_work(world.engine, 1), ENGINE_WORKED);
	assert_int_equal(engine_cut_begin(core_shard(&world), 0, false), OPTD_OK);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_WAIT);
	finish(&world, UINT64_MAX);
	assert_int_equal(engine_cut_next(core_shard(&world), &block), ENGINE_CUT_BLOCK);
	core_world_end(&world);
	free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_tensor_is_updated_when_its_last_block_is_complete),
	        cmocka_unit_test(test_parts_that_nobody_has_given_count_as_zero),
	        cmocka_unit_test(test_a_step_without_any_part_passes_and_counts_no_update),
	        cmocka_unit_test(test_another_model_is_pulled_while_a_large_update_is_under_way),
	        cmocka_unit_test(test_who_waits_for_a_large_update_is_told_which),
	        cmocka_unit_test(test_pulls_of_a_tensor_are_answered_before_or_after_its_update),
	        cmocka_unit_test(test_who_waited_is_not_answered_from_the_middle_of_the_next_update),
	        cmocka_unit_test(test_first_weights_are_not_given_anew_to_what_is_being_updated),
	        cmocka_unit_test(test_a_checkpoint_saves_no_block_in_the_middle_of_an_update),
	        cmocka_unit_test(test_a_cut_is_not_forced_while_tensors_are_updated),
	        cmocka_unit_test(test_the_last_cut_takes_tensors_that_wait_for_their_update_as_they_are),
	        cmocka_unit_test(test_a_cut_in_the_middle_of_an_update_has_the_loss_scale_behind_it),
	        cmocka_unit_test(test_a_model_is_dropped_in_the_middle_of_an_update),
	        cmocka_unit_test(test_a_change_of_settings_is_of_updates_after_the_one_under_way),
	        cmocka_unit_test(test_in_async_pushes_of_a_tensor_are_applied_one_after_the_other),
	        cmocka_unit_test(test_in_async_a_checkpoint_waits_for_an_update_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
