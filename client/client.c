/*
 * The client's turn: receive, dispatch, send, and if nothing moved, wait.
 *
 * All lanes progress side by side: each receives and sends a few messages and
 * then the next has its turn, so that a slow lane holds up nobody.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* Messages sent to one lane before the others have their turn. */
#define SEND_BURST 4u
/* A link that moves less in SESSION_ANSWER_MS is not worth waiting for. */
#define MOVING_BYTES 4096u

static void lane_lost(optd_client *client, struct lane *lane, const struct session_event *event,
                      const struct msg *reply)
{
	char text[LIMIT_TEXT_BYTES];
	/* What the server says of these is for who writes a client. */
	bool forgot = event->status == OPTD_NO_SESSION || event->status == OPTD_STALE_EPOCH;
	text_copy(reply->text, text, sizeof(text));
	if (forgot)
		snprintf(text, sizeof(text), "the server restarted or lost the connection");
	client_tell(client, "%s: %s; connecting again", lane->endpoint,
	            text[0] ? text : status_text(event->status));
}

/* The server refused the session for good: nothing on this lane can succeed. */
static void lane_refused(optd_client *client, struct lane *lane, int status, const struct msg *reply)
{
	text_copy(reply->text, lane->why, sizeof(lane->why));
	if (!lane->why[0])
		snprintf(lane->why, sizeof(lane->why), "%s", status_text(status));
	for (struct call *call = client->calls, *next; call; call = next) {
		next = call->next;
		char text[CLIENT_ERROR_BYTES];
		snprintf(text, sizeof(text), "%s: %s", lane->endpoint, lane->why);
		call_fail(client, call, status, text);
	}
}

static void dispatch(optd_client *client, struct lane *lane, const struct msg *reply, uint64_t now_ms)
{
	struct session_event event;
	optd_model *model;
	session_reply(&lane->session, reply, now_ms, &event);
	switch (event.kind) {
	case SESSION_NOTHING:
		break;
	case SESSION_WELCOMED:
		reach_found(client, lane);
		connect_welcomed(client, lane, reply);
		break;
	case SESSION_LOST:
		lane_lost(client, lane, &event, reply);
		break;
	case SESSION_REFUSED:
		lane_refused(client, lane, event.status, reply);
		break;
	case SESSION_OPENED:
	case SESSION_NOT_OPENED:
	case SESSION_HELD:
		model = model_by_slot(client, event.slot);
		if (model)
			model_opened(model, lane, &event, reply);
		break;
	case SESSION_NOTICE:
		call_notice(client, lane, &event.request, reply);
		break;
	case SESSION_ANSWER:
		call_answer(client, lane, &event.request, reply);
		break;
	}
}

static bool lane_receive(optd_client *client, struct lane *lane, uint64_t now_ms)
{
	const void *header, *payload;
	size_t header_bytes, payload_bytes;
	char why[256];
	bool moved = false;
	for (uint32_t i = 0; i < CLIENT_BURST; i++) {
		if (!link_receive(lane->link, &header, &header_bytes, &payload, &payload_bytes))
			break;
		moved = true;
		int rc = wire_decode(client->arena, header, header_bytes, payload, payload_bytes, true,
		                     &client->in, why, sizeof(why));
		if (rc == OPTD_CHECKSUM && client->in.session == lane->session.number)
			session_damaged(&lane->session, client->in.request);
		else if (rc < 0)
			client_tell(client, "%s: an answer was ignored: %s", lane->endpoint, why);
		else
			dispatch(client, lane, &client->in, now_ms);
	}
	return moved;
}

/* Payloads that are not a call's: the layout of an OPEN. */
static int copy_payload(optd_client *client, const struct msg *msg, void **buffer)
{
	if (msg->payload_bytes == 0)
		return 0;
	*buffer = pool_take(client->pool, msg->payload_bytes);
	if (!*buffer)
		return OPTD_NO_MEMORY;
	memcpy(*buffer, msg->payload, msg->payload_bytes);
	return 0;
}

/* Encodes and sends client->out.  The buffer is gone whatever happens. */
static int transmit(optd_client *client, struct lane *lane, void *buffer)
{
	int size = wire_encode(&client->out, client->header, sizeof(client->header));
	int rc = size < 0 ? size
	                  : link_send(lane->link, client->header, (size_t)size, buffer,
	                              client->out.payload_bytes);
	if (buffer && (size < 0 || rc == OPTD_BUSY))
		pool_give(buffer);
	return rc;
}

/* Sends one message.  Returns whether it did. */
static bool lane_send(optd_client *client, struct lane *lane, uint64_t now_ms)
{
	struct session_out out;
	void *buffer = NULL;
	lane->blocked = false;
	if (!session_next(&lane->session, now_ms, &out))
		return false;
	if (!link_writable(lane->link)) {
		lane->blocked = true;
		return false;
	}
	session_fill(&lane->session, &out, &client->out);
	int rc = out.kind == SESSION_SEND_REQUEST
	                 ? call_fill(client, out.request, &client->out, &buffer)
	                 : copy_payload(client, &client->out, &buffer);
	if (rc == 0)
		rc = transmit(client, lane, buffer);
	if (rc == OPTD_BUSY)
		lane->blocked = true;
	if (rc == OPTD_BUSY)
		return false;
	if (rc < 0 && out.kind == SESSION_SEND_REQUEST) {
		call_fail(client, out.request->owner, rc, status_text(rc));
		return true;
	}
	/* A lost HELLO or OPEN is asked for again when patience ends. */
	session_sent(&lane->session, &out, now_ms);
	if (out.kind != SESSION_SEND_REQUEST)
		lane->bytes = link_bytes(lane->link);
	return true;
}

