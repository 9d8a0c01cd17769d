/*
 * Engine: the only door to the core.
 *
 * One lane's models, sessions and waiting requests, as a state machine: a
 * request and the time go in, answers come out in an outbox.  It opens no
 * socket or file, reads no clock, writes no log and draws no random number, so
 * that a whole cluster fits into one deterministic process.
 *
 * A peer is a number the caller gives to a connection; it may give the number
 * to another connection after engine_peer_gone.  Times are milliseconds on a
 * clock that never goes back.
 */
#ifndef OPTD_CORE_ENGINE_H
#define OPTD_CORE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "optim/optim.h"
#include "proto/msg.h"
#include "server/base/buf.h"
#include "server/core/access.h"
#include "server/core/commit.h"
#include "server/core/model.h"
#include "server/core/outbox.h"
#include "server/core/shard.h"

struct engine;

/* Settings that a model of this name is made with; zero fields are the worker's
 * to choose. */
struct engine_preset {
	const char *model;
	bool optim_given;
	struct model_settings settings;
};

struct engine_options {
	uint32_t lane, lanes;
	const char *const *endpoints; /* [lanes], kept: where clients find each lane */
	uint64_t daemon_id;
	uint64_t epoch;
	uint64_t seed; /* run ids are drawn from it: random for a daemon, fixed for tests */
	enum optim_isa isa;
	uint64_t memory_bytes; /* what this lane's models may take, by the formula */
	uint32_t message_bytes;
	uint32_t window_bytes;
	uint32_t models;  /* at most LIMIT_MODELS */
	uint32_t workers; /* ranks of a model, at most LIMIT_WORKERS */
	uint32_t step_timeout_ms;
	uint32_t notice_ms; /* a waiting request hears what it waits for */
	uint32_t lease_ms;  /* to give a model its first weights */
	const struct engine_preset *presets; /* kept */
	uint32_t preset_count;
	/* Bytes of the header that a checkpoint of such a model has here, at most: one
	 * that could never be saved is refused.  May be NULL. */
	uint64_t (*head_bytes)(const struct model_settings *settings, const struct layout *layout,
	                       struct model_place place);
	/* Told of each commit before it is applied; may be NULL. */
	void (*on_commit)(void *user, const struct model *model, const struct commit *commit);
	void *user;
};

/* pool gives reply buffers and must outlive the engine.  NULL without memory. */
struct engine *engine_new(const struct engine_options *options, struct buf_pool *pool);
void engine_free(struct engine *engine);

/* All that was adopted goes on in this epoch, and whatever is made begins in it.  Before the
 * first request. */
void engine_begin_epoch(struct engine *engine, uint64_t epoch);
uint64_t engine_epoch(const struct engine *engine);

/* Answers to those who waited are made a few at a time, so that they take no more
 * memory than is being sent: after each call below that may have concerned them, and
 * once the outbox has been sent, engine_answer is called, until it returns false. */
#define ENGINE_BATCH 64

/* Whether a peer can be sent the answer to this wait now: it has payload_bytes. */
struct engine_room {
	bool (*has)(void *user, const struct wait *wait);
	void *user;
};

/* Adds answers to pushes whose steps are complete, and notices that bytes are folded:
 * up to a batch.  False: there were none.  Until then no other request is handled.  A
 * PUSH_PULL whose peer has no room (NULL: all have) is kept for engine_answer_kept, until
 * its rank pushes these blocks again: in sync it has the weights of its very step. */
bool engine_answer(struct engine *engine, const struct engine_room *room, struct outbox *out);

/* Whether there are pulls that waited, or pushes that are kept. */
bool engine_has_kept(const struct engine *engine);
/* Adds the answer to one of them, of a peer that has room, with the weights that are
 * there by now.  False: there is none to be answered now.  They need
 * not be answered before other requests are handled. */
bool engine_answer_kept(struct engine *engine, const struct engine_room *room, struct outbox *out);

/* Handles one request that wire_decode has checked.  payload is the buffer behind
 * request->payload (or NULL with an empty one); the engine holds it if it needs it
 * longer than this call.  layout: the decoded payload of an OPEN, or NULL; taken if
 * *layout becomes NULL.  principal: who asks, by whose role it may be DENIED.  Verbs about all lanes (STATUS, SAVE, DROP, SET) are the
 * caller's and get UNSUPPORTED here. */
void engine_handle(struct engine *engine, uint32_t peer, const struct principal *principal,
                   const struct msg *request, struct buf *payload, struct layout **layout,
                   uint64_t now_ms, struct outbox *out);

/* Updates of whole tensors are done in slices, so that a lane answers others meanwhile:
 * after each call that may have completed a step, and as long as engine_has_work, this is
 * called again and again, beside everything else.  A slice is about `budget`
 * multiplications.  Who reads a tensor that is being updated waits until it is done.  After
 * each call engine_answer is called, until it returns false. */
enum engine_worked { ENGINE_IDLE, ENGINE_WORKED, ENGINE_FINISHED /* an update */ };
enum engine_worked engine_work(struct engine *engine, uint64_t budget);
bool engine_has_work(const struct engine *engine);
/* Hears what another lane of the daemon has put into its outbox for this one.  Takes the
 * message. */
void engine_hear(struct engine *engine, struct lane_message *message, uint64_t now_ms,
                 struct outbox *out);

