/* OPEN: creating, attaching, and every way to disagree. */
#include <string.h>

#include "tests/support/core_world.h"

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

static void start(struct core_world *world)
{
	core_world_init(world);
	world->open.workers = 2;
	core_world_start(world);
}

/* Opens as another connection and asserts a refusal that changes nothing. */
static void assert_refused(struct core_world *world, int status, const char *words)
{
	uint32_t shards = engine_shard_count(world->engine);
	uint64_t before = shards > 0 ? core_hash(world) : 0;
	uint64_t bytes = engine_bytes(world->engine);
	struct core_client client = core_client_of(world, 9, 1);
	core_hello(&client);
	core_open(&client);
	core_assert_refused(world, world->requests, status, words);
	assert_int_equal(engine_shard_count(world->engine), shards);
	assert_int_equal(engine_bytes(world->engine), bytes);
	if (shards > 0)
		assert_int_equal(core_hash(world), before);
}

static void test_first_open_creates_and_grants(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	const struct msg_opened *opened = &answer->head.opened;
	assert_true(opened->created);
	assert_false(opened->restored);
	assert_int_equal(opened->state, MSG_MODEL_GRANTED);
	assert_int_equal(opened->token, 1);
	assert_int_equal(opened->lease_ms, 10000);
	assert_int_equal(opened->incarnation, 1);
	assert_int_equal(opened->step, 0);
	assert_int_equal(opened->elements, 8);
	assert_int_equal(opened->tensors, 3);
	assert_int_equal(opened->workers, 2);
	assert_int_equal(opened->step_timeout_ms, 30000);
	assert_int_not_equal(opened->run_id, 0);
	assert_non_null(strstr(answer->optimizer, "sgd"));
	core_world_end(&world);
}

static void test_opened_has_settings_that_open_takes(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	const struct msg_rule rule = core_open(&client)->head.rule;
	assert_int_equal(rule.hyper_count, optim_hyper_count(optim_find("sgd")));
	world.open.optimizer = rule.name;
	world.open.match = rule.match;
	world.open.hyper_count = rule.hyper_count;
	memcpy(world.open.hypers, rule.hypers, sizeof(rule.hypers));
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	world.open.hypers[0].values[0] += 1;
	assert_int_equal(core_open(&client)->head.status, OPTD_CONFLICT);
	core_world_end(&world);
}

static void test_opened_has_the_schedule_that_open_takes(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.schedule_count = 2;
	world.open.schedule[0] = (struct msg_schedule_part){.name = text_of("linear_warmup"), .until = 5};
	world.open.schedule[1] = (struct msg_schedule_part){
	        .name = text_of("multistep"),
	        .param_count = 1,
	        .params = {{text_of("milestones"), {7, 9}, 2}}};
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	const struct msg_rule rule = core_open(&client)->head.rule;
	assert_int_equal(rule.schedule_count, 2);
	assert_int_equal(rule.schedule[0].until, 5);
	assert_int_equal(rule.schedule[0].param_count, 3);
	memcpy(world.open.schedule, rule.schedule, sizeof(rule.schedule));
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	world.open.schedule[1].params[1].values[1] = 8;
	assert_int_equal(core_open(&client)->head.status, OPTD_CONFLICT);
	core_world_end(&world);
}

static void test_second_worker_attaches_and_waits_for_weights(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client first = core_client_of(&world, 0, 0), second = core_client_of(&world, 1, 1);
	core_hello(&first);
	core_hello(&second);
	core_open(&first);
	const struct core_answer *answer = core_open(&second);
	assert_false(answer->head.opened.created);
	assert_int_equal(answer->head.opened.state, MSG_MODEL_WAITING);
	assert_int_equal(answer->head.opened.run_id, first.opened.run_id);
	core_init_weights(&first, NULL);
	assert_int_equal(core_open(&second)->head.opened.state, MSG_MODEL_READY);
	core_world_end(&world);
}

static void test_model_without_a_name_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.model = text_of("");
	assert_refused(&world, OPTD_INVALID, "model name of 1 to 511 bytes");
	core_world_end(&world);
}

static void test_place_beyond_the_list_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.daemon = 2;
	world.open.daemons = 2;
	assert_refused(&world, OPTD_INVALID, "place in the list");
	core_world_end(&world);
}

static void test_other_place_in_the_list_is_a_wrong_map(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	core_join(&world, 0, 0);
	world.open.daemon = 1;
	world.open.daemons = 3;
	assert_refused(&world, OPTD_WRONG_MAP, "number 2 of 3|number 1 of 1|'m'");
	core_world_end(&world);
}

