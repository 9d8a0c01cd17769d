/*
 * Talk: a session of the client with the server played by hand, a message at a time.
 */
#ifndef OPTD_TEST_SESSION_TALK_H
#define OPTD_TEST_SESSION_TALK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/session.h"

#define EPOCH 7

static const struct msg_hello HELLO = {.protocol_min = 1, .protocol_max = 1};
static const struct session_spec WORKER = {.rank = 0, .layout = "layout", .layout_bytes = 6};
static int owner;

/* A session and the last message it sent. */
struct talk {
	struct session session;
	struct session_out out;
	struct session_event event;
	struct msg sent;
	uint64_t epoch;
	uint64_t now_ms;
};

static inline bool sends(struct talk *t)
{
	if (!session_next(&t->session, t->now_ms, &t->out))
		return false;
	session_fill(&t->session, &t->out, &t->sent);
	session_sent(&t->session, &t->out, t->now_ms);
	return true;
}

static inline void expect(struct talk *t, enum msg_verb verb)
{
	assert_true(sends(t));
	assert_int_equal(t->sent.verb, verb);
}

/* An answer to the last message. */
static inline struct msg reply_to(const struct talk *t, int status)
{
	return (struct msg){
		.verb = t->sent.verb,
		.reply = true,
		.status = status,
		.request = t->sent.request,
		.session = t->sent.session,
		.epoch = t->epoch,
	};
}

static inline enum session_event_kind take(struct talk *t, const struct msg *reply)
{
	session_reply(&t->session, reply, t->now_ms, &t->event);
	return t->event.kind;
}

static inline enum session_event_kind welcome(struct talk *t)
{
	struct msg m = reply_to(t, OPTD_OK);
	m.welcome = (struct msg_welcome){.protocol = 1,
	                                 .daemon_id = 42,
	                                 .lanes = 1,
	                                 .message_bytes = 1000,
	                                 .window_bytes = 2000};
	return take(t, &m);
}

static inline enum session_event_kind opened(struct talk *t, uint64_t run, uint64_t step)
{
	struct msg m = reply_to(t, OPTD_OK);
	m.opened = (struct msg_opened){.model = 3,
	                               .layout = 99,
	                               .run_id = run,
	                               .step = step,
	                               .incarnation = 5,
	                               .state = MSG_MODEL_READY};
	return take(t, &m);
}

static inline struct talk *talk_new(void)
{
	struct talk *t = calloc(1, sizeof(*t));
	session_init(&t->session, 1000, &HELLO);
	t->epoch = EPOCH;
	t->now_ms = 50000;
	return t;
}

static inline void talk_free(struct talk *t)
{
	session_deinit(&t->session);
	free(t);
}

/* A session with one model open at step 10 of run 11. */
static inline struct talk *talk_open(void)
{
	struct talk *t = talk_new();
	session_open(&t->session, 0, &WORKER, 0);
	expect(t, MSG_HELLO);
	assert_int_equal(welcome(t), SESSION_WELCOMED);
	expect(t, MSG_OPEN);
	assert_int_equal(opened(t, 11, 10), SESSION_OPENED);
	t->session.slots[0].seen_step = 10;
	return t;
}

static inline uint64_t ask(struct talk *t, uint64_t bytes)
{
	return inflight_add(&t->session.inflight, MSG_PUSH, 0, bytes, &owner, 0);
}

#endif
