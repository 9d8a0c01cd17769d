/*
 * Outbox: what the core wants sent.
 *
 * The core answers by appending entries; whoever called it sends them, in
 * order, and clears the outbox.  An entry may have to wait until a commit is
 * durable: `after_commit` says which.  There is no log yet, so every commit
 * counts as durable at once.
 *
 * What is for other lanes of the daemon is in a list of its own: whoever called the core
 * takes it from there and has it heard (engine_hear), in whatever order, each once.
 */
#ifndef OPTD_CORE_OUTBOX_H
#define OPTD_CORE_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/msg.h"
#include "server/base/buf.h"

struct lane_message;

struct outbox_entry {
	uint32_t peer;
	uint64_t after_commit;
	struct msg head;     /* texts and masks point into the outbox */
	struct buf *payload; /* held, or NULL; head.payload_bytes of it are sent */
};

struct outbox {
	struct outbox_entry *entries;
	uint32_t count, room;
	uint32_t lost; /* entries dropped for want of memory; the peer asks again */
	struct outbox_text *texts;
	struct outbox_entry spare; /* written to when memory ran out, never sent */
	struct lane_message *told, *last_told; /* to other lanes; outbox_clear leaves them */
};

void outbox_init(struct outbox *outbox);
/* Drops what was not sent and frees everything. */
void outbox_deinit(struct outbox *outbox);

/* Forgets the entries: drops their payloads, keeps the memory of a usual batch. */
void outbox_clear(struct outbox *outbox);

/* Appends an entry whose head is all zero but for `reply`, or returns the
 * spare one, which goes nowhere, when memory ran out.  Good until the next outbox_add. */
struct outbox_entry *outbox_add(struct outbox *outbox, uint32_t peer);

/* Takes a message for another lane.  And back: the first of them, now the caller's (it is
 * freed by free), or NULL. */
void outbox_tell(struct outbox *outbox, struct lane_message *message);
struct lane_message *outbox_take_told(struct outbox *outbox);

/* A text or bytes that live until outbox_clear; empty without memory. */
struct msg_text outbox_printf(struct outbox *outbox, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
const uint8_t *outbox_bytes(struct outbox *outbox, const void *bytes, uint32_t size);
/* The same of structs, aligned for them, at most 8 KiB of them. */
const void *outbox_structs(struct outbox *outbox, const void *structs, uint32_t size);

#endif
