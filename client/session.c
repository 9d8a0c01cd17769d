/*
 * The session's transitions.  Three things make it start again from HELLO: a
 * reply that says so (NO_SESSION, STALE_EPOCH), a reply of another epoch, and a
 * HELLO, OPEN or probe that stays unanswered.
 *
 * DRAINING is not among them: a server that stops finishes the steps of other
 * models on this very connection.  Only what it refused is held, until the
 * session starts again because the server is gone.
 */
#include "client/session.h"

#include <string.h>

void session_init(struct session *session, uint64_t number, const struct msg_hello *hello)
{
	memset(session, 0, sizeof(*session));
	session->number = number ? number : 1;
	session->hello = hello;
	session->expect_lane = SESSION_ANY_LANE;
	session->window_bytes = LIMIT_WINDOW_BYTES;
	session->message_bytes = LIMIT_MESSAGE_BYTES;
	inflight_init(&session->inflight);
}

void session_deinit(struct session *session)
{
	inflight_deinit(&session->inflight);
}

void session_open(struct session *session, uint32_t slot, const struct session_spec *spec,
                  uint64_t not_before_ms)
{
	struct session_slot *s = &session->slots[slot];
	s->state = SESSION_OPENING;
	s->spec = spec;
	s->number = 0;
	s->retry_ms = not_before_ms;
	s->held_ms = 0;
	s->wants_init = false;
	session->open_slots &= ~(UINT64_C(1) << slot);
}

void session_want_init(struct session *session, uint32_t slot)
{
	session->slots[slot].wants_init = true;
}

void session_close_slot(struct session *session, uint32_t slot)
{
	memset(&session->slots[slot], 0, sizeof(session->slots[slot]));
	session->open_slots &= ~(UINT64_C(1) << slot);
}

void session_restart(struct session *session, uint64_t not_before_ms)
{
	if (session->state == SESSION_FAILED)
		return;
	session->state = SESSION_GREETING;
	session->number++;
	session->greet_ms = not_before_ms;
	session->probe = 0;
	session->poked = false;
	session->open_slots = 0;
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++) {
		struct session_slot *s = &session->slots[i];
		s->number = 0;
		if (s->retry_ms == SESSION_NEVER)
			s->retry_ms = not_before_ms;
		if (s->state == SESSION_OPEN)
			s->state = SESSION_OPENING;
	}
	inflight_reset(&session->inflight);
}

/* ---- sending ---------------------------------------------------------- */

static bool next_open(const struct session *session, uint64_t now_ms, struct session_out *out)
{
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++) {
		const struct session_slot *s = &session->slots[i];
		if (s->state != SESSION_OPENING || s->number != 0 || now_ms < s->retry_ms)
			continue;
		*out = (struct session_out){.kind = SESSION_SEND_OPEN, .slot = i};
		return true;
	}
	return false;
}

/* Whether an OPEN waits for the server's successor. */
static bool open_held(const struct session *session)
{
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++)
		if (session->slots[i].state == SESSION_OPENING && session->slots[i].retry_ms == SESSION_NEVER)
			return true;
	return false;
}

/* When a probe is due; SESSION_NEVER. */
static uint64_t probe_due(const struct session *session)
{
	uint64_t last = session->heard_ms > session->sent_ms ? session->heard_ms : session->sent_ms;
	if (session->probe)
		return SESSION_NEVER;
	if (!session->poked && !inflight_waiting(&session->inflight) && !open_held(session))
		return SESSION_NEVER;
	return last + SESSION_PROBE_MS;
}

/* Whether the server owes an answer and has been silent for too long. */
static bool wants_probe(const struct session *session, uint64_t now_ms)
{
	return now_ms >= probe_due(session);
}

static uint32_t probe_slot(const struct session *session)
{
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++)
		if (session->open_slots >> i & 1)
			return i;
	return SESSION_NO_SLOT;
}

