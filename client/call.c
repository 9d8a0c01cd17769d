/*
 * A call's life: its requests go into the lanes' queues, answers are counted
 * down, and when the last is there the call is done.
 *
 * A call with an error still waits for its other answers, so that the program's
 * arrays are its own again when the call returns.  Pushes of one model run one
 * after the other, for the next one's step is known only when this one is done.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

struct call *call_new(optd_client *client, optd_model *model, enum msg_verb verb, uint32_t total)
{
	struct call *call = calloc(1, sizeof(*call));
	uint8_t *final = calloc(total ? total : 1, 1);
	uint64_t *seen = model ? calloc(client->daemon_count, sizeof(*seen)) : NULL;
	if (!call || !final || (model && !seen)) {
		free(call);
		free(final);
		free(seen);
		client_fail(client, OPTD_NO_MEMORY, "out of memory");
		return NULL;
	}
	call->model = model;
	call->verb = verb;
	call->total = total;
	call->final = final;
	call->seen = seen;
	call->version = UINT64_MAX;
	call->ticket = client->next_ticket++;
	call->prev = client->last_call;
	if (client->last_call)
		client->last_call->next = call;
	else
		client->calls = call;
	client->last_call = call;
	return call;
}

/* Takes its requests back from all lanes. */
static void withdraw(optd_client *client, struct call *call)
{
	for (uint32_t i = 0; i < client->lane_count; i++)
		inflight_cancel(&client->lanes[i]->session.inflight, call);
}

static bool is_push(const struct call *call)
{
	return call->verb == MSG_PUSH || call->verb == MSG_PUSH_PULL;
}

bool call_takes_turn(const struct call *call)
{
	return is_push(call) || call->rejects;
}

void call_free(optd_client *client, struct call *call)
{
	optd_model *model = call->model;
	bool next = call_takes_turn(call) && call->state == CALL_ACTIVE;
	withdraw(client, call);
	if (call->prev)
		call->prev->next = call->next;
	else
		client->calls = call->next;
	if (call->next)
		call->next->prev = call->prev;
	else
		client->last_call = call->prev;
	free(call->shared);
	free(call->rejects);
	free(call->final);
	free(call->seen);
	free(call);
	if (next)
		call_next(model);
}

/* ---- starting --------------------------------------------------------- */

static struct lane *lane_of(const optd_client *client, const struct call *call, uint32_t index)
{
	return client->lanes[call->route ? call->route->messages[index].lane : call->lanes[index]];
}

static bool is_close(const struct call *call, uint32_t index)
{
	return call->route && call->route->messages[index].close;
}

/* What a request takes of the window: its payload or, where that is more, its answer's. */
static uint64_t window_bytes(const struct call *call, uint32_t index)
{
	if (!call->route)
		return 0;
	const struct route_message *m = &call->route->messages[index];
	return call->verb == MSG_PUSH ? route_bytes(m, call->type) : m->bytes;
}

int call_request(optd_client *client, struct call *call, struct lane *lane, enum msg_verb verb, uint64_t bytes,
                 uint32_t index)
{
	uint32_t slot = call->model ? call->model->slot : INFLIGHT_NO_SLOT;
	char text[CLIENT_ERROR_BYTES];
	if (lane->session.state == SESSION_FAILED) {
		describe(text, sizeof(text), call->model, lane->endpoint, lane->why, lane->session.status);
		call_fail(client, call, lane->session.status, text);
		return lane->session.status;
	}
	if (inflight_add(&lane->session.inflight, verb, slot, bytes, call, index) != 0)
		return 0;
	call_fail(client, call, OPTD_NO_MEMORY, status_text(OPTD_NO_MEMORY));
	return OPTD_NO_MEMORY;
}

static int add_request(optd_client *client, struct call *call, uint32_t index)
{
	return call_request(client, call, lane_of(client, call, index),
	                    is_close(call, index) ? MSG_CLOSE_STEP : call->verb, window_bytes(call, index), index);
}

