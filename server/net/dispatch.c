/*
 * Dispatch: from ZeroMQ's frames to the core and back.
 *
 * A message is [routing id][header][payload].  Anything else is counted,
 * dropped, and counts against the connection it came on.  Nothing here waits:
 * a turn handles a bounded number of messages and bytes.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <zmq.h>

#include "server/net/intake.h"
#include "server/net/lane_parts.h"

#define TURN_MESSAGES 64
#define TURN_BYTES (8u << 20)
#define STRIKES 3
#define STRIKES_AGAIN 64
/* Small answers are given to whoever has read all that he asked for. */
#define SMALL_BYTES 65536
#define SHARE_OF_SMALL 1

/* A received payload, kept alive as long as someone holds it. */
struct arrival {
	struct buf buf;
	zmq_msg_t message;
};

static void arrival_release(struct buf *buf)
{
	struct arrival *arrival = (struct arrival *)buf;
	zmq_msg_close(&arrival->message);
	free(arrival);
}

/* The frames of one message as they came. */
struct frames {
	zmq_msg_t id, header, payload;
	size_t count;
	size_t bytes; /* on the wire: the routing id is not */
	int fd;
};

static bool more(zmq_msg_t *message)
{
	return zmq_msg_more(message) != 0;
}

/* Receives one message, at most three of its frames; false when there is none. */
static bool receive(struct lane *lane, struct frames *frames)
{
	zmq_msg_t *parts[3] = {&frames->id, &frames->header, &frames->payload};
	bool next = true;

	frames->count = 0;
	frames->bytes = 0;
	frames->fd = -1;
	for (int i = 0; i < 3; i++)
		zmq_msg_init(parts[i]);
	while (next) {
		zmq_msg_t spare;
		zmq_msg_t *part = &spare;
		if (frames->count < 3)
			part = parts[frames->count];
		else
			zmq_msg_init(&spare);
		if (zmq_msg_recv(part, lane->socket, ZMQ_DONTWAIT) < 0)
			return frames->count > 0;
		next = more(part);
		if (frames->count > 0)
			frames->bytes += intake_frame_bytes(zmq_msg_size(part));
		if (frames->count == 1)
			frames->fd = zmq_msg_get(part, ZMQ_SRCFD);
		if (part == &spare)
			zmq_msg_close(&spare);
		frames->count++;
	}
	return true;
}

static void frames_close(struct frames *frames)
{
	zmq_msg_close(&frames->id);
	zmq_msg_close(&frames->header);
	zmq_msg_close(&frames->payload);
}

/* Whether ZeroMQ gave the peer its routing id.  One that a peer chose could be
 * another's but for its first byte. */
static bool own_id(zmq_msg_t *id)
{
	return zmq_msg_size(id) == PEERS_ID_BYTES && *(const unsigned char *)zmq_msg_data(id) == 0;
}

/* Whether to cut a connection for its malformed messages: at the third, and later
 * only now and then, since those that were in ZeroMQ's hands at the cut still come
 * and their descriptor may be another's by then. */
static bool is_struck(struct lane *lane, zmq_msg_t *id)
{
	const unsigned char *bytes = zmq_msg_data(id);
	uint32_t key = UINT32_C(2166136261);

	for (size_t i = 0; i < zmq_msg_size(id); i++)
		key = (key ^ bytes[i]) * UINT32_C(16777619);
	struct lane_strikes *strikes = &lane->strikes[key % LANE_STRIKES];
	if (strikes->key != key)
		*strikes = (struct lane_strikes){key, 0};
	return ++strikes->count % STRIKES_AGAIN == STRIKES;
}

/* Whom a connection is logged as: its peer's address without the port, so that a
 * peer that connects again is the same; else the descriptor.  All who are gone by now are
 * one: each that comes and leaves has another descriptor.  Returns its bytes. */
static size_t log_key(int fd, unsigned char key[static sizeof(struct in6_addr)])
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	const void *from = &fd;
	size_t bytes = sizeof(fd);

	if (getpeername(fd, (struct sockaddr *)&address, &size) < 0) {
		key[0] = 0;
		return 1;
	}
	if (address.ss_family == AF_INET) {
		from = &((const struct sockaddr_in *)&address)->sin_addr;
		bytes = sizeof(struct in_addr);
	} else if (address.ss_family == AF_INET6) {
		from = &((const struct sockaddr_in6 *)&address)->sin6_addr;
		bytes = sizeof(struct in6_addr);
	}
	memcpy(key, from, bytes);
	return bytes;
}