bool session_next(struct session *session, uint64_t now_ms, struct session_out *out)
{
	if (session->state == SESSION_GREETING && now_ms >= session->greet_ms) {
		*out = (struct session_out){.kind = SESSION_SEND_HELLO, .slot = SESSION_NO_SLOT};
		return true;
	}
	if (session->state != SESSION_UP)
		return false;
	if (next_open(session, now_ms, out))
		return true;
	struct inflight_request *r = inflight_next(&session->inflight, session->open_slots);
	if (r) {
		*out = (struct session_out){
			.kind = SESSION_SEND_REQUEST, .slot = r->slot, .request = r};
		return true;
	}
	if (wants_probe(session, now_ms)) {
		*out = (struct session_out){.kind = SESSION_SEND_PROBE, .slot = probe_slot(session)};
		return true;
	}
	return false;
}

static void fill_slot(const struct session_slot *s, struct msg *msg)
{
	msg->object = s->opened.model;
	msg->layout = s->opened.layout;
	msg->incarnation = s->opened.incarnation;
	msg->rank = s->spec->rank;
}

/* OPEN again names the run and the layout that are known, and never creates. */
static void fill_open(const struct session_slot *s, struct msg *msg)
{
	msg->verb = MSG_OPEN;
	msg->rank = s->spec->rank;
	msg->open = s->spec->open;
	msg->open.expect_run = s->expect_run;
	msg->open.seen_step = s->seen_step;
	msg->open.wants_init = s->wants_init;
	if (s->attached) {
		msg->open.resume = MSG_RESUME_MUST;
		return;
	}
	msg->payload = s->spec->layout;
	msg->payload_bytes = s->spec->layout_bytes;
	msg->checksum = s->spec->layout_checksum;
}

static void fill_hello(const struct session *session, struct msg *msg)
{
	msg->verb = MSG_HELLO;
	msg->epoch = 0; /* that is what it asks for */
	msg->hello = *session->hello;
}

void session_fill(struct session *session, const struct session_out *out, struct msg *msg)
{
	memset(msg, 0, sizeof(*msg));
	msg->session = session->number;
	msg->epoch = session->epoch;
	msg->rank = MSG_NO_RANK;
	/* session_sent takes this number. */
	msg->request = session->inflight.next_number;
	switch (out->kind) {
	case SESSION_SEND_HELLO:
		fill_hello(session, msg);
		break;
	case SESSION_SEND_OPEN:
		fill_open(&session->slots[out->slot], msg);
		break;
	case SESSION_SEND_PROBE:
		if (out->slot == SESSION_NO_SLOT)
			fill_hello(session, msg);
		else
			fill_open(&session->slots[out->slot], msg);
		break;
	case SESSION_SEND_REQUEST:
		msg->verb = out->request->verb;
		msg->request = out->request->number;
		if (out->slot != SESSION_NO_SLOT)
			fill_slot(&session->slots[out->slot], msg);
		break;
	}
}

void session_sent(struct session *session, const struct session_out *out, uint64_t now_ms)
{
	struct session_slot *s;
	session->sent_ms = now_ms;
	switch (out->kind) {
	case SESSION_SEND_HELLO:
		inflight_number(&session->inflight);
		session->state = SESSION_GREETED;
		session->greeted_ms = now_ms;
		break;
	case SESSION_SEND_OPEN:
		s = &session->slots[out->slot];
		s->number = inflight_number(&session->inflight);
		s->sent_ms = now_ms;
		break;
	case SESSION_SEND_PROBE:
		session->probe = inflight_number(&session->inflight);
		session->probe_ms = now_ms;
		session->poked = false;
		break;
	case SESSION_SEND_REQUEST:
		inflight_sent(&session->inflight, out->request);
		break;
	}
}

/* ---- replies ---------------------------------------------------------- */

static void lose(struct session *session, int status, uint64_t not_before_ms, struct session_event *event)
{
	session_restart(session, not_before_ms);
	event->kind = SESSION_LOST;
	event->status = status;
}

