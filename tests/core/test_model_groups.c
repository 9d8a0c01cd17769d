/* Models with parameter groups: how they are made, what is updated, and what is refused. */
#include <string.h>

#include "tests/support/core_world.h"

/* t0 [4] and t1 [3] and the scalar t2, under sgd with lr 1; groups as the test adds them. */
struct fixture {
	struct core_world world;
	struct engine_preset preset;
};

static struct groups *groups_of(struct fixture *fixture)
{
	return &fixture->preset.settings.groups;
}

static void begin(struct fixture *fixture)
{
	const double lr = 1;
	char why[128];

	memset(fixture, 0, sizeof(*fixture));
	core_world_init(&fixture->world);
	fixture->preset = (struct engine_preset){.model = "m", .optim_given = true};
	struct optim *optim = &fixture->preset.settings.optim;
	assert_int_equal(optim_init(optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	assert_int_equal(optim_set(optim, "lr", &lr, 1, why, sizeof(why)), 0);
	fixture->world.options.presets = &fixture->preset;
	fixture->world.options.preset_count = 1;
}

static struct group *add(struct fixture *fixture, const char *tensors, const char *name)
{
	struct groups *groups = groups_of(fixture);
	struct group *group = &groups->list[groups->count++];
	char why[256];

	if (group_begin(group, tensors, &fixture->preset.settings.optim, name, NULL, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return group;
}

static const struct model *model_of(const struct fixture *fixture)
{
	return core_shard(&fixture->world)->model;
}

static void test_each_tensor_is_updated_by_its_own_group(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	group_scale(add(&f, "t0", NULL), 0.5, NULL, 0);
	add(&f, "t1", "assign");
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	core_assert_ok(&f.world, core_push_all(&client, 0, 2));
	const float *w = model_of(&f)->weights;
	assert_true(w[0] == -1 && w[3] == -1); /* sgd, half the rate */
	assert_true(w[4] == 2 && w[6] == 2);   /* what was pushed */
	assert_true(w[7] == -2);               /* the model's own */
	core_world_end(&f.world);
}

static void test_push_of_frozen_tensors_is_acknowledged_and_ignored(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	add(&f, "t1", NULL)->frozen = true;
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	core_assert_ok(&f.world, core_push_all(&client, 0, 2));
	const struct model *model = model_of(&f);
	assert_true(model->weights[3] == -2 && model->weights[4] == 0 && model->weights[7] == -2);
	assert_int_equal(model->updates[0], 1);
	assert_int_equal(model->updates[1], 0);
	assert_int_equal(model->updates[2], 1);
	assert_int_equal(model_version(model, 0), 1);
	core_world_end(&f.world);
}

static void test_push_of_nothing_but_frozen_tensors_is_a_step(void **state)
{
	(void)state;
	struct fixture f;
	const float values[3] = {5, 5, 5};
	const uint8_t mask = 0x2;
	begin(&f);
	add(&f, "t1", NULL)->frozen = true;
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	struct msg push = core_msg(&client, MSG_PUSH);
	push.part_count = 1;
	push.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	core_assert_ok(&f.world, core_send(&client, &push, values, 3));
	core_assert_ok(&f.world, core_push_all(&client, 1, 1));
	assert_true(model_of(&f)->weights[4] == 0 && model_of(&f)->weights[0] == -1);
	core_world_end(&f.world);
}

static void test_packed_values_behind_frozen_tensors_reach_theirs(void **state)
{
	(void)state;
	struct fixture f;
	const float values[4] = {5, 5, 5, 7};
	const uint8_t mask = 0x6;
	begin(&f);
	add(&f, "t1", NULL)->frozen = true;
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	struct msg push = core_msg(&client, MSG_PUSH);
	push.part_count = 1;
	push.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	core_assert_ok(&f.world, core_send(&client, &push, values, 4));
	assert_true(model_of(&f)->weights[7] == -7);
	core_world_end(&f.world);
}

static void test_state_begins_as_each_group_has_it(void **state)
{
	(void)state;
	struct fixture f;
	const double initial = 0.5;
	char why[128];
	begin(&f);
	struct group *group = add(&f, "t1", "adagrad");
	optim_set(&group->optim, "initial_accumulator_value", &initial, 1, why, sizeof(why));
	core_world_start(&f.world);
	core_join(&f.world, 0, 0);
	const struct model *model = model_of(&f);
	assert_int_equal(model->slot_count, 1);
	assert_true(model->slots[0][3] == 0 && model->slots[0][4] == 0.5f && model->slots[0][6] == 0.5f &&
	            model->slots[0][7] == 0);
	core_world_end(&f.world);
}

static void test_bytes_count_the_group_with_the_most_state(void **state)
{
	(void)state;
	struct fixture f;
	const struct model_place alone = {0, 1, 0, 1};
	const uint64_t elements = 1000000;
	struct layout *layout = layout_new();
	layout_add(layout, "w", 1, &elements, 1, 0);
	layout_cut(layout, NULL);
	begin(&f);
	uint64_t before = model_bytes(&f.preset.settings, layout, alone);
	add(&f, "w", "adam");
	assert_in_range(model_bytes(&f.preset.settings, layout, alone) - before, 8000000, 9000000);
	groups_of(&f)->list[0].frozen = true;
	assert_in_range(model_bytes(&f.preset.settings, layout, alone) - before, 0, 4096);
	layout_free(layout);
}

static void test_pattern_without_a_tensor_is_refused_and_nothing_is_made(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	add(&f, "t0.*", NULL);
	core_world_start(&f.world);
	struct core_client client = core_client_of(&f.world, 0, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	assert_int_equal(answer->head.status, OPTD_HYPER);
	core_assert_text(answer, "model 'm': by the server's config (models), group 1: 't0.*' matches no tensor|'t0'");
	assert_null(engine_find(f.world.engine, "m"));
	core_world_end(&f.world);
}

static void test_worker_reads_that_there_are_groups(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	add(&f, "t0", NULL)->frozen = true;
	core_world_start(&f.world);
	struct core_client client = core_client_of(&f.world, 0, 0);
	core_hello(&client);
	assert_non_null(strstr(core_open(&client)->optimizer, "; 1 group: 't0' frozen"));
	core_world_end(&f.world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_each_tensor_is_updated_by_its_own_group),
	        cmocka_unit_test(test_push_of_frozen_tensors_is_acknowledged_and_ignored),
	        cmocka_unit_test(test_push_of_nothing_but_frozen_tensors_is_a_step),
	        cmocka_unit_test(test_packed_values_behind_frozen_tensors_reach_theirs),
	        cmocka_unit_test(test_state_begins_as_each_group_has_it),
	        cmocka_unit_test(test_bytes_count_the_group_with_the_most_state),
	        cmocka_unit_test(test_pattern_without_a_tensor_is_refused_and_nothing_is_made),
	        cmocka_unit_test(test_worker_reads_that_there_are_groups),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