static void test_other_layout_names_the_first_tensor_that_differs(void **state)
{
	(void)state;
	static const uint64_t other[] = {4, 5, CORE_SCALAR};
	struct core_world world;
	start(&world);
	core_join(&world, 0, 0);
	world.tensors = other;
	assert_refused(&world, OPTD_LAYOUT, "'m'|'t1'|[5]|[3]");
	core_world_end(&world);
}

static void test_layout_cut_otherwise_by_the_client_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.layout_hash = 12345;
	assert_refused(&world, OPTD_LAYOUT, "cut this layout differently");
	core_world_end(&world);
}

static void test_layout_without_elements_is_refused(void **state)
{
	(void)state;
	static const uint64_t empty[] = {0, 0};
	struct core_world world;
	start(&world);
	world.tensors = empty;
	world.tensor_count = 2;
	assert_refused(&world, OPTD_INVALID, "no elements");
	core_world_end(&world);
}

static void test_setting_that_differs_is_refused_with_both_values(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	core_join(&world, 0, 0);
	world.open.hypers[0].values[0] = 0.25;
	assert_refused(&world, OPTD_CONFLICT, "'m'|lr|0.25|1|leave it out");
	core_world_end(&world);
}

static void test_model_beyond_the_memory_limit_is_refused_before_it_is_cut(void **state)
{
	(void)state;
	static const uint64_t giant[] = {UINT64_C(1) << 40};
	struct core_world world;
	start(&world);
	world.tensors = giant;
	world.tensor_count = 1;
	world.open.optimizer = text_of("adam");
	/* Cutting it would take 2^23 blocks and a noticeable time; the sanitizers'
	 * allocator would tell. 2^40 x (1 + 2 slots) x 4 bytes. */
	assert_refused(&world, OPTD_TOO_LARGE, "'m'|1099511627776 parameters|13194139533312|1073741824");
	core_world_end(&world);
}

static void test_memory_limit_counts_models_that_are_open(void **state)
{
	(void)state;
	static const uint64_t tensors[] = {100000};
	struct core_world world;
	start(&world);
	world.options.memory_bytes = 2 << 20;
	engine_free(world.engine);
	world.engine = engine_new(&world.options, world.pool);
	world.tensors = tensors;
	world.tensor_count = 1;
	world.open.workers = 1;
	core_join(&world, 0, 0);
	world.open.model = text_of("other");
	assert_refused(&world, OPTD_TOO_LARGE, "'other'|left of 2097152|lane's share of limits.memory (1 of 1 lanes)");
	core_world_end(&world);
}

static void test_model_that_fits_once_answers_are_read_is_put_off(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	engine_set_unread(world.engine, world.options.memory_bytes - 100);
	assert_refused(&world, OPTD_BUSY, "'m'|100 are left of 1073741824|once answers that wait have been read");
	engine_set_unread(world.engine, 0);
	core_join(&world, 0, 0);
	core_world_end(&world);
}

static void test_model_too_large_without_answers_is_too_large_with_them(void **state)
{
	(void)state;
	static const uint64_t tensors[] = {1000000000};
	struct core_world world;
	start(&world);
	world.tensors = tensors;
	world.tensor_count = 1;
	engine_set_unread(world.engine, 100);
	assert_refused(&world, OPTD_TOO_LARGE, "'m'|1000000000 parameters");
	core_world_end(&world);
}

static void test_number_of_models_is_bounded(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.options.models = 1;
	core_world_start(&world);
	core_join(&world, 0, 0);
	world.open.model = text_of("other");
	assert_refused(&world, OPTD_BUSY, "'other' would be number 2|limits.models allows 1");
	core_world_end(&world);
}

static void test_rank_beyond_the_workers_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	core_join(&world, 0, 0);
	struct core_client client = core_client_of(&world, 1, 2);
	core_hello(&client);
	core_open(&client);
	core_assert_refused(&world, world.requests, OPTD_INVALID, "rank 2|ranks 0 to 1");
	core_world_end(&world);
}

static void test_refused_rank_leaves_no_model_behind(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.workers = 1;
	assert_refused(&world, OPTD_INVALID, "rank 1|ranks 0 to 0");
	core_world_end(&world);
}

/* ---- runs --------------------------------------------------------------- */

/* A model that has come from a checkpoint at step 9380, 14 hours old. */
static void restore(struct core_world *world)
{
	struct core_client client = core_join(world, 0, 0);
	struct core_client other = core_join(world, 1, 1);
	(void)client;
	(void)other;
	struct model *model = core_shard(world)->model;
	for (uint32_t i = 0; i < model->owned.count; i++)
		model->versions[i] = 9380;
	model->run_id = UINT64_C(0xab12) << 48;
	model->restored = true;
	model->born_ms = (int64_t)world->now_ms - 14 * 3600 * 1000;
	engine_peer_gone(world->engine, 0, &world->out);
	engine_peer_gone(world->engine, 1, &world->out);
}

