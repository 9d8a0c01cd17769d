/*
 * What a request carries and what its answer brings: between a call's arrays and
 * messages.
 */
#include <stdio.h>
#include <string.h>

#include "client/internal.h"

/* ---- requests --------------------------------------------------------- */

static int fill_payload(optd_client *client, const struct call *call,
                        const struct route_message *m, struct msg *msg, void **buffer)
{
	uint64_t bytes = route_bytes(m, call->type);
	*buffer = pool_take(client->pool, bytes);
	if (!*buffer)
		return OPTD_NO_MEMORY;
	route_gather(call->route, m, call->sources ? call->sources : &call->source, call->type, *buffer);
	msg->dtype = call->type;
	msg->payload = *buffer;
	msg->payload_bytes = bytes;
	/* The bytes are still in the cache. */
	msg->checksum = wire_checksum(*buffer, bytes);
	return 0;
}

int call_fill(optd_client *client, const struct inflight_request *request, struct msg *msg,
              void **buffer)
{
	const struct call *call = request->owner;
	if (!call->model) {
		if (request->verb == MSG_SAVE || request->verb == MSG_DROP)
			msg->named.model = text_of(call->name);
		if (request->verb == MSG_SET)
			msg->set = *call->set;
		return 0;
	}
	if (request->verb == MSG_NORM)
		return norm_fill(client, call, request->index, msg, buffer);
	msg->step = call->step;
	msg->base_version = call->base_version;
	msg->min_version = call->min_version;
	msg->source = call->source_of_pull;
	msg->weight = call->weight;
	msg->token = call->token;
	verdict_fill(call, msg);
	if (call->rejects)
		reject_fill(call, request->index, msg);
	if (!call->route)
		return 0;
	const struct route_message *m = &call->route->messages[request->index];
	msg->part_count = m->part_count;
	memcpy(msg->parts, &call->route->parts[m->first_part], m->part_count * sizeof(*msg->parts));
	bool sends = request->verb == MSG_PUSH || request->verb == MSG_PUSH_PULL ||
	             request->verb == MSG_INIT;
	return sends ? fill_payload(client, call, m, msg, buffer) : 0;
}

/* ---- answers ---------------------------------------------------------- */

static int take_weights(struct call *call, uint32_t index, const struct msg *reply)
{
	const struct route_message *m = &call->route->messages[index];
	if (reply->payload_bytes != m->bytes)
		return OPTD_MALFORMED;
	/* A server that does not know averages gives what it has. */
	if (reply->source != call->source_of_pull)
		return OPTD_UNSUPPORTED;
	route_scatter(call->route, m, reply->payload, call->targets ? call->targets : &call->target);
	call->overwrote = call->in_place;
	if (reply->version < call->version)
		call->version = reply->version;
	if (reply->version_max > call->version_max)
		call->version_max = reply->version_max;
	return 0;
}

/* Keeps the first error by shard order, whichever came first. */
static void note_error(struct call *call, uint32_t index, const struct lane *lane,
                       const struct msg *reply, int status)
{
	char said[LIMIT_TEXT_BYTES + 1];
	if (call->status < 0 && call->failed <= index)
		return;
	call->status = status;
	call->failed = index;
	text_copy(reply->text, said, sizeof(said));
	describe(call->error, sizeof(call->error), call->model, lane->endpoint, said, status);
}

static void note_version(uint64_t *seen, const struct msg *reply)
{
	uint64_t version = reply->version_max > reply->version ? reply->version_max : reply->version;
	*seen = version > *seen ? version : *seen;
}

void call_judge(struct call *call, const struct lane *lane, const struct msg *reply, int status)
{
	char said[LIMIT_TEXT_BYTES + 1], text[CLIENT_ERROR_BYTES];
	/* The handle was good: the model is gone since. */
	if (status == OPTD_NO_MODEL)
		status = OPTD_MODEL_LOST;
	if (!call->model || (status != OPTD_MODEL_LOST && status != OPTD_ROLLBACK))
		return;
	text_copy(reply->text, said, sizeof(said));
	describe(text, sizeof(text), call->model, lane->endpoint, said, status);
	model_break(call->model, status, text);
}

/* Without waiting for the rest: what was sent is a copy, and its answers are passed over. */
static void end_at_once(optd_client *client, struct call *call)
{
	char text[CLIENT_ERROR_BYTES];
	memcpy(text, call->error, sizeof(text));
	call_fail(client, call, call->status, text);
}

void call_answer(optd_client *client, struct lane *lane, const struct inflight_request *request,
                 const struct msg *reply)
{
	struct call *call = request->owner;
	uint32_t index = request->index;
	int status = reply->status;
	if (request->verb == MSG_NORM) {
		norm_answer(client, call, lane, index, reply);
		return;
	}
	bool weights = request->verb == MSG_PULL || request->verb == MSG_PUSH_PULL;
	if (status == OPTD_OK && weights)
		status = take_weights(call, index, reply);
	if (status == OPTD_OK && call->seen)
		note_version(&call->seen[lane->daemon], reply);
	if (status == OPTD_OK && call->model)
		verdict_answer(call, lane, reply);
	if (status == OPTD_OK && call->answer)
		call->answer(call, index, reply);
	if (status < 0) {
		note_error(call, index, lane, reply, status);
		call_judge(call, lane, reply, status);
	}
	if (call->state != CALL_ACTIVE)
		return;
	call->final[index] = 1;
	call->left--;
	/* Another rank rejected its gradient: messages that came once it has mended it would not be
	 * told, and the step may need those that are not under way yet. */
	if (status == OPTD_NOT_FINITE && request->verb >= MSG_PUSH && !call->rejects) {
		end_at_once(client, call);
		return;
	}
	if (call->left == 0)
		call_complete(client, call);
}

/* An operator is told at once: the session holds such a request until the server is back,
 * and who stops a server knows when that is. */
static void refuse_draining(optd_client *client, const struct lane *lane, struct call *call,
                            const char *said)
{
	char text[CLIENT_ERROR_BYTES];
	describe(text, sizeof(text), NULL, lane->endpoint, said, OPTD_DRAINING);
	call_fail(client, call, OPTD_DRAINING, text);
}

void call_notice(optd_client *client, struct lane *lane, const struct inflight_request *request,
                 const struct msg *reply)
{
	struct call *call = request->owner;
	char said[LIMIT_TEXT_BYTES + 1];
	if (reply->status != OPTD_WAITING && reply->status != OPTD_DRAINING)
		return;
	text_copy(reply->text, said, sizeof(said));
	if (reply->status == OPTD_DRAINING && !call->model) {
		refuse_draining(client, lane, call, said);
		return;
	}
	snprintf(call->waiting, sizeof(call->waiting), "%s", said);
	if (call->model)
		client_tell(client, "model '%s' on %s: %s", call->model->name, lane->endpoint, said);
	else
		client_tell(client, "%s: %s", lane->endpoint, said);
}
