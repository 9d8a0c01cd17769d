/*
 * Models: which lanes have a part of one, the routes of its calls, and what
 * their answers to OPEN mean for it.
 *
 * A model that the server lost or took back to an earlier step is broken:
 * every call on it fails with the same sentence until the program has decided.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

optd_model *model_by_slot(const optd_client *client, uint32_t slot)
{
	optd_model *model = client->models;
	while (model && model->slot != slot)
		model = model->next;
	return model;
}

const char *model_endpoint(const optd_model *model)
{
	return model->client->daemons[0].endpoint;
}

/* ---- lanes and routes ------------------------------------------------- */

static int model_lanes(const optd_model *model, struct route_lane **out)
{
	const optd_client *client = model->client;
	struct route_lane *lanes = calloc(client->lane_count, sizeof(*lanes));
	if (!lanes)
		return OPTD_NO_MEMORY;
	for (uint32_t i = 0; i < client->lane_count; i++)
		lanes[i] = (struct route_lane){
			.blocks = model->runs[i],
			.message_bytes = client->lanes[i]->session.message_bytes,
			.window_bytes = client->lanes[i]->session.window_bytes,
		};
	*out = lanes;
	return 0;
}

static int make_route(optd_model *model, const uint32_t *tensors, uint32_t count, bool push,
                      struct route **out)
{
	struct route_lane *lanes;
	int rc = model_lanes(model, &lanes);
	if (rc < 0)
		return rc;
	rc = route_new(model->layout, lanes, model->client->lane_count, tensors, count, push, out);
	free(lanes);
	return rc;
}

int model_runs(const optd_model *model, struct lane *const *lanes, uint32_t count,
               struct layout_run **out)
{
	uint32_t of;
	struct layout_run *runs = calloc(count, sizeof(*runs));
	if (!runs)
		return OPTD_NO_MEMORY;
	for (uint32_t i = 0; i < count; i += of) {
		for (of = 1; i + of < count && lanes[i + of]->daemon == lanes[i]->daemon; of++)
			continue;
		for (uint32_t k = 0; k < of; k++)
			runs[i + k] = layout_owned(model->layout, lanes[i]->daemon, model->client->daemon_count, k, of);
	}
	*out = runs;
	return 0;
}

void model_map(optd_model *model, struct layout_run *runs)
{
	free(model->runs);
	model->runs = runs;
	route_free(model->whole);
	route_free(model->some);
	model->whole = model->some = NULL;
}

int model_route(optd_model *model, const struct route **out)
{
	if (!model->whole) {
		int rc = make_route(model, NULL, 0, true, &model->whole);
		if (rc < 0)
			return rc;
	}
	*out = model->whole;
	return 0;
}

int model_route_some(optd_model *model, const uint32_t *tensors, uint32_t count, bool push,
                     const struct route **out)
{
	size_t bytes = count * sizeof(*tensors);
	bool same = model->some && model->some_push == push && model->some_count == count &&
	            memcmp(model->some_tensors, tensors, bytes) == 0;
	if (!same) {
		uint32_t *copy = malloc(bytes ? bytes : 1);
		struct route *route = NULL;
		int rc = copy ? make_route(model, tensors, count, push, &route) : OPTD_NO_MEMORY;
		if (rc < 0) {
			free(copy);
			return rc;
		}
		if (bytes)
			memcpy(copy, tensors, bytes);
		free(model->some_tensors);
		route_free(model->some);
		model->some = route;
		model->some_tensors = copy;
		model->some_count = count;
		model->some_push = push;
	}
	*out = model->some;
	return 0;
}

/* ---- attaching -------------------------------------------------------- */

void model_attach(optd_model *model)
{
	optd_client *client = model->client;
	for (uint32_t i = 0; i < client->lane_count; i++) {
		struct session *session = &client->lanes[i]->session;
		struct session_slot *slot = &session->slots[model->slot];
		if (model->runs[i].count == 0) {
			session_close_slot(session, model->slot);
			continue;
		}
		if (slot->state == SESSION_OPEN || slot->state == SESSION_OPENING)
			continue;
		session_open(session, model->slot, &model->specs[client->lanes[i]->daemon], 0);
		slot->expect_run = model->known_run;
		slot->seen_step = model->seen_step;
	}
}

void model_advance(optd_model *model, uint64_t step)
{
	optd_client *client = model->client;
	model->step = step;
	model->seen_step = step;
	model->info.step = step;
	for (uint32_t i = 0; i < client->lane_count; i++)
		client->lanes[i]->session.slots[model->slot].seen_step = step;
}

/* Daemons may have come back from checkpoints of different steps.  In sync all go on
 * from the lowest, and those that have more answer at once until the others are there.
 * In async a step that any lane has would be taken for a repetition there, answered and
 * not applied: go on from the highest, for steps may be left out.  No lane is then said
 * to have completed more than it says itself. */
