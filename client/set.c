/*
 * Changes of hyper-parameters: on one daemon by one request, on several in three steps.
 *
 * PREPARE makes every daemon look at the change and hold the model's blocks; the highest
 * version that any of them is held at is where it can hold from.  PROMISE says so, and
 * MAKE lets it be done.  Whatever fails before the last step is taken back by WITHDRAW.  A
 * daemon that hears no more withdraws what is only prepared and makes what is promised, so
 * that a client that dies on the way leaves nothing held; each step goes to all daemons in
 * one turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* From the first PREPARE to the last PROMISE: the daemons hold their blocks for twice that. */
#define AGREE_MS (LIMIT_SET_HOLD_MS / 2)
/* For taking back: who does not answer lets go by itself. */
#define WITHDRAW_MS 500u
/* A hold may end while a step is on its way. */
#define TRIES 3

/* What one daemon has said. */
struct voice {
	uint32_t lane;
	struct call *call;
	bool out; /* it has no part of the model */
	int status;
	uint64_t version;
	char error[CLIENT_ERROR_BYTES];
};

struct agreement {
	optd_client *client;
	struct msg_set set;
	struct voice *voices; /* by daemon */
	uint64_t deadline_ms;
	uint64_t from;
};

static void take_answer(struct call *call, uint32_t index, const struct msg *reply)
{
	struct voice *voice = call->user;
	(void)index;
	voice->version = reply->version_max;
}

/* One step on every daemon that has a part of the model; returns the first failure, which
 * the client's error text tells. */
static int ask(struct agreement *a, enum msg_act act, uint64_t deadline_ms)
{
	optd_client *client = a->client;
	struct voice *failed = NULL;
	a->set.act = act;
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		struct voice *v = &a->voices[i];
		v->call = v->out ? NULL
		                 : admin_start(client, &(struct call){.verb = MSG_SET, .name = "", .set = &a->set,
		                                                      .lanes = &v->lane, .total = 1,
		                                                      .answer = take_answer, .user = v});
		v->status = v->call || v->out ? OPTD_OK : OPTD_NO_MEMORY;
	}
	for (uint32_t i = 0; i < client->daemon_count; i++) {
		struct voice *v = &a->voices[i];
		if (v->call)
			v->status = admin_finish(client, v->call, deadline_ms);
		snprintf(v->error, sizeof(v->error), "%s", v->status < 0 ? client->error : "");
		/* A daemon without a part of the model has nothing to do, unless none has. */
		if (v->status < 0 && (!failed || failed->status == OPTD_NO_MODEL))
			failed = v;
	}
	return failed ? client_fail(client, failed->status, "%s", failed->error) : OPTD_OK;
}

static int prepare(struct agreement *a, uint64_t deadline_ms)
{
	uint32_t without = 0, count = a->client->daemon_count;
	int rc = ask(a, MSG_SET_PREPARE, deadline_ms);
	for (uint32_t i = 0; i < count; i++) {
		a->voices[i].out = a->voices[i].status == OPTD_NO_MODEL;
		without += a->voices[i].out;
	}
	if (rc < 0 && (rc != OPTD_NO_MODEL || without == count))
		return rc;
	a->from = 0;
	for (uint32_t i = 0; i < count; i++)
		if (!a->voices[i].out && a->voices[i].version > a->from)
			a->from = a->voices[i].version;
	return OPTD_OK;
}

/* Keeps the error text, which is of what went wrong before. */
static void withdraw(struct agreement *a)
{
	char text[CLIENT_ERROR_BYTES];
	snprintf(text, sizeof(text), "%s", a->client->error);
	ask(a, MSG_SET_WITHDRAW, hub_now_ms() + WITHDRAW_MS);
	snprintf(a->client->error, sizeof(a->client->error), "%s", text);
}

/* The change is promised everywhere, and who does not answer makes it by itself unless it
 * has died. */
static int make(struct agreement *a)
{
	optd_client *client = a->client;
	char text[CLIENT_ERROR_BYTES];
	int rc = ask(a, MSG_SET_MAKE, a->deadline_ms);
	if (rc == OPTD_OK)
		return rc;
	snprintf(text, sizeof(text), "%s", client->error);
	return client_fail(client, rc,
	                   "%.1500s; the other servers have the change from version %llu on: look at optctl status, "
	                   "and set it again where it is missing", text, (unsigned long long)a->from);
}

