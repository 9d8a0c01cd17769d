/* STATUS: what this lane has counted, and one record for each of its models. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/utf8.h"
#include "server/core/rates.h"
#include "server/core/settings.h"
#include "server/net/lane_parts.h"

/* A record holds two names and an optimizer's text, each bounded. */
#define RECORD_BYTES (LIMIT_HEADER_BYTES + 2)

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

/* The last skipped step is told with its tensor's name: who looks has no layout. */
static void tell_finite(const struct shard *shard, struct wire_model_status *status)
{
	const struct model *model = shard->model;
	const struct skips *skips = &model->skips;

	status->nonfinite = model->settings.nonfinite;
	status->loss_scale = model->settings.loss_scale;
	status->scale = (double)model->scaler.scale;
	status->growth_tracker = model->scaler.tracker;
	status->zeroed = shard->counts.zeroed;
	status->skipped.count = skips->count;
	if (skips->count == 0)
		return;
	status->skipped.step = skips->version - 1;
	status->skipped.rank = skips->rank;
	if (skips->tensor_plus_one > 0)
		status->skipped.tensor = text_of(layout_tensor(model->layout, skips->tensor_plus_one - 1)->name);
}

/* The learning rates, and the groups' patterns: long ones are cut, and end with "...". */
static void tell_rates(const struct model *model, const struct model_settings *settings,
                       char texts[1 + LIMIT_GROUPS][LIMIT_RATE_BYTES + 1], struct wire_model_status *status)
{
	static const char dots[] = "...";
	struct rates rates;

	rates_of(model, settings, &rates);
	for (uint32_t i = 0; i <= settings->groups.count; i++) {
		const char *tensors = i > 0 ? settings->groups.list[i - 1].tensors : "";
		if (!rates.has[i])
			continue;
		snprintf(texts[i], LIMIT_RATE_BYTES + 1, "%s", tensors);
		if (strlen(tensors) > LIMIT_RATE_BYTES)
			memcpy(texts[i] + utf8_prefix(tensors, LIMIT_RATE_BYTES + 1 - sizeof(dots)), dots, sizeof(dots));
		status->rates[status->rate_count++] = (struct wire_rate){text_of(texts[i]), rates.lr[i]};
	}
}

/* Its hyper-parameters, at hypers; returns how many. */
static uint32_t tell_change(const struct model *model, const struct change *change, struct msg_hyper *hypers,
                            struct wire_change *out)
{
	const struct groups *groups = &model->settings.groups;
	const struct optim_rule *rule = groups_optim(groups, &model->settings.optim, change->group)->rule;
	uint32_t count = 0;

