/* Access: every verb by every role, and what a refusal says. */
#include <string.h>

#include "server/core/access.h"
#include "tests/support/core_world.h"

static const enum role ROLES[] = {ROLE_NONE, ROLE_READER, ROLE_WORKER, ROLE_ADMIN};
#define ROLE_COUNT (sizeof(ROLES) / sizeof(ROLES[0]))

static bool allows(enum role role, const struct msg *request)
{
	char why[256];
	return access_allows(&(struct principal){"ann", role}, request, why, sizeof(why));
}

static void test_every_verb_has_its_least_role(void **state)
{
	(void)state;
	/* none, reader, worker, admin */
	static const bool may[MSG_VERB_COUNT][ROLE_COUNT] = {
	        [0] = {false, false, false, true}, /* no verb */
	        [MSG_HELLO] = {false, true, true, true},
	        [MSG_OPEN] = {false, true, true, true},
	        [MSG_INIT] = {false, false, true, true},
	        [MSG_PUSH] = {false, false, true, true},
	        [MSG_PULL] = {false, true, true, true},
	        [MSG_PUSH_PULL] = {false, false, true, true},
	        [MSG_CLOSE_STEP] = {false, false, true, true},
	        [MSG_STATUS] = {false, true, true, true},
	        [MSG_SAVE] = {false, false, false, true},
	        [MSG_DROP] = {false, false, false, true},
	        [MSG_GOODBYE] = {false, true, true, true},
	        [MSG_SET] = {false, false, false, true},
	        [MSG_NORM] = {false, false, true, true},
	};
	for (int verb = 0; verb < MSG_VERB_COUNT; verb++) {
		struct msg request = {.verb = (enum msg_verb)verb, .rank = MSG_NO_RANK};
		for (size_t i = 0; i < ROLE_COUNT; i++)
			assert_int_equal(allows(ROLES[i], &request), may[verb][i]);
	}
}

static void test_open_with_a_rank_or_a_layout_takes_a_worker(void **state)
{
	(void)state;
	struct msg ranked = {.verb = MSG_OPEN, .rank = 0};
	struct msg made = {.verb = MSG_OPEN, .rank = MSG_NO_RANK};
	made.open.layout_hash = 1;
	assert_false(allows(ROLE_READER, &ranked));
	assert_false(allows(ROLE_READER, &made));
	assert_true(allows(ROLE_WORKER, &ranked));
	assert_true(allows(ROLE_WORKER, &made));
}

static void test_unknown_verb_is_the_admins(void **state)
{
	(void)state;
	struct msg request = {.verb = (enum msg_verb)4000000, .rank = MSG_NO_RANK};
	assert_false(allows(ROLE_WORKER, &request));
	assert_true(allows(ROLE_ADMIN, &request));
}

static void test_anonymous_may_do_everything_today(void **state)
{
	(void)state;
	assert_string_equal(PRINCIPAL_ANONYMOUS.name, "anonymous");
	assert_int_equal(PRINCIPAL_ANONYMOUS.role, ROLE_ADMIN);
}

static void test_reader_that_pushes_is_denied_by_name_and_role(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_start(&world);
	struct core_client client = core_join(&world, 0, 0);
	uint64_t before = core_hash(&world);
	world.principal = (struct principal){"ann", ROLE_READER};
	core_assert_refused(&world, core_push_all(&client, 0, 1.0f), OPTD_DENIED,
	                    "PUSH|role worker|'ann'|role reader");
	core_assert_refused(&world, core_close_step(&client, 0, 0, 1), OPTD_DENIED, "CLOSE_STEP");
	assert_int_equal(core_open(&client)->head.status, OPTD_DENIED);
	assert_int_equal(core_hash(&world), before);
	core_assert_ok(&world, core_pull(&client, 0, 1, 0));
	core_world_end(&world);
}

static void test_worker_without_a_rank_only_reads(void **state)
{
	(void)state;
	struct core_world world;
	core_world_init(&world);
	core_world_start(&world);
	core_join(&world, 0, 0);
	struct core_client reader = core_join(&world, 1, MSG_NO_RANK);
	world.principal = (struct principal){"ann", ROLE_WORKER};
	core_assert_refused(&world, core_push_all(&reader, 0, 1.0f), OPTD_DENIED, "this session reads");
	core_world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_every_verb_has_its_least_role),
	        cmocka_unit_test(test_open_with_a_rank_or_a_layout_takes_a_worker),
	        cmocka_unit_test(test_unknown_verb_is_the_admins),
	        cmocka_unit_test(test_anonymous_may_do_everything_today),
	        cmocka_unit_test(test_reader_that_pushes_is_denied_by_name_and_role),
	        cmocka_unit_test(test_worker_without_a_rank_only_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
