/*
 * Messages as both sides think of them: plain structs without protobuf.
 *
 * A message is a header and a payload.  struct msg is the header, decoded and
 * checked (by proto/wire) or about to be encoded.  Everything it points to is
 * borrowed: from the bytes that were decoded, or from whoever filled it in, and
 * is good until the call it was passed to returns.
 *
 * Which fields a verb uses, and what they mean, is the subject of PROTOCOL.md.
 */
#ifndef OPTD_PROTO_MSG_H
#define OPTD_PROTO_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/dtype.h"
#include "proto/limits.h"
#include "proto/status.h"

enum msg_verb {
	MSG_HELLO = 1,      /* body hello; the reply's body is welcome */
	MSG_OPEN = 2,       /* body open, payload layout; reply: opened */
	MSG_INIT = 3,       /* first weights of blocks, under a token; no parts: done */
	MSG_PUSH = 4,       /* gradients of blocks */
	MSG_PULL = 5,       /* weights of blocks, of min_version or later */
	MSG_PUSH_PULL = 6,  /* both, of the same blocks */
	MSG_CLOSE_STEP = 7, /* blocks this rank has nothing for in this step */
	MSG_STATUS = 8,     /* reply: payload of model records */
	MSG_SAVE = 9,       /* body named: write a checkpoint of it, or of all */
	MSG_DROP = 10,      /* body named: forget the model */
	MSG_GOODBYE = 11,   /* the session ends; its ranks are free */
	MSG_SET = 12,       /* body set: change a running model's hyper-parameters */
	MSG_NORM = 13,      /* parts of a step's norm: the server's own, or, as payload, others' */
};
#define MSG_VERB_COUNT 14

enum msg_kind {
	MSG_MODEL = 0,
	/* 1 is kept for embedding tables */
};

enum msg_place {
	MSG_INLINE = 0, /* the payload is the message's second frame */
	/* 1 is kept for a shared memory region */
};

#define MSG_NO_RANK (-1)
/* In place of a rank plus one: no worker's, but the norm of what they all pushed, is not
 * finite. */
#define MSG_SKIPPED_SUM (LIMIT_WORKERS + 1u)

/* A run of whole blocks; or, with a mask, some segments of one block: bit i of
 * the mask (least significant first) is the block's i-th segment. */
struct msg_part {
	uint32_t first;
	uint32_t count;
	const uint8_t *mask; /* NULL: whole blocks */
	uint32_t mask_bytes;
};

enum msg_mode { MSG_MODE_UNSET = 0, MSG_SYNC = 1, MSG_ASYNC = 2 };
enum msg_reduce { MSG_REDUCE_UNSET = 0, MSG_MEAN = 1, MSG_SUM = 2 };
/* Which vector a PULL is about. */
enum msg_source { MSG_WEIGHTS = 0, MSG_AVERAGE = 1 };
enum msg_resume { MSG_RESUME_AUTO = 0, MSG_RESUME_NEVER = 1, MSG_RESUME_MUST = 2 };

/* What becomes of a gradient that holds NaN or Inf: the whole step is left out, the push
 * is refused, or such elements count as 0. */
enum msg_nonfinite {
	MSG_NONFINITE_UNSET = 0,
	MSG_SKIP_STEP = 1, /* sync only */
	MSG_REJECT = 2,
	MSG_ZERO = 3,
};

/* What a worker has found its gradient of a step to be. */
enum msg_verdict { MSG_FINITE = 0, MSG_POISONED = 1 };

/* A loss scale that the server keeps, under the names of torch.amp.GradScaler.  On its
 * way 0 is PyTorch's default; a model has all of them. */
struct msg_loss_scale {
	bool given;
	double init_scale, growth_factor, backoff_factor;
	uint32_t growth_interval;
};

/* Text that need not end in NUL. */
struct msg_text {
	const char *bytes;
	uint32_t size;
};

struct msg_hello {
	uint32_t protocol_min, protocol_max;
	struct msg_text host; /* for people: who holds a rank */
	uint32_t pid;
	struct msg_text software; /* "liboptd 0.1.0" */
};

struct msg_welcome {
	uint32_t protocol;
	uint64_t daemon_id;     /* differs between data directories */
	uint32_t lane, lanes;   /* which lane of the daemon answered */
	uint32_t message_bytes; /* largest payload */
	uint32_t window_bytes;  /* what may be under way to this lane */
	struct msg_text software;
	uint32_t endpoint_count; /* == lanes: where each lane listens */
	struct msg_text endpoints[LIMIT_LANES];
};

/* A hyper-parameter by PyTorch's name; booleans are 0 and 1. */
struct msg_hyper {
	struct msg_text name;
	double values[LIMIT_HYPER_VALUES];
	uint32_t count;
};

