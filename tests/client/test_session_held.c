/*
 * Session: what the server refuses for now.  OPEN is asked again where the reason may
 * pass by itself.
 */
#include "tests/client/session_talk.h"

static void test_a_held_rank_is_asked_for_again_for_a_while(void **state)
{
	struct talk *t = talk_new();
	uint32_t asked = 0;
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	expect(t, MSG_HELLO);
	welcome(t);
	for (;; asked++) {
		expect(t, MSG_OPEN);
		struct msg m = reply_to(t, OPTD_RANK_HELD);
		if (take(t, &m) == SESSION_NOT_OPENED)
			break;
		assert_int_equal(t->event.kind, SESSION_HELD);
		assert_false(sends(t));
		assert_int_equal(session_deadline(&t->session), t->now_ms + SESSION_RETRY_MS);
		t->now_ms += SESSION_RETRY_MS;
	}
	assert_int_equal(asked, SESSION_HELD_MS / SESSION_RETRY_MS);
	assert_int_equal(t->session.slots[0].status, OPTD_RANK_HELD);
	talk_free(t);
}

static void test_a_conflict_is_not_asked_for_again(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	struct msg m = reply_to(t, OPTD_CONFLICT);
	assert_int_equal(take(t, &m), SESSION_NOT_OPENED);
	t->now_ms += 10000;
	assert_false(sends(t));
	talk_free(t);
}

/* A reader that knows the run from the lead, on a lane before every worker of it. */
static void test_a_lane_without_the_leads_model_is_asked_again_for_a_while(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	t->session.slots[0].expect_run = 11;
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	struct msg m = reply_to(t, OPTD_NO_MODEL);
	assert_int_equal(take(t, &m), SESSION_HELD);
	t->now_ms += SESSION_HELD_MS;
	expect(t, MSG_OPEN);
	m = reply_to(t, OPTD_NO_MODEL);
	assert_int_equal(take(t, &m), SESSION_NOT_OPENED);
	assert_int_equal(t->session.slots[0].status, OPTD_NO_MODEL);
	talk_free(t);
}

static void test_a_model_that_the_lead_has_not_is_not_asked_for_again(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	struct msg m = reply_to(t, OPTD_NO_MODEL);
	assert_int_equal(take(t, &m), SESSION_NOT_OPENED);
	talk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_held_rank_is_asked_for_again_for_a_while),
		cmocka_unit_test(test_a_conflict_is_not_asked_for_again),
		cmocka_unit_test(test_a_lane_without_the_leads_model_is_asked_again_for_a_while),
		cmocka_unit_test(test_a_model_that_the_lead_has_not_is_not_asked_for_again),
	};
	return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
