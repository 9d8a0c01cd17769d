/*
 * Sending: from the outbox to ZeroMQ.
 *
 * A ROUTER tells of a peer that is gone only when it is asked to send to it,
 * and of a full pipe only by refusing; so sending never waits, what is refused
 * is kept for later within bounds, and a peer that takes nothing is let go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "server/net/lane_parts.h"

/* Answers that waited for room, in one turn of the loop: requests have theirs. */
#define TURN_ANSWERS 64
#define TURN_BYTES (8u << 20)

/* A payload that ZeroMQ has until it is on the wire.  What is accounted is the memory
 * it takes. */
struct loan {
	struct buf *buf;
	atomic_size_t *account, *returned, *whole;
};

/* Called by ZeroMQ's own thread: atomics and the pool's lock only. */
static void loan_end(void *data, void *hint)
{
	struct loan *loan = hint;
	(void)data;
	atomic_fetch_sub(loan->account, loan->buf->room);
	atomic_fetch_sub(loan->whole, loan->buf->room);
	atomic_fetch_add(loan->returned, loan->buf->room);
	buf_drop(loan->buf);
	free(loan);
}

static int lend(struct lane *lane, uint32_t number, struct buf *payload, size_t bytes,
                zmq_msg_t *message)
{
	if (payload == NULL || bytes == 0)
		return zmq_msg_init_size(message, 0);
	struct loan *loan = malloc(sizeof(*loan));
	if (loan == NULL)
		return -1;
	*loan = (struct loan){buf_hold(payload), &lane->peers.accounts[number],
	                      &lane->peers.returned[number], &lane->peers.lent_bytes};
	if (zmq_msg_init_data(message, payload->data, bytes, loan_end, loan) != 0) {
		buf_drop(payload);
		free(loan);
		return -1;
	}
	atomic_fetch_add(loan->account, payload->room);
	atomic_fetch_add(loan->whole, payload->room);
	return 0;
}

static int send_frame(struct lane *lane, const void *bytes, size_t size, int flags)
{
	return zmq_send(lane->socket, bytes, size, flags | ZMQ_DONTWAIT) >= 0 ? 0 : errno;
}

/* 0, EHOSTUNREACH (gone) or EAGAIN (full).  Only the first frame can be refused. */
static int send_parts(struct lane *lane, uint32_t number, const void *header, size_t header_bytes,
                      struct buf *payload, size_t payload_bytes)
{
	unsigned char id[PEERS_ID_BYTES] = {0};
	zmq_msg_t message;

	memcpy(id + 1, &lane->peers.all[number].id, sizeof(uint32_t));
	if (lend(lane, number, payload, payload_bytes, &message) != 0)
		return EAGAIN;
	int rc = send_frame(lane, id, sizeof(id), ZMQ_SNDMORE);
	if (rc == 0)
		rc = send_frame(lane, header, header_bytes, ZMQ_SNDMORE);
	if (rc == 0 && zmq_msg_send(&message, lane->socket, ZMQ_DONTWAIT) >= 0)
		return 0;
	zmq_msg_close(&message);
	return rc != 0 ? rc : errno;
}

static bool has_room(struct lane *lane, uint32_t number, const struct buf *payload)
{
	size_t bytes = payload != NULL ? payload->room : 0;

	/* Answers are never larger than what was asked for, and a client asks
	 * within its window; twice that leaves room for those it asked again. */
	size_t account = atomic_load(&lane->peers.accounts[number]);
	return account == 0 || account + bytes <= 2 * (size_t)lane->options.window_bytes;
}

static void peer_send(struct lane *lane, uint32_t number, const void *header, size_t header_bytes,
                      struct buf *payload, size_t payload_bytes)
{
	struct peer *peer = &lane->peers.all[number];
	int rc = EAGAIN;

	if (peer->first == NULL && has_room(lane, number, payload))
		rc = send_parts(lane, number, header, header_bytes, payload, payload_bytes);
	if (rc == 0)
		return;
	if (rc == EAGAIN && peers_queue(&lane->peers, number, header, header_bytes, payload,
	                                payload_bytes, lane->options.window_bytes) == OPTD_OK) {
		lane->queued = true;
		return;
	}
	/* It asks and does not read: what it has not read is let go with it.  ZeroMQ was not
	 * asked, so the connection may be gone and its descriptor another's. */
	if (rc == EAGAIN) {
		room_log_unread(lane, number, "one more answer would make it more than three windows: cut");
		guard_cut(lane->guard, peer->fd, peer->socket, true);
	}
	lane->counts.unsent++;
	lane_peer_gone(lane, number);
}

