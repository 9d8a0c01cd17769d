/*
 * For operators: status of every lane; save and drop, which each daemon's first
 * lane passes on to the others; and goodbye.
 *
 * Workers wait for a server that is to come back; whoever manages servers wants to
 * know that it is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* How often the addresses of what is out of reach are looked at. */
#define LOOK_MS 500u

/* Whether nobody listens at a lane's address; an error that may pass is none. */
static bool is_gone(const struct lane *lane, char *why, size_t why_bytes)
{
	if (!reach_is_away(lane))
		return false;
	int error = link_diagnose(lane->endpoint, REACH_DIAGNOSE_MS, why, why_bytes);
	return error == ECONNREFUSED || error == ENOENT;
}

static void fail_if_gone(optd_client *client, struct call *call)
{
	char why[256], said[320], text[CLIENT_ERROR_BYTES];
	for (uint32_t i = 0; i < call->total && call->state != CALL_DONE; i++) {
		const struct lane *lane = client->lanes[call->lanes[i]];
		if (call->final[i] || !is_gone(lane, why, sizeof(why)))
			continue;
		snprintf(said, sizeof(said), "the server was gone before it answered %s: %s",
		         msg_verb_name(call->verb), why);
		describe(text, sizeof(text), NULL, lane->endpoint, said, OPTD_UNREACHABLE);
		call_fail(client, call, OPTD_UNREACHABLE, text);
	}
}

/* Until it is done, its time is over, or a server that it asks is gone. */
static void wait_while_there(optd_client *client, struct call *call, uint64_t deadline_ms)
{
	uint64_t now_ms = hub_now_ms(), look_ms = now_ms + LOOK_MS;
	while (call->state != CALL_DONE && now_ms < deadline_ms) {
		client_turn(client, look_ms < deadline_ms ? look_ms : deadline_ms);
		now_ms = hub_now_ms();
		if (now_ms < look_ms)
			continue;
		fail_if_gone(client, call);
		look_ms = now_ms + LOOK_MS;
	}
}

struct call *admin_start(optd_client *client, const struct call *about)
{
	struct call *call = call_new(client, NULL, about->verb, about->total);
	if (!call)
		return NULL;
	call->name = about->name;
	call->set = about->set;
	call->lanes = about->lanes;
	call->answer = about->answer;
	call->user = about->user;
	call_start(client, call);
	return call;
}

/* Starts a verb on these lanes, which stay until it is finished; NULL without memory. */
static struct call *start(optd_client *client, enum msg_verb verb, const char *name,
                          const uint32_t *lanes, uint32_t count,
                          void (*answer)(struct call *, uint32_t, const struct msg *), void *user)
{
	return admin_start(client, &(struct call){.verb = verb, .name = name, .lanes = lanes, .total = count,
	                                          .answer = answer, .user = user});
}

int admin_finish(optd_client *client, struct call *call, uint64_t deadline_ms)
{
	wait_while_there(client, call, deadline_ms);
	return call_finish(client, call, deadline_ms);
}

/* ---- save and drop ---------------------------------------------------- */

/* A server that has no part of the model has nothing to do, unless none has. */
static int finish_all(optd_client *client, struct call **calls, uint64_t deadline_ms)
{
	char text[CLIENT_ERROR_BYTES];
	uint32_t without = 0;
	int failed = 0;
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		int rc = admin_finish(client, calls[i], deadline_ms);
		without += rc == OPTD_NO_MODEL;
		if (rc == 0 || (failed != 0 && (failed != OPTD_NO_MODEL || rc == OPTD_NO_MODEL)))
			continue;
		failed = rc;
		snprintf(text, sizeof(text), "%s", client->error);
	}
	if (failed == 0 || (failed == OPTD_NO_MODEL && without < client->daemon_count))
		return OPTD_OK;
	return client_fail(client, failed, "%s", text);
}

/* A call for each daemon, so that each has its own result. */
static int ask_all(optd_client *client, enum msg_verb verb, const char *name, uint32_t *lanes,
                   struct call **calls)
{
	uint64_t deadline_ms = hub_now_ms() + client->timeout_ms;
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		lanes[i] = client->daemons[i].first_lane;
		calls[i] = start(client, verb, name, &lanes[i], 1, NULL, NULL);
		if (calls[i])
			continue;
		while (i > 0)
			call_free(client, calls[--i]);
		return OPTD_NO_MEMORY;
	}
	return finish_all(client, calls, deadline_ms);
}

