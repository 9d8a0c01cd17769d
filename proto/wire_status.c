/* STATUS as payload: one record a model. */
#include <math.h>

#include "proto/wire_body.h"
#include "proto/wire_set.h"

/* What a record points to while it is packed. */
struct parts {
	Optd__V1__SkippedSteps skipped;
	Optd__V1__Scaler scaler;
	Optd__V1__LossScale settings;
	Optd__V1__Rate rates[1 + LIMIT_GROUPS];
	Optd__V1__Rate *rate_pointers[1 + LIMIT_GROUPS];
};

static void finite_write(const struct wire_model_status *status, struct parts *parts,
                         Optd__V1__ModelStatus *record)
{
	optd__v1__skipped_steps__init(&parts->skipped);
	parts->skipped.count = status->skipped.count;
	parts->skipped.step = status->skipped.step;
	parts->skipped.rank = status->skipped.rank;
	parts->skipped.tensor = wire_clip(status->skipped.tensor, LIMIT_NAME_BYTES);
	record->skipped = status->skipped.count > 0 ? &parts->skipped : NULL;
	optd__v1__scaler__init(&parts->scaler);
	parts->scaler.scale = status->scale;
	parts->scaler.growth_tracker = status->growth_tracker;
	parts->scaler.settings = wire_loss_scale_write(&status->loss_scale, &parts->settings);
	record->loss_scale = status->loss_scale.given ? &parts->scaler : NULL;
	record->zeroed = status->zeroed;
	record->nonfinite = wire_nonfinite_write(status->nonfinite);
}

static void rates_write(const struct wire_model_status *status, struct parts *parts,
                        Optd__V1__ModelStatus *record)
{
	for (uint32_t i = 0; i < status->rate_count; i++) {
		optd__v1__rate__init(&parts->rates[i]);
		parts->rates[i].tensors = wire_clip(status->rates[i].tensors, LIMIT_RATE_BYTES);
		parts->rates[i].lr = status->rates[i].lr;
		parts->rate_pointers[i] = &parts->rates[i];
	}
	record->rates = parts->rate_pointers;
	record->n_rates = status->rate_count;
}

static size_t put(const Optd__V1__ModelStatus *record, void *buffer, size_t buffer_bytes)
{
	return wire_record_bytes(&record->base) > buffer_bytes ? 0 : wire_record_put(&record->base, buffer);
}

/* In a frame of its own, of 60 KiB. */
__attribute__((noinline))
static size_t put_changed(const struct wire_model_status *status, Optd__V1__ModelStatus *record, void *buffer,
                          size_t buffer_bytes)
{
	struct wire_changes room;

	wire_changes_write(status, &room, record);
	return put(record, buffer, buffer_bytes);
}

size_t wire_status_encode(const struct wire_model_status *status, void *buffer, size_t buffer_bytes)
{
	Optd__V1__ModelStatus record = OPTD__V1__MODEL_STATUS__INIT;
	struct parts parts;

	record.model = wire_clip(status->model, LIMIT_NAME_BYTES);
	record.run_id = status->run_id;
	record.run = wire_clip(status->run, LIMIT_NAME_BYTES);
	record.state = (Optd__V1__ModelState)status->state;
	record.restored = status->restored;
	record.elements = status->elements;
	record.tensors = status->tensors;
	record.blocks = status->blocks;
	record.first_block = status->first_block;
	record.block_count = status->block_count;
	record.version = status->version;
	record.version_max = status->version_max;
	record.step = status->step;
	record.mode = (Optd__V1__Mode)status->mode;
	record.reduce = (Optd__V1__Reduce)status->reduce;
	record.workers = status->workers;
	record.workers_present = status->workers_present;
	record.optimizer = wire_clip(status->optimizer, LIMIT_TEXT_BYTES);
	record.waiting = wire_clip(status->waiting, LIMIT_TEXT_BYTES);
	record.bytes = status->bytes;
	record.pushes = status->pushes;
	record.pulls = status->pulls;
	record.duplicates = status->duplicates;
	record.refused = status->refused;
	record.saved_version = status->saved_version;
	record.last_norm = status->last_norm;
	record.last_factor = status->last_factor;
	record.clipped = status->clipped;
	record.overflowed = status->overflowed;
	finite_write(status, &parts, &record);
	record.average = wire_clip(status->average, LIMIT_NAME_BYTES);
	rates_write(status, &parts, &record);
	if (status->change_count > 0)
		return put_changed(status, &record, buffer, buffer_bytes);
	return put(&record, buffer, buffer_bytes);
}

