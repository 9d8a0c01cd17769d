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

/* ---- a server that stops -------------------------------------------------- */

static void refuse(struct talk *t, enum session_event_kind kind)
{
	struct msg m = reply_to(t, OPTD_DRAINING);
	assert_int_equal(take(t, &m), kind);
	assert_int_equal(t->event.status, OPTD_DRAINING);
}

/* The connection is gone, and a successor is there. */
static void come_back(struct talk *t)
{
	session_restart(&t->session, t->now_ms);
	t->epoch++;
	expect(t, MSG_HELLO);
	assert_int_equal(welcome(t), SESSION_WELCOMED);
}

static void test_draining_of_a_request_leaves_the_others_under_way(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	ask(t, 10);
	expect(t, MSG_PUSH);
	struct msg pushed = reply_to(t, OPTD_OK);
	inflight_add(&t->session.inflight, MSG_SAVE, INFLIGHT_NO_SLOT, 0, &owner, 1);
	expect(t, MSG_SAVE);
	refuse(t, SESSION_NOTICE);
	assert_int_equal(t->event.request.index, 1);
	assert_int_equal(t->session.state, SESSION_UP);
	assert_int_equal(take(t, &pushed), SESSION_ANSWER);
	talk_free(t);
}

static void test_a_request_held_by_draining_is_sent_when_the_server_is_back(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = inflight_add(&t->session.inflight, MSG_SAVE, INFLIGHT_NO_SLOT, 0, &owner, 0);
	expect(t, MSG_SAVE);
	refuse(t, SESSION_NOTICE);
	assert_false(sends(t));
	come_back(t);
	expect(t, MSG_OPEN);
	expect(t, MSG_SAVE);
	assert_int_equal(t->sent.request, number);
	talk_free(t);
}

/* First weights that a stopping server refuses may have filled the window. */
static void test_a_request_held_by_draining_takes_nothing_of_the_window(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	ask(t, 2000);
	ask(t, 2000);
	expect(t, MSG_PUSH);
	assert_false(sends(t));
	refuse(t, SESSION_NOTICE);
	expect(t, MSG_PUSH);
	talk_free(t);
}

static void test_an_open_held_by_draining_is_sent_when_the_server_is_back(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	session_open(&t->session, 1, &WORKER, 0);
	expect(t, MSG_OPEN);
	refuse(t, SESSION_HELD);
	assert_int_equal(t->event.slot, 1);
	assert_int_equal(t->session.slots[0].state, SESSION_OPEN);
	assert_false(sends(t));
	session_close_slot(&t->session, 0);
	come_back(t);
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 12, 0), SESSION_OPENED);
	talk_free(t);
}

/* Nothing else may tell that the server is gone. */
static void assert_probes(struct talk *t)
{
	t->now_ms += SESSION_PROBE_MS;
	assert_int_equal(session_deadline(&t->session), t->now_ms);
	assert_true(sends(t));
	assert_int_equal(t->out.kind, SESSION_SEND_PROBE);
}

static void test_a_server_whose_answer_is_held_is_probed(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	inflight_add(&t->session.inflight, MSG_SAVE, INFLIGHT_NO_SLOT, 0, &owner, 0);
	expect(t, MSG_SAVE);
	refuse(t, SESSION_NOTICE);
	assert_probes(t);
	talk_free(t);
}

static void test_a_server_whose_open_is_held_is_probed(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	refuse(t, SESSION_HELD);
	assert_probes(t);
	talk_free(t);
}

static void test_a_held_request_that_is_given_up_is_not_sent_again(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	inflight_add(&t->session.inflight, MSG_SAVE, INFLIGHT_NO_SLOT, 0, &owner, 0);
	expect(t, MSG_SAVE);
	refuse(t, SESSION_NOTICE);
	inflight_cancel(&t->session.inflight, &owner);
	assert_false(inflight_waiting(&t->session.inflight));
	come_back(t);
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 11, 10), SESSION_OPENED);
	assert_false(sends(t));
	talk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_held_rank_is_asked_for_again_for_a_while),
		cmocka_unit_test(test_a_conflict_is_not_asked_for_again),
		cmocka_unit_test(test_a_lane_without_the_leads_model_is_asked_again_for_a_while),
		cmocka_unit_test(test_a_model_that_the_lead_has_not_is_not_asked_for_again),
		cmocka_unit_test(test_draining_of_a_request_leaves_the_others_under_way),
		cmocka_unit_test(test_a_request_held_by_draining_is_sent_when_the_server_is_back),
		cmocka_unit_test(test_a_request_held_by_draining_takes_nothing_of_the_window),
		cmocka_unit_test(test_an_open_held_by_draining_is_sent_when_the_server_is_back),
		cmocka_unit_test(test_a_server_whose_answer_is_held_is_probed),
		cmocka_unit_test(test_a_server_whose_open_is_held_is_probed),
		cmocka_unit_test(test_a_held_request_that_is_given_up_is_not_sent_again),
	};
	return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
