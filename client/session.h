/*
 * Session: one lane's conversation, as a state machine.
 *
 *     HELLO -> WELCOME -> OPEN for each model -> OPENED -> requests
 *
 * and the same again, with the same requests under the same numbers, when the
 * server has restarted, forgot the session or fell silent.  A session decides
 * what is to be sent next and what an answer means; the requests themselves
 * are in its struct inflight.
 *
 * Silence is normal, since an answer may wait for a slow worker.  So after
 * SESSION_PROBE_MS of it the session asks something that is answered at once:
 * OPEN of a model that is open already, whose answer NO_SESSION says that the
 * connection was replaced under us and that answers went astray; or HELLO where
 * no model is open.  Only if that is not answered either, and no bytes move on the
 * connection, it is made anew: over a slow link a question waits behind all that was
 * sent before it, and its answer likewise.
 *
 * Pure: milliseconds are passed in, messages are structs.  Used by the library
 * on ZeroMQ and by the simulator on a virtual network.
 */
#ifndef OPTD_CLIENT_SESSION_H
#define OPTD_CLIENT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/inflight.h"
#include "proto/layout.h"
#include "proto/msg.h"

#define SESSION_PROBE_MS 1000u
/* How long a HELLO, an OPEN or a probe may stay unanswered. */
#define SESSION_ANSWER_MS 2000u
/* A rank whose holder has just died is given up by the server within this time, and
 * a worker that has opened a model at its lead comes to the other lanes, so OPEN asks
 * again meanwhile. */
#define SESSION_HELD_MS 3000u
#define SESSION_RETRY_MS 100u

#define SESSION_NO_SLOT INFLIGHT_NO_SLOT
#define SESSION_ANY_LANE UINT32_MAX
#define SESSION_NEVER UINT64_MAX

/* What OPEN says about a model, the same on all lanes of a daemon but for what
 * the session fills in: expect_run, seen_step and wants_init. */
struct session_spec {
	struct msg_open open;
	int32_t rank;
	const void *layout; /* as encoded by wire_layout_encode, or NULL */
	uint64_t layout_bytes;
	uint64_t layout_checksum;
};

enum session_slot_state {
	SESSION_CLOSED = 0,
	SESSION_OPENING, /* OPEN is to be sent, or under way */
	SESSION_OPEN,
	SESSION_BROKEN,  /* failed with slot.status; session_open tries again */
};

struct session_slot {
	enum session_slot_state state;
	const struct session_spec *spec;
	uint64_t number;   /* of the OPEN under way; 0: none */
	uint64_t sent_ms;
	uint64_t retry_ms; /* not before; SESSION_NEVER: not before the session starts again */
	uint64_t held_ms;  /* since when OPEN is asked again (SESSION_HELD); 0: it is not */
	bool restarted;    /* the daemon restarted since the model was open here */
	uint64_t expect_run;
	uint64_t seen_step;
	uint64_t gone_back_from; /* the caller's: what was seen here before a rollback that the
	                            program accepted; 0 once the model is open again */
	bool wants_init;   /* see session_want_init */
	int status;        /* with SESSION_BROKEN */
	bool attached;     /* was open once: never create it again */
	struct msg_opened opened; /* without texts; as last answered */
};

enum session_state {
	SESSION_GREETING, /* HELLO is to be sent */
	SESSION_GREETED,  /* HELLO is under way */
	SESSION_UP,
	SESSION_FAILED,   /* the server refused: status */
};

struct session {
	enum session_state state;
	uint64_t number;     /* of this session; rises */
	uint64_t epoch;      /* of the daemon; 0: not known */
	uint64_t greet_ms;   /* HELLO not before */
	uint64_t greeted_ms; /* when HELLO went out */
	uint64_t heard_ms;   /* last message from the server */
	uint64_t sent_ms;    /* last request */
	uint64_t probe;      /* number of the probe under way; 0: none */
	uint64_t probe_ms;   /* when it went out */
	uint64_t moved_ms;   /* see session_moved */
	bool poked;          /* see session_poke */
	int status;