static void test_never_refuses_a_model_of_an_earlier_run(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	world.open.resume = MSG_RESUME_NEVER;
	assert_refused(&world, OPTD_EXISTS, "'m' exists at step 9380, run ab12, 14 h old|never|drop it");
	core_world_end(&world);
}

static void test_auto_attaches_to_an_earlier_run_and_says_so(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	struct core_client client = core_client_of(&world, 2, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	assert_int_equal(answer->head.status, OPTD_OK);
	assert_true(answer->head.opened.restored);
	assert_int_equal(answer->head.opened.step, 9380);
	assert_int_equal(answer->head.opened.age_s, 14 * 3600);
	assert_string_equal(answer->text, "exists at step 9380, run ab12, 14 h old");
	core_world_end(&world);
}

/* Also where it never left this daemon. */
static void test_a_run_that_nobody_works_on_is_an_earlier_one(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	core_shard(&world)->model->restored = false;
	struct core_client client = core_client_of(&world, 2, 0), other = core_client_of(&world, 3, 1);
	core_hello(&client);
	assert_string_equal(core_open(&client)->text, "exists at step 9380, run ab12, 14 h old");
	core_hello(&other);
	assert_string_equal(core_open(&other)->text, "");
	core_world_end(&world);
}

static void test_must_refuses_to_create(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.resume = MSG_RESUME_MUST;
	assert_refused(&world, OPTD_NO_MODEL, "no model 'm'");
	core_world_end(&world);
}

static void test_unknown_model_is_refused_with_the_nearest_name(void **state)
{
	(void)state;
	static const char *const names[] = {"mnist", "fashion", "words"};
	struct core_world world;
	start(&world);
	for (uint32_t i = 0; i < 3; i++) {
		world.open.model = text_of(names[i]);
		struct core_client client = core_client_of(&world, i, 0);
		core_hello(&client);
		assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	}
	world.open.resume = MSG_RESUME_MUST;
	world.open.model = text_of("fasion");
	struct core_client client = core_client_of(&world, 9, 1);
	core_hello(&client);
	core_open(&client);
	core_assert_refused(&world, world.requests, OPTD_NO_MODEL, "'fasion'|nearest of 3 is 'fashion'");
	core_world_end(&world);
}

static void test_must_attaches_to_what_is_there(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	world.open.resume = MSG_RESUME_MUST;
	struct core_client client = core_client_of(&world, 2, 0);
	core_hello(&client);
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	core_world_end(&world);
}

static void test_never_joins_workers_of_the_same_run(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.resume = MSG_RESUME_NEVER;
	struct core_client first = core_join(&world, 0, 0);
	core_push_all(&first, 0, 1.0f);
	struct core_client second = core_client_of(&world, 1, 1);
	core_hello(&second);
	assert_int_equal(core_open(&second)->head.status, OPTD_OK);
	core_world_end(&world);
}

static void test_named_run_is_recognised_after_its_workers_left(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.run = text_of("job-7");
	restore(&world);
	world.open.resume = MSG_RESUME_NEVER;
	struct core_client client = core_client_of(&world, 2, 0);
	core_hello(&client);
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	world.open.run = text_of("job-8");
	assert_refused(&world, OPTD_EXISTS, "exists at step 9380");
	core_world_end(&world);
}

static void test_model_of_a_run_that_is_gone_is_never_made_anew(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.expect_run = 0x1234;
	assert_refused(&world, OPTD_MODEL_LOST, "'m'|0000000000001234|no checkpoint");
	core_world_end(&world);
}

static void test_other_run_under_the_name_is_a_lost_model(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	world.open.expect_run = 0x1234;
	assert_refused(&world, OPTD_MODEL_LOST, "0000000000001234|ab12000000000000");
	core_world_end(&world);
}

static void test_model_behind_what_a_worker_has_seen_is_a_rollback(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	world.open.expect_run = UINT64_C(0xab12) << 48;
	world.open.seen_step = 9400;
	assert_refused(&world, OPTD_ROLLBACK, "'m'|9400|9380");
	const struct core_answer *answer = core_answer(&world, world.requests);
	assert_int_equal(answer->head.version, 9380);
	assert_int_equal(answer->head.step, 9380);
	core_world_end(&world);
}

static void test_model_at_what_a_worker_has_seen_is_no_rollback(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	restore(&world);
	world.open.expect_run = UINT64_C(0xab12) << 48;
	world.open.seen_step = 9380;
	struct core_client client = core_client_of(&world, 2, 0);
	core_hello(&client);
	assert_int_equal(core_open(&client)->head.status, OPTD_OK);
	core_world_end(&world);
}

static void test_second_daemon_joins_the_run_that_the_lead_has_begun(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.daemon = 1;
	world.open.daemons = 2;
	world.open.expect_run = 0x1234;
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	const struct core_answer *answer = core_open(&client);
	assert_int_equal(answer->head.status, OPTD_OK);
	assert_int_equal(answer->head.opened.run_id, 0x1234);
	core_world_end(&world);
}

static void test_second_daemon_never_makes_a_model_anew_that_has_trained(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	world.open.daemon = 1;
	world.open.daemons = 2;
	world.open.expect_run = 0x1234;
	world.open.seen_step = 3;
	assert_refused(&world, OPTD_MODEL_LOST, "'m'|0000000000001234");
	core_world_end(&world);
}

/* ---- ranks -------------------------------------------------------------- */

static void test_rank_of_another_client_is_held(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	core_join(&world, 0, 1);
	assert_refused(&world, OPTD_RANK_HELD, "rank 1|'m'|host:100");
	core_world_end(&world);
}

static void test_holder_of_a_contested_rank_is_probed(void **state)
{
	(void)state;
	struct core_world world;
	start(&world);
	struct core_client holder = core_join(&world, 0, 1);
	assert_refused(&world, OPTD_RANK_HELD, "");
	const struct core_answer *probe = &world.answers[world.answer_count - 2];
	assert_int_equal(probe->peer, 0);
	assert_int_equal(probe->head.verb, MSG_HELLO);
	assert_int_equal(probe->head.status, OPTD_WAITING);
	assert_int_equal(probe->head.session, holder.session);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_first_open_creates_and_grants),
	        cmocka_unit_test(test_opened_has_settings_that_open_takes),
	        cmocka_unit_test(test_opened_has_the_schedule_that_open_takes),
	        cmocka_unit_test(test_second_worker_attaches_and_waits_for_weights),
	        cmocka_unit_test(test_model_without_a_name_is_refused),
	        cmocka_unit_test(test_place_beyond_the_list_is_refused),
	        cmocka_unit_test(test_other_place_in_the_list_is_a_wrong_map),
	        cmocka_unit_test(test_other_layout_names_the_first_tensor_that_differs),
	        cmocka_unit_test(test_layout_cut_otherwise_by_the_client_is_refused),
	        cmocka_unit_test(test_layout_without_elements_is_refused),
	        cmocka_unit_test(test_setting_that_differs_is_refused_with_both_values),
	        cmocka_unit_test(test_model_beyond_the_memory_limit_is_refused_before_it_is_cut),
	        cmocka_unit_test(test_memory_limit_counts_models_that_are_open),
	        cmocka_unit_test(test_model_that_fits_once_answers_are_read_is_put_off),
	        cmocka_unit_test(test_model_too_large_without_answers_is_too_large_with_them),
	        cmocka_unit_test(test_number_of_models_is_bounded),
	        cmocka_unit_test(test_rank_beyond_the_workers_is_refused),
	        cmocka_unit_test(test_refused_rank_leaves_no_model_behind),
	        cmocka_unit_test(test_never_refuses_a_model_of_an_earlier_run),
	        cmocka_unit_test(test_auto_attaches_to_an_earlier_run_and_says_so),
	        cmocka_unit_test(test_a_run_that_nobody_works_on_is_an_earlier_one),
	        cmocka_unit_test(test_must_refuses_to_create),
	        cmocka_unit_test(test_unknown_model_is_refused_with_the_nearest_name),
	        cmocka_unit_test(test_must_attaches_to_what_is_there),
	        cmocka_unit_test(test_never_joins_workers_of_the_same_run),
	        cmocka_unit_test(test_named_run_is_recognised_after_its_workers_left),
	        cmocka_unit_test(test_model_of_a_run_that_is_gone_is_never_made_anew),
	        cmocka_unit_test(test_other_run_under_the_name_is_a_lost_model),
	        cmocka_unit_test(test_model_behind_what_a_worker_has_seen_is_a_rollback),
	        cmocka_unit_test(test_model_at_what_a_worker_has_seen_is_no_rollback),
	        cmocka_unit_test(test_second_daemon_joins_the_run_that_the_lead_has_begun),
	        cmocka_unit_test(test_second_daemon_never_makes_a_model_anew_that_has_trained),
	        cmocka_unit_test(test_rank_of_another_client_is_held),
	        cmocka_unit_test(test_holder_of_a_contested_rank_is_probed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
