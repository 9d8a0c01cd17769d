/*
 * Opening and closing a model: first at the lead, the owner of block 0, then at
 * every other lane that has blocks of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

/* ---- layouts ---------------------------------------------------------- */

/* Cut later: how is the server's to say. */
static int copy_layout(const optd_layout *from, struct layout **out)
{
	struct layout *layout = layout_new();
	int rc = layout ? 0 : OPTD_NO_MEMORY;
	for (uint32_t i = 0; rc == 0 && i < layout_tensor_count(from->layout); i++) {
		const struct layout_tensor *t = layout_tensor(from->layout, i);
		rc = layout_add(layout, t->name, strlen(t->name), t->shape, t->rank, t->group);
	}
	if (rc == 0 && layout_elements(layout) == 0)
		rc = OPTD_INVALID;
	if (rc < 0)
		layout_free(layout);
	else
		*out = layout;
	return rc;
}

/* A reader without a layout takes the model's, which OPENED brings. */
static int adopt_layout(optd_model *model)
{
	optd_client *client = model->client;
	if (!model->layout)
		return client_fail(client, OPTD_LAYOUT, "model '%s' on %s: the server sent no layout",
		                   model->name, model_endpoint(model));
	for (uint32_t i = 0; i < client->daemon_count; i++)
		model->specs[i].open.layout_hash = layout_hash(model->layout);
	return 0;
}

/* ---- opening ---------------------------------------------------------- */

static void note_info(optd_model *model, const struct msg_opened *opened)
{
	optd_model_info *info = &model->info;
	info->run_id = opened->run_id;
	info->elements = opened->elements;
	info->tensors = opened->tensors;
	info->workers = opened->workers;
	info->mode = (optd_mode)opened->mode;
	info->created = opened->created;
	info->restored = opened->restored;
	info->age_s = opened->age_s;
	info->ready = opened->state == MSG_MODEL_READY;
}

/* A server that does not know groups, or averages, passes over them, and would train without. */
static int check_settings_known(optd_model *model)
{
	const struct msg_open *open = &model->specs[0].open;
	if (open->average.kind.size > 0 && model->rule.average.kind.size == 0)
		return client_fail(model->client, OPTD_UNSUPPORTED,
		                   "model '%s' on %s: this server does not know averages of the weights: update it",
		                   model->name, model_endpoint(model));
	if (open->group_count == 0 || model->rule.group_count > 0)
		return 0;
	return client_fail(model->client, OPTD_UNSUPPORTED,
	                   "model '%s' on %s: this server does not know parameter groups: update it",
	                   model->name, model_endpoint(model));
}

static int open_lead(optd_model *model, uint64_t deadline_ms)
{
	struct session *lead = &model->client->lanes[0]->session;
	session_open(lead, model->slot, &model->specs[0], 0);
	int rc = model_settle(model, deadline_ms);
	if (rc == 0)
		rc = adopt_layout(model);
	if (rc < 0)
		return rc;
	if (model->rule_lost)
		return OPTD_NO_MEMORY;
	const struct msg_opened *opened = &lead->slots[model->slot].opened;
	note_info(model, opened);
	rc = check_settings_known(model);
	if (rc == 0)
		rc = check_clip_known(model);
	if (rc == 0)
		rc = verdict_known(model, opened);
	if (rc < 0)
		return rc;
	if (opened->elements != layout_elements(model->layout))
		return client_fail(model->client, OPTD_LAYOUT,
		                   "model '%s' on %s: the layout has %llu elements, the model %llu",
		                   model->name, model_endpoint(model),
		                   (unsigned long long)layout_elements(model->layout),
		                   (unsigned long long)opened->elements);
	return model_cut(model, opened->layout);
}

/* What each lane is made with, or must agree with, is what the lead's model has: nothing
 * is left to the daemon there, nor to who comes first. */
static void adopt_settings(optd_model *model, const struct msg_opened *lead)
{
	const struct msg_rule *rule = &model->rule;
	for (uint32_t i = 0; i < model->client->daemon_count; i++) {
		struct msg_open *open = &model->specs[i].open;
		open->mode = lead->mode;
		open->reduce = lead->reduce;
		open->workers = lead->workers;
		/* No arithmetic hangs on it: daemons whose lanes are there may differ. */
		if (!model->info.ready)
			open->step_timeout_ms = lead->step_timeout_ms;
		if (rule->name.size == 0)
			continue; /* of a daemon that does not tell it */
		open->optimizer = rule->name;
		open->match = rule->match;
		open->hyper_count = rule->hyper_count;
		memcpy(open->hypers, rule->hypers, sizeof(open->hypers));
		open->schedule_count = rule->schedule_count;
		memcpy(open->schedule, rule->schedule, sizeof(open->schedule));
		open->group_count = rule->group_count;
		open->groups = rule->groups;
		open->clip = rule->clip;
		open->average = rule->average;
		open->whole_settings = true;
		if (lead->nonfinite != MSG_NONFINITE_UNSET)
			open->nonfinite = lead->nonfinite;
		open->loss_scale = lead->loss_scale;
	}
}

/* The other lanes belong to the run that the lead named.  Where that has weights
 * they have theirs, and must not make the model anew; where it has none, a worker may
 * be the first to come to one of them, whatever it asked of the lead. */
