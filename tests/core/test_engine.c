/* Engine: sessions, what every verb is refused for, and the passing of time. */
#include <string.h>

#include "tests/support/core_world.h"

static const enum msg_verb MODEL_VERBS[] = {MSG_INIT, MSG_PUSH, MSG_PULL, MSG_PUSH_PULL,
                                            MSG_CLOSE_STEP};
#define MODEL_VERB_COUNT (sizeof(MODEL_VERBS) / sizeof(MODEL_VERBS[0]))

static void start(struct core_world *world, uint32_t workers)
{
	core_world_init(world);
	world->open.workers = workers;
	core_world_start(world);
}

static void test_hello_is_welcomed_with_limits_and_endpoints(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	world.options.lanes = 2;
	world.options.lane = 1;
	core_world_start(&world);
	struct core_client client = core_client_of(&world, 3, 0);
	const struct core_answer *answer = core_hello(&client);
	assert_int_equal(answer->peer, 3);
	assert_int_equal(answer->head.status, OPTD_OK);
	assert_int_equal(answer->head.epoch, 5);
	assert_int_equal(answer->head.session, client.session);
	assert_int_equal(answer->head.welcome.daemon_id, 77);
	assert_int_equal(answer->head.welcome.lane, 1);
	assert_int_equal(answer->head.welcome.endpoint_count, 2);
	assert_memory_equal(answer->head.welcome.endpoints[1].bytes, "tcp://lane1", 11);
	assert_int_equal(answer->head.welcome.message_bytes, LIMIT_MESSAGE_BYTES);
	assert_int_equal(answer->head.welcome.window_bytes, LIMIT_WINDOW_BYTES);
	core_world_end(&world);
}

static void test_other_protocol_is_refused_with_both_versions(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_client_of(&world, 0, 0);
	struct msg msg = core_msg(&client, MSG_HELLO);
	msg.hello = (struct msg_hello){.protocol_min = 90, .protocol_max = 91};
	core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_PROTOCOL, "90 to 91|1 to 1");
	assert_false(engine_has_session(world.engine, 0, client.session));
	core_world_end(&world);
}

static void test_every_verb_but_hello_needs_a_session(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_client_of(&world, 4, 0);
	for (enum msg_verb verb = MSG_OPEN; verb < MSG_VERB_COUNT; verb++) {
		struct msg msg = core_msg(&client, verb);
		bool all_lanes = (verb >= MSG_STATUS && verb <= MSG_DROP) || verb == MSG_SET;
		int expected = all_lanes ? OPTD_UNSUPPORTED : OPTD_NO_SESSION;
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), expected, "");
	}
	core_world_end(&world);
}

static void test_unknown_verb_is_unsupported(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	struct msg msg = core_msg(&client, (enum msg_verb)200);
	core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_UNSUPPORTED, "200");
	msg = core_msg(&client, (enum msg_verb)0);
	core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_UNSUPPORTED, "0");
	core_world_end(&world);
}

static void test_session_of_another_number_is_not_known(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	client.session++;
	core_assert_refused(&world, core_push_all(&client, 0, 1.0f), OPTD_NO_SESSION, "HELLO");
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_other_epoch_is_stale_for_every_verb(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	for (size_t i = 0; i < MODEL_VERB_COUNT; i++) {
		struct msg msg = core_msg(&client, MODEL_VERBS[i]);
		msg.epoch = 4;
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_STALE_EPOCH,
		                    "epoch 4|epoch 5");
	}
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_unknown_handle_is_a_lost_model_for_every_verb(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	client.opened.model += 17;
	for (size_t i = 0; i < MODEL_VERB_COUNT; i++) {
		struct msg msg = core_msg(&client, MODEL_VERBS[i]);
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_MODEL_LOST, "open it");
	}
	core_world_end(&world);
}

static void test_other_layout_id_is_a_wrong_map_for_every_verb(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	client.opened.layout ^= 1;
	for (size_t i = 0; i < MODEL_VERB_COUNT; i++) {
		struct msg msg = core_msg(&client, MODEL_VERBS[i]);
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_WRONG_MAP,
		                    "layout id|differs");
	}
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_blocks_that_do_not_exist_are_refused_with_those_that_do(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_scalars(&world, LIMIT_BLOCK_SEGMENTS + 1);
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	for (size_t i = 0; i < MODEL_VERB_COUNT; i++) {
		struct msg msg = core_msg(&client, MODEL_VERBS[i]);
		msg.token = client.opened.token;
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = 1, .count = 2};
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_INVALID,
		                    "blocks 1 to 2|0 to 1|'m'");
		msg = core_msg(&client, MODEL_VERBS[i]);
		msg.token = client.opened.token;
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = UINT32_MAX, .count = UINT32_MAX};
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_INVALID, "0 to 1");
	}
	assert_int_equal(core_hash(&world), before);
	core_world_end(&world);
}

