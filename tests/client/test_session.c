/*
 * Session: HELLO, OPEN, requests, and each way in which a conversation is cut
 * off and taken up again, with the server played by hand.
 */
#include "tests/client/session_talk.h"

/* ---- the way up --------------------------------------------------------- */

static void test_hello_comes_first_and_waits_for_welcome(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	expect(t, MSG_HELLO);
	assert_int_equal(t->sent.session, 1000);
	assert_false(sends(t));
	assert_int_equal(welcome(t), SESSION_WELCOMED);
	assert_int_equal(t->session.inflight.window, 2000);
	expect(t, MSG_OPEN);
	assert_int_equal(t->sent.epoch, EPOCH);
	assert_int_equal(t->sent.payload_bytes, 6);
	talk_free(t);
}

static void test_a_request_carries_what_open_told(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	assert_int_equal(t->sent.request, number);
	assert_int_equal(t->sent.object, 3);
	assert_int_equal(t->sent.layout, 99);
	assert_int_equal(t->sent.incarnation, 5);
	assert_int_equal(t->sent.rank, 0);
	talk_free(t);
}

static void test_a_request_waits_until_its_model_is_open(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	session_open(&t->session, 0, &WORKER, 0);
	ask(t, 10);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	assert_false(sends(t));
	opened(t, 11, 0);
	expect(t, MSG_PUSH);
	talk_free(t);
}

static void test_a_refused_hello_is_final(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	expect(t, MSG_HELLO);
	struct msg m = reply_to(t, OPTD_PROTOCOL);
	assert_int_equal(take(t, &m), SESSION_REFUSED);
	t->now_ms += 100000;
	assert_false(session_tick(&t->session, t->now_ms));
	assert_false(sends(t));
	assert_int_equal(session_deadline(&t->session), SESSION_NEVER);
	talk_free(t);
}

static void test_a_busy_server_is_greeted_again_a_little_later(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	expect(t, MSG_HELLO);
	struct msg m = reply_to(t, OPTD_BUSY);
	assert_int_equal(take(t, &m), SESSION_LOST);
	assert_false(sends(t));
	t->now_ms += SESSION_RETRY_MS;
	expect(t, MSG_HELLO);
	talk_free(t);
}

static void test_a_probe_from_the_server_changes_nothing(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	expect(t, MSG_HELLO);
	struct msg m = {.verb = MSG_HELLO, .reply = true, .status = OPTD_WAITING,
	                .session = t->session.number, .epoch = EPOCH};
	assert_int_equal(take(t, &m), SESSION_NOTHING);
	assert_int_equal(t->session.state, SESSION_GREETED);
	welcome(t);
	assert_int_equal(take(t, &m), SESSION_NOTHING);
	assert_int_equal(t->session.state, SESSION_UP);
	talk_free(t);
}

/* ---- sessions lost -------------------------------------------------------- */

/* From a lost session: HELLO with a new number, OPEN that cannot create, and the
 * request under its old number. */
static void expect_recovery(struct talk *t, uint64_t old_session, uint64_t number)
{
	expect(t, MSG_HELLO);
	assert_int_equal(t->sent.session, old_session + 1);
	assert_int_equal(t->sent.epoch, 0);
	welcome(t);
	expect(t, MSG_OPEN);
	assert_int_equal(t->sent.open.expect_run, 11);
	assert_int_equal(t->sent.open.seen_step, 10);
	assert_int_equal(t->sent.open.resume, MSG_RESUME_MUST);
	assert_int_equal(t->sent.payload_bytes, 0);
	assert_int_equal(opened(t, 11, 10), SESSION_OPENED);
	expect(t, MSG_PUSH);
	assert_int_equal(t->sent.request, number);
	assert_int_equal(t->sent.session, old_session + 1);
}

static void lose_by(int status)
{
	struct talk *t = talk_open();
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	struct msg m = reply_to(t, status);
	assert_int_equal(take(t, &m), SESSION_LOST);
	expect_recovery(t, 1000, number);
	talk_free(t);
}

static void test_no_session_starts_again_and_resends(void **state)
{
	(void)state;
	lose_by(OPTD_NO_SESSION);
}

static void test_a_stale_epoch_starts_again_and_resends(void **state)
{
	(void)state;
	lose_by(OPTD_STALE_EPOCH);
}

static void test_an_answer_of_another_epoch_starts_again(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	t->epoch = EPOCH + 1;
	struct msg m = reply_to(t, OPTD_OK);
	assert_int_equal(take(t, &m), SESSION_LOST);
	assert_int_equal(t->event.status, OPTD_STALE_EPOCH);
	expect_recovery(t, 1000, number);
	talk_free(t);
}