void model_take_steps(optd_model *model)
{
	const optd_client *client = model->client;
	uint64_t lowest = UINT64_MAX, highest = 0;
	for (uint32_t i = 0; i < client->lane_count; i++) {
		uint64_t step = client->lanes[i]->session.slots[model->slot].opened.step;
		if (model->runs[i].count == 0)
			continue;
		lowest = step < lowest ? step : lowest;
		highest = step > highest ? step : highest;
	}
	model_advance(model, lowest);
	if (model->info.mode == OPTD_ASYNC)
		model->step = model->info.step = highest;
}

int model_settle(optd_model *model, uint64_t deadline_ms)
{
	optd_client *client = model->client;
	char why[CLIENT_ERROR_BYTES];
	for (;;) {
		const struct lane *waiting = NULL;
		for (uint32_t i = 0; i < client->lane_count; i++) {
			const struct lane *lane = client->lanes[i];
			const struct session_slot *slot = &lane->session.slots[model->slot];
			if (slot->state == SESSION_BROKEN)
				return client_fail(client, slot->status, "%s", model->broken_text);
			if (lane->session.state == SESSION_FAILED)
				return client_fail(client, lane->session.status, "%s: %s", lane->endpoint, lane->why);
			if (slot->state == SESSION_OPENING && (!waiting || lane == model->held_by))
				waiting = lane;
		}
		if (!waiting)
			return 0;
		if (hub_now_ms() >= deadline_ms) {
			client_explain(client, waiting == model->held_by ? model->held : "", why, sizeof(why));
			return client_fail(client, OPTD_TIMEOUT, "model '%s' on %s was not opened in time: %s",
			                   model->name, waiting->endpoint, why);
		}
		client_turn(client, deadline_ms);
		if (client->map_status < 0)
			return client->map_status;
	}
}

/* What cannot become right by asking again. */
static bool is_lost(int status)
{
	return status == OPTD_MODEL_LOST || status == OPTD_ROLLBACK;
}

static void open_failed(optd_model *model, const struct lane *lane,
                        const struct session_event *event, const struct msg *reply)
{
	char said[LIMIT_TEXT_BYTES + 1], text[CLIENT_ERROR_BYTES];
	text_copy(reply->text, said, sizeof(said));
	if (event->status == OPTD_OK || !said[0]) {
		/* The session found out by itself what OPENED meant. */
		if (event->from > event->to)
			snprintf(said, sizeof(said), "went back from step %" PRIu64 " to step %" PRIu64,
			         event->from, event->to);
		else
			snprintf(said, sizeof(said), "%s",
			         status_text(lane->session.slots[model->slot].status));
	}
	int status = lane->session.slots[model->slot].status;
	describe(text, sizeof(text), model, lane->endpoint, said, status);
	if (is_lost(status) && model->known_run) {
		model_break(model, status, text);
		return;
	}
	snprintf(model->broken_text, sizeof(model->broken_text), "%s", text);
	for (struct call *call = model->client->calls, *next; call; call = next) {
		next = call->next;
		if (call->model == model)
			call_fail(model->client, call, status, text);
	}
}

/* A reader has no step: what it knows a model by is its version, in async the highest. */
static uint64_t reached(const optd_model *model, const struct msg *reply)
{
	if (model->client->rank != MSG_NO_RANK)
		return reply->opened.step;
	return model->info.mode == OPTD_ASYNC ? reply->version_max : reply->version;
}

/* A lane whose daemon restarted is open again with its state, or, where the program has
 * accepted that another lost its own, maybe without some of it. */
static void came_back(optd_model *model, struct lane *lane, const struct msg *reply, uint64_t seen)
{
	const char *what = model->client->rank == MSG_NO_RANK ? "version" : "step";
	uint64_t now = reached(model, reply);
	if (now < seen)
		client_tell(model->client,
		            "model '%s' on %s: the server restarted and went back from %s %" PRIu64 " to %s %" PRIu64,
		            model->name, lane->endpoint, what, seen, what, now);
	else
		client_tell(model->client, "model '%s' on %s: the server restarted with the same state, %s %" PRIu64,
		            model->name, lane->endpoint, what, now);
	call_recall(model->client, model, lane);
}

static void take_rule(optd_model *model, const struct msg_rule *told)
{
	struct msg_rule *rule = &model->rule;
	struct keep *keep = &model->keep;
	*rule = *told;
	model->rule_lost = !keep_text(keep, &rule->name) || !keep_text(keep, &rule->match) ||
	                   !keep_hypers(keep, rule->hypers, rule->hyper_count) ||
	                   !keep_schedule(keep, rule->schedule, rule->schedule_count) ||
	                   !keep_average(keep, &rule->average) ||
	                   !keep_groups(keep, &rule->groups, rule->group_count);
}

