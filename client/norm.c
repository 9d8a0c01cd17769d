/*
 * Parts of norms: what a push of a model that clips one, and is shared among servers, asks
 * and tells beside its gradient.  The requests are the call's, and it does not wait for
 * their answers: it is done when its own are there.
 */
#include <inttypes.h>
#include <string.h>

#include "client/internal.h"

static bool clips(const optd_model *model)
{
	const struct msg_clip *clip = &model->rule.clip;
	return (clip->norm > 0 || clip->tensor_norm > 0) && model->info.mode == OPTD_SYNC;
}

static void send(optd_client *client, struct call *call, uint32_t index)
{
	const struct relay_message *m = &call->model->relay->messages[index];
	struct lane *lane = client->lanes[client->daemons[m->daemon].first_lane];
	/* An ask takes nothing of the window: it has no payload, and waits for others' pushes. */
	call_request(client, call, lane, MSG_NORM, m->tells ? relay_bytes(m) : 0, index);
}

void norm_begin(optd_client *client, struct call *call)
{
	optd_model *model = call->model;
	if (!clips(model))
		return;
	if (!model->relay && relay_new(model->layout, client->daemon_count, &model->relay) < 0) {
		call_fail(client, call, OPTD_NO_MEMORY, status_text(OPTD_NO_MEMORY));
		return;
	}
	if (!model->relay)
		return;
	relay_begin(model->relay, call->step);
	for (uint32_t i = 0; i < model->relay->message_count && call->state == CALL_ACTIVE; i++)
		if (relay_begins_with(model->relay, i))
			send(client, call, i);
}

int norm_fill(optd_client *client, const struct call *call, uint32_t index, struct msg *msg, void **buffer)
{
	const struct relay *relay = call->model->relay;
	const struct relay_message *m = &relay->messages[index];
	msg->step = call->step;
	msg->part_count = 1;
	msg->parts[0] = m->part;
	if (!m->tells)
		return 0;
	*buffer = pool_take(client->pool, relay_bytes(m));
	if (!*buffer)
		return OPTD_NO_MEMORY;
	memcpy(*buffer, relay->numbers + m->first_segment, relay_bytes(m));
	msg->guessed = relay->guessed;
	msg->payload = *buffer;
	msg->payload_bytes = relay_bytes(m);
	msg->checksum = wire_checksum(msg->payload, msg->payload_bytes);
	return 0;
}

static void fail(optd_client *client, struct call *call, const struct lane *lane, const struct msg *reply,
                 int status)
{
	char said[LIMIT_TEXT_BYTES + 1], text[CLIENT_ERROR_BYTES];
	call_judge(call, lane, reply, status);
	text_copy(reply->text, said, sizeof(said));
	describe(text, sizeof(text), call->model, lane->endpoint, said, status);
	call_fail(client, call, status, text);
}

void norm_answer(optd_client *client, struct call *call, const struct lane *lane, uint32_t index,
                 const struct msg *reply)
{
	struct relay *relay = call->model->relay;
	const struct relay_message *m = &relay->messages[index];
	int status = reply->status;
	if (call->state != CALL_ACTIVE)
		return;
	if (status == OPTD_OK && !m->tells && reply->payload_bytes != relay_bytes(m))
		status = OPTD_MALFORMED;
	if (status < 0) {
		fail(client, call, lane, reply, status);
		return;
	}
	if (m->tells)
		return;
	if (reply->guessed)
		client_tell(client, "model '%s' on %s: this server is past step %" PRIu64
		            ", which is repeated on others, and does not know its norm any more: it is clipped by another "
		            "step's", call->model->name, lane->endpoint, call->step);
	struct relay_due due = relay_take(relay, index, reply->payload, reply->guessed);
	for (uint32_t i = 0; i < due.count && call->state == CALL_ACTIVE; i++)
		send(client, call, due.first + i);
}

void norm_recall(optd_client *client, struct call *call, const struct lane *lane)
{
	const struct relay *relay = call->model->relay;
	if (!relay || lane != client->lanes[client->daemons[lane->daemon].first_lane])
		return;
	for (uint32_t i = 0; i < relay->message_count && call->state == CALL_ACTIVE; i++)
		if (relay_tells(relay, i, lane->daemon))
			send(client, call, i);
}
