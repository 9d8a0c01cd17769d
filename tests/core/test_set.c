/* A change of settings on one lane: what is refused, what is held back, what holds from
 * when. */
#include <string.h>

#include "tests/support/core_world.h"

static const uint64_t BLOCKS[] = {LIMIT_BLOCK_ELEMENTS, 3};

static struct msg_set set_of(const char *name, double value)
{
	struct msg_set set = {.model = {"m", 1}, .hyper_count = 1};
	set.hypers[0] = (struct msg_hyper){{name, (uint32_t)strlen(name)}, {value}, 1};
	return set;
}

static struct msg_set set_from(const char *name, double value, uint64_t from)
{
	struct msg_set set = set_of(name, value);
	set.has_from = true;
	set.from = from;
	return set;
}

static void assert_refused(struct core_world *world, struct msg_set set, int status, const char *words)
{
	struct core_answer answer = {.count = 0};
	uint64_t hash = core_hash(world);

	assert_int_equal(engine_set_begin(core_shard(world), &set, answer.text, sizeof(answer.text)), status);
	core_assert_text(&answer, words);
	assert_false(core_shard(world)->setting);
	assert_int_equal(core_hash(world), hash);
}

static void begin(struct core_world *world, struct msg_set set)
{
	char why[LIMIT_TEXT_BYTES] = "";
	if (engine_set_begin(core_shard(world), &set, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static void agree(struct core_world *world, uint64_t from)
{
	char why[LIMIT_TEXT_BYTES] = "";
	if (engine_set_agree(world->engine, core_shard(world), from, 0, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	core_collect(world);
}

static void make(struct core_world *world)
{
	engine_set_make(world->engine, core_shard(world));
	core_collect(world);
}

static void set(struct core_world *world, struct msg_set asked)
{
	begin(world, asked);
	agree(world, core_shard(world)->set.from);
	make(world);
}

static struct core_client start(struct core_world *world)
{
	core_world_start(world);
	return core_join(world, 1, 0);
}

static void test_updates_use_it_from_its_version_on(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	struct core_client client = start(&world);
	set(&world, set_from("lr", 0.5, 2));
	for (uint64_t step = 0; step < 4; step++)
		core_assert_ok(&world, core_push_all(&client, step, 1));
	assert_true(core_shard(&world)->model->weights[0] == -3);
	core_world_end(&world);
}

static void test_without_a_version_it_holds_for_the_next_update(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	struct core_client client = start(&world);
	core_assert_ok(&world, core_push_all(&client, 0, 1));
	set(&world, set_of("lr", 0.5));
	assert_int_equal(core_shard(&world)->model->changes.list[0].from, 1);
	core_assert_ok(&world, core_push_all(&client, 1, 1));
	assert_true(core_shard(&world)->model->weights[0] == -1.5f);
	core_world_end(&world);
}

static void test_pushes_wait_while_it_is_agreed_on_and_are_answered_after(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	struct core_client client = start(&world);
	begin(&world, set_of("lr", 0.5));
	uint64_t push = core_push_all(&client, 0, 1);
	assert_null(core_answer(&world, push));
	agree(&world, 0);
	assert_null(core_answer(&world, push));
	make(&world);
	core_assert_ok(&world, push);
	assert_true(core_shard(&world)->model->weights[0] == -0.5f);
	core_world_end(&world);
}

static void test_blocks_go_on_up_to_a_version_further_on(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	struct core_client client = start(&world);
	begin(&world, set_of("lr", 0.5));
	uint64_t push = core_push_all(&client, 0, 1);
	assert_null(core_answer(&world, push));
	agree(&world, 1);
	core_assert_ok(&world, push);
	push = core_push_all(&client, 1, 1);
	assert_null(core_answer(&world, push));
	make(&world);
	core_assert_ok(&world, push);
	assert_true(core_shard(&world)->model->weights[0] == -1.5f);
	core_world_end(&world);
}

static void test_what_is_withdrawn_leaves_no_trace(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	struct core_client client = start(&world);
	uint64_t hash = core_hash(&world);
	begin(&world, set_of("lr", 0.5));
	uint64_t push = core_push_all(&client, 0, 1);
	assert_int_equal(core_hash(&world), hash);
	engine_set_end(world.engine, core_shard(&world));
	core_collect(&world);
	core_assert_ok(&world, push);
	assert_true(core_shard(&world)->model->weights[0] == -1);
	assert_int_equal(core_shard(&world)->model->changes.count, 0);
	core_world_end(&world);
}

static void test_a_version_that_a_block_has_passed_is_refused_with_both(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.tensors = BLOCKS;
	world.tensor_count = 2;
	struct core_client client = start(&world);
	float values[3] = {0};
	core_assert_ok(&world, core_push(&client, MSG_PUSH, 0, 1, 1, values));
	core_assert_ok(&world, core_push(&client, MSG_PUSH, 1, 1, 1, values));
	assert_refused(&world, set_from("lr", 0.5, 1), OPTD_INVALID, "'m'|version 2|from version 1|too late");
	set(&world, set_from("lr", 0.5, 2));
	core_world_end(&world);
}

static void test_names_and_values_are_those_of_the_rule(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	start(&world);
	assert_refused(&world, set_of("weight_decai", 0.5), OPTD_HYPER, "'m'|weight_decai|nearest is 'weight_decay'");
	assert_refused(&world, set_of("clip_norm", 2), OPTD_HYPER, "'clip_norm' is a setting of the model|changed in a run");
	assert_refused(&world, set_of("lr", -1), OPTD_HYPER, "lr=-1|out of range");
	assert_refused(&world, set_from("nesterov", 1, 0), OPTD_HYPER, "version 0|nesterov=1 needs momentum");
	struct msg_set twice = set_of("lr", 0.5);
	twice.hypers[twice.hyper_count++] = twice.hypers[0];
	assert_refused(&world, twice, OPTD_HYPER, "lr is given twice");
	core_world_end(&world);
}

static void test_other_optimizer_state_is_refused_with_both(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	start(&world);
	assert_refused(&world, set_from("momentum", 0.9, 0), OPTD_HYPER, "(momentum_buffer)|(none)|while it runs");
	core_world_end(&world);
}

static void optimizer(struct core_world *world, const char *name)
{
	world->open.optimizer = (struct msg_text){name, (uint32_t)strlen(name)};
	world->open.hyper_count = 0;
}

static void test_what_only_says_how_state_begins_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	optimizer(&world, "adagrad");
	start(&world);
	assert_refused(&world, set_from("initial_accumulator_value", 0.5, 0), OPTD_HYPER,
	               "begin with 0.5|began with 0|without effect");
	core_world_end(&world);
}

static void test_lr_is_refused_under_onecycle(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.schedule_count = 1;
	world.open.schedule[0] = (struct msg_schedule_part){
	        .name = {"onecycle", 8},
	        .param_count = 3,
	        .params = {{{"max_lr", 6}, {0.1}, 1}, {{"total_steps", 11}, {10}, 1}, {{"cycle_momentum", 14}, {0}, 1}}};
	start(&world);
	assert_refused(&world, set_of("lr", 0.5), OPTD_HYPER, "without effect under onecycle");
	set(&world, set_of("weight_decay", 0.5));
	core_world_end(&world);
}

static void onecycle(struct core_world *world)
{
	world->open.schedule_count = 1;
	world->open.schedule[0] = (struct msg_schedule_part){
	        .name = {"onecycle", 8},
	        .param_count = 2,
	        .params = {{{"max_lr", 6}, {0.1}, 1}, {{"total_steps", 11}, {10}, 1}}};
}

static void test_a_momentum_that_onecycle_moves_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	onecycle(&world);
	start(&world);
	assert_refused(&world, set_of("momentum", 0.5), OPTD_HYPER, "momentum is without effect under onecycle");
	assert_refused(&world, set_of("momentum", 0), OPTD_HYPER, "momentum is without effect under onecycle");
	set(&world, set_of("nesterov", 1));
	core_world_end(&world);
}

static void test_a_momentum_between_onecycles_is_set(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	onecycle(&world);
	world.open.schedule_count = 2;
	world.open.schedule[0].until = 10;
	world.open.schedule[1] = (struct msg_schedule_part){.name = {"constant", 8}};
	start(&world);
	set(&world, set_of("momentum", 0.5));
	core_world_end(&world);
}

static void test_of_betas_under_onecycle_only_the_second_is_set(void **state)
{
	(void)state;
	struct core_world world;
	struct msg_set betas = {.model = {"m", 1}, .hyper_count = 1, .hypers = {{{"betas", 5}, {0.5, 0.99}, 2}}};
	core_world_init(&world);
	optimizer(&world, "adam");
	onecycle(&world);
	start(&world);
	assert_refused(&world, betas, OPTD_HYPER, "the first of betas is without effect under onecycle");
	betas.hypers[0].values[0] = 0.9;
	set(&world, betas);
	core_world_end(&world);
}

static void test_an_lr_is_refused_where_steps_are_relative(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	optimizer(&world, "adafactor_paper");
	start(&world);
	assert_refused(&world, set_from("lr", 0.5, 3), OPTD_HYPER, "version 3 on|lr=0.5 is without effect|relative_step=0");
	set(&world, set_from("relative_step", 0, 5));
	assert_refused(&world, set_from("lr", 0.5, 3), OPTD_HYPER, "version 3 on|lr=0.5 is without effect");
	set(&world, set_from("lr", 0.5, 5));
	core_world_end(&world);
}

static void test_lr_is_the_base_of_a_schedule(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.schedule_count = 1;
	world.open.schedule[0] = (struct msg_schedule_part){
	        .name = {"exponential", 11}, .param_count = 1, .params = {{{"gamma", 5}, {0.5}, 1}}};
	struct core_client client = start(&world);
	core_assert_ok(&world, core_push_all(&client, 0, 1));
	set(&world, set_of("lr", 8));
	core_assert_ok(&world, core_push_all(&client, 1, 1));
	assert_true(core_shard(&world)->model->weights[0] == -5);
	core_world_end(&world);
}

static void test_a_model_without_weights_is_not_changed(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_start(&world);
	struct core_client client = core_client_of(&world, 1, 0);
	core_hello(&client);
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	assert_refused(&world, set_of("lr", 0.5), OPTD_NOT_READY, "'m'|no weights yet");
	core_world_end(&world);
}

static const struct msg_group GROUPS[] = {{.tensors = {"t1", 2}}, {.tensors = {"t2", 2}, .frozen = true}};

static struct msg_set with_group(struct msg_set set, const char *tensors)
{
	set.tensors = (struct msg_text){tensors, (uint32_t)strlen(tensors)};
	return set;
}

static void test_a_group_is_named_by_its_pattern(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.groups = GROUPS;
	world.open.group_count = 2;
	struct core_client client = start(&world);
	set(&world, with_group(set_of("lr", 0.5), "t1"));
	core_assert_ok(&world, core_push_all(&client, 0, 1));
	assert_true(core_shard(&world)->model->weights[0] == -1);
	assert_true(core_shard(&world)->model->weights[4] == -0.5f);
	assert_refused(&world, with_group(set_of("lr", 0.5), "t3"), OPTD_HYPER, "no group 't3'|nearest of 2");
	assert_refused(&world, with_group(set_of("lr", 0.5), "t2"), OPTD_HYPER, "group 2 ('t2') is frozen");
	core_world_end(&world);
}

static void test_a_model_without_groups_says_so(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	start(&world);
	assert_refused(&world, with_group(set_of("lr", 0.5), "t1"), OPTD_HYPER, "no group 't1', nor any other");
	core_world_end(&world);
}

static const struct core_answer *open_with_lr(struct core_world *world, uint32_t peer, double lr)
{
	struct core_client client = core_client_of(world, peer, MSG_NO_RANK);

	world->open.hyper_count = 1;
	world->open.hypers[0] = (struct msg_hyper){{"lr", 2}, {lr}, 1};
	core_hello(&client);
	return core_open(&client);
}

static void test_a_worker_may_name_the_settings_as_made_and_as_changed(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	start(&world);
	set(&world, set_of("lr", 0.5));
	set(&world, set_from("lr", 0.25, 7));
	assert_int_equal(open_with_lr(&world, 2, 1)->head.status, OPTD_OK);
	assert_int_equal(open_with_lr(&world, 3, 0.5)->head.status, OPTD_OK);
	assert_int_equal(open_with_lr(&world, 4, 0.25)->head.status, OPTD_OK);
	const struct core_answer *answer = open_with_lr(&world, 5, 0.75);
	assert_int_equal(answer->head.status, OPTD_CONFLICT);
	core_assert_text(answer, "0.75|0.5");
	core_world_end(&world);
}

static void test_a_worker_may_name_what_is_being_agreed_on(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	start(&world);
	assert_int_equal(open_with_lr(&world, 2, 0.5)->head.status, OPTD_CONFLICT);
	begin(&world, set_of("lr", 0.5));
	assert_int_equal(open_with_lr(&world, 3, 0.5)->head.status, OPTD_OK);
	assert_int_equal(open_with_lr(&world, 4, 1)->head.status, OPTD_OK);
	core_world_end(&world);
}

static void test_opened_tells_what_the_next_update_uses(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	struct core_client client = start(&world);
	set(&world, set_from("lr", 0.5, 1));
	assert_non_null(strstr(open_with_lr(&world, 2, 1)->optimizer, "lr=1 "));
	core_assert_ok(&world, core_push_all(&client, 0, 1));
	const struct core_answer *answer = open_with_lr(&world, 3, 1);
	assert_non_null(strstr(answer->optimizer, "lr=0.5 "));
	assert_true(answer->head.rule.hypers[0].values[0] == 0.5);
	core_world_end(&world);
}

static void test_more_than_fit_are_refused_while_each_is_still_needed(void **state)
{
	(void)state;
	struct core_world world;
	struct msg_set more = set_from("lr", 0.5, 1000);
	char why[LIMIT_TEXT_BYTES];

	core_world_init(&world);
	start(&world);
	for (uint64_t i = 0; i < LIMIT_CHANGES; i++)
		set(&world, set_from("lr", 0.5, 10 + i));
	begin(&world, more);
	assert_int_equal(engine_set_agree(world.engine, core_shard(&world), 1000, 10, why, sizeof(why)),
	                 OPTD_TOO_LARGE);
	assert_int_equal(engine_set_agree(world.engine, core_shard(&world), 1000, 11, why, sizeof(why)), OPTD_OK);
	make(&world);
	assert_int_equal(core_shard(&world)->model->changes.count, LIMIT_CHANGES);
	core_world_end(&world);
}

static void test_a_later_change_must_go_with_an_earlier_one(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.open.hyper_count = 1;
	world.open.hypers[0] = (struct msg_hyper){{"momentum", 8}, {0.5}, 1};
	start(&world);
	set(&world, set_from("nesterov", 1, 10));
	assert_refused(&world, set_from("dampening", 0.5, 5), OPTD_HYPER, "version 10 on|nesterov=1 needs|dampening=0.5");
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_updates_use_it_from_its_version_on),
	        cmocka_unit_test(test_without_a_version_it_holds_for_the_next_update),
	        cmocka_unit_test(test_pushes_wait_while_it_is_agreed_on_and_are_answered_after),
	        cmocka_unit_test(test_blocks_go_on_up_to_a_version_further_on),
	        cmocka_unit_test(test_what_is_withdrawn_leaves_no_trace),
	        cmocka_unit_test(test_a_version_that_a_block_has_passed_is_refused_with_both),
	        cmocka_unit_test(test_names_and_values_are_those_of_the_rule),
	        cmocka_unit_test(test_other_optimizer_state_is_refused_with_both),
	        cmocka_unit_test(test_what_only_says_how_state_begins_is_refused),
	        cmocka_unit_test(test_lr_is_refused_under_onecycle),
	        cmocka_unit_test(test_a_momentum_that_onecycle_moves_is_refused),
	        cmocka_unit_test(test_a_momentum_between_onecycles_is_set),
	        cmocka_unit_test(test_of_betas_under_onecycle_only_the_second_is_set),
	        cmocka_unit_test(test_an_lr_is_refused_where_steps_are_relative),
	        cmocka_unit_test(test_lr_is_the_base_of_a_schedule),
	        cmocka_unit_test(test_a_model_without_weights_is_not_changed),
	        cmocka_unit_test(test_a_group_is_named_by_its_pattern),
	        cmocka_unit_test(test_a_model_without_groups_says_so),
	        cmocka_unit_test(test_a_worker_may_name_the_settings_as_made_and_as_changed),
	        cmocka_unit_test(test_a_worker_may_name_what_is_being_agreed_on),
	        cmocka_unit_test(test_opened_tells_what_the_next_update_uses),
	        cmocka_unit_test(test_more_than_fit_are_refused_while_each_is_still_needed),
	        cmocka_unit_test(test_a_later_change_must_go_with_an_earlier_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