static void activate(optd_client *client, struct call *call)
{
	call->state = CALL_ACTIVE;
	call->left = call->total;
	if (call_takes_turn(call)) {
		call->step = call->model->step;
		call->base_version = call->model->base_version;
	}
	if (is_push(call))
		verdict_begin(call);
	if (call->left == 0)
		call_complete(client, call);
	for (uint32_t i = 0; i < call->total && call->state == CALL_ACTIVE; i++)
		add_request(client, call, i);
	if (call->state == CALL_ACTIVE && is_push(call))
		norm_begin(client, call);
}

int call_start(optd_client *client, struct call *call)
{
	if (call->model) {
		int rc = model_ready(call->model);
		if (rc < 0) {
			call_free(client, call);
			return rc;
		}
	}
	if (call_takes_turn(call))
		call_next(call->model);
	else
		activate(client, call);
	return 0;
}

void call_next(optd_model *model)
{
	for (struct call *call = model->client->calls; call; call = call->next) {
		if (call->model != model || !call_takes_turn(call) || call->state == CALL_DONE)
			continue;
		if (call->state == CALL_QUEUED)
			activate(model->client, call);
		return;
	}
}

/* ---- ending ----------------------------------------------------------- */

/* A later push must not take the place of one that failed: its gradient would be
 * counted as a repetition of the same step. */
static void fail_followers(optd_client *client, struct call *failed)
{
	char text[CLIENT_ERROR_BYTES];
	snprintf(text, sizeof(text), "given up since the push before it failed: %.1500s", failed->error);
	for (struct call *call = failed->next; call; call = call->next) {
		if (call->model != failed->model || !call_takes_turn(call) || call->state != CALL_QUEUED)
			continue;
		call->state = CALL_DONE;
		if (call->rejects)
			continue; /* nobody asks how it went */
		call->status = OPTD_CANCELLED;
		snprintf(call->error, sizeof(call->error), "%s", text);
		client->finished++;
	}
}

/* What a reader knows the whole model to have reached.  In sync the blocks that it did
 * not ask for may be a step behind. */
static uint64_t seen_version(const optd_model *model, const struct call *call)
{
	if (call->whole || model->info.mode != OPTD_SYNC || call->version == 0)
		return call->version;
	uint64_t sure = call->version - 1;
	return sure > model->seen_step ? sure : model->seen_step;
}

void call_complete(optd_client *client, struct call *call)
{
	optd_model *model = call->model;
	call->state = CALL_DONE;
	if (call->rejects) {
		call_next(model);
		return;
	}
	client->finished++;
	if (!model)
		return;
	/* What it asked and told of norms has served its purpose. */
	if (model->relay)
		withdraw(client, call);
	/* Not before: what was answered of a call that has not returned, nobody has seen, and
	 * after a crash it is simply asked for again. */
	if (call->status == 0)
		model_saw(model, call->seen);
	if (call->status == 0 && call->version != UINT64_MAX &&
	    (call->verb == MSG_PULL || call->verb == MSG_PUSH_PULL)) {
		model->version = call->version;
		if (call->source_of_pull == MSG_WEIGHTS)
			model->base_version = call->version;
		model->version_max = call->version_max;
		if (!model->info.ready)
			specs_agreed(model);
		model->info.ready = 1;
		/* A reader has no steps of its own; what it has seen tells a rollback. */
		if (client->rank == MSG_NO_RANK)
			model_advance(model, seen_version(model, call));
	}
	if (!is_push(call))
		return;
	if (call->status < 0) {
		inplace_spoil(model, call);
		fail_followers(client, call);
		return;
	}
	inplace_forget(model);
	model_advance(model, call->step + 1);
	call_next(model);
}

void call_fail(optd_client *client, struct call *call, int status, const char *text)
{
	if (call->state == CALL_DONE)
		return;
	withdraw(client, call);
	call->status = status;
	snprintf(call->error, sizeof(call->error), "%s", text);
	call_complete(client, call);
}

int call_result(optd_client *client, const struct call *call)
{
	if (call->status < 0)
		return client_fail(client, call->status, "%s", call->error);
	return is_push(call) ? verdict_result(call) : call->status;
}

const char *call_heard(const struct call *call)
{
	bool first = call->verb == MSG_PULL && call->min_version == 0 && call->version == UINT64_MAX;
	if (!call->waiting[0] && first && call->model && !call->model->info.ready)
		return "it has no weights yet: a worker must call optd_init";
	return call->waiting;
}