static void take_welcome(struct session *session, const struct msg *reply, struct session_event *event)
{
	const struct msg_welcome *w = &reply->welcome;
	/* Servers probe us with a notice of this verb. */
	if (session->state != SESSION_GREETED || reply->status > 0)
		return;
	if (reply->status < 0) {
		session->state = SESSION_FAILED;
		session->status = reply->status;
		event->kind = SESSION_REFUSED;
		return;
	}
	if (session->epoch && session->epoch != reply->epoch)
		for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++)
			session->slots[i].restarted = session->slots[i].state != SESSION_CLOSED;
	session->state = SESSION_UP;
	session->epoch = reply->epoch;
	session->daemon_id = w->daemon_id;
	session->lane = w->lane;
	session->lanes = w->lanes;
	session->message_bytes = w->message_bytes;
	session->window_bytes = w->window_bytes;
	session->inflight.window = w->window_bytes;
	event->kind = SESSION_WELCOMED;
}

static void break_slot(struct session_slot *s, int status, struct session_event *event)
{
	s->state = SESSION_BROKEN;
	s->status = status;
	event->kind = SESSION_NOT_OPENED;
	event->from = s->seen_step;
	event->to = s->opened.step;
}

static void take_opened(struct session *session, struct session_slot *s, const struct msg *reply,
                        struct session_event *event)
{
	s->opened = reply->opened;
	s->opened.optimizer = (struct msg_text){0};
	s->held_ms = 0;
	event->restarted = s->restarted;
	s->restarted = false;
	s->wants_init = false;
	if (s->expect_run && s->expect_run != reply->opened.run_id) {
		break_slot(s, OPTD_MODEL_LOST, event);
		return;
	}
	if (s->spec->rank != MSG_NO_RANK && reply->opened.step < s->seen_step) {
		break_slot(s, OPTD_ROLLBACK, event);
		return;
	}
	s->expect_run = reply->opened.run_id;
	s->attached = true;
	s->state = SESSION_OPEN;
	session->open_slots |= UINT64_C(1) << event->slot;
	event->kind = SESSION_OPENED;
}

/* For how long an error of OPEN may pass by itself: a rank whose holder has just died, a
 * server that starts; or a lane without the model that the lead has, whose workers come
 * to this one next. */
static uint64_t passes_within(const struct session_slot *s, int status)
{
	if (status == OPTD_RANK_HELD || status == OPTD_BUSY)
		return SESSION_HELD_MS;
	return status == OPTD_NO_MODEL && s->expect_run ? SESSION_HELD_MS : 0;
}

static void take_open_error(struct session_slot *s, const struct msg *reply, uint64_t now_ms,
                            struct session_event *event)
{
	uint64_t within_ms = passes_within(s, reply->status);
	if (reply->status == OPTD_DRAINING) {
		s->retry_ms = SESSION_NEVER;
		s->held_ms = 0;
		event->kind = SESSION_HELD;
		return;
	}
	if (within_ms > 0 && s->held_ms == 0)
		s->held_ms = now_ms ? now_ms : 1;
	if (now_ms < s->held_ms + within_ms) {
		s->retry_ms = now_ms + SESSION_RETRY_MS;
		event->kind = SESSION_HELD;
		return;
	}
	s->opened.step = reply->step;
	break_slot(s, reply->status, event);
}

static void take_open(struct session *session, const struct msg *reply, uint64_t now_ms,
                      struct session_event *event)
{
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++) {
		struct session_slot *s = &session->slots[i];
		if (s->state != SESSION_OPENING || s->number == 0 || s->number != reply->request)
			continue;
		event->slot = i;
		if (reply->status > 0)
			return;
		s->number = 0;
		if (reply->status == OPTD_OK)
			take_opened(session, s, reply, event);
		else
			take_open_error(s, reply, now_ms, event);
		return;
	}
}

