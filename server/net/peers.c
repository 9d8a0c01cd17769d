/* A table of peers with an open-addressing index over routing ids. */
#include "server/net/peers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"

static uint32_t slot_of(const struct peers *peers, uint32_t id)
{
	return (id * UINT32_C(2654435769)) & peers->slot_mask;
}

int peers_init(struct peers *peers, uint32_t room)
{
	uint32_t slots = 16;
	while (slots < room * 2)
		slots *= 2;
	memset(peers, 0, sizeof(*peers));
	peers->all = calloc(room, sizeof(*peers->all));
	peers->accounts = calloc(room, sizeof(*peers->accounts));
	peers->returned = calloc(room, sizeof(*peers->returned));
	peers->free = calloc(room, sizeof(*peers->free));
	peers->slots = calloc(slots, sizeof(*peers->slots));
	if (peers->all == NULL || peers->accounts == NULL || peers->returned == NULL ||
	    peers->free == NULL || peers->slots == NULL) {
		peers_deinit(peers);
		return OPTD_NO_MEMORY;
	}
	peers->room = room;
	peers->slot_mask = slots - 1;
	for (uint32_t i = 0; i < room; i++)
		peers->free[i] = room - 1 - i;
	peers->free_count = room;
	return OPTD_OK;
}

void peers_deinit(struct peers *peers)
{
	for (uint32_t i = 0; i < peers->room; i++) {
		if (peers->all[i].used)
			peers_remove(peers, i);
		assert(atomic_load(&peers->accounts[i]) == 0);
	}
	free(peers->all);
	free(peers->accounts);
	free(peers->returned);
	free(peers->free);
	free(peers->slots);
	memset(peers, 0, sizeof(*peers));
}

uint32_t peers_find(const struct peers *peers, uint32_t id)
{
	for (uint32_t slot = slot_of(peers, id); peers->slots[slot] != 0;
	     slot = (slot + 1) & peers->slot_mask) {
		uint32_t number = peers->slots[slot] - 1;
		if (peers->all[number].id == id)
			return number;
	}
	return PEERS_NONE;
}

uint32_t peers_add(struct peers *peers, uint32_t id)
{
	if (peers->free_count == 0)
		return PEERS_NONE;
	uint32_t number = peers->free[--peers->free_count];
	peers->all[number] = (struct peer){
	        .used = true,
	        .id = id,
	        .fd = -1,
	        .returned_seen = atomic_load(&peers->returned[number]),
	};
	uint32_t slot = slot_of(peers, id);
	while (peers->slots[slot] != 0)
		slot = (slot + 1) & peers->slot_mask;
	peers->slots[slot] = number + 1;
	peers->count++;
	return number;
}

/* Empties a slot and moves up those behind it that would no longer be found. */
static void slot_remove(struct peers *peers, uint32_t hole)
{
	uint32_t mask = peers->slot_mask;
	for (uint32_t slot = (hole + 1) & mask; peers->slots[slot] != 0; slot = (slot + 1) & mask) {
		uint32_t home = slot_of(peers, peers->all[peers->slots[slot] - 1].id);
		if (((slot - home) & mask) >= ((slot - hole) & mask)) {
			peers->slots[hole] = peers->slots[slot];
			hole = slot;
		}
	}
	peers->slots[hole] = 0;
}

void peers_remove(struct peers *peers, uint32_t number)
{
	struct peer *peer = &peers->all[number];
	struct parcel *parcel;

	assert(peer->used);
	while ((parcel = peers_unqueue(peers, number)) != NULL) {
		buf_drop(parcel->payload);
		free(parcel);
	}
	uint32_t slot = slot_of(peers, peer->id);
	while (peers->slots[slot] != number + 1)
		slot = (slot + 1) & peers->slot_mask;
	slot_remove(peers, slot);
	peer->used = false;
	peer->grant = (struct peer_grant){0};
	peers->free[peers->free_count++] = number;
	peers->count--;
}