/* What a late call waits for; names the server. */
static void time_out(optd_client *client, struct call *call)
{
	char why[LIMIT_TEXT_BYTES + 512], text[CLIENT_ERROR_BYTES];
	client_explain(client, call_heard(call), why, sizeof(why));
	if (call->model)
		snprintf(text, sizeof(text), "model '%s' on %s: %s was not done in time: %s",
		         call->model->name, model_endpoint(call->model), msg_verb_name(call->verb), why);
	else
		snprintf(text, sizeof(text), "%s: %s was not done in time: %s", client->daemons[0].endpoint,
		         msg_verb_name(call->verb), why);
	call_fail(client, call, OPTD_TIMEOUT, text);
}

int call_finish(optd_client *client, struct call *call, uint64_t deadline_ms)
{
	while (call->state != CALL_DONE) {
		if (hub_now_ms() >= deadline_ms)
			time_out(client, call);
		else
			client_turn(client, deadline_ms);
	}
	int rc = call_result(client, call);
	call_free(client, call);
	client_leave(client);
	return rc;
}

/* ---- after a restart of the server ------------------------------------ */

static bool overwritten(const struct call *call, uint32_t index)
{
	return call->in_place && !is_close(call, index);
}

static void break_overwritten(struct call *call, const struct lane *lane)
{
	char text[CLIENT_ERROR_BYTES], said[256];
	snprintf(said, sizeof(said),
	         "the server restarted in the middle of step %llu, part of whose gradient is "
	         "overwritten by weights (push_pull with one array for both)",
	         (unsigned long long)call->step);
	describe(text, sizeof(text), call->model, lane->endpoint, said, OPTD_ROLLBACK);
	model_break(call->model, OPTD_ROLLBACK, text);
}

void call_recall(optd_client *client, optd_model *model, struct lane *lane)
{
	uint64_t due = lane->session.slots[model->slot].opened.step;
	for (struct call *call = client->calls; call; call = call->next) {
		if (call->model != model || call->state != CALL_ACTIVE)
			continue;
		call->seen[lane->daemon] = 0; /* of a life that is over */
		if (!is_push(call))
			continue;
		/* The lane has all of it that was answered; in async perhaps only on some
		 * blocks, but asking again does no harm. */
		bool sync = model->info.mode == OPTD_SYNC;
		if (due > call->step && (sync || call->in_place))
			return;
		for (uint32_t i = 0; i < call->total && call->state == CALL_ACTIVE; i++) {
			if (!call->final[i] || lane_of(client, call, i) != lane)
				continue;
			if (overwritten(call, i)) {
				break_overwritten(call, lane);
				return;
			}
			call->final[i] = 0;
			call->left++;
			add_request(client, call, i);
		}
		if (call->state == CALL_ACTIVE)
			norm_recall(client, call, lane);
	}
}

static int reroute(optd_model *model, struct call *call)
{
	int rc = call->whole ? model_route(model, &call->route)
	                     : model_route_some(model, model->some_tensors, model->some_count,
	                                        model->some_push, &call->route);
	if (rc < 0)
		return rc;
	uint8_t *final = calloc(call->route->message_count + 1, 1);
	if (!final)
		return OPTD_NO_MEMORY;
	free(call->final);
	call->final = final;
	call->total = call->route->message_count;
	return 0;
}

void call_restart(optd_client *client, optd_model *model)
{
	for (struct call *call = client->calls; call; call = call->next) {
		if (call->model != model || call->state == CALL_DONE)
			continue;
		if (call->rejects) {
			call->state = CALL_DONE; /* the next is started below, by the new map */
			continue;
		}
		if (!call->route) {
			call_fail(client, call, OPTD_NO_TOKEN, "the server came back with other lanes");
			continue;
		}
		if (is_push(call) && call->in_place && call->left < call->total &&
		    call->state == CALL_ACTIVE) {
			break_overwritten(call, client->lanes[0]);
			return;
		}
		int rc = reroute(model, call);
		if (rc < 0)
			call_fail(client, call, rc, status_text(rc));
		else if (call->state == CALL_ACTIVE)
			activate(client, call);
	}
	call_next(model);
}
