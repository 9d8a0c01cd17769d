/*
 * Rejected gradients: under `reject` nothing of one that is not finite is sent, and in sync
 * the other workers wait for this one.  So each lane of the model is told, in one message
 * without values, and tells them.
 *
 * It is a call of its own that takes its turn among the model's pushes, since only then its
 * step is known.  The call that was rejected waits for it, but not for a server that is away:
 * then it goes on by itself, and is freed when the next is made.
 */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* How long a call waits until all lanes have heard. */
#define REJECT_MS 2000u

static void free_done(optd_client *client)
{
	for (struct call *call = client->calls, *next; call; call = next) {
		next = call->next;
		if (call->rejects && call->state == CALL_DONE)
			call_free(client, call);
	}
}

/* The last that is to be told about the model, if nothing is pushed behind it. */
static struct call *pending(const optd_model *model)
{
	struct call *call = model->client->last_call;
	while (call && (call->model != model || !call_takes_turn(call) || call->state == CALL_DONE))
		call = call->prev;
	return call && call->rejects ? call : NULL;
}

/* A lane of another policy, or that knows none, would take the message for this rank's
 * part of the step. */
static bool hears(const optd_model *model, uint32_t lane)
{
	const struct session *session = &model->client->lanes[lane]->session;
	return model->runs[lane].count > 0 && session->slots[model->slot].opened.nonfinite == MSG_REJECT;
}

static uint32_t choose(const optd_model *model, uint32_t *lanes)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < model->client->lane_count; i++)
		if (hears(model, i))
			lanes[count++] = i;
	return count;
}

void reject_start(optd_model *model, uint32_t tensor)
{
	optd_client *client = model->client;
	free_done(client);
	if (model->info.mode != OPTD_SYNC || model->info.workers < 2)
		return;
	struct call *call = pending(model);
	if (call) {
		call->poison_tensor = tensor;
		return;
	}
	uint32_t *lanes = malloc(client->lane_count * sizeof(*lanes));
	uint32_t count = lanes ? choose(model, lanes) : 0;
	call = count > 0 ? call_new(client, model, MSG_CLOSE_STEP, count) : NULL;
	if (!call) {
		free(lanes);
		return;
	}
	call->rejects = lanes;
	call->lanes = lanes;
	call->poisoned = true;
	call->poison_tensor = tensor;
	call_start(client, call);
}

void reject_finish(optd_model *model, bool waits)
{
	optd_client *client = model->client;
	uint64_t patience_ms = client->timeout_ms < REJECT_MS ? client->timeout_ms : REJECT_MS;
	uint64_t deadline_ms = hub_now_ms() + patience_ms;
	char error[CLIENT_ERROR_BYTES];
	memcpy(error, client->error, sizeof(error));
	client_pump(client);
	while (waits && pending(model) && hub_now_ms() < deadline_ms)
		client_turn(client, deadline_ms);
	free_done(client);
	client_leave(client);
	memcpy(client->error, error, sizeof(error));
}

void reject_fill(const struct call *call, uint32_t index, struct msg *msg)
{
	struct layout_run run = call->model->runs[call->lanes[index]];
	msg->part_count = 1;
	msg->parts[0] = (struct msg_part){.first = run.first, .count = run.count};
}