static uint32_t key_of(zmq_msg_t *id)
{
	uint32_t key;
	memcpy(&key, (const unsigned char *)zmq_msg_data(id) + 1, sizeof(key));
	return key;
}

/* The socket of a peer; 0 of one who has no number. */
static uint64_t socket_of(struct lane *lane, zmq_msg_t *id)
{
	uint32_t number = own_id(id) ? peers_find(&lane->peers, key_of(id)) : PEERS_NONE;
	return number != PEERS_NONE ? lane->peers.all[number].socket : 0;
}

bool lane_may_log(struct lane *lane, int fd, uint64_t *left_out)
{
	unsigned char key[sizeof(struct in6_addr)];
	size_t key_bytes = log_key(fd, key);

	return log_limit(&lane->log_limit, key, key_bytes, lane_now_ms(), left_out);
}

static void malformed(struct lane *lane, struct frames *frames, const char *why)
{
	uint64_t left_out;

	lane->counts.malformed++;
	if (is_struck(lane, &frames->id))
		guard_cut(lane->guard, frames->fd, socket_of(lane, &frames->id), false);
	if (lane_may_log(lane, frames->fd, &left_out))
		log_event(lane->options.log, LOG_WARN, "malformed", log_u64("lane", lane->options.index),
		          log_i64("connection", frames->fd), log_str("why", why),
		          log_u64("left_out", left_out));
}

/* Many who came and left can fill the table before the sweep finds them out. */
static uint32_t add_peer(struct lane *lane, uint32_t key, int fd)
{
	uint32_t number = peers_add(&lane->peers, key);

	if (number == PEERS_NONE) {
		lane_probe_all(lane);
		number = peers_add(&lane->peers, key);
	}
	if (number != PEERS_NONE)
		lane->peers.all[number].socket = guard_socket(fd);
	return number;
}

/* The peer's number; a stranger gets one for HELLO. */
static uint32_t find_peer(struct lane *lane, struct frames *frames, const struct msg *request)
{
	uint32_t key = key_of(&frames->id);
	uint32_t number = peers_find(&lane->peers, key);

	if (number == PEERS_NONE && request->verb == MSG_HELLO)
		number = add_peer(lane, key, frames->fd);
	if (number != PEERS_NONE) {
		lane->peers.all[number].heard_ms = lane_now_ms();
		lane->peers.all[number].fd = frames->fd;
	}
	return number;
}