	for (uint32_t i = 0; i < optim_hyper_count(rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(rule, i);
		if (!(change->given >> i & 1))
			continue;
		hypers[count].name = text_of(hyper->name);
		hypers[count].count = hyper->count;
		memcpy(hypers[count++].values, change->values[i], hyper->count * sizeof(double));
	}
	*out = (struct wire_change){.from = change->from, .hyper_count = count, .hypers = hypers};
	if (change->group > 0)
		out->tensors = text_of(groups->list[change->group - 1].tensors);
	return count;
}

/* In a frame of its own, of 60 KiB. */
__attribute__((noinline))
static size_t encode_changed(const struct model *model, struct wire_model_status *status, void *buffer,
                             size_t room)
{
	struct msg_hyper hypers[LIMIT_CHANGES * OPTIM_HYPERS_MAX];
	struct wire_change changes[LIMIT_CHANGES];
	uint32_t used = 0;

	for (uint32_t i = 0; i < model->changes.count; i++)
		used += tell_change(model, &model->changes.list[i], hypers + used, &changes[i]);
	status->changes = changes;
	status->change_count = model->changes.count;
	return wire_status_encode(status, buffer, room);
}

static size_t encode_shard(const struct shard *shard, void *buffer, size_t room)
{
	const struct model *model = shard->model;
	struct wire_model_status status;
	struct model_settings settings;
	char optimizer[LIMIT_TEXT_BYTES], waiting[SHARD_MISSING_BYTES] = "", average[AVERAGE_TEXT_BYTES];
	char rates[1 + LIMIT_GROUPS][LIMIT_RATE_BYTES + 1];

	memset(&status, 0, sizeof(status));
	model_versions(model, &status.version, &status.version_max);
	settings_at(&model->settings, &model->changes, NULL, status.version, &settings);
	settings_describe(&settings, optimizer, sizeof(optimizer));
	average_text(&model->settings.average, average, sizeof(average));
	if (shard->waits.count > 0)
		shard_missing_text(shard, shard_lagging_block(shard, shard->waits.first), waiting,
		                   sizeof(waiting));
	status.model = text_of(model->name);
	status.run_id = model->run_id;
	status.run = text_of(model->run);
	status.state = shard->ready ? MSG_MODEL_READY : MSG_MODEL_WAITING;
	status.restored = model->restored;
	status.elements = layout_elements(model->layout);
	status.tensors = layout_tensor_count(model->layout);
	status.blocks = layout_block_count(model->layout);
	status.first_block = model->owned.first;
	status.block_count = model->owned.count;
	status.step = status.version;
	status.mode = model->settings.mode;
	status.reduce = model->settings.reduce;
	status.workers = model->settings.workers;
	status.workers_present = shard_workers_present(shard);
	status.optimizer = text_of(optimizer);
	status.waiting = text_of(waiting);
	status.bytes = shard->bytes;
	status.pushes = shard->counts.pushes;
	status.pulls = shard->counts.pulls;
	status.duplicates = shard->counts.duplicates;
	status.refused = shard->counts.refused;
	status.saved_version = shard->saved_version;
	status.last_norm = shard->counts.last_norm;
	status.last_factor = shard->counts.last_factor;
	status.clipped = shard->counts.clipped;
	status.overflowed = shard->counts.overflowed;
	tell_finite(shard, &status);
	tell_rates(model, &settings, rates, &status);
	if (average_is_kept(&model->settings.average))
		status.average = text_of(average);
	if (model->changes.count > 0)
		return encode_changed(model, &status, buffer, room);
	return wire_status_encode(&status, buffer, room);
}

/* All records, in a buffer of their size; NULL without memory. */
static struct buf *encode_all(struct lane *lane)
{
	uint32_t count = engine_shard_count(lane->engine);
	size_t room = (size_t)count * RECORD_BYTES, used = 0;
	char *records = malloc(room + 1);

	if (records == NULL)
		return NULL;
	for (uint32_t i = 0; i < count; i++)
		used += encode_shard(engine_shard(lane->engine, i), records + used, room - used);
	struct buf *buf = buf_new(used);
	if (buf != NULL)
		memcpy(buf->data, records, used);
	free(records);
	return buf;
}

static struct msg_lane_status count_lane(struct lane *lane)
{
	struct guard_counts guard;

	guard_get_counts(lane->guard, &guard);
	return (struct msg_lane_status){
	        .connections = guard_connections(lane->guard),
	        .accepted = guard.accepted,
	        .refused = guard.refused,
	        .cut = guard.cut,
	        .flooded = guard.flooded,
	        .malformed = lane->counts.malformed,
	        .strangers = lane->counts.strangers,
	        .unsent = lane->counts.unsent + lane->out.lost,
	};
}

void status_answer(struct lane *lane, uint32_t peer, const struct msg *request)
{
	struct buf *buf = encode_all(lane);

	if (buf == NULL) {
		lane_answer(lane, peer, request, OPTD_NO_MEMORY, "no memory for an answer");
		return;
	}
	struct outbox_entry *entry = outbox_add(&lane->out, peer);
	entry->head.verb = MSG_STATUS;
	entry->head.request = request->request;
	entry->head.session = request->session;
	entry->head.epoch = lane->engine_options.epoch;
	entry->head.lane_status = count_lane(lane);
	entry->head.payload_bytes = buf->bytes;
	entry->payload = buf;
	lane_send(lane, &lane->out);
}