static int open_rest(optd_model *model, uint64_t deadline_ms)
{
	optd_client *client = model->client;
	adopt_settings(model, &client->lanes[0]->session.slots[model->slot].opened);
	for (uint32_t i = 0; i < client->daemon_count; i++)
		model->specs[i].open.resume = model->info.ready ? MSG_RESUME_MUST : MSG_RESUME_AUTO;
	struct layout_run *runs;
	int rc = model_runs(model, client->lanes, client->lane_count, &runs);
	if (rc < 0)
		return client_fail(client, rc, "out of memory");
	model_map(model, runs);
	for (uint32_t i = 1; i < client->lane_count; i++) {
		struct session *session = &client->lanes[i]->session;
		if (model->runs[i].count == 0)
			continue;
		session_open(session, model->slot, &model->specs[client->lanes[i]->daemon], 0);
		session->slots[model->slot].expect_run = model->info.run_id;
	}
	rc = model_settle(model, deadline_ms);
	if (rc < 0)
		return rc;
	model_take_steps(model);
	verdict_settle(model);
	if (model->info.ready)
		specs_agreed(model);
	model->known_run = model->info.run_id;
	return 0;
}

static int take_slot(optd_client *client, uint32_t *slot)
{
	for (uint32_t i = 0; i < INFLIGHT_SLOTS; i++) {
		if (client->slots >> i & 1)
			continue;
		client->slots |= UINT64_C(1) << i;
		*slot = i;
		return 0;
	}
	return client_fail(client, OPTD_TOO_LARGE, "this client has %u models open, the most it can",
	                   INFLIGHT_SLOTS);
}

static int check_not_open(optd_client *client, const char *name)
{
	for (const optd_model *m = client->models; m; m = m->next)
		if (strcmp(m->name, name) == 0)
			return client_fail(client, OPTD_INVALID,
			                   "model '%s' is open already; a client opens each model once", name);
	return 0;
}

static int open_model(optd_model *model, const char *name, const optd_layout *layout,
                      const optd_open_options *options)
{
	optd_client *client = model->client;
	uint64_t deadline_ms = hub_now_ms() + client->timeout_ms;
	model->name = strdup(name);
	int rc = model->name ? 0 : OPTD_NO_MEMORY;
	if (rc == 0 && layout) {
		rc = copy_layout(layout, &model->layout);
		if (rc < 0)
			return client_fail(client, rc, "model '%s': the layout has no elements", name);
	}
	if (rc == 0)
		rc = specs_make(model, options);
	if (rc == 0)
		rc = open_lead(model, deadline_ms);
	if (rc == OPTD_NO_MEMORY)
		return client_fail(client, rc, "out of memory");
	if (rc == 0)
		rc = open_rest(model, deadline_ms);
	return rc;
}

int optd_open(optd_client *client, const char *name, const optd_layout *layout,
              const optd_open_options *options, optd_model **out)
{
	*out = NULL;
	int rc = check_name(client, name);
	if (rc == 0)
		rc = check_not_open(client, name);
	if (rc == 0)
		rc = check_open_options(client, name, options);
	if (rc == 0 && !layout && client->rank != MSG_NO_RANK)
		rc = client_fail(client, OPTD_INVALID, "model '%s': a worker opens it with its layout", name);
	if (rc < 0)
		return rc;
	optd_model *model = calloc(1, sizeof(*model));
	if (!model)
		return client_fail(client, OPTD_NO_MEMORY, "out of memory");
	model->client = client;
	rc = take_slot(client, &model->slot);
	if (rc < 0) {
		free(model);
		return rc;
	}
	model->next = client->models;
	client->models = model;
	rc = open_model(model, name, layout, options);
	client_leave(client);
	if (rc < 0)
		optd_model_close(&model);
	*out = model;
	return rc;
}

static void forget(optd_client *client, optd_model *model)
{
	optd_model **at = &client->models;
	while (*at != model)
		at = &(*at)->next;
	*at = model->next;
	client->slots &= ~(UINT64_C(1) << model->slot);
	for (uint32_t i = 0; i < client->lane_count; i++)
		session_close_slot(&client->lanes[i]->session, model->slot);
}

void optd_model_close(optd_model **model_pointer)
{
	optd_model *model = model_pointer ? *model_pointer : NULL;
	if (!model)
		return;
	*model_pointer = NULL;
	for (struct call *call = model->client->calls, *next; call; call = next) {
		next = call->next;
		if (call->model == model)
			call_free(model->client, call);
	}
	forget(model->client, model);
	specs_free(model);
	free(model->runs);
	free(model->some_tensors);
	free(model->spoiled);
	relay_free(model->relay);
	route_free(model->whole);
	route_free(model->some);
	layout_free(model->layout);
	free(model->name);
	free(model);
}

/* ---- looking ---------------------------------------------------------- */

void optd_model_get_info(const optd_model *model, optd_model_info *info)
{
	*info = model->info;
}

uint32_t optd_model_tensor_count(const optd_model *model)
{
	return layout_tensor_count(model->layout);
}

const char *optd_model_tensor(const optd_model *model, uint32_t index, const uint64_t **shape,
                              uint32_t *rank, uint64_t *offset, uint64_t *count)
{
	if (index >= layout_tensor_count(model->layout))
		return NULL;
	const struct layout_tensor *t = layout_tensor(model->layout, index);
	if (shape)
		*shape = t->shape;
	if (rank)
		*rank = t->rank;
	if (offset)
		*offset = t->offset;
	if (count)
		*count = t->count;
	return t->name;
}

int64_t optd_model_find(optd_model *model, const char *name)
{
	int64_t index = name ? layout_find(model->layout, name) : -1;
	if (index >= 0)
		return index;
	const char *nearest = name ? layout_nearest(model->layout, name) : NULL;
	return client_fail(model->client, OPTD_NO_TENSOR, "model '%s' has no tensor '%s'%s%s%s",
	                   model->name, name ? name : "", nearest ? "; the nearest is '" : "",
	                   nearest ? nearest : "", nearest ? "'" : "");
}

void optd_model_versions(const optd_model *model, uint64_t *lowest, uint64_t *highest)
{
	if (lowest)
		*lowest = model->version;
	if (highest)
		*highest = model->version_max;
}