static void status_read(const Optd__V1__ModelStatus *record, struct wire_model_status *out)
{
	*out = (struct wire_model_status){
	        .model = wire_text(record->model),
	        .run_id = record->run_id,
	        .run = wire_text(record->run),
	        .state = (enum msg_model_state)record->state,
	        .restored = record->restored != 0,
	        .elements = record->elements,
	        .tensors = record->tensors,
	        .blocks = record->blocks,
	        .first_block = record->first_block,
	        .block_count = record->block_count,
	        .version = record->version,
	        .version_max = record->version_max,
	        .step = record->step,
	        .mode = (enum msg_mode)record->mode,
	        .reduce = (enum msg_reduce)record->reduce,
	        .workers = record->workers,
	        .workers_present = record->workers_present,
	        .optimizer = wire_text(record->optimizer),
	        .waiting = wire_text(record->waiting),
	        .bytes = record->bytes,
	        .pushes = record->pushes,
	        .pulls = record->pulls,
	        .duplicates = record->duplicates,
	        .refused = record->refused,
	        .saved_version = record->saved_version,
	        .last_norm = record->last_norm,
	        .last_factor = record->last_factor,
	        .clipped = record->clipped,
	        .overflowed = record->overflowed,
	        .average = wire_text(record->average),
	};
}

static void finite_read(const Optd__V1__ModelStatus *record, struct wire_model_status *out)
{
	out->zeroed = record->zeroed;
	out->nonfinite = msg_nonfinite_find(wire_text(record->nonfinite));
	if (record->skipped)
		out->skipped = (struct wire_skipped){.count = record->skipped->count,
		                                     .step = record->skipped->step,
		                                     .rank = record->skipped->rank,
		                                     .tensor = wire_text(record->skipped->tensor)};
	if (!record->loss_scale)
		return;
	wire_loss_scale_read(record->loss_scale->settings, &out->loss_scale);
	out->scale = record->loss_scale->scale;
	out->growth_tracker = record->loss_scale->growth_tracker;
}

/* Rates may be any numbers: a schedule that grows ends with infinity. */
static int rates_read(const Optd__V1__ModelStatus *record, struct wire_model_status *out)
{
	const struct refusal nowhere = {NULL, 0};
	int rc = record->n_rates <= 1 + LIMIT_GROUPS ? 0 : OPTD_MALFORMED;

	for (uint32_t i = 0; rc == 0 && i < record->n_rates; i++) {
		struct msg_text tensors = wire_text(record->rates[i]->tensors);
		rc = wire_check_text(tensors, LIMIT_RATE_BYTES, "", &nowhere);
		out->rates[out->rate_count++] = (struct wire_rate){tensors, record->rates[i]->lr};
	}
	return rc;
}

/* What a status says is for people and tools: texts must be printable as they
 * are and states known; the numbers may be anything. */
static bool status_sane(const struct wire_model_status *status)
{
	const struct refusal nowhere = {NULL, 0};

	return status->model.size > 0 &&
	       wire_check_text(status->model, LIMIT_NAME_BYTES, "", &nowhere) == 0 &&
	       wire_check_text(status->run, LIMIT_NAME_BYTES, "", &nowhere) == 0 &&
	       wire_check_text(status->optimizer, LIMIT_TEXT_BYTES, "", &nowhere) == 0 &&
	       wire_check_text(status->waiting, LIMIT_TEXT_BYTES, "", &nowhere) == 0 &&
	       wire_check_text(status->skipped.tensor, LIMIT_NAME_BYTES, "", &nowhere) == 0 &&
	       wire_loss_scale_check(&status->loss_scale, &nowhere) == 0 && isfinite(status->scale) &&
	       wire_check_text(status->average, LIMIT_NAME_BYTES, "", &nowhere) == 0 &&
	       (uint32_t)status->state - MSG_MODEL_READY <= MSG_MODEL_WAITING - MSG_MODEL_READY &&
	       (uint32_t)status->mode <= MSG_ASYNC && (uint32_t)status->reduce <= MSG_SUM;
}

int wire_status_decode(struct wire_arena *arena, const void *bytes, size_t size, size_t *at,
                       struct wire_model_status *out)
{
	const uint8_t *packed;
	size_t packed_bytes, next = *at;

	int rc = wire_record_next(bytes, size, &next, &packed, &packed_bytes);
	if (rc <= 0)
		return rc;
	arena->used = arena->mark;
	Optd__V1__ModelStatus *record =
	        optd__v1__model_status__unpack(&arena->allocator, packed_bytes, packed);
	if (!record)
		return OPTD_MALFORMED;
	struct wire_model_status status;
	status_read(record, &status);
	finite_read(record, &status);
	if (!status_sane(&status) || rates_read(record, &status) < 0 ||
	    wire_changes_read(record, arena, &status) < 0)
		return OPTD_MALFORMED;
	*out = status;
	*at = next;
	return 1;
}
