/*
 * Wire: messages to bytes and back; its files are the only ones that see
 * generated protobuf types.
 *
 * Decoding trusts nothing: it bounds the bytes before it unpacks, unpacks into
 * an arena with a budget, and checks every field once, so that code behind it
 * may assert.  It does not know models: whether a block exists is for the core.
 */
#ifndef OPTD_PROTO_WIRE_H
#define OPTD_PROTO_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/msg.h"

struct layout;

/* Memory for unpacking one header; reused from message to message. */
struct wire_arena;
struct wire_arena *wire_arena_new(void); /* NULL without memory */
void wire_arena_free(struct wire_arena *arena);

/* Decodes a header and its payload into *out, whose pointers borrow from the
 * arena and `payload` until the next wire_decode with this arena; decoding
 * records of a payload in between leaves them good.
 *
 * Checked here: sizes, verb and enums known, texts UTF-8 without NUL and within
 * bounds, numbers finite and in range, parts in ascending order and without
 * overlap, masks only for single blocks and not empty, that the verb's body,
 * parts and payload are there and no others, the payload's size against
 * payload_bytes and against what the parts can have and, if `check` is set, its
 * checksum.  Fields that mean nothing for the verb are passed on unread.
 *
 * A payload of elements must be aligned to their size.  ZeroMQ promises no
 * alignment: who received it copies it first where it is not (an OPEN's layout
 * and a STATUS may lie anywhere); a misaligned one is OPTD_INTERNAL.
 *
 * Errors: OPTD_MALFORMED; OPTD_UNSUPPORTED for a verb, kind, place, dtype, mode
 * or other enum of a later version; OPTD_CHECKSUM; OPTD_INTERNAL; with a
 * sentence in why.  Verb, reply, request and session in *out are then set, so
 * that an answer can be addressed (verb 0: the header could not be read, there
 * is nobody to answer; never answer a reply); all else is zero. */
int wire_decode(struct wire_arena *arena, const void *header, size_t header_bytes,
                const void *payload, size_t payload_bytes, bool check,
                struct msg *out, char *why, size_t why_bytes);

/* Encodes *msg's header into buffer, at most LIMIT_HEADER_BYTES.  Returns its
 * size, or OPTD_TOO_LARGE.  msg->checksum must be set by the caller
 * (wire_checksum); texts are cut to their bounds, never in the middle of a
 * character, and before anything that is not UTF-8.  The verb's body is sent
 * with requests and with replies of status OK, and with no others. */
int wire_encode(const struct msg *msg, void *buffer, size_t buffer_bytes);

/* The checksum of a payload, never 0 for a payload that is not empty. */
uint64_t wire_checksum(const void *payload, size_t bytes);

/* A layout as payload: size needed; the bytes; and back.  A layout is read one
 * tensor at a time, within the bounds of limits.h; on error (OPTD_MALFORMED,
 * OPTD_INVALID for a name that is there twice, OPTD_TOO_LARGE, OPTD_NO_MEMORY)
 * *out is untouched and why says which tensor.  The result is not cut yet: see
 * layout_cut on what to check before.  A tensor takes about 200 bytes, however
 * few the record has: at most 160 MiB for one payload, until it is freed. */
size_t wire_layout_bytes(const struct layout *layout);
void wire_layout_encode(const struct layout *layout, void *buffer);
int wire_layout_decode(struct wire_arena *arena, const void *bytes, size_t size,
                       struct layout **out, char *why, size_t why_bytes);

/* One of its changes. */
struct wire_change {
	uint64_t from;
	struct msg_text tensors; /* empty: of the model's own optimizer */
	uint32_t hyper_count;
	const struct msg_hyper *hypers;
	uint32_t earlier; /* changes before it that are not told */
};

/* One model as STATUS reports it, and the records of a STATUS reply. */
struct wire_model_status {
	struct msg_text model;
	uint64_t run_id;
	struct msg_text run;
	enum msg_model_state state;
	bool restored;
	uint64_t elements;
	uint32_t tensors;
	uint32_t blocks, first_block, block_count; /* the model's; this lane's run */
	uint64_t version, version_max;
	uint64_t step; /* sync: the lowest step under way */
	enum msg_mode mode;
	enum msg_reduce reduce;
	uint32_t workers, workers_present;
	struct msg_text optimizer; /* "adam lr=0.001 betas=[0.9,0.999] ..." */
	struct msg_text waiting;   /* "rank 1" or empty */
	uint64_t bytes;            /* memory taken on this lane */
	uint64_t pushes, pulls, duplicates, refused;
	uint64_t saved_version;    /* lowest version in the newest checkpoint */
	uint32_t change_count;     /* at most LIMIT_CHANGES, by from */
	const struct wire_change *changes;
	/* Of a model that clips a norm: of its last step, whose norm may be no number, and how
	 * many were made smaller, or skipped because their norm was not finite. */
	double last_norm, last_factor;
	uint64_t clipped, overflowed;
	struct wire_skipped {
		uint64_t count;         /* of steps; the last of them: */
		uint64_t step;
		uint32_t rank;          /* the lowest whose gradient was not finite */
		struct msg_text tensor; /* its first such; empty: it did not say */
	} skipped;
	uint64_t zeroed; /* elements that counted as 0 */
	enum msg_nonfinite nonfinite; /* UNSET: of a daemon that has none */
	struct msg_loss_scale loss_scale;
	double scale;            /* now; 0: the server keeps none */
	uint32_t growth_tracker;
	struct msg_text average;   /* "ema decay=0.999 ...", or empty */
	uint32_t rate_count;
	struct wire_rate {
		struct msg_text tensors; /* a group's, of at most LIMIT_RATE_BYTES; empty: the model's own */
		double lr;               /* of the next update */
	} rates[1 + LIMIT_GROUPS];
};

/* Appends one record at buffer; returns bytes written, 0 if it does not fit.  Of the
 * changes it has the last, as many as a record has room for. */
size_t wire_status_encode(const struct wire_model_status *status, void *buffer, size_t buffer_bytes);

/* Reads the record at *at (within bytes/size) and moves *at behind it. Returns 1, 0 at
 * the end, or OPTD_MALFORMED, which leaves *at and *out alone.  Texts borrow
 * from the arena until the next read. */
int wire_status_decode(struct wire_arena *arena, const void *bytes, size_t size, size_t *at,
                       struct wire_model_status *out);

#endif