/* Of a text that did not fit: ends it with "...", and in no character's middle. */
static void mark_cut(char *text, size_t bytes)
{
	size_t end = bytes - sizeof("...");
	while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
		end--;
	memcpy(text + end, "...", sizeof("..."));
}

/* What only the reply has: texts, and the layout for a reader. */
static void take_lead(optd_model *model, const struct msg *reply)
{
	char why[256];
	optd_model_info *info = &model->info;
	text_copy(reply->opened.optimizer, info->optimizer, sizeof(info->optimizer));
	if (reply->opened.optimizer.size >= sizeof(info->optimizer))
		mark_cut(info->optimizer, sizeof(info->optimizer));
	text_copy(reply->text, info->attached, sizeof(info->attached));
	take_rule(model, &reply->rule);
	average_describe(&model->rule.average, info->average, sizeof(info->average));
	if (model->layout || reply->payload_bytes == 0)
		return;
	struct layout *layout = NULL;
	int rc = wire_layout_decode(model->client->arena, reply->payload, reply->payload_bytes, &layout,
	                            why, sizeof(why));
	if (rc == 0 && layout_elements(layout) > 0)
		model->layout = layout;
	else
		layout_free(layout);
}

void model_saw(optd_model *model, const uint64_t *versions)
{
	for (uint32_t i = 0; i < model->client->daemon_count; i++) {
		struct msg_open *open = &model->specs[i].open;
		if (versions[i] > open->seen_version)
			open->seen_version = versions[i];
	}
}

void model_opened(optd_model *model, struct lane *lane, const struct session_event *event,
                  const struct msg *reply)
{
	struct session_slot *slot = &lane->session.slots[model->slot];
	uint64_t seen = slot->gone_back_from;
	if (lane == model->held_by)
		model->held_by = NULL;
	switch (event->kind) {
	case SESSION_HELD:
		model->held_by = lane;
		text_copy(reply->text, model->held, sizeof(model->held));
		client_tell(model->client, "model '%s' on %s: %s; asking again%s", model->name, lane->endpoint,
		            model->held, event->status == OPTD_DRAINING ? " when the server is back" : "");
		break;
	case SESSION_NOT_OPENED:
		open_failed(model, lane, event, reply);
		break;
	case SESSION_OPENED:
		slot->gone_back_from = 0;
		/* The daemon has looked: nothing that was seen is lost. */
		model->specs[lane->daemon].open.seen_epoch = lane->session.epoch;
		if (lane == model->client->lanes[0])
			verdict_opened(model, &reply->opened);
		if (!model->known_run && lane == model->client->lanes[0])
			take_lead(model, reply);
		else if (event->restarted)
			came_back(model, lane, reply, seen);
		break;
	default:
		break;
	}
}

void model_break(optd_model *model, int status, const char *text)
{
	if (model->broken)
		return;
	model->broken = status;
	snprintf(model->broken_text, sizeof(model->broken_text), "%s", text);
	for (struct call *call = model->client->calls, *next; call; call = next) {
		next = call->next;
		if (call->model == model)
			call_fail(model->client, call, status, model->broken_text);
	}
}

int model_ready(optd_model *model)
{
	if (model->broken)
		return client_fail(model->client, model->broken, "%s", model->broken_text);
	model_attach(model);
	return 0;
}

/* ---- resuming --------------------------------------------------------- */

/* For what is said of servers that are heard of only later. */
static void remember_seen(optd_model *model)
{
	for (uint32_t i = 0; i < model->client->lane_count; i++) {
		struct lane *lane = model->client->lanes[i];
		lane->session.slots[model->slot].gone_back_from =
			model->client->rank == MSG_NO_RANK ? model->specs[lane->daemon].open.seen_version : model->seen_step;
	}
}

int optd_resume_model(optd_model *model, uint64_t *step)
{
	optd_client *client = model->client;
	if (model->broken == OPTD_MODEL_LOST)
		return client_fail(client, OPTD_MODEL_LOST, "%s", model->broken_text);
	if (model->broken == OPTD_ROLLBACK) {
		model->broken = 0;
		model->poison_step_plus_one = 0;
		remember_seen(model);
		relay_forget(model->relay);
		model_advance(model, 0);
		for (uint32_t i = 0; i < client->daemon_count; i++)
			model->specs[i].open.seen_version = 0;
		for (uint32_t i = 0; i < client->lane_count; i++) {
			struct session *session = &client->lanes[i]->session;
			if (model->runs[i].count == 0)
				continue;
			session_open(session, model->slot, &model->specs[client->lanes[i]->daemon], 0);
			session->slots[model->slot].restarted = false; /* the program knows */
		}
		int rc = model_settle(model, hub_now_ms() + client->timeout_ms);
		client_leave(client);
		if (rc < 0)
			return rc;
		model_take_steps(model);
	}
	inplace_forget(model);
	if (step)
		*step = model->step;
	return 0;
}