/* A stretch of a learning-rate schedule, with PyTorch's names for what it takes. */
struct msg_schedule_param {
	struct msg_text name;
	double values[LIMIT_SCHEDULE_VALUES];
	uint32_t count;
};

struct msg_schedule_part {
	struct msg_text name;
	uint64_t until; /* updates; of the last part not looked at */
	uint32_t param_count;
	struct msg_schedule_param params[LIMIT_SCHEDULE_PARAMS];
};

/* Tensors with an optimizer of their own; what is not given is the model's, or with
 * another optimizer's name its defaults. */
struct msg_group {
	struct msg_text tensors; /* a pattern: proto/glob.h */
	bool frozen;
	double lr_factor;          /* 0: not given */
	struct msg_text optimizer; /* empty: the model's */
	struct msg_text match;
	uint32_t hyper_count;
	const struct msg_hyper *hypers;
	uint32_t schedule_count;
	const struct msg_schedule_part *schedule;
	bool whole; /* OPENED: its tensors are whole ones; proto/layout.h */
};

/* What a model holds the norm of a step's gradient to; 0: not given. */
struct msg_clip {
	double norm;        /* of all tensors together */
	double norm_type;   /* 1 or more, or INFINITY for the largest element */
	double tensor_norm; /* of each tensor */
};

/* An average of the weights that the server keeps beside them; no kind: none is named. */
struct msg_average {
	struct msg_text kind;
	uint32_t hyper_count;
	struct msg_hyper hypers[LIMIT_AVERAGE_HYPERS];
};

struct msg_open {
	struct msg_text model;
	uint32_t daemon, daemons; /* place of this server in the worker's list */
	uint64_t layout_hash;     /* see proto/layout.h; 0: attach only,
	                             without a layout (readers) */
	uint64_t client;          /* the same for all sessions of one client process */
	enum msg_resume resume;
	struct msg_text run;      /* the job's own run name; empty: none */
	uint64_t expect_run;      /* run id this client has seen; 0: none yet */
	uint64_t seen_step;       /* steps it has seen completed; for ROLLBACK */
	uint64_t seen_version;    /* the highest it was told here; 0: none */
	uint64_t seen_epoch;      /* in which it last opened the model here */
	bool wants_init;          /* asks the lead for the right to give first weights */
	struct msg_text optimizer; /* empty: take the model's */
	struct msg_text match;     /* empty: take the model's */
	enum msg_mode mode;
	enum msg_reduce reduce;
	uint32_t workers;
	uint32_t step_timeout_ms; /* 0: not given */
	struct msg_clip clip;
	uint32_t hyper_count;
	struct msg_hyper hypers[LIMIT_HYPERS];
	uint32_t schedule_count; /* 0: take the model's */
	struct msg_schedule_part schedule[LIMIT_SCHEDULE_PARTS];
	uint32_t group_count;    /* 0: take the model's, but see whole_settings */
	const struct msg_group *groups;
	bool whole_settings; /* no schedule, groups, clipping, loss scale and average but these:
	                        where none is, the model must have none */
	enum msg_nonfinite nonfinite;
	struct msg_loss_scale loss_scale;
	struct msg_average average; /* no kind: take the model's, but see whole_settings */
	bool relays_norms;          /* the client carries parts of norms between servers: NORM */
};

enum msg_model_state {
	MSG_MODEL_READY = 1,   /* has weights */
	MSG_MODEL_GRANTED = 2, /* has none, and you are to give them: token */
	MSG_MODEL_WAITING = 3, /* has none, and you are not asked for them */
};

struct msg_opened {
	uint32_t model;      /* handle for the header's `object` */
	uint64_t layout;     /* id for the header's `layout` */
	uint64_t run_id;     /* of the model */
	uint64_t step;       /* the step this rank should push next on this lane */
	uint64_t incarnation;
	uint64_t token;      /* with GRANTED */
	uint32_t lease_ms;   /* with GRANTED: start INIT within it */
	enum msg_model_state state;
	bool created;        /* by this OPEN */
	bool restored;       /* the model came from a checkpoint */
	uint64_t age_s;      /* since the checkpoint it was restored from, or creation */
	enum msg_mode mode;
	enum msg_reduce reduce;
	uint32_t workers;
	uint32_t step_timeout_ms;
	struct msg_text optimizer; /* "adam match=torch2 lr=0.001 ...", for people */
	uint64_t elements;
	uint32_t tensors;
	enum msg_nonfinite nonfinite; /* UNSET: of a daemon that tells none, or one not known here */
	struct msg_loss_scale loss_scale; /* given: the server keeps one, and */
	double loss_scale_now;            /* this is that of the next step */
};

/* OPENED's optimizer as OPEN takes it.  Beside struct msg_opened, which sessions keep
 * for each model and lane: only the lead's is ever looked at. */