static bool flush_peer(struct lane *lane, uint32_t number)
{
	struct peer *peer = &lane->peers.all[number];

	while (peer->first != NULL) {
		struct parcel *parcel = peer->first;
		if (!has_room(lane, number, parcel->payload))
			return true;
		int rc = send_parts(lane, number, parcel->header, parcel->header_bytes, parcel->payload,
		                    parcel->payload_bytes);
		if (rc == EAGAIN)
			return true;
		if (rc != 0) {
			lane_peer_gone(lane, number);
			return false;
		}
		parcel = peers_unqueue(&lane->peers, number);
		buf_drop(parcel->payload);
		free(parcel);
	}
	return false;
}

void send_queued(struct lane *lane)
{
	bool queued = false;
	for (uint32_t i = 0; lane->queued && i < lane->peers.room; i++) {
		if (lane->peers.all[i].used && lane->peers.all[i].first != NULL)
			queued |= flush_peer(lane, i);
	}
	lane->queued = queued;
}

static void send_entries(struct lane *lane, struct outbox *out)
{
	unsigned char header[LIMIT_HEADER_BYTES];

	lane->beyond_is_known = false;
	/* Sending may find a peer gone and so add entries: the count is read anew. */
	for (uint32_t i = 0; i < out->count; i++) {
		struct outbox_entry *entry = &out->entries[i];
		if (entry->peer >= lane->peers.room || !lane->peers.all[entry->peer].used)
			continue;
		entry->head.payload = entry->payload != NULL ? entry->payload->data : NULL;
		entry->head.checksum = wire_checksum(entry->head.payload, entry->head.payload_bytes);
		int size = wire_encode(&entry->head, header, sizeof(header));
		if (size > 0)
			peer_send(lane, entry->peer, header, (size_t)size, entry->payload,
			          entry->head.payload_bytes);
		else
			lane->counts.unsent++;
	}
	outbox_clear(out);
}

/* ---- answers to those who waited ---------------------------------------- */

/* What the batch that is being made has for a peer already. */
static size_t made_bytes(const struct outbox *out, uint32_t peer)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < out->count; i++) {
		if (out->entries[i].peer == peer && out->entries[i].payload != NULL)
			bytes += out->entries[i].payload->room;
	}
	return bytes;
}

/* Whether ZeroMQ would take the answer at once, and there is room for it: what waits in
 * the engine takes no memory for its weights, and its peer is not let go for it.  No
 * other is let go from here either: the engine is in the middle of its list. */
static bool takes(void *user, const struct wait *wait)
{
	struct lane *lane = user;
	const struct peer *peer = &lane->peers.all[wait->peer];
	size_t account = atomic_load(&lane->peers.accounts[wait->peer]) + made_bytes(&lane->out, wait->peer);
	size_t room = 2 * wait->payload_bytes; /* the pool's buffers are powers of two */

	return peer->first == NULL &&
	       (account == 0 || account + room <= 2 * (size_t)lane->options.window_bytes) &&
	       room_is_there(lane, wait->peer, peer->grant.share);
}

void lane_send(struct lane *lane, struct outbox *out)
{
	const struct engine_room room = {takes, lane};
	struct lane_message *message;

	do
		send_entries(lane, out);
	while (engine_answer(lane->engine, &room, out));
	while ((message = outbox_take_told(out)) != NULL)
		hearing_tell(&lane->options.lanes[message->to]->hearing, message);
	send_kept_soon(lane);
	work_soon(lane);
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* its presence keeps the loop from sleeping */
}

/* While ZeroMQ takes none, the loop sleeps: it is woken when a full pipe has been read,
 * and by the timer when a window has. */
static void send_kept(uv_check_t *check)
{
	struct lane *lane = check->data;
	const struct engine_room room = {takes, lane};
	size_t bytes = 0;

	lane->beyond_is_known = false;
	send_queued(lane);
	for (int i = 0; i < TURN_ANSWERS && bytes < TURN_BYTES; i++) {
		if (!engine_answer_kept(lane->engine, &room, &lane->out)) {
			uv_idle_stop(&lane->kept_idle);
			if (!engine_has_kept(lane->engine))
				uv_check_stop(&lane->kept_check);
			return;
		}
		for (uint32_t j = 0; j < lane->out.count; j++)
			bytes += lane->out.entries[j].head.payload_bytes;
		send_entries(lane, &lane->out);
	}
}

void send_kept_soon(struct lane *lane)
{
	if (!engine_has_kept(lane->engine))
		return;
	uv_check_start(&lane->kept_check, send_kept);
	uv_idle_start(&lane->kept_idle, on_idle);
}