/* The connection is gone: its ranks are free, its waiting requests forgotten. */
void engine_peer_gone(struct engine *engine, uint32_t peer, struct outbox *out);

/* Lets time pass: notices, step timeouts, up to a batch of them.  Call a few times a
 * second.  True: there are more, send these and call again. */
bool engine_tick(struct engine *engine, uint64_t now_ms, struct outbox *out);

/* Whether HELLO has made this peer a session, under this number. */
bool engine_has_session(const struct engine *engine, uint32_t peer, uint64_t session);

/* Models, for status and checkpoints: indexes 0 to engine_shard_count-1. */
uint32_t engine_shard_count(const struct engine *engine);
struct shard *engine_shard(const struct engine *engine, uint32_t index);
struct shard *engine_find(const struct engine *engine, const char *name);

/* Whether a model of such settings may be taken in, by limits.models (OPTD_BUSY) and
 * limits.memory (OPTD_TOO_LARGE, or OPTD_BUSY if it fits once answers are read): ask before it takes memory.  The sentence in why has
 * both values. */
int engine_admits(const struct engine *engine, const char *name,
                  const struct model_settings *settings, const struct layout *layout,
                  struct model_place place, char *why, size_t why_bytes);

/* By limits.models alone: for one that comes back from a checkpoint, whose memory is
 * looked at for all lanes together. */
int engine_has_place(const struct engine *engine, const char *name, char *why, size_t why_bytes);

/* Takes in a model, made under both limits or read from a checkpoint under the one.
 * Those, and OPTD_NO_MEMORY and OPTD_EXISTS, leave *model the caller's, with a sentence
 * in why. */
int engine_adopt(struct engine *engine, struct model **model, char *why, size_t why_bytes);

/* Forgets a model: requests that wait for it get MODEL_LOST.  OPTD_WAITING: not all of
 * them have yet, send these and call again.  OPTD_NO_MODEL. */
int engine_drop(struct engine *engine, const char *name, struct outbox *out);

/* The daemon stops: no model is made any more, nor given its first weights.  Those that
 * are ready go on; a last cut holds them. */
void engine_drain(struct engine *engine);

/* Bytes the models take by the formula, and the pulls that wait. */
uint64_t engine_bytes(const struct engine *engine);
/* Bytes of limits.memory that answers take which nobody has read and no model's formula
 * has: the caller's to count, and to say before an OPEN.  No model gets them. */
void engine_set_unread(struct engine *engine, uint64_t bytes);

/* ---- a change of settings --------------------------------------------------
 *
 * One at a time for a model.  While it is agreed on, no block goes past the version that
 * it is to hold from; pushes are taken in as always. */

/* Looks at what is asked, and holds the blocks: at set->from, or, without one, at the
 * highest that any of them has.  OPTD_NOT_READY, OPTD_HYPER, OPTD_INVALID for a version
 * that a block has passed, with a sentence in why; nothing is held then.  What hangs on
 * the version is looked at once it is known. */
int engine_set_begin(struct shard *shard, const struct msg_set *set, char *why, size_t why_bytes);
/* All lanes and daemons have begun: it is to hold from this version on, to which blocks go
 * on.  passed: all blocks of the daemon have it.  OPTD_HYPER, OPTD_TOO_LARGE: it cannot. */
int engine_set_agree(struct engine *engine, struct shard *shard, uint64_t from, uint64_t passed, char *why,
                     size_t why_bytes);
/* Makes it; the blocks go on. */
void engine_set_make(struct engine *engine, struct shard *shard);
/* The blocks go on without it; harmless without one. */
void engine_set_end(struct engine *engine, struct shard *shard);

/* ---- a checkpoint's cut ---------------------------------------------------
 *
 * A cut writes a model block by block while the lane goes on: a block that has
 * reached the cut's version commits nothing until it is saved.  In sync all
 * blocks are saved at the same version, which is `version`, unless a step
 * stands still; in async each as it is.  The last cut, of a daemon that stops,
 * lets no saved block go on: what it acknowledges is in the file. */
int engine_cut_begin(struct shard *shard, uint64_t version, bool last);
/* Another lane is further on: blocks below this version go on until they reach it. */
void engine_cut_raise(struct engine *engine, struct shard *shard, uint64_t version);
/* How far a block is, with the update that is under way: what a cut cannot hold back. */
uint64_t engine_cut_reach(const struct shard *shard, uint32_t block);
/* A step stands still: the blocks not yet saved are to be saved as they are.  Where a step
 * is decided as a whole, all blocks stand still at one version, or reach the cut soon: then
 * nothing changes.  Nor does it while tensors are being updated, but for the last cut: a
 * step of large ones takes longer than anybody's patience and does not stand still. */
void engine_cut_force(struct shard *shard);

enum engine_cut { ENGINE_CUT_BLOCK, ENGINE_CUT_WAIT, ENGINE_CUT_DONE };
/* BLOCK and *block: it can be saved now.  WAIT: some must first reach the version, or the
 * end of their update.  DONE: all are saved. */
enum engine_cut engine_cut_next(const struct shard *shard, uint32_t *block);
/* The block is saved: its commits go on, but for the last cut. */
void engine_cut_saved(struct engine *engine, struct shard *shard, uint32_t block);
/* Ends the cut, saved or not; harmless without one.  The last one does not end. */
void engine_cut_end(struct engine *engine, struct shard *shard);

#endif