/* A small payload may sit in a large buffer: a copy then waits in its place. */
static struct buf *payload_to_keep(struct buf *payload, size_t bytes)
{
	if (payload == NULL || bytes > payload->room / 2)
		return payload != NULL ? buf_hold(payload) : NULL;
	struct buf *copy = buf_new(bytes);
	if (copy == NULL)
		return buf_hold(payload);
	memcpy(copy->data, payload->data, bytes);
	return copy;
}

static void parcel_free(struct parcel *parcel)
{
	buf_drop(parcel->payload);
	free(parcel);
}

int peers_queue(struct peers *peers, uint32_t number, const void *header, size_t header_bytes,
                struct buf *payload, size_t payload_bytes, size_t limit)
{
	struct peer *peer = &peers->all[number];
	struct parcel *parcel = malloc(sizeof(*parcel) + header_bytes);
	if (parcel == NULL)
		return OPTD_NO_MEMORY;
	parcel->next = NULL;
	parcel->payload = payload_to_keep(payload, payload_bytes);
	parcel->payload_bytes = payload_bytes;
	parcel->header_bytes = header_bytes;
	parcel->room = sizeof(*parcel) + header_bytes;
	if (parcel->payload != NULL)
		parcel->room += parcel->payload->room;
	if (peer->queued_bytes + parcel->room > limit) {
		parcel_free(parcel);
		return OPTD_BUSY;
	}
	memcpy(parcel->header, header, header_bytes);
	if (peer->last != NULL)
		peer->last->next = parcel;
	else
		peer->first = parcel;
	peer->last = parcel;
	peer->queued_bytes += parcel->room;
	peers->queued_bytes += parcel->room;
	return OPTD_OK;
}

struct parcel *peers_unqueue(struct peers *peers, uint32_t number)
{
	struct peer *peer = &peers->all[number];
	struct parcel *parcel = peer->first;
	if (parcel == NULL)
		return NULL;
	peer->first = parcel->next;
	if (peer->first == NULL)
		peer->last = NULL;
	peer->queued_bytes -= parcel->room;
	peers->queued_bytes -= parcel->room;
	return parcel;
}

size_t peers_unread(const struct peers *peers, uint32_t number)
{
	return atomic_load(&peers->accounts[number]) + peers->all[number].queued_bytes;
}

size_t peers_beyond(const struct peers *peers, uint32_t number)
{
	size_t unread = peers_unread(peers, number);
	uint64_t counted = peers->all[number].grant.counted;
	return unread > counted ? unread - (size_t)counted : 0;
}

size_t peers_beyond_all(const struct peers *peers)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < peers->room; i++)
		sum += peers_beyond(peers, i);
	return sum;
}

void peers_look(struct peers *peers, uint64_t now_ms)
{
	for (uint32_t i = 0; i < peers->room; i++) {
		struct peer *peer = &peers->all[i];
		size_t returned = atomic_load(&peers->returned[i]);
		if (!peer->used || (returned == peer->returned_seen && peers_unread(peers, i) > 0 &&
		                    peer->read_ms != 0))
			continue;
		peer->returned_seen = returned;
		peer->read_ms = now_ms;
	}
}

uint32_t peers_idle(const struct peers *peers, bool ranks, uint64_t now_ms)
{
	uint32_t idle = PEERS_NONE;
	size_t most = 0;

	for (uint32_t i = 0; i < peers->room; i++) {
		const struct peer *peer = &peers->all[i];
		if (!peer->used || peer->read_ms == 0 || now_ms - peer->read_ms < PEERS_IDLE_MS ||
		    (peer->grant.share > 0) != ranks || peers_beyond(peers, i) <= most)
			continue;
		/* It may have read since the last look. */
		if (atomic_load(&peers->returned[i]) != peer->returned_seen)
			continue;
		most = peers_beyond(peers, i);
		idle = i;
	}
	return idle;
}
