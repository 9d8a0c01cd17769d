/*
 * Peers: the connections a lane knows, by the routing id ZeroMQ gave them.
 *
 * A peer has a small number, which is what the core calls it, a queue of
 * answers that its pipe had no room for, and an account of the bytes that were
 * handed to ZeroMQ and not yet sent.  The account outlives the connection,
 * because ZeroMQ gives bytes back late and on its own thread.
 */
#ifndef OPTD_NET_PEERS_H
#define OPTD_NET_PEERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"

/* ZeroMQ's own routing ids are 5 bytes that begin with 0; ours is the rest. */
#define PEERS_ID_BYTES 5

/* An answer that waits for room in its peer's pipe. */
struct parcel {
	struct parcel *next;
	struct buf *payload; /* or NULL */
	size_t payload_bytes;
	size_t room; /* memory it takes */
	size_t header_bytes;
	unsigned char header[];
};

/* What the ranks that a peer holds entitle it to: server/net/grants.c. */
struct peer_grant {
	uint64_t window;  /* of pushes: under way to this lane */
	uint64_t counted; /* of answers: in the models' formula */
	uint64_t share;   /* of answers: may be left unread when all peers leave too much */
};

struct peer {
	bool used;
	uint32_t id;
	uint64_t heard_ms;
	uint64_t probed_ms;
	uint64_t read_ms;     /* when it was last seen to read, or to have nothing to; 0: not yet */
	size_t returned_seen; /* of peers.returned, then */
	int fd; /* of the last message, to cut the connection by */
	uint64_t socket; /* behind it at HELLO: the descriptor is reused */
	struct parcel *first, *last;
	size_t queued_bytes; /* of memory */
	struct peer_grant grant;
};

struct peers {
	struct peer *all; /* [room] */
	atomic_size_t *accounts; /* [room]: bytes of memory ZeroMQ holds for that number */
	atomic_size_t *returned; /* [room]: bytes that ZeroMQ has given back since the start */
	uint32_t room;
	uint32_t count;
	size_t queued_bytes;  /* of all peers */
	atomic_size_t lent_bytes; /* ZeroMQ holds of all of them */
	uint32_t *free; /* [room] numbers not in use, the last one is next */
	uint32_t free_count;
	uint32_t *slots; /* open addressing: number + 1, 0 empty */
	uint32_t slot_mask;
};

#define PEERS_NONE UINT32_MAX
/* Nobody who reads at all takes so long for one message. */
#define PEERS_IDLE_MS 2000

/* Room for this many at once; OPTD_NO_MEMORY. */
int peers_init(struct peers *peers, uint32_t room);
/* ZeroMQ must have given back everything. */
void peers_deinit(struct peers *peers);

/* The number of a routing id, or PEERS_NONE. */
uint32_t peers_find(const struct peers *peers, uint32_t id);
/* A number for a new routing id, or PEERS_NONE when all are taken. */
uint32_t peers_add(struct peers *peers, uint32_t id);
/* Forgets a peer and its queue. */
void peers_remove(struct peers *peers, uint32_t number);

/* Puts an answer behind those that wait; holds payload, or a copy where that takes
 * much less memory.  OPTD_BUSY where the peer's answers would take more than limit
 * bytes of memory, OPTD_NO_MEMORY. */
int peers_queue(struct peers *peers, uint32_t number, const void *header, size_t header_bytes,
                struct buf *payload, size_t payload_bytes, size_t limit);
/* Takes the first one off; the caller frees it and drops its payload. */
struct parcel *peers_unqueue(struct peers *peers, uint32_t number);
/* Bytes of memory that answers take which this peer has not read. */
size_t peers_unread(const struct peers *peers, uint32_t number);
/* Those of them that the models' formula does not have; and of all peers together, those
 * that are gone among them until ZeroMQ gives their bytes back. */
size_t peers_beyond(const struct peers *peers, uint32_t number);
size_t peers_beyond_all(const struct peers *peers);

/* Looks who has read something; call it once a second. */
void peers_look(struct peers *peers, uint64_t now_ms);
/* Of the peers with ranks or of those without that have read nothing for PEERS_IDLE_MS,
 * though there was something, the one that leaves most beyond the formula; or
 * PEERS_NONE. */
uint32_t peers_idle(const struct peers *peers, bool ranks, uint64_t now_ms);

#endif