static void take_answer(struct session *session, const struct msg *reply, struct session_event *event)
{
	/* Damaged on the way there: again. */
	if (reply->status == OPTD_CHECKSUM) {
		inflight_again(&session->inflight, reply->request);
		return;
	}
	enum inflight_outcome outcome =
		reply->status == OPTD_DRAINING
			? inflight_hold(&session->inflight, reply->request, &event->request)
			: inflight_reply(&session->inflight, reply->request, reply->status,
		                         &event->request);
	if (outcome == INFLIGHT_IGNORED)
		return;
	event->kind = outcome == INFLIGHT_FINAL ? SESSION_ANSWER : SESSION_NOTICE;
	event->slot = event->request.slot;
}

/* Whether a reply, whatever it answers, ends the session but not the hope. */
static bool starts_anew(const struct session *session, const struct msg *reply)
{
	if (reply->status == OPTD_BUSY || reply->status == OPTD_DRAINING)
		return session->state == SESSION_GREETED;
	return reply->status == OPTD_NO_SESSION || reply->status == OPTD_STALE_EPOCH;
}

void session_reply(struct session *session, const struct msg *reply, uint64_t now_ms,
                   struct session_event *event)
{
	memset(event, 0, sizeof(*event));
	event->kind = SESSION_NOTHING;
	event->status = reply->status;
	event->slot = SESSION_NO_SLOT;
	if (!reply->reply || reply->session != session->number || session->state == SESSION_FAILED)
		return;
	session->heard_ms = now_ms;
	if (starts_anew(session, reply)) {
		bool at_once = session->state == SESSION_UP;
		lose(session, reply->status, at_once ? now_ms : now_ms + SESSION_RETRY_MS, event);
		return;
	}
	if (session->state == SESSION_UP && reply->epoch != session->epoch) {
		lose(session, OPTD_STALE_EPOCH, now_ms, event);
		return;
	}
	if (session->probe && reply->request == session->probe)
		session->probe = 0;
	else if (reply->verb == MSG_HELLO)
		take_welcome(session, reply, event);
	else if (session->state != SESSION_UP)
		return;
	else if (reply->verb == MSG_OPEN)
		take_open(session, reply, now_ms, event);
	else
		take_answer(session, reply, event);
}

void session_poke(struct session *session)
{
	session->poked = true;
}

void session_damaged(struct session *session, uint64_t request)
{
	inflight_again(&session->inflight, request);
}

/* ---- time ------------------------------------------------------------- */

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* When what is under way should have been answered. */
static uint64_t patience(const struct session *session)
{
	uint64_t at = SESSION_NEVER;
	if (session->state == SESSION_GREETED)
		return later(session->greeted_ms, session->moved_ms) + SESSION_ANSWER_MS;
	if (session->state != SESSION_UP)
		return at;
	if (session->probe)
		at = later(session->probe_ms, session->moved_ms) + SESSION_ANSWER_MS;
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++) {
		const struct session_slot *s = &session->slots[i];
		/* What the server says meanwhile shows that it is at work. */
		uint64_t since = later(later(s->sent_ms, session->heard_ms), session->moved_ms);
		if (s->state == SESSION_OPENING && s->number != 0 && since + SESSION_ANSWER_MS < at)
			at = since + SESSION_ANSWER_MS;
	}
	return at;
}

bool session_is_overdue(const struct session *session, uint64_t now_ms)
{
	return now_ms >= patience(session);
}

void session_moved(struct session *session, uint64_t now_ms)
{
	session->moved_ms = now_ms;
}

bool session_tick(struct session *session, uint64_t now_ms)
{
	if (!session_is_overdue(session, now_ms))
		return false;
	session_restart(session, now_ms);
	return true;
}

uint64_t session_deadline(const struct session *session)
{
	if (session->state == SESSION_GREETING)
		return session->greet_ms;
	uint64_t at = patience(session);
	if (session->state != SESSION_UP)
		return at;
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++) {
		const struct session_slot *s = &session->slots[i];
		if (s->state == SESSION_OPENING && s->number == 0 && s->retry_ms < at)
			at = s->retry_ms;
	}
	uint64_t probe = probe_due(session);
	return probe < at ? probe : at;
}