static void test_answers_of_an_earlier_session_are_ignored(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	ask(t, 10);
	expect(t, MSG_PUSH);
	struct msg late = reply_to(t, OPTD_OK);
	session_restart(&t->session, t->now_ms);
	assert_int_equal(take(t, &late), SESSION_NOTHING);
	expect(t, MSG_HELLO);
	assert_int_equal(take(t, &late), SESSION_NOTHING);
	welcome(t);
	expect(t, MSG_OPEN);
	opened(t, 11, 10);
	expect(t, MSG_PUSH);
	assert_int_equal(t->sent.request, late.request);
	assert_int_equal(take(t, &late), SESSION_NOTHING);
	assert_true(inflight_waiting(&t->session.inflight));
	talk_free(t);
}

static void test_a_restarted_daemon_is_told_apart_from_a_lost_connection(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	session_restart(&t->session, t->now_ms);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	opened(t, 11, 10);
	assert_false(t->event.restarted);
	session_restart(&t->session, t->now_ms);
	t->epoch = EPOCH + 1;
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 11, 10), SESSION_OPENED);
	assert_true(t->event.restarted);
	session_restart(&t->session, t->now_ms);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	opened(t, 11, 10);
	assert_false(t->event.restarted);
	talk_free(t);
}

static void test_a_run_that_went_back_is_not_open(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	ask(t, 10);
	session_restart(&t->session, t->now_ms);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 11, 9), SESSION_NOT_OPENED);
	assert_int_equal(t->session.slots[0].status, OPTD_ROLLBACK);
	assert_int_equal(t->event.from, 10);
	assert_int_equal(t->event.to, 9);
	assert_false(sends(t));
	talk_free(t);
}

static void test_another_run_of_the_name_is_a_lost_model(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	session_restart(&t->session, t->now_ms);
	expect(t, MSG_HELLO);
	welcome(t);
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 12, 10), SESSION_NOT_OPENED);
	assert_int_equal(t->session.slots[0].status, OPTD_MODEL_LOST);
	talk_free(t);
}

/* ---- first weights --------------------------------------------------------- */

static void test_the_grant_is_asked_for_until_answered_and_by_no_probe(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	assert_false(t->sent.open.wants_init);
	session_open(&t->session, 0, &WORKER, 0);
	session_want_init(&t->session, 0);
	expect(t, MSG_OPEN);
	assert_true(t->sent.open.wants_init);
	struct msg m = reply_to(t, OPTD_NO_SESSION);
	assert_int_equal(take(t, &m), SESSION_LOST);
	expect(t, MSG_HELLO);
	assert_int_equal(welcome(t), SESSION_WELCOMED);
	expect(t, MSG_OPEN);
	assert_true(t->sent.open.wants_init);
	assert_int_equal(opened(t, 11, 10), SESSION_OPENED);
	ask(t, 10);
	expect(t, MSG_PUSH);
	t->now_ms += SESSION_PROBE_MS;
	expect(t, MSG_OPEN);
	assert_false(t->sent.open.wants_init);
	talk_free(t);
}

/* ---- silence --------------------------------------------------------------- */

static void test_silence_is_probed_and_an_answer_settles_it(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	ask(t, 10);
	expect(t, MSG_PUSH);
	uint64_t number = t->session.number;
	assert_int_equal(session_deadline(&t->session), t->now_ms + SESSION_PROBE_MS);
	t->now_ms += SESSION_PROBE_MS;
	expect(t, MSG_OPEN);
	assert_false(sends(t));
	assert_int_equal(opened(t, 11, 10), SESSION_NOTHING);
	assert_int_equal(t->session.number, number);
	assert_false(sends(t)); /* nothing is sent twice */
	talk_free(t);
}

static void test_a_probe_finds_a_replaced_connection(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	t->now_ms += SESSION_PROBE_MS;
	expect(t, MSG_OPEN);
	struct msg m = reply_to(t, OPTD_NO_SESSION);
	assert_int_equal(take(t, &m), SESSION_LOST);
	expect_recovery(t, 1000, number);
	talk_free(t);
}

static void test_an_unanswered_probe_makes_a_new_connection(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	t->now_ms += SESSION_PROBE_MS;
	expect(t, MSG_OPEN);
	t->now_ms += SESSION_ANSWER_MS - 1;
	assert_false(session_tick(&t->session, t->now_ms));
	t->now_ms += 1;
	assert_true(session_tick(&t->session, t->now_ms));
	expect_recovery(t, 1000, number);
	talk_free(t);
}