	const struct msg_hello *hello;
	uint64_t expect_daemon; /* 0: any */
	uint32_t expect_lane;   /* SESSION_ANY_LANE */
	uint64_t daemon_id;
	uint32_t lane, lanes;
	uint32_t message_bytes, window_bytes;

	struct session_slot slots[INFLIGHT_SLOTS];
	uint64_t open_slots;
	struct inflight inflight;
};

/* What to send. */
enum session_out_kind { SESSION_SEND_HELLO, SESSION_SEND_OPEN, SESSION_SEND_PROBE, SESSION_SEND_REQUEST };

struct session_out {
	enum session_out_kind kind;
	uint32_t slot;                    /* OPEN, REQUEST, PROBE */
	struct inflight_request *request; /* REQUEST */
};

/* What a reply meant. */
enum session_event_kind {
	SESSION_NOTHING,   /* old, repeated, or the session's own business */
	SESSION_WELCOMED,  /* first WELCOME of this session: its endpoints are in the reply */
	SESSION_LOST,      /* the session is being made anew; status says why */
	SESSION_REFUSED,   /* HELLO failed for good */
	SESSION_OPENED,    /* slot is open: slots[slot].opened */
	SESSION_NOT_OPENED, /* slot is broken: status */
	SESSION_HELD,      /* OPEN is tried again: what the reply's text says may pass */
	SESSION_NOTICE,    /* request is still under way, or held with DRAINING until the server
	                    * is back; the reply's text says why */
	SESSION_ANSWER,    /* request is over, with the reply's status */
};

struct session_event {
	enum session_event_kind kind;
	int status;
	uint32_t slot;
	struct inflight_request request; /* NOTICE, ANSWER */
	bool restarted; /* OPENED: by another life of the daemon than before */
	uint64_t from, to; /* NOT_OPENED with OPTD_ROLLBACK: the steps */
};

/* `number` is the first session number: random, so that two clients differ.
 * Keeps hello. */
void session_init(struct session *session, uint64_t number, const struct msg_hello *hello);
void session_deinit(struct session *session);

/* Opens a model on this lane as soon as possible, or, if it is open, asks
 * again.  Keeps spec until session_close_slot. */
void session_open(struct session *session, uint32_t slot, const struct session_spec *spec,
                  uint64_t not_before_ms);
/* After session_open: this OPEN, until it is answered, also asks for the right to
 * give the first weights.  Probes, and OPENs of what was open before a
 * reconnect, do not. */
void session_want_init(struct session *session, uint32_t slot);
void session_close_slot(struct session *session, uint32_t slot);

/* Names what to send now.  Returns false if there is nothing.  The choice holds
 * until the next call on the session; session_fill makes its header. */
bool session_next(struct session *session, uint64_t now_ms, struct session_out *out);

/* Fills a header.  For requests of a model that leaves step, versions, parts,
 * weight, token and payload to the caller, for others the body. */
void session_fill(struct session *session, const struct session_out *out, struct msg *msg);

/* Says that it was handed to the network. */
void session_sent(struct session *session, const struct session_out *out, uint64_t now_ms);

/* Takes a reply. */
void session_reply(struct session *session, const struct msg *reply, uint64_t now_ms,
                   struct session_event *event);

/* Asks whether the server is still the same one, although nothing is owed here:
 * another lane of its daemon cannot be reached, and this one knows where it went. */
void session_poke(struct session *session);

/* A reply to `request` arrived damaged: asks for it again. */
void session_damaged(struct session *session, uint64_t request);

/* Whether session_tick would give the connection up.  Bytes that move on it meanwhile
 * give it another SESSION_ANSWER_MS. */
bool session_is_overdue(const struct session *session, uint64_t now_ms);
void session_moved(struct session *session, uint64_t now_ms);
/* Lets time pass.  Returns true if the connection should be made anew. */
bool session_tick(struct session *session, uint64_t now_ms);

/* Gives the connection up: everything unanswered will be sent again. */
void session_restart(struct session *session, uint64_t not_before_ms);

/* When session_tick or session_next has something to do next, if no reply
 * arrives; SESSION_NEVER. */
uint64_t session_deadline(const struct session *session);

#endif
