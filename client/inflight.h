/*
 * Inflight: the requests of one lane, from being asked for to their final
 * answer.
 *
 * A request waits in a queue until its model is open on the lane and the
 * window has room, is then under way, and ends with its answer.  When the
 * session is lost everything unanswered goes back into the queue, in the order
 * in which it was asked for and under the same numbers, so that the server can
 * tell what it already has.
 *
 * The window: bytes of a request count from sending until the server says that
 * it has taken them in (FOLDED) or gives the answer.  One request is always
 * allowed, however large.  A request whose caller gave up counts on, since the
 * server still holds it.
 *
 * Pure: time, sockets and bytes are elsewhere.
 */
#ifndef OPTD_CLIENT_INFLIGHT_H
#define OPTD_CLIENT_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/msg.h"

/* Slots number the models of a client; a request for none needs no model. */
#define INFLIGHT_SLOTS 64u
#define INFLIGHT_NO_SLOT UINT32_MAX

struct inflight_request {
	struct inflight_request *next, *prev;
	uint64_t number; /* rises with each request; never 0 */
	uint64_t bytes;  /* what it takes of the window */
	uint32_t slot;
	enum msg_verb verb;
	bool folded;
	void *owner; /* NULL: the caller gave up */
	uint32_t index; /* the owner's number for it */
};

struct inflight_list {
	struct inflight_request *first, *last;
};

struct inflight {
	uint64_t window; /* set by the session as the server grants it */
	uint64_t used;
	uint64_t next_number;
	struct inflight_list queued, sent, held;
	struct inflight_request *spare;
};

enum inflight_outcome {
	INFLIGHT_IGNORED, /* answered before, or given up */
	INFLIGHT_NOTICE,  /* still under way */
	INFLIGHT_FINAL,   /* over: forget it */
};

void inflight_init(struct inflight *inflight);
void inflight_deinit(struct inflight *inflight);

/* Queues a request.  Returns its number, or 0 without memory. */
uint64_t inflight_add(struct inflight *inflight, enum msg_verb verb, uint32_t slot, uint64_t bytes,
                      void *owner, uint32_t index);

/* A number for a message that is not a request of this list. */
uint64_t inflight_number(struct inflight *inflight);

/* The request to send next, or NULL if there is none or the window is full.
 * Bit s of open_slots says that requests for slot s may be sent. */
struct inflight_request *inflight_next(const struct inflight *inflight, uint64_t open_slots);

/* Says that inflight_next's request was handed to the network. */
void inflight_sent(struct inflight *inflight, struct inflight_request *request);

/* Takes a reply with this status to request `number`.  With NOTICE and FINAL
 * *out is a copy of the request. */
enum inflight_outcome inflight_reply(struct inflight *inflight, uint64_t number, int status,
                                     struct inflight_request *out);

/* The server will not answer `number` in this life of its: it takes nothing of the window
 * any more, and is sent again when the session was lost.  With NOTICE *out is a copy. */
enum inflight_outcome inflight_hold(struct inflight *inflight, uint64_t number,
                                    struct inflight_request *out);

/* The session was lost: everything unanswered is to be sent again. */
void inflight_reset(struct inflight *inflight);

/* The same for what was sent under one number: the server asks for it again.
 * Returns false if that is not under way. */
bool inflight_again(struct inflight *inflight, uint64_t number);

/* Gives up all requests of an owner. */
void inflight_cancel(struct inflight *inflight, const void *owner);

/* Whether somebody waits for an answer of this server or of its successor: their own, or
 * one that holds up the queue. */
bool inflight_waiting(const struct inflight *inflight);
/* Whether anything is queued. */
bool inflight_queued(const struct inflight *inflight);

#endif
