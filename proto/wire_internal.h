/*
 * What the files of wire share: the arena, refusals, records.
 *
 *     wire.c           headers to struct msg and back
 *     wire_body.c      the body of a header: HELLO, OPEN and their answers
 *     wire_group.c     the part of it about parameter groups
 *     wire_set.c       SET, and the changes of a STATUS
 *     wire_norms.c     the part of it about clipping
 *     wire_finite.c    what is about NaN, skipped steps and loss scales
 *     wire_average.c   the part of it about averages
 *     wire_check.c     whether a struct msg from a peer may be believed;
 *                      wire_check_body.c is the part about bodies
 *     wire_arena.c     memory for unpacking
 *     wire_record.c    length-delimited records in a payload
 *     wire_layout.c    layouts as records
 *     wire_status.c    STATUS as records
 *     wire_checksum.c  the checksum of a payload
 */
#ifndef OPTD_PROTO_WIRE_INTERNAL_H
#define OPTD_PROTO_WIRE_INTERNAL_H

#include <protobuf-c/protobuf-c.h>

#include "proto/wire.h"

/* Everything before `mark` belongs to the last decoded header; records are
 * unpacked behind it, each over the one before. */
struct wire_arena {
	ProtobufCAllocator allocator;
	size_t used, mark;
	_Alignas(16) uint8_t bytes[LIMIT_ARENA_BYTES];
};

/* Where the sentence about a refusal goes. */
struct refusal {
	char *text;
	size_t bytes;
};

/* Writes the sentence and returns the status. */
int refuse(const struct refusal *to, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* A text as protobuf-c wants it: at most `limit` bytes, whole characters only,
 * so that the receiver finds nothing to refuse. */
ProtobufCBinaryData wire_clip(struct msg_text text, uint32_t limit);

static inline struct msg_text wire_text(ProtobufCBinaryData data)
{
	/* a header is far below 4 GiB */
	return (struct msg_text){(const char *)data.data, (uint32_t)data.len};
}

/* Whether this message has a body, of its verb's type: requests, and replies
 * that bring what was asked for. */
static inline bool wire_has_body(const struct msg *msg)
{
	return !msg->reply || msg->status == OPTD_OK;
}

/* All checks that need no more than the message itself. */
int wire_check(const struct msg *msg, size_t payload_bytes, const struct refusal *why);
/* One text: bounded, UTF-8, without NUL. */
int wire_check_text(struct msg_text text, uint32_t limit, const char *what,
                    const struct refusal *why);

/* A number of an enum that this version must know: OPTD_UNSUPPORTED above `highest`. */
int wire_check_known(uint32_t value, uint32_t highest, const char *what,
                     const struct refusal *why);
/* A number that code may add to: at most LIMIT_COUNTER. */
int wire_check_counter(uint64_t value, const char *what, const struct refusal *why);
/* Names and finite numbers. */
int wire_check_hypers(const struct msg_hyper *hypers, uint32_t count, const struct refusal *why);
int wire_check_set(const struct msg_set *set, const struct refusal *why);
/* What clipping a message may name: finite limits, and any norm that is a number. */
int wire_check_norms(const struct msg_clip *clip, const struct refusal *why);
/* The part of wire_check about the body. */
int wire_check_body(const struct msg *msg, const struct refusal *why);

/* The parts of it about verdicts and loss scales (wire_finite.c). */
int wire_finite_check(const struct msg *msg, const struct refusal *why);
int wire_loss_scale_check(const struct msg_loss_scale *settings, const struct refusal *why);
int wire_scale_now_check(const struct msg_opened *opened, const struct refusal *why);

/* The record at *at: sets *record and *record_bytes and moves *at behind it.
 * Returns 1, 0 at the end, OPTD_MALFORMED if it is cut off or larger than a
 * header may be. */
int wire_record_next(const void *bytes, size_t size, size_t *at, const uint8_t **record,
                     size_t *record_bytes);
/* Bytes of a record with its length in front. */
size_t wire_record_bytes(const ProtobufCMessage *message);
/* Writes it; returns those bytes. */
size_t wire_record_put(const ProtobufCMessage *message, uint8_t *out);

#endif