static void test_an_unanswered_hello_makes_a_new_connection(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	expect(t, MSG_HELLO);
	t->now_ms += SESSION_ANSWER_MS;
	assert_true(session_tick(&t->session, t->now_ms));
	expect(t, MSG_HELLO);
	assert_int_equal(t->sent.session, 1001);
	talk_free(t);
}

static void test_without_a_request_silence_is_nobodys_concern(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	t->now_ms += 1000000;
	assert_false(session_tick(&t->session, t->now_ms));
	assert_false(sends(t));
	assert_int_equal(session_deadline(&t->session), SESSION_NEVER);
	talk_free(t);
}

static void test_a_poke_probes_once_although_nothing_is_owed(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	session_poke(&t->session);
	assert_false(sends(t)); /* it has just been heard of */
	assert_int_equal(session_deadline(&t->session), t->now_ms + SESSION_PROBE_MS);
	t->now_ms += SESSION_PROBE_MS;
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 11, 10), SESSION_NOTHING);
	t->now_ms += 1000000;
	assert_false(sends(t));
	talk_free(t);
}

static void test_an_admin_request_is_probed_by_hello(void **state)
{
	struct talk *t = talk_new();
	(void)state;
	expect(t, MSG_HELLO);
	welcome(t);
	inflight_add(&t->session.inflight, MSG_SAVE, INFLIGHT_NO_SLOT, 0, &owner, 0);
	expect(t, MSG_SAVE);
	t->now_ms += SESSION_PROBE_MS;
	expect(t, MSG_HELLO);
	assert_int_equal(t->sent.session, 1000);
	assert_int_equal(welcome(t), SESSION_NOTHING);
	talk_free(t);
}

/* ---- answers ------------------------------------------------------------------ */

static void test_notices_and_answers_name_their_request(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	struct msg m = reply_to(t, OPTD_WAITING);
	assert_int_equal(take(t, &m), SESSION_NOTICE);
	m.status = OPTD_STEP_TIMEOUT;
	assert_int_equal(take(t, &m), SESSION_ANSWER);
	assert_int_equal(t->event.request.number, number);
	assert_ptr_equal(t->event.request.owner, &owner);
	assert_int_equal(t->event.status, OPTD_STEP_TIMEOUT);
	talk_free(t);
}

static void test_a_push_that_arrived_damaged_is_sent_again(void **state)
{
	struct talk *t = talk_open();
	(void)state;
	uint64_t number = ask(t, 10);
	expect(t, MSG_PUSH);
	struct msg m = reply_to(t, OPTD_CHECKSUM);
	assert_int_equal(take(t, &m), SESSION_NOTHING);
	expect(t, MSG_PUSH);
	assert_int_equal(t->sent.request, number);
	talk_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello_comes_first_and_waits_for_welcome),
		cmocka_unit_test(test_a_request_carries_what_open_told),
		cmocka_unit_test(test_a_request_waits_until_its_model_is_open),
		cmocka_unit_test(test_a_refused_hello_is_final),
		cmocka_unit_test(test_a_busy_server_is_greeted_again_a_little_later),
		cmocka_unit_test(test_a_probe_from_the_server_changes_nothing),
		cmocka_unit_test(test_no_session_starts_again_and_resends),
		cmocka_unit_test(test_a_stale_epoch_starts_again_and_resends),
		cmocka_unit_test(test_an_answer_of_another_epoch_starts_again),
		cmocka_unit_test(test_answers_of_an_earlier_session_are_ignored),
		cmocka_unit_test(test_a_restarted_daemon_is_told_apart_from_a_lost_connection),
		cmocka_unit_test(test_a_run_that_went_back_is_not_open),
		cmocka_unit_test(test_another_run_of_the_name_is_a_lost_model),
		cmocka_unit_test(test_the_grant_is_asked_for_until_answered_and_by_no_probe),
		cmocka_unit_test(test_silence_is_probed_and_an_answer_settles_it),
		cmocka_unit_test(test_a_probe_finds_a_replaced_connection),
		cmocka_unit_test(test_an_unanswered_probe_makes_a_new_connection),
		cmocka_unit_test(test_an_unanswered_hello_makes_a_new_connection),
		cmocka_unit_test(test_without_a_request_silence_is_nobodys_concern),
		cmocka_unit_test(test_a_poke_probes_once_although_nothing_is_owed),
		cmocka_unit_test(test_an_admin_request_is_probed_by_hello),
		cmocka_unit_test(test_notices_and_answers_name_their_request),
		cmocka_unit_test(test_a_push_that_arrived_damaged_is_sent_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