static void test_message_without_blocks_is_refused(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	for (size_t i = 1; i < MODEL_VERB_COUNT; i++) {
		struct msg msg = core_msg(&client, MODEL_VERBS[i]);
		core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_INVALID, "no blocks");
	}
	core_world_end(&world);
}

static void test_new_session_on_a_connection_ends_the_old_one(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	client.session++;
	core_hello(&client);
	assert_int_equal(core_shard(&world)->waits.count, 0);
	assert_int_equal(shard_workers_present(core_shard(&world)), 0);
	assert_null(core_answer(&world, push));
	core_world_end(&world);
}

static void test_same_hello_again_changes_nothing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_join(&world, 0, 0);
	core_push_all(&client, 0, 1.0f);
	core_hello(&client);
	assert_int_equal(core_shard(&world)->waits.count, 1);
	assert_int_equal(shard_workers_present(core_shard(&world)), 1);
	core_world_end(&world);
}

static void test_goodbye_frees_ranks_and_waits(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_join(&world, 0, 0);
	core_push_all(&client, 0, 1.0f);
	struct msg msg = core_msg(&client, MSG_GOODBYE);
	core_assert_ok(&world, core_send(&client, &msg, NULL, 0));
	assert_int_equal(core_shard(&world)->waits.count, 0);
	assert_int_equal(shard_workers_present(core_shard(&world)), 0);
	assert_false(engine_has_session(world.engine, 0, client.session));
	core_world_end(&world);
}

static void test_peer_that_was_never_there_may_go(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	engine_peer_gone(world.engine, 12345, &world.out);
	assert_int_equal(world.out.count, 0);
	core_world_end(&world);
}

static void test_waiting_push_hears_whom_it_waits_for(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client client = core_join(&world, 0, 0);
	core_join(&world, 1, 1);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	core_tick(&world, 4999);
	assert_null(core_notice(&world, push, OPTD_WAITING));
	core_tick(&world, 1);
	core_assert_text(core_notice(&world, push, OPTD_WAITING),
	                 "waiting for 2 of 3 workers|rank 1 (host:101)|rank 2");
	core_world_end(&world);
}

static void test_waiting_notice_is_repeated_at_its_interval(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	uint32_t before = core_answers_to(&world, push);
	for (int i = 0; i < 100; i++)
		core_tick(&world, 100);
	assert_int_equal(core_answers_to(&world, push) - before, 2);
	core_world_end(&world);
}

static void test_pull_without_weights_hears_that_it_waits_for_the_first(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_client_of(&world, 0, 0);
	core_hello(&client);
	core_open(&client);
	uint64_t pull = core_pull(&client, 0, 1, 0);
	core_tick(&world, 5000);
	core_assert_text(core_notice(&world, pull, OPTD_WAITING), "first weights of model 'm'");
	core_tick(&world, 25000);
	core_assert_refused(&world, pull, OPTD_TIMEOUT, "first weights|'m'|30 s");
	core_world_end(&world);
}

static void test_step_timeout_names_ranks_that_are_missing(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 3);
	struct core_client client = core_join(&world, 0, 0);
	core_join(&world, 1, 1);
	engine_peer_gone(world.engine, 1, &world.out);
	core_collect(&world);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	core_tick(&world, 29999);
	assert_null(core_answer(&world, push));
	core_tick(&world, 1);
	core_assert_refused(&world, push, OPTD_STEP_TIMEOUT,
	                    "step 0|'m'|30 s|rank 1 (host:101, gone)|rank 2|make the same call again");
	assert_int_equal(core_shard(&world)->waits.count, 0);
	core_world_end(&world);
}

static void test_push_that_timed_out_still_counts(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0);
	struct core_client second = core_join(&world, 1, 1);
	core_push_all(&first, 0, 2.0f);
	core_tick(&world, 30000);
	core_assert_ok(&world, core_push_all(&second, 0, 4.0f));
	uint64_t pull = core_pull(&first, 0, 1, 1);
	assert_true(core_answer(&world, pull)->values[0] == -3.0f);
	core_world_end(&world);
}