struct msg_rule {
	struct msg_text name; /* empty: a daemon before it was there */
	struct msg_text match;
	bool whole; /* tensors that no group has are whole ones: proto/layout.h */
	uint32_t hyper_count;
	struct msg_hyper hypers[LIMIT_HYPERS];
	uint32_t schedule_count; /* 0: a constant learning rate */
	struct msg_schedule_part schedule[LIMIT_SCHEDULE_PARTS];
	uint32_t group_count;
	const struct msg_group *groups;
	struct msg_clip clip;
	struct msg_average average; /* no kind: the model has none */
};

struct msg_named {
	struct msg_text model; /* empty: all, where the verb allows it */
};

/* With one daemon a change is made at once; with several in steps, so that all make it
 * from the same version on, or none does. */
enum msg_act {
	MSG_SET_NOW = 0,
	MSG_SET_PREPARE = 1,  /* looks at it, and holds the blocks back */
	MSG_SET_PROMISE = 2,  /* from this version on; without a further word it is made */
	MSG_SET_MAKE = 3,
	MSG_SET_WITHDRAW = 4, /* it is not made */
};

struct msg_set {
	struct msg_text model;
	struct msg_text tensors; /* a group's pattern; empty: the model's own optimizer */
	uint64_t id;             /* of this change, random */
	enum msg_act act;
	bool has_from;           /* else the lowest version that no block has passed */
	uint64_t from;
	uint32_t hyper_count;
	struct msg_hyper hypers[LIMIT_HYPERS];
};

/* What a lane has counted since the daemon started. */
struct msg_lane_status {
	uint64_t connections; /* now */
	uint64_t accepted;
	uint64_t refused;   /* connections beyond limits.connections */
	uint64_t cut;       /* connections, for malformed messages */
	uint64_t flooded;   /* connections that sent, or left unread, too much */
	uint64_t malformed; /* messages that are none */
	uint64_t strangers; /* requests without a session */
	uint64_t unsent;    /* answers to peers that were gone or took none, or without memory */
};

struct msg {
	enum msg_verb verb;
	bool reply;
	int32_t status;   /* replies: enum optd_status */
	uint64_t request; /* the client's number for it; echoed */
	uint64_t session; /* the client's number for this connection; echoed */
	uint64_t epoch;   /* of the daemon; requests: as learned in HELLO */
	enum msg_kind kind;
	uint32_t object; /* handle from OPEN */
	uint64_t layout; /* layout id from OPEN */
	int32_t rank;    /* MSG_NO_RANK: a reader */
	uint64_t incarnation;
	uint64_t step;         /* PUSH*: the step; replies: steps completed */
	uint64_t base_version; /* what the gradient was computed on */
	uint64_t min_version;  /* PULL: wait until each block has seen so many updates */
	enum msg_source source; /* PULL: of what; its reply: likewise */
	uint64_t version;      /* replies: lowest version over the parts */
	uint64_t version_max;  /* replies: highest */
	uint64_t token;        /* INIT */
	double weight;         /* of this contribution (samples); 0: not given */
	double loss_scale;     /* PUSH*: what the loss was multiplied with; 0: nothing */
	enum msg_verdict verdict; /* PUSH*, CLOSE_STEP: on all of a step's messages */
	uint32_t poison_tensor_plus_one; /* POISONED: the first tensor; 0: not said */
	/* Replies to PUSH*, CLOSE_STEP: */
	uint32_t skipped_rank_plus_one; /* the step was skipped for this rank, or MSG_SKIPPED_SUM; 0: it
	                                   was not */
	uint32_t skipped_tensor_plus_one;
	uint64_t zeroed;        /* elements of this push that counted as 0 */
	double next_loss_scale; /* where the server keeps one; 0: it does not */
	bool guessed;           /* NORM: parts that are not the step's, which nobody knows */
	uint32_t part_count;
	struct msg_part parts[LIMIT_PARTS];
	enum dtype dtype; /* of what a PUSH or PUSH_PULL pushes; else float32 */
	enum msg_place place;
	uint64_t checksum; /* XXH3 of the payload; 0 with an empty one */
	uint64_t payload_bytes;
	const void *payload; /* decoded: aligned to its elements or NULL */
	struct msg_text text; /* replies: what a person should read */
	union {
		struct msg_hello hello;
		struct msg_welcome welcome;
		struct msg_open open;
		struct {
			struct msg_opened opened;
			struct msg_rule rule;
		};
		struct msg_named named;
		struct msg_set set;
		struct msg_lane_status lane_status;
	};
};

/* Constant name of a verb ("PUSH_PULL"), "?" for others. */
const char *msg_verb_name(uint32_t verb);

/* "skip_step", "reject", "zero", "?" for others; and back, UNSET for another word. */
const char *msg_nonfinite_name(enum msg_nonfinite policy);
enum msg_nonfinite msg_nonfinite_find(struct msg_text name);

#endif
