/*
 * Which run of a model an OPEN means, and whether the model still is what the client has
 * seen of it: what was lost is never passed over.
 */
#include "server/core/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void age_text(uint64_t seconds, char *text, size_t bytes)
{
	if (seconds < 120)
		snprintf(text, bytes, "%u s", (unsigned)seconds);
	else if (seconds < 7200)
		snprintf(text, bytes, "%u min", (unsigned)(seconds / 60));
	else if (seconds < 48 * 3600)
		snprintf(text, bytes, "%u h", (unsigned)(seconds / 3600));
	else
		snprintf(text, bytes, "%u days", (unsigned)(seconds / 86400));
}

uint64_t run_age_s(const struct call *call, const struct model *model)
{
	int64_t age_ms = (int64_t)call->now_ms - model->born_ms;
	return age_ms > 0 ? (uint64_t)age_ms / 1000 : 0;
}

struct msg_text run_exists_text(struct call *call, const struct model *model)
{
	uint64_t lowest, highest;
	char age[32];

	model_versions(model, &lowest, &highest);
	age_text(run_age_s(call, model), age, sizeof(age));
	return outbox_printf(call->out, "exists at step %" PRIu64 ", run %04x, %s old", lowest,
	                     (unsigned)(model->run_id >> 48), age);
}

bool run_is_same(const struct msg_open *open, const struct shard *shard)
{
	const char *run = shard->model->run;
	if (open->expect_run != 0)
		return open->expect_run == shard->model->run_id;
	if (open->run.size > 0)
		return strlen(run) == open->run.size && memcmp(run, open->run.bytes, open->run.size) == 0;
	/* Nobody named the run: it is the same one while it has not begun or has workers. */
	uint64_t lowest, highest;
	model_versions(shard->model, &lowest, &highest);
	return !shard->model->restored && (highest == 0 || shard_workers_present(shard) > 0);
}

uint64_t run_next_step(const struct shard *shard, uint32_t rank)
{
	const struct model *model = shard->model;
	uint64_t lowest, highest, step = 0;

	if (model->settings.mode == MSG_SYNC) {
		model_versions(model, &lowest, &highest);
		return lowest;
	}
	if (rank >= model->seats || model->seen[rank] == NULL)
		return 0; /* it has pushed nothing */
	for (uint32_t i = 0; i < model->owned.count; i++) {
		uint64_t seen = model_seen(model, rank, model->owned.first + i);
		step = seen > step ? seen : step;
	}
	return step;
}

/* What seen_step is to be compared with.  In sync a step that was seen complete is one
 * of all blocks, so a checkpoint in which one of them is behind has lost it.  In async
 * versions count the pushes of all ranks, blocks go on by themselves, and a rank may
 * leave steps out: a worker's own steps tell, and a reader's only the block that is
 * furthest. */
static uint64_t reached(const struct call *call, const struct shard *shard)
{
	uint64_t lowest, highest;

	if (shard->model->settings.mode == MSG_ASYNC && call->request->rank != MSG_NO_RANK)
		return run_next_step(shard, (uint32_t)call->request->rank);
	model_versions(shard->model, &lowest, &highest);
	return shard->model->settings.mode == MSG_SYNC ? lowest : highest;
}

/* What others have trained since hides nothing of what was lost. */
static bool nothing_lost(struct call *call, const struct shard *shard)
{
	const struct msg_open *open = &call->request->open;
	const struct model *model = shard->model;
	uint64_t left;

	if (open->expect_run == 0 ||
	    !history_lost(&model->history, open->seen_epoch, open->seen_version, &left))
		return true;
	struct outbox_entry *entry = call_reply(call, OPTD_ROLLBACK);
	entry->head.step = reached(call, shard);
	model_versions(model, &entry->head.version, &entry->head.version_max);
	entry->head.text = outbox_printf(call->out,
	                                 "model '%s' was at version %" PRIu64 " when you last heard of it, "
	                                 "and went back to %" PRIu64 ", from which it is at %" PRIu64
	                                 " by now: accept it and pull the weights",
	                                 model->name, open->seen_version, left,
	                                 entry->head.version_max);
	return false;
}

bool run_agrees(struct call *call, const struct shard *shard)
{
	const struct msg_open *open = &call->request->open;
	const struct model *model = shard->model;
	uint64_t lowest, highest;

	if (open->expect_run != 0 && open->expect_run != model->run_id) {
		call_refuse(call, OPTD_MODEL_LOST,
		            "model '%s' of run %016" PRIx64 " is gone; run %016" PRIx64 " has its name now",
		            model->name, open->expect_run, model->run_id);
		return false;
	}
	if (open->resume == MSG_RESUME_NEVER && !run_is_same(open, shard)) {
		struct msg_text text = run_exists_text(call, model);
		call_refuse(call, OPTD_EXISTS,
		            "model '%s' %.*s; resume is never: drop it, or choose another name or auto",
		            model->name, (int)text.size, text.bytes);
		return false;
	}
	model_versions(model, &lowest, &highest);
	if (open->expect_run != 0 && reached(call, shard) < open->seen_step) {
		uint64_t step = reached(call, shard);
		struct outbox_entry *entry = call_reply(call, OPTD_ROLLBACK);
		entry->head.step = step;
		entry->head.version = lowest;
		entry->head.version_max = highest;
		entry->head.text = outbox_printf(call->out,
		                                 "model '%s' went back from step %" PRIu64 " to %" PRIu64
		                                 ": accept it and pull the weights",
		                                 model->name, open->seen_step, step);
		return false;
	}
	return nothing_lost(call, shard);
}