static void test_push_that_timed_out_goes_on_waiting_when_sent_again(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client first = core_join(&world, 0, 0);
	struct core_client second = core_join(&world, 1, 1);
	/* rank 1's bytes are not folded: rank 0 has not come. */
	core_push_all(&second, 0, 4.0f);
	core_tick(&world, 30000);
	uint64_t again = core_push_all(&second, 0, 4.0f);
	assert_null(core_answer(&world, again));
	core_assert_ok(&world, core_push_all(&first, 0, 2.0f));
	core_assert_ok(&world, again);
	uint64_t pull = core_pull(&first, 0, 1, 1);
	assert_true(core_answer(&world, pull)->values[0] == -3.0f);
	core_world_end(&world);
}

static void test_pull_timeout_names_both_versions(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	core_push_all(&client, 0, 1.0f);
	uint64_t pull = core_pull(&client, 0, 1, 7);
	core_tick(&world, 30000);
	core_assert_refused(&world, pull, OPTD_TIMEOUT, "block 0|version 1|7 is asked for");
	core_world_end(&world);
}

static void test_drop_tells_those_who_wait(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 2);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t push = core_push_all(&client, 0, 1.0f);
	uint64_t bytes = engine_bytes(world.engine);
	assert_true(bytes > 0);
	assert_int_equal(engine_drop(world.engine, "m", &world.out), OPTD_OK);
	core_collect(&world);
	core_assert_refused(&world, push, OPTD_MODEL_LOST, "'m' was dropped");
	assert_int_equal(engine_bytes(world.engine), 0);
	assert_int_equal(engine_drop(world.engine, "m", &world.out), OPTD_NO_MODEL);
	struct msg msg = core_msg(&client, MSG_PUSH);
	core_assert_refused(&world, core_send(&client, &msg, NULL, 0), OPTD_MODEL_LOST, "dropped");
	core_world_end(&world);
}

static void test_new_model_never_gets_the_handle_of_a_dropped_one(void **state)
{
	(void)state;
	struct core_world world;
	start(&world, 1);
	struct core_client client = core_join(&world, 0, 0);
	uint32_t handle = client.opened.model;
	engine_drop(world.engine, "m", &world.out);
	struct core_client other = core_join(&world, 1, 0);
	assert_int_not_equal(other.opened.model, handle);
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_hello_is_welcomed_with_limits_and_endpoints),
	        cmocka_unit_test(test_other_protocol_is_refused_with_both_versions),
	        cmocka_unit_test(test_every_verb_but_hello_needs_a_session),
	        cmocka_unit_test(test_unknown_verb_is_unsupported),
	        cmocka_unit_test(test_session_of_another_number_is_not_known),
	        cmocka_unit_test(test_other_epoch_is_stale_for_every_verb),
	        cmocka_unit_test(test_unknown_handle_is_a_lost_model_for_every_verb),
	        cmocka_unit_test(test_other_layout_id_is_a_wrong_map_for_every_verb),
	        cmocka_unit_test(test_blocks_that_do_not_exist_are_refused_with_those_that_do),
	        cmocka_unit_test(test_message_without_blocks_is_refused),
	        cmocka_unit_test(test_new_session_on_a_connection_ends_the_old_one),
	        cmocka_unit_test(test_same_hello_again_changes_nothing),
	        cmocka_unit_test(test_goodbye_frees_ranks_and_waits),
	        cmocka_unit_test(test_peer_that_was_never_there_may_go),
	        cmocka_unit_test(test_waiting_push_hears_whom_it_waits_for),
	        cmocka_unit_test(test_waiting_notice_is_repeated_at_its_interval),
	        cmocka_unit_test(test_pull_without_weights_hears_that_it_waits_for_the_first),
	        cmocka_unit_test(test_step_timeout_names_ranks_that_are_missing),
	        cmocka_unit_test(test_push_that_timed_out_still_counts),
	        cmocka_unit_test(test_push_that_timed_out_goes_on_waiting_when_sent_again),
	        cmocka_unit_test(test_pull_timeout_names_both_versions),
	        cmocka_unit_test(test_drop_tells_those_who_wait),
	        cmocka_unit_test(test_new_model_never_gets_the_handle_of_a_dropped_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