static bool send_all(optd_client *client, uint64_t now_ms)
{
	bool moved = false;
	for (uint32_t i = 0; i < client->lane_count; i++)
		for (uint32_t n = 0; n < SEND_BURST && lane_send(client, client->lanes[i], now_ms); n++)
			moved = true;
	return moved;
}

/* A daemon that came back may listen elsewhere with its other lanes; its first
 * lane knows, and may have nothing to ask by itself. */
static void poke_first_lanes(optd_client *client)
{
	for (uint32_t i = 0; i < client->lane_count; i++) {
		const struct lane *lane = client->lanes[i];
		if (lane->lane != 0 && (lane->blocked || lane->session.state == SESSION_GREETED))
			session_poke(&client->lanes[client->daemons[lane->daemon].first_lane]->session);
	}
}

/* Whether what is asked may still be on its way.  What a machine whose daemon stands still
 * takes in, a question or ZeroMQ's pings, is less than this. */
static bool is_moving(struct lane *lane)
{
	uint64_t bytes = link_bytes(lane->link);
	bool moving = bytes >= lane->bytes + MOVING_BYTES;
	lane->bytes = bytes;
	return moving;
}

bool client_pump(optd_client *client)
{
	uint64_t now_ms = hub_now_ms();
	bool moved = false;
	for (uint32_t i = 0; i < client->lane_count; i++) {
		struct lane *lane = client->lanes[i];
		if (lane_receive(client, lane, now_ms))
			moved = true;
		if (session_is_overdue(&lane->session, now_ms) && is_moving(lane))
			session_moved(&lane->session, now_ms);
		if (!session_tick(&lane->session, now_ms))
			continue;
		client_tell(client, "%s: no answer; connecting again", lane->endpoint);
		link_reopen(lane->link);
		lane->reach.connected = false;
		moved = true;
	}
	reach_turn(client, now_ms);
	client->map_status = client->map_changed ? connect_remap(client, now_ms) : 0;
	poke_first_lanes(client);
	/* By the old map requests would go where their blocks are not. */
	if (!client->map_held && send_all(client, now_ms))
		moved = true;
	return moved;
}

uint64_t client_deadline(const optd_client *client)
{
	uint64_t now_ms = hub_now_ms(), at = SESSION_NEVER;
	if (client->map_held)
		return client->map_retry_ms;
	for (uint32_t i = 0; i < client->lane_count; i++) {
		const struct lane *lane = client->lanes[i];
		uint64_t due = session_deadline(&lane->session);
		/* What the link does not take is tried when its descriptor wakes us;
		 * now and then also without, should there be no socket. */
		if (lane->blocked && due <= now_ms)
			due = now_ms + SESSION_RETRY_MS;
		if (due < at)
			at = due;
	}
	if (client->map_changed && client->map_retry_ms < at)
		at = client->map_retry_ms;
	return at;
}

void client_turn(optd_client *client, uint64_t deadline_ms)
{
	client->until_ms = deadline_ms;
	bool moved = client_pump(client);
	client->until_ms = 0;
	if (moved)
		return;
	uint64_t now_ms = hub_now_ms();
	uint64_t at = client_deadline(client);
	if (deadline_ms < at)
		at = deadline_ms;
	/* At least a millisecond: a deadline that has come without anything to do
	 * must not become a spin. */
	hub_wait(client->hub, at > now_ms ? at - now_ms : 1);
}

void client_leave(optd_client *client)
{
	bool work = false;
	for (uint32_t i = 0; i < client->lane_count && !work; i++)
		work = link_readable(client->lanes[i]->link);
	hub_leave(client->hub, work, client_deadline(client));
}

/* A rank is "rank 1" if it has never been there, "rank 1 (host:pid, gone)", or
 * "rank 1 (host:pid)", which is at work. */
static void explain_waiting(const char *waiting, char *text, size_t text_bytes)
{
	static const char again[] = "make the same call again to go on waiting";
	const char *rank = strstr(waiting, " workers: rank ");
	if (!rank) {
		snprintf(text, text_bytes, "%s", waiting);
		return;
	}
	rank += strlen(" workers: rank ");
	int digits = (int)strspn(rank, "0123456789");
	if (strstr(rank, "rank "))
		snprintf(text, text_bytes, "%s; start those that do not run, or %s", waiting, again);
	else if (rank[digits] == ' ' && !strstr(rank, ", gone)"))
		snprintf(text, text_bytes, "%s; %s", waiting, again);
	else
		snprintf(text, text_bytes, "%s; start rank %.*s, or %s", waiting, digits, rank, again);
}

void client_explain(optd_client *client, const char *heard, char *text, size_t text_bytes)
{
	char why[256];
	if (client->map_held) {
		snprintf(text, text_bytes, "%s", client->map_why);
		return;
	}
	for (uint32_t i = 0; i < client->lane_count; i++) {
		const struct lane *lane = client->lanes[i];
		if (lane->session.state == SESSION_UP && !lane->blocked)
			continue;
		link_diagnose(lane->endpoint, LINK_DIAGNOSE_MS, why, sizeof(why));
		snprintf(text, text_bytes, "%s does not answer: %s%s%s", lane->endpoint, why,
		         heard[0] ? "; the last that was heard: " : "", heard);
		return;
	}
	if (heard[0])
		explain_waiting(heard, text, text_bytes);
	else
		snprintf(text, text_bytes, "the server is there but has not answered this call");
}

void optd_set_timeout(optd_client *client, uint32_t timeout_ms)
{
	client->timeout_ms = timeout_ms ? timeout_ms : CLIENT_TIMEOUT_MS;
}
