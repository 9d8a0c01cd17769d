/*
 * Lane: one thread of the daemon with its own loop, ROUTER socket, endpoint and
 * engine.  Lanes share nothing on the data path; a client cannot tell a lane
 * from another daemon.
 *
 * Life: lane_open binds (so that all endpoints are known before anyone is told
 * of them), lane_start makes the engine, models may then be adopted, lane_run
 * starts the thread.  From then on the engine belongs to that thread; others
 * post what they want done.
 */
#ifndef OPTD_NET_LANE_H
#define OPTD_NET_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/msg.h"
#include "server/core/engine.h"
#include "server/log.h"

struct lane;
struct guard_counts;
struct mail;

struct lane_options {
	void *context; /* ZeroMQ's */
	const struct log *log; /* kept */
	uint32_t index;
	const char *listen; /* "tcp://127.0.0.1:*" */
	uint32_t message_bytes;
	uint32_t window_bytes;
	uint32_t connections;
	/* Kept: all lanes of the daemon by index, itself too, when one runs. */
	struct lane *const *lanes;
	/* SAVE and DROP concern all lanes: this is told of them on the lane's thread
	 * and sees to an answer by lane_answer, later and from any thread.  name is "" for
	 * all models. */
	void (*admin)(void *user, struct lane *lane, const struct msg *request, uint32_t peer,
	              const char *name);
	void *user;
	/* So does SET; of the request it copies what it needs. */
	void (*set)(void *user, struct lane *lane, const struct msg *request, uint32_t peer);
	void *set_user;
};

/* Opens and binds the socket.  OPTD_IO when the address cannot be bound: why names
 * it and the reason. */
int lane_open(const struct lane_options *options, struct lane **out, char *why, size_t why_bytes);

/* Where the lane listens, with the real port. */
const char *lane_endpoint(const struct lane *lane);

/* Makes the engine; options->lane and ->lanes and endpoints as they are. */
int lane_start(struct lane *lane, const struct engine_options *options);
/* See engine_begin_epoch; before lane_run. */
void lane_begin_epoch(struct lane *lane, uint64_t epoch);
/* Only before lane_run, or on the lane's thread. */
struct engine *lane_engine(struct lane *lane);

/* Starts the thread.  OPTD_INTERNAL. */
int lane_run(struct lane *lane);

/* Has run(lane, argument) done on the lane's thread, soon and in order.  Any thread,
 * once lane_run was called; OPTD_NO_MEMORY. */
int lane_post(struct lane *lane, void (*run)(void *lane, void *argument), void *argument);
/* The same with the caller's mail (server/net/mailbox.h), so that it cannot fail. */
void lane_post_kept(struct lane *lane, struct mail *mail, void (*run)(void *lane, void *argument),
                    void *argument);

/* Sends the answer to an admin request.  On the lane's thread.  text is copied. */
void lane_answer(struct lane *lane, uint32_t peer, const struct msg *request, int status,
                 const char *text);
/* Sends what the core wants sent.  On the lane's thread. */
void lane_send(struct lane *lane, struct outbox *out);
struct outbox *lane_outbox(struct lane *lane);
/* The clock that a lane and its engine go by. */
uint64_t lane_now_ms(void);

/* ---- cutting ------------------------------------------------------------ */

/* Writes one shard's blocks as they become ready to be saved. */
struct lane_cut {
	struct shard *shard;
	uint64_t patience_ms; /* how long blocks may take to reach the cut before they
	                         are saved as they are */
	/* Saves one block; on the lane's thread.  A negative status ends the cut. */
	int (*put)(void *user, const struct shard *shard, uint32_t block);
	/* All is saved, or status says why not; the lane has forgotten the cut. */
	void (*done)(void *user, struct lane *lane, int status);
	void *user;
};

/* Begins to save; engine_cut_begin was called.  One at a time.  On the lane's thread. */
void lane_cut(struct lane *lane, const struct lane_cut *cut);

/* Stops the thread after answers were sent, and waits for it. */
void lane_stop(struct lane *lane);
/* Closes the socket; after that zmq_ctx_term gives back all buffers. */
void lane_close_socket(struct lane *lane);
/* After zmq_ctx_term.  Sets *lane to NULL. */
void lane_free(struct lane **lane);

#endif