static int run_first_lanes(optd_client *client, enum msg_verb verb, const char *name)
{
	uint32_t *lanes = calloc(client->daemon_count, sizeof(*lanes));
	struct call **calls = calloc(client->daemon_count, sizeof(*calls));
	int rc = lanes && calls ? ask_all(client, verb, name, lanes, calls)
	                        : client_fail(client, OPTD_NO_MEMORY, "out of memory");
	free(lanes);
	free(calls);
	return rc;
}

int optd_save(optd_client *client, const char *name)
{
	int rc = name ? check_name(client, name) : 0;
	return rc < 0 ? rc : run_first_lanes(client, MSG_SAVE, name ? name : "");
}

int optd_drop(optd_client *client, const char *name)
{
	if (!name)
		return client_fail(client, OPTD_INVALID, "name the model to drop");
	int rc = check_name(client, name);
	return rc < 0 ? rc : run_first_lanes(client, MSG_DROP, name);
}

/* ---- status ----------------------------------------------------------- */

/* A lane's records, kept until all lanes have answered, so that rows come in the
 * order of lanes whatever the order of answers. */
struct report {
	void *bytes;
	size_t size;
	struct msg_lane_status lane;
};

struct gathering {
	struct report *reports;
	bool failed;
};

static void keep_report(struct call *call, uint32_t index, const struct msg *reply)
{
	struct gathering *g = call->user;
	void *copy = malloc(reply->payload_bytes + 1);
	if (!copy) {
		g->failed = true;
		return;
	}
	if (reply->payload_bytes)
		memcpy(copy, reply->payload, reply->payload_bytes);
	free(g->reports[index].bytes);
	g->reports[index] = (struct report){copy, reply->payload_bytes, reply->lane_status};
}

/* A row's texts, ended with NUL. */
struct row_text {
	struct told_changes changes;
	optd_rate rates[1 + LIMIT_GROUPS];
	char rate_tensors[1 + LIMIT_GROUPS][LIMIT_RATE_BYTES + 1];
	char model[LIMIT_NAME_BYTES + 1];
	char optimizer[LIMIT_TEXT_BYTES + 1], average[LIMIT_NAME_BYTES + 1];
	char waiting[LIMIT_TEXT_BYTES + 1];
	char tensor[LIMIT_NAME_BYTES + 1];
};

static void tell_rates(const struct wire_model_status *s, struct row_text *text, optd_status_row *row)
{
	row->rates = text->rates;
	row->rate_count = s->rate_count;
	for (uint32_t i = 0; i < s->rate_count; i++) {
		char *tensors = text->rate_tensors[i];
		text->rates[i].tensors = text_copy(s->rates[i].tensors, tensors, sizeof(text->rate_tensors[i]));
		text->rates[i].lr = s->rates[i].lr;
	}
}

static void make_row(const struct wire_model_status *s, const char *endpoint, struct row_text *text,
                     optd_status_row *row)
{
	*row = (optd_status_row){
		.endpoint = endpoint,
		.model = text_copy(s->model, text->model, sizeof(text->model)),
		.run_id = s->run_id,
		.ready = s->state == MSG_MODEL_READY,
		.restored = s->restored,
		.elements = s->elements,
		.tensors = s->tensors,
		.blocks = s->blocks,
		.first_block = s->first_block,
		.block_count = s->block_count,
		.version = s->version,
		.version_max = s->version_max,
		.step = s->step,
		.mode = (optd_mode)s->mode,
		.workers = s->workers,
		.workers_present = s->workers_present,
		.optimizer = text_copy(s->optimizer, text->optimizer, sizeof(text->optimizer)),
		.waiting = text_copy(s->waiting, text->waiting, sizeof(text->waiting)),
		.bytes = s->bytes,
		.pushes = s->pushes,
		.pulls = s->pulls,
		.duplicates = s->duplicates,
		.refused = s->refused,
		.saved_version = s->saved_version,
		.last_norm = s->last_norm,
		.last_factor = s->last_factor,
		.clipped = s->clipped,
		.overflowed = s->overflowed,
		.nonfinite = (optd_nonfinite)s->nonfinite,
		.skipped = s->skipped.count,
		.skipped_step = s->skipped.step,
		.skipped_rank = s->skipped.rank == MSG_SKIPPED_SUM - 1 ? OPTD_NO_WORKER : s->skipped.rank,
		.skipped_tensor = text_copy(s->skipped.tensor, text->tensor, sizeof(text->tensor)),
		.zeroed = s->zeroed,
		.loss_scale = s->scale,
		.growth_tracker = s->growth_tracker,
		.scaler = {s->loss_scale.init_scale, s->loss_scale.growth_factor, s->loss_scale.backoff_factor,
	                   s->loss_scale.growth_interval},
		.average = text_copy(s->average, text->average, sizeof(text->average)),
	};
	tell_changes(s, &text->changes, row);
	tell_rates(s, text, row);
}

