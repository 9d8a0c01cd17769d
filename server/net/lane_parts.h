/* What the files behind lane.h share; only they include it. */
#ifndef OPTD_NET_LANE_PARTS_H
#define OPTD_NET_LANE_PARTS_H

#include <pthread.h>
#include <uv.h>

#include "proto/wire.h"
#include "server/net/guard.h"
#include "server/net/hearing.h"
#include "server/net/lane.h"
#include "server/net/mailbox.h"
#include "server/net/peers.h"
#include "server/net/zsock.h"

/* Malformed messages of one connection; direct-mapped by a hash of the routing id. */
#define LANE_STRIKES 64u
struct lane_strikes {
	uint32_t key, count;
};

struct lane_counts {
	uint64_t malformed; /* messages refused before they reached the core */
	uint64_t strangers; /* requests without a session */
	uint64_t unsent;    /* answers dropped: the peer was gone or took none */
};

struct lane {
	struct lane_options options;
	char endpoint[LIMIT_ENDPOINT_BYTES];
	char listen[LIMIT_ENDPOINT_BYTES];
	void *socket;
	struct guard *guard;
	struct peers peers;
	struct wire_arena *arena;
	struct buf_pool *pool;
	struct engine *engine;
	struct engine_options engine_options;
	struct outbox out;
	struct log_limit log_limit;
	struct log_limit skipped_limit; /* by model: it is asked in each tick while a line is due */
	struct lane_counts counts;
	struct lane_strikes strikes[LANE_STRIKES];
	/* thread */
	pthread_t thread;
	bool running;
	uv_loop_t loop;
	struct zsock zsock;
	uv_timer_t timer;
	struct mailbox mailbox;
	struct hearing hearing; /* of the other lanes */
	uint32_t round_messages; /* taken since the guard was told of a turn */
	uint32_t round_ticks;    /* of the timer since then */
	bool round_done;         /* and every connection was asked */
	bool draining, stopping;
	uint64_t stop_by_ms;
	uint64_t probed_ms; /* all peers, for want of room */
	bool queued; /* some peer has parcels waiting */
	/* a checkpoint's cut */
	bool cutting;
	struct lane_cut cut;
	uint64_t cut_began_ms;
	uv_idle_t cut_idle;
	size_t beyond; /* peers_beyond_all, as last summed */
	bool beyond_is_known;
	uv_check_t kept_check; /* while there are answers that wait for room */
	uv_idle_t kept_idle;   /* and while they are taken */
	uv_idle_t work_idle;   /* while whole tensors are to be updated */
};

/* One turn of the socket: receives within a budget, handles, sends. */
void dispatch_turn(void *lane);
/* Tries to send what waits in the peers' queues. */
void send_queued(struct lane *lane);
/* Answers pulls that waited in the next turns of the loop, as ZeroMQ takes them. */
void send_kept_soon(struct lane *lane);
/* Updates whole tensors in the next turns of the loop, if there are any to be. */
void work_soon(struct lane *lane);
/* Forgets a peer whose connection is gone. */
void lane_peer_gone(struct lane *lane, uint32_t number);
/* Sends to all peers, at most once a second, which forgets those that are gone. */
void lane_probe_all(struct lane *lane);
/* Looks up what each peer is entitled to by the ranks it holds. */
void grants_renew(struct lane *lane);
/* Whether there is room for one more answer with a payload to this peer.  share: what it
 * may leave unread however much the others do. */
bool room_is_there(struct lane *lane, uint32_t peer, uint64_t share);
/* The same, and the sentence for BUSY if there is none even by letting go a peer that leaves much unread and reads nothing. */
#define ROOM_TEXT_BYTES 250
bool room_for_answer(struct lane *lane, uint32_t peer, uint64_t share,
                     char text[static ROOM_TEXT_BYTES]);
/* Logs that a peer is cut for what it leaves unread. */
void room_log_unread(struct lane *lane, uint32_t number, const char *why);
/* Tells the engine what answers take, before an OPEN; and after one that was refused for
 * their sake, makes room. */
void room_before_open(struct lane *lane);
void room_after_open(struct lane *lane);
/* Whether one more line about who has this connection may be logged now. */
bool lane_may_log(struct lane *lane, int fd, uint64_t *left_out);
/* Logs steps that were skipped since the last line about their model. */
void skipped_log(struct lane *lane, uint64_t now_ms);
/* Answers a STATUS request. */
void status_answer(struct lane *lane, uint32_t peer, const struct msg *request);
/* Does a bit of the cut, and goes on when the loop is idle while there is more. */
void cut_turn(struct lane *lane);

#endif