static int agree(struct agreement *a)
{
	struct msg_set asked = a->set;
	uint64_t agree_ms = hub_now_ms() + AGREE_MS;
	if (agree_ms > a->deadline_ms)
		agree_ms = a->deadline_ms;
	a->set.id = hub_random() | 1;
	int rc = prepare(a, agree_ms);
	if (rc == OPTD_OK) {
		a->set.has_from = true;
		a->set.from = a->from;
		a->set.hyper_count = 0;
		rc = ask(a, MSG_SET_PROMISE, agree_ms);
	}
	if (rc < 0)
		withdraw(a);
	a->set.has_from = asked.has_from;
	a->set.hyper_count = asked.hyper_count;
	if (rc < 0)
		a->set.from = asked.from;
	return rc;
}

static int set_several(struct agreement *a)
{
	int rc = OPTD_TIMEOUT;
	for (uint32_t i = 0; i < TRIES && rc == OPTD_TIMEOUT && (i == 0 || hub_now_ms() < a->deadline_ms); i++) {
		for (uint32_t d = 0; d < a->client->daemon_count; d++)
			a->voices[d].out = false;
		rc = agree(a);
	}
	return rc < 0 ? rc : make(a);
}

static int set_one(struct agreement *a)
{
	a->set.id = hub_random() | 1;
	int rc = ask(a, MSG_SET_NOW, a->deadline_ms);
	a->from = a->voices[0].version;
	return rc;
}

int optd_set_hypers(optd_client *client, const char *name, const char *tensors, const optd_hyper *hypers,
                    uint32_t hyper_count, uint64_t *from)
{
	int rc = check_set(client, name, tensors, hypers, hyper_count);
	if (rc == 0 && *from != OPTD_FROM_NOW && *from > LIMIT_COUNTER)
		rc = client_fail(client, OPTD_INVALID, "model '%s': a version is at most 2^62, not %llu", name,
		                 (unsigned long long)*from);
	if (rc < 0)
		return rc;
	struct agreement a = {.client = client, .deadline_ms = hub_now_ms() + client->timeout_ms};
	a.set.model = text_of(name);
	a.set.tensors = text_of(tensors ? tensors : "");
	a.set.has_from = *from != OPTD_FROM_NOW;
	a.set.from = a.set.has_from ? *from : 0;
	a.set.hyper_count = hyper_count;
	for (uint32_t i = 0; i < hyper_count; i++) {
		a.set.hypers[i].name = text_of(hypers[i].name);
		a.set.hypers[i].count = hypers[i].count;
		memcpy(a.set.hypers[i].values, hypers[i].values, hypers[i].count * sizeof(double));
	}
	a.voices = calloc(client->daemon_count, sizeof(*a.voices));
	if (!a.voices)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	for (uint32_t i = 0; i < client->daemon_count; i++)
		a.voices[i].lane = client->daemons[i].first_lane;
	rc = client->daemon_count == 1 ? set_one(&a) : set_several(&a);
	free(a.voices);
	if (rc == OPTD_OK)
		*from = a.from;
	return rc;
}

/* ---- what a status tells --------------------------------------------------- */

static const char *tell_text(struct told_changes *room, size_t *used, struct msg_text text)
{
	char *at = room->texts + *used;
	*used += text.size + 1u;
	return text_copy(text, at, text.size + 1u);
}

void tell_changes(const struct wire_model_status *status, struct told_changes *room, optd_status_row *row)
{
	uint32_t hypers = 0;
	size_t used = 0;
	row->changes = room->changes;
	row->change_count = status->change_count;
	row->changes_left_out = status->change_count > 0 ? status->changes[0].earlier : 0;
	for (uint32_t i = 0; i < status->change_count; i++) {
		const struct wire_change *from = &status->changes[i];
		room->changes[i] = (optd_change){.from = from->from,
		                                 .tensors = tell_text(room, &used, from->tensors),
		                                 .hypers = &room->hypers[hypers],
		                                 .hyper_count = from->hyper_count};
		for (uint32_t j = 0; j < from->hyper_count; j++, hypers++) {
			room->hypers[hypers].name = tell_text(room, &used, from->hypers[j].name);
			room->hypers[hypers].count = from->hypers[j].count;
			memcpy(room->hypers[hypers].values, from->hypers[j].values, sizeof(from->hypers[j].values));
		}
	}
}
