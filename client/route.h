/*
 * Route: cuts a push or a pull of a model into messages.
 *
 * A route lists, in ascending order of blocks for each lane, the messages a
 * call is made of: which blocks each is about, and which elements of the
 * caller's arrays are its payload.  It depends on the layout, on who owns
 * which blocks and on the chosen tensors, not on any state, so one route
 * serves every step that has the same shape.
 *
 * Pure: no sockets, clock or protobuf.
 */
#ifndef OPTD_CLIENT_ROUTE_H
#define OPTD_CLIENT_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/msg.h"

/* Payload that blocks are gathered up to, if the server allows it.  A block of
 * 512 KiB goes alone; smaller pieces share a message, which costs about as
 * much as copying 20 KiB. */
#define ROUTE_GATHER_BYTES (512u * 1024u)

/* Bytes of a header that parts may take: the rest holds the other fields and,
 * in a reply that repeats the parts, a text of LIMIT_TEXT_BYTES. */
#define ROUTE_PARTS_BYTES 2560u

/* What a part takes in a header at most, besides its mask: four field tags,
 * two lengths and two 32-bit numbers. */
#define ROUTE_PART_BYTES 20u

/* Part of the payload: `count` elements from element `offset` of the caller's
 * array number `item`.  A route of the whole model knows one array, the flat
 * vector; a route of tensors one for each, in the order given. */
struct route_piece {
	uint32_t item;
	uint32_t count;
	uint64_t offset;
};

struct route_message {
	uint32_t lane;
	bool close; /* CLOSE_STEP: blocks this call has nothing for; no payload */
	uint32_t first_part, part_count;
	uint32_t first_piece, piece_count;
	uint64_t bytes; /* of the payload, in float32 */
};

struct route {
	struct route_message *messages;
	struct msg_part *parts; /* masks point into the route */
	struct route_piece *pieces;
	uint8_t *masks;
	uint32_t message_count, part_count, piece_count, mask_bytes;
	uint64_t largest; /* of these, over all messages */
};

/* The blocks of one lane and what its server allows. */
struct route_lane {
	struct layout_run blocks;
	uint32_t message_bytes; /* largest payload */
	uint32_t window_bytes;
};

/* Cuts a call.  tensors: strictly ascending indices with elements or without,
 * or NULL for the whole model.  With `push`, blocks of which no tensor was
 * chosen are put into CLOSE_STEP messages, which come before a lane's others,
 * since they take no window.
 *
 * OPTD_INVALID if tensors do not ascend or do not exist, OPTD_TOO_LARGE if a
 * block exceeds a lane's message_bytes, OPTD_NO_MEMORY. */
int route_new(const struct layout *layout, const struct route_lane *lanes, uint32_t lane_count,
              const uint32_t *tensors, uint32_t tensor_count, bool push, struct route **out);
void route_free(struct route *route);

/* Bytes of a message's payload whose elements have this type.  Messages are cut by what
 * float32 takes, whatever is pushed: the weights that answer a push must fit one, too. */
static inline uint64_t route_bytes(const struct route_message *message, enum dtype type)
{
	return message->bytes / sizeof(float) * dtype_bytes(type);
}

/* Copies the elements of a message from the caller's arrays of this type, one for each
 * item, into `payload`; and float32 back. */
void route_gather(const struct route *route, const struct route_message *message,
                  const void *const *items, enum dtype type, void *payload);
void route_scatter(const struct route *route, const struct route_message *message,
                   const float *payload, float *const *items);

#endif
