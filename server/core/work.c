/*
 * Updates of whole tensors, a slice at a time.
 *
 * A lane has other things to do than a large matrix: between two slices it answers
 * whatever else has come.  A shard has one update under way, so that its working memory
 * is there once, and the shards take turns.
 */
#include <assert.h>

#include "server/core/verbs.h"

static void refresh_holds(struct shard *shard, struct layout_run run)
{
	for (uint32_t i = 0; i < run.count; i++)
		gate_hold(shard->gate, run.first + i, shard_holds(shard, run.first + i));
}

/* The next of those that are complete and not held. */
static bool begin_next(struct engine *engine, struct shard *shard)
{
	const struct layout_run *run;
	struct commit commit;

	while ((run = gate_due_first(shard->gate)) != NULL) {
		refresh_holds(shard, *run);
		if (!gate_due_take(shard->gate, &commit))
			continue;
		shard_number(engine, shard, &commit);
		model_begin(shard->model, engine->options.isa, &commit);
		return true;
	}
	return false;
}

static void finish(struct engine *engine, struct shard *shard)
{
	const struct commit *commit = &shard->model->update.commit;
	struct layout_run run = {commit->block, commit->more + 1};

	for (uint32_t i = 0; i < run.count; i++)
		gate_committed(shard->gate, run.first + i);
	for (uint32_t i = 0; i < run.count; i++)
		shard_advance(engine, shard, run.first + i);
	/* In async the next push may be there. */
	gate_due(shard->gate, run.first);
}

enum engine_worked engine_work(struct engine *engine, uint64_t budget)
{
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		uint32_t at = (engine->work_at + i) % engine->shard_count;
		struct shard *shard = engine->shards[at];
		if (!shard->model->update.running && !begin_next(engine, shard))
			continue;
		engine->work_at = at + 1;
		if (!model_go_on(shard->model, budget))
			return ENGINE_WORKED;
		finish(engine, shard);
		return ENGINE_FINISHED;
	}
	return ENGINE_IDLE;
}

bool engine_has_work(const struct engine *engine)
{
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		const struct shard *shard = engine->shards[i];
		if (shard->model->update.running || gate_due_first(shard->gate) != NULL)
			return true;
	}
	return false;
}

bool wait_is_busy(const struct wait *wait)
{
	const struct model *model = wait->shard->model;
	const struct commit *commit = &model->update.commit;

	if (!model->update.running)
		return false;
	for (uint32_t i = 0; i < wait->part_count; i++) {
		const struct msg_part *part = &wait->parts[i];
		if (part->first <= commit->block + commit->more && commit->block < part->first + part->count)
			return true;
	}
	return false;
}
