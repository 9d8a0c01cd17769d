/*
 * Verbs: what the files behind the engine share.  Only they include this.
 */
#ifndef OPTD_CORE_VERBS_H
#define OPTD_CORE_VERBS_H

#include "server/core/engine.h"
#include "server/core/ready.h"
#include "server/core/share.h"

struct session {
	bool open;
	uint64_t number; /* the client's, for this connection */
	uint32_t pid;
	char host[SHARD_HOST_BYTES];
	uint32_t waits; /* its requests that wait, in all models: at most LIMIT_WAITS */
	struct ready_list ready; /* its waits that can be answered once it has room */
	uint32_t kept;           /* pushes among them */
	uint64_t answered_ms;    /* when one of them was, or 0 */
	bool in_turn;            /* to be answered, before next_peer */
	uint32_t next_peer;
};

struct engine {
	struct engine_options options;
	struct buf_pool *pool;
	struct session *sessions; /* [session_room], by peer */
	uint32_t session_room;
	struct shard *shards[LIMIT_MODELS];
	uint32_t shard_count;
	uint32_t next_handle;
	uint64_t runs;    /* run ids drawn */
	uint64_t commits; /* the number of the last one */
	uint64_t bytes;   /* of all shards, by the formula */
	uint64_t pull_bytes; /* of all pulls that wait: at most LIMIT_PULLS_BYTES */
	uint64_t unread;     /* of answers beyond the formula, by engine_set_unread */
	bool draining;    /* nothing new: it would be in no checkpoint */
	uint64_t now_ms;  /* of the last call that said */
	bool in_round;    /* a tick has not come to all waits yet */
	struct ready ready;
	struct share share;
	uint32_t work_at; /* the shard whose turn it is: server/core/work.c */
};

/* What one rank may have under way to this lane. */
struct shard_window engine_window(const struct engine *engine);

/* One request on its way through a verb. */
struct call {
	struct engine *engine;
	uint32_t peer;
	const struct msg *request;
	struct session *session;
	struct shard *shard; /* for verbs about an open model */
	struct buf *payload;
	struct layout **layout;
	uint64_t now_ms;
	struct outbox *out;
};

/* The verbs: each appends its answer, or makes the request wait. */
void verb_hello(struct call *call);
void verb_open(struct call *call);
void verb_goodbye(struct call *call);
void verb_init(struct call *call);
void verb_push(struct call *call); /* PUSH, PUSH_PULL, CLOSE_STEP */
void verb_pull(struct call *call);
void verb_norm(struct call *call);

/* An answer to the call, its head filled in but for what is special. */
struct outbox_entry *call_reply(struct call *call, int status);
/* An answer with a status and a sentence; counts as refused. */
void call_refuse(struct call *call, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* An answer to a request that waited; payload and versions for pulls. */
struct outbox_entry *wait_reply(struct engine *engine, struct shard *shard, const struct wait *wait,
                                int status, struct outbox *out);
/* Answers a wait that has all it waited for, and forgets it.  Bytes of the payload. */
uint64_t wait_finish(struct engine *engine, struct shard *shard, struct wait *wait,
                     struct outbox *out);
/* Forgets a wait without an answer. */
void wait_abandon(struct engine *engine, struct shard *shard, struct wait *wait);
/* Makes the call wait, behind the others; NULL after a refusal: the session has too
 * many already, or there is no memory. */
struct wait *call_wait(struct call *call);

/* Applies what the gate can commit of a block; those who waited for it are ready.  What is
 * part of a whole tensor is left to engine_work. */
void shard_run(struct engine *engine, struct shard *shard, uint32_t block);
/* The same of all blocks: what was held back has come already, and no message asks again. */
void shard_run_all(struct engine *engine, struct shard *shard);
/* The first weights are complete: looks anew at what pulls miss. */
void shard_begin(struct engine *engine, struct shard *shard);
/* Others are to give the first weights anew: who has not been answered waits for these. */
void shard_pause(struct engine *engine, struct shard *shard);
/* Applies one commit and numbers it. */
void shard_commit(struct engine *engine, struct shard *shard, struct commit *commit);
/* Numbers one that is to be applied, and tells of it. */
void shard_number(struct engine *engine, struct shard *shard, struct commit *commit);
/* Those who waited for this version of the block go on to their next, or are ready. */
void shard_advance(struct engine *engine, struct shard *shard, uint32_t block);
/* Whether a checkpoint, or a change of settings, holds the block's next commit back. */
bool shard_holds(const struct shard *shard, uint32_t block);
/* Whether one of its blocks is being updated: its weights are in between. */
bool wait_is_busy(const struct wait *wait);

/* Checks the parts of a call against its shard: sum of elements, or 0 after a refusal. */
uint64_t call_elements(struct call *call);
/* Likewise, and that the payload holds just these elements. */
bool call_payload_fits(struct call *call);
/* Whether a message takes the weights of so many elements; refuses where it does not. */
bool call_answer_fits(struct call *call, uint64_t elements);
/* Whether this session holds the rank that it names; or a refusal. */
bool call_rank_holds(struct call *call);
/* Whether there is neither NaN nor Inf in it; or a refusal that says where. */
bool call_finite(struct call *call);

/* verdict.c: gradients that are not finite, by the model's policy.
 *
 * Whether what the push says of itself goes with the policy, or a refusal. */
bool verdict_allows(struct call *call);
/* Whether its values go with that, or a refusal; they are looked at only if need be. */
bool verdict_holds(struct call *call);
/* Under `zero`, of a contribution that is about to be taken in: puts 0 in place of what is
 * not finite, in the buffer that came; how often. */
uint64_t verdict_zero(const struct call *call, const struct gate_push *push);
/* What an answer to a push says of its step: that it was skipped, and for whom; the loss
 * scale of the next. */
void verdict_tell(const struct shard *shard, const struct wait *wait, struct msg *head);

/* Bytes left of limits.memory. */
uint64_t engine_left(const struct engine *engine);
/* Why so many are not: OPTD_TOO_LARGE, or OPTD_BUSY where it is answers that nobody has
 * read, with an end for the sentence. */
#define ENGINE_SHORT_BYTES 128
int engine_short(const struct engine *engine, uint64_t need, char *text, size_t bytes);
/* Whether so many bytes are: OPTD_OK, OPTD_TOO_LARGE, or OPTD_BUSY as engine_short has
 * it, with all values in why. */
int engine_has_room(const struct engine *engine, const char *name, const struct layout *layout,
                    uint64_t need, char *why, size_t why_bytes);

/* Frees the ranks and waits of a session. */
void session_close(struct engine *engine, uint32_t peer);

#endif
