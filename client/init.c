/*
 * First weights: the lead grants one worker the right to give them; the others
 * wait until it has.
 *
 * The worker with the grant sends all blocks, then tells each lane, the lead
 * last, that this was all.  A lead that has weights therefore means that every
 * lane has them.
 */
#include <float.h>
#include <stdlib.h>

#include "client/internal.h"

#define ASK_MS 100u

/* Asks the lead again how the model stands, and for the grant. */
static int ask_lead(optd_model *model, uint64_t not_before_ms, uint64_t deadline_ms)
{
	struct session *lead = &model->client->lanes[0]->session;
	session_open(lead, model->slot, &model->specs[0], not_before_ms);
	session_want_init(lead, model->slot);
	int rc = model_settle(model, deadline_ms);
	/* A grant that arrives when nobody waits for it would keep others from theirs. */
	lead->slots[model->slot].wants_init = false;
	return rc;
}

static int send_weights(optd_model *model, const float *weights, uint64_t token, uint64_t deadline_ms)
{
	optd_client *client = model->client;
	const struct route *route;
	int rc = model_route(model, &route);
	if (rc < 0)
		return client_fail(client, rc, "model '%s': %s", model->name, status_text(rc));
	struct call *call = call_new(client, model, MSG_INIT, route->message_count);
	if (!call)
		return OPTD_NO_MEMORY;
	call->route = route;
	call->whole = true;
	call->source = weights;
	call->token = token;
	rc = call_start(client, call);
	return rc < 0 ? rc : call_finish(client, call, deadline_ms);
}

/* INIT without parts to these lanes: that was all. */
static int send_end(optd_model *model, const uint32_t *lanes, uint32_t count, uint64_t token,
                    uint64_t deadline_ms)
{
	optd_client *client = model->client;
	struct call *call = call_new(client, model, MSG_INIT, count);
	if (!call)
		return OPTD_NO_MEMORY;
	call->lanes = lanes;
	call->token = token;
	int rc = call_start(client, call);
	return rc < 0 ? rc : call_finish(client, call, deadline_ms);
}

static int end(optd_model *model, uint64_t token, uint64_t deadline_ms)
{
	optd_client *client = model->client;
	static const uint32_t lead = 0;
	uint32_t count = 0;
	uint32_t *lanes = calloc(client->lane_count, sizeof(*lanes));
	if (!lanes)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 1; i < client->lane_count; i++)
		if (model->runs[i].count > 0)
			lanes[count++] = i;
	int rc = send_end(model, lanes, count, token, deadline_ms);
	free(lanes);
	return rc < 0 ? rc : send_end(model, &lead, 1, token, deadline_ms);
}

static int check(optd_model *model, const float *weights)
{
	if (!weights)
		return client_fail(model->client, OPTD_INVALID, "model '%s': weights is NULL", model->name);
	if (model->client->rank == MSG_NO_RANK)
		return client_fail(model->client, OPTD_DENIED,
		                   "model '%s': this client only reads; connect with a rank to give weights",
		                   model->name);
	uint64_t count = layout_elements(model->layout);
	uint64_t bad = finite_check(weights, DTYPE_F32, count, FLT_MAX);
	if (bad == count)
		return 0;
	return client_fail(model->client, OPTD_NOT_FINITE,
	                   "model '%s': the first weights are %g at element %llu; nothing was sent",
	                   model->name, (double)weights[bad], (unsigned long long)bad);
}

/* Gives the weights under a grant, or waits until someone has: 1 or 0. */
static int give_or_wait(optd_model *model, const float *weights, uint64_t deadline_ms)
{
	const struct session_slot *slot = &model->client->lanes[0]->session.slots[model->slot];
	uint64_t not_before_ms = 0;
	for (;;) {
		int rc = ask_lead(model, not_before_ms, deadline_ms);
		if (rc < 0)
			return rc;
		if (slot->opened.state == MSG_MODEL_READY)
			return 0;
		if (slot->opened.state == MSG_MODEL_GRANTED) {
			uint64_t token = slot->opened.token;
			rc = send_weights(model, weights, token, deadline_ms);
			if (rc == 0)
				rc = end(model, token, deadline_ms);
			if (rc == 0)
				return 1;
			if (rc != OPTD_NO_TOKEN)
				return rc;
		} else {
			client_tell(model->client, "model '%s' on %s: another worker gives the first weights",
			            model->name, model_endpoint(model));
		}
		not_before_ms = hub_now_ms() + ASK_MS;
		if (not_before_ms >= deadline_ms)
			return client_fail(model->client, OPTD_TIMEOUT,
			                   "model '%s' on %s: another worker was to give the first weights and "
			                   "has not done so in time",
			                   model->name, model_endpoint(model));
	}
}

int optd_init(optd_model *model, const float *weights)
{
	int rc = check(model, weights);
	if (rc == 0)
		rc = model_ready(model);
	if (rc < 0)
		return rc;
	if (model->info.ready)
		return 0;
	rc = give_or_wait(model, weights, hub_now_ms() + model->client->timeout_ms);
	if (rc >= 0) {
		model->info.ready = 1;
		specs_agreed(model);
	}
	client_leave(model->client);
	return rc;
}