/* Answers one who has no number: a request without HELLO, or too many peers. */
static void answer_stranger(struct lane *lane, struct frames *frames, const struct msg *request)
{
	static const char no_session[] = "no session on this connection: say HELLO first";
	static const char full[] = "limits.connections is reached: try again later";
	unsigned char header[LIMIT_HEADER_BYTES];
	struct msg reply = {.verb = request->verb,
	                    .reply = true,
	                    .request = request->request,
	                    .session = request->session,
	                    .epoch = lane->engine_options.epoch,
	                    .rank = MSG_NO_RANK};
	bool hello = request->verb == MSG_HELLO;

	lane->counts.strangers++;
	reply.status = hello ? OPTD_BUSY : OPTD_NO_SESSION;
	reply.text.bytes = hello ? full : no_session;
	reply.text.size = (uint32_t)strlen(reply.text.bytes);
	int size = wire_encode(&reply, header, sizeof(header));
	if (size <= 0 || zmq_send(lane->socket, zmq_msg_data(&frames->id), zmq_msg_size(&frames->id),
	                          ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
		return;
	zmq_send(lane->socket, header, (size_t)size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
	zmq_send(lane->socket, "", 0, ZMQ_DONTWAIT);
}

/* The payload as a buffer.  Small frames may lie anywhere in ZeroMQ's own
 * buffer; kernels need floats where floats belong. */
static struct buf *payload_buf(struct lane *lane, struct frames *frames)
{
	void *data = zmq_msg_data(&frames->payload);
	size_t bytes = zmq_msg_size(&frames->payload);

	if ((uintptr_t)data % sizeof(float) != 0) {
		struct buf *copy = buf_pool_take(lane->pool, bytes);
		if (copy != NULL)
			memcpy(copy->data, data, bytes);
		return copy;
	}
	struct arrival *arrival = malloc(sizeof(*arrival));
	if (arrival == NULL)
		return NULL;
	zmq_msg_init(&arrival->message);
	zmq_msg_move(&arrival->message, &frames->payload);
	atomic_store(&arrival->buf.holders, 1);
	arrival->buf.bytes = arrival->buf.room = bytes;
	arrival->buf.data = zmq_msg_data(&arrival->message);
	arrival->buf.release = arrival_release;
	return &arrival->buf;
}

static void refuse(struct lane *lane, uint32_t peer, const struct msg *request, int status,
                   const char *text)
{
	lane_answer(lane, peer, request, status, text);
}

/* A client asks for one message of the parts of a norm at a time, and buffers are powers of
 * two.  It may leave them unread beside the weights that the formula counts: what it may of
 * weights in whole blocks would be more than all parts of a model of scalars. */
#define SHARE_OF_NORMS (2 * LIMIT_NORM_SEGMENTS * sizeof(double))

/* Of weights, or of parts of a norm. */
static bool room_for_numbers(struct lane *lane, uint32_t peer, const struct msg *request)
{
	const struct peer_grant *grant = &lane->peers.all[peer].grant;
	uint64_t share = grant->share;
	char text[ROOM_TEXT_BYTES];

	if (request->verb == MSG_NORM && request->payload_bytes == 0)
		share = grant->counted + SHARE_OF_NORMS;
	else if (request->verb != MSG_PULL && request->verb != MSG_PUSH_PULL)
		return true;
	if (room_for_answer(lane, peer, share, text))
		return true;
	refuse(lane, peer, request, OPTD_BUSY, text);
	return false;
}

/* An operator's question is asked when there is trouble. */
static void answer_status(struct lane *lane, uint32_t peer, const struct msg *request)
{
	char text[ROOM_TEXT_BYTES];

	if (room_for_answer(lane, peer, SHARE_OF_SMALL, text))
		status_answer(lane, peer, request);
	else
		refuse(lane, peer, request, OPTD_BUSY, text);
}

static void admin(struct lane *lane, uint32_t peer, const struct msg *request)
{
	char name[LIMIT_NAME_BYTES], why[LIMIT_TEXT_BYTES];
	struct msg_text model = request->named.model;

	if (!engine_has_session(lane->engine, peer, request->session)) {
		refuse(lane, peer, request, OPTD_NO_SESSION, "no session on this connection: say HELLO first");
		return;
	}
	if (!access_allows(&PRINCIPAL_ANONYMOUS, request, why, sizeof(why))) {
		refuse(lane, peer, request, OPTD_DENIED, why);
		return;
	}
	if (request->verb == MSG_STATUS) {
		answer_status(lane, peer, request);
		return;
	}
	if (request->verb == MSG_SET) {
		lane->options.set(lane->options.set_user, lane, request, peer);
		return;
	}
	if (model.size >= sizeof(name) || (model.size == 0 && request->verb == MSG_DROP)) {
		refuse(lane, peer, request, OPTD_INVALID, "name the model");
		return;
	}
	if (model.size > 0)
		memcpy(name, model.bytes, model.size);
	name[model.size] = '\0';
	lane->options.admin(lane->options.user, lane, request, peer, name);
}

static void attach(struct lane *lane, struct outbox_entry *entry, const struct layout *layout)
{
	char text[ROOM_TEXT_BYTES];
	size_t bytes = wire_layout_bytes(layout);

	if (!room_for_answer(lane, entry->peer, bytes <= SMALL_BYTES ? SHARE_OF_SMALL : 0, text)) {
		entry->head.status = OPTD_BUSY;
		entry->head.text = outbox_printf(&lane->out, "%s", text);
		return;
	}
	entry->payload = buf_pool_take(lane->pool, bytes);
	if (entry->payload == NULL)
		return;
	wire_layout_encode(layout, entry->payload->data);
	entry->head.payload_bytes = bytes;
}

/* One who opens a model without a layout is answered with the model's. */
static void attach_layout(struct lane *lane, const struct msg *request)
{
	struct outbox_entry *entry = lane->out.count > 0 ? &lane->out.entries[lane->out.count - 1] : NULL;

	if (request->verb != MSG_OPEN || request->open.layout_hash != 0 || entry == NULL ||
	    entry->head.verb != MSG_OPEN || entry->head.status != OPTD_OK)
		return;
	for (uint32_t i = 0; i < engine_shard_count(lane->engine); i++) {
		const struct shard *shard = engine_shard(lane->engine, i);
		if (shard->handle == entry->head.opened.model) {
			attach(lane, entry, shard->model->layout);
			return;
		}
	}
}

static void handle_model(struct lane *lane, uint32_t peer, const struct msg *request,
                         struct buf *payload)
{
	struct layout *layout = NULL;
	char why[512];

	if (!room_for_numbers(lane, peer, request))
		return;
	if (request->verb == MSG_OPEN && request->payload_bytes > 0) {
		int rc = wire_layout_decode(lane->arena, request->payload, request->payload_bytes, &layout,
		                            why, sizeof(why));
		if (rc < 0) {
			refuse(lane, peer, request, rc, why);
			return;
		}
	}
	if (request->verb == MSG_OPEN)
		room_before_open(lane);
	engine_handle(lane->engine, peer, &PRINCIPAL_ANONYMOUS, request, payload, &layout,
	              lane_now_ms(), &lane->out);
	layout_free(layout);
	if (request->verb == MSG_OPEN) {
		grants_renew(lane);
		room_after_open(lane);
	}
	attach_layout(lane, request);
}

static void handle(struct lane *lane, struct frames *frames)
{
	struct msg request;
	char why[256];
	struct buf *payload = NULL;

	if (frames->count != 3) {
		malformed(lane, frames, "a message is a header and a payload");
		return;
	}
	if (!own_id(&frames->id)) {
		malformed(lane, frames, "a routing id was chosen by the peer");
		return;
	}
	size_t bytes = zmq_msg_size(&frames->payload);
	if (bytes > 0)
		payload = payload_buf(lane, frames);
	if (bytes > 0 && payload == NULL)
		return; /* no memory: as if lost on the way */
	int rc = wire_decode(lane->arena, zmq_msg_data(&frames->header), zmq_msg_size(&frames->header),
	                     bytes > 0 ? payload->data : NULL, bytes, true, &request, why, sizeof(why));
	if (rc == OPTD_MALFORMED || (rc == OPTD_OK && request.reply)) {
		malformed(lane, frames, rc < 0 ? why : "a reply came where requests are taken");
		buf_drop(payload);
		return;
	}
	uint32_t peer = find_peer(lane, frames, &request);
	if (peer == PEERS_NONE)
		answer_stranger(lane, frames, &request);
	else if (rc < 0)
		refuse(lane, peer, &request, rc, why);
	else if (request.verb == MSG_STATUS || request.verb == MSG_SAVE || request.verb == MSG_DROP ||
	         request.verb == MSG_SET)
		admin(lane, peer, &request);
	else
		handle_model(lane, peer, &request, payload);
	/* With each message: at the first one the guard may not know the connection yet. */
	if (peer != PEERS_NONE)
		guard_known(lane->guard, frames->fd, lane->peers.all[peer].grant.window);
	buf_drop(payload);
	lane_send(lane, &lane->out);
}

/* ZeroMQ gives messages of connections in turn, roughly: after twice as many messages
 * as there are connections, each that has one has been asked. */
static void count_round(struct lane *lane, uint32_t messages, bool empty)
{
	lane->round_messages += messages;
	if (empty || lane->round_messages >= 2 * guard_connections(lane->guard))
		lane->round_done = true;
}

void dispatch_turn(void *user)
{
	struct lane *lane = user;
	struct frames frames;
	size_t bytes = 0;
	uint32_t messages = 0;
	bool got = true;

	while (got && messages < TURN_MESSAGES && bytes < TURN_BYTES) {
		got = receive(lane, &frames);
		if (got)
			guard_delivered(lane->guard, frames.fd, frames.bytes);
		/* A lane that drains takes nothing more: clients ask its successor. */
		if (got && !lane->draining)
			handle(lane, &frames);
		bytes += frames.bytes;
		frames_close(&frames);
		messages += got;
	}
	count_round(lane, messages, !got);
	if (lane->queued)
		send_queued(lane);
	if (lane->cutting)
		cut_turn(lane);
}