static int tell_report(optd_client *client, const struct lane *lane, const struct report *report,
                       void (*tell)(void *user, const optd_status_row *row), void *user)
{
	struct wire_model_status status;
	struct row_text text;
	optd_status_row row;
	size_t at = 0;
	int rc;
	while ((rc = wire_status_decode(client->arena, report->bytes, report->size, &at, &status)) == 1) {
		make_row(&status, lane->endpoint, &text, &row);
		tell(user, &row);
	}
	if (rc < 0)
		client_fail(client, rc, "%s: its status cannot be read", lane->endpoint);
	return rc;
}

static void free_reports(struct gathering *g, uint32_t count)
{
	for (uint32_t i = 0; g->reports && i < count; i++)
		free(g->reports[i].bytes);
	free(g->reports);
}

static int report_all(optd_client *client, const uint32_t *lanes, uint32_t count, struct gathering *g)
{
	uint64_t deadline_ms = hub_now_ms() + client->timeout_ms;
	struct call *call = start(client, MSG_STATUS, "", lanes, count, keep_report, g);
	return call ? admin_finish(client, call, deadline_ms) : OPTD_NO_MEMORY;
}

/* A report of each lane; freed by free_reports whatever is returned. */
static int gather(optd_client *client, struct gathering *g)
{
	uint32_t count = client->lane_count;
	uint32_t *lanes = calloc(count, sizeof(*lanes));
	*g = (struct gathering){.reports = calloc(count, sizeof(*g->reports))};
	int rc = lanes && g->reports ? 0 : client_fail(client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		lanes[i] = i;
	if (rc == 0)
		rc = report_all(client, lanes, count, g);
	if (rc == 0 && g->failed)
		rc = client_fail(client, OPTD_NO_MEMORY, "out of memory");
	free(lanes);
	return rc;
}

int optd_get_status(optd_client *client, void (*row)(void *user, const optd_status_row *row), void *user)
{
	uint32_t count = client->lane_count;
	struct gathering g;
	int rc = gather(client, &g);
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		rc = tell_report(client, client->lanes[i], &g.reports[i], row, user);
	free_reports(&g, count);
	return rc;
}

int optd_get_lanes(optd_client *client, void (*row)(void *user, const optd_lane_row *row), void *user)
{
	uint32_t count = client->lane_count;
	struct gathering g;
	int rc = gather(client, &g);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		const struct msg_lane_status *lane = &g.reports[i].lane;
		optd_lane_row told = {
			.endpoint = client->lanes[i]->endpoint,
			.connections = lane->connections,
			.accepted = lane->accepted,
			.refused = lane->refused,
			.cut = lane->cut,
			.flooded = lane->flooded,
			.malformed = lane->malformed,
			.strangers = lane->strangers,
			.unsent = lane->unsent,
		};
		row(user, &told);
	}
	free_reports(&g, count);
	return rc;
}

/* ---- goodbye ---------------------------------------------------------- */

void admin_goodbye(optd_client *client, uint64_t ms)
{
	uint64_t deadline_ms = hub_now_ms() + ms;
	uint32_t count = 0;
	uint32_t *lanes = calloc(client->lane_count + 1, sizeof(*lanes));
	if (!lanes)
		return;
	for (uint32_t i = 0; i < client->lane_count; i++)
		if (client->lanes[i]->session.state == SESSION_UP)
			lanes[count++] = i;
	struct call *call = call_new(client, NULL, MSG_GOODBYE, count);
	if (call) {
		call->lanes = lanes;
		call->name = "";
		if (call_start(client, call) == 0) {
			while (call->state != CALL_DONE && hub_now_ms() < deadline_ms)
				client_turn(client, deadline_ms);
			call_free(client, call);
		}
	}
	free(lanes);
}
