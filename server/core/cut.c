/* A checkpoint's cut: which blocks may be saved, and which must wait. */
#include <assert.h>
#include <stdlib.h>

#include "server/core/verbs.h"

static void cut_forget(struct shard *shard)
{
	free(shard->cut_saved);
	free(shard->cut_free);
	shard->cut_saved = NULL;
	shard->cut_free = NULL;
	shard->cutting = false;
}

int engine_cut_begin(struct shard *shard, uint64_t version, bool last)
{
	assert(!shard->cutting);
	shard->cut_saved = calloc(shard->model->owned.count + 1, 1);
	shard->cut_free = calloc(shard->model->owned.count + 1, 1);
	if (shard->cut_saved == NULL || shard->cut_free == NULL) {
		cut_forget(shard);
		return OPTD_NO_MEMORY;
	}
	shard->cutting = true;
	shard->cut_at = 0;
	shard->cut_version = version;
	shard->cut_last = last;
	return OPTD_OK;
}

void engine_cut_raise(struct engine *engine, struct shard *shard, uint64_t version)
{
	assert(shard->cutting && version >= shard->cut_version);
	shard->cut_version = version;
	shard_run_all(engine, shard);
}

/* Tensors have all of a step, and have their turns. */
static bool goes_on(const struct shard *shard)
{
	return shard->model->update.running || gate_due_first(shard->gate) != NULL;
}

void engine_cut_force(struct shard *shard)
{
	assert(shard->cutting);
	/* At the end there may be no time for all of them. */
	if (!shard->cut_last && goes_on(shard))
		return;
	/* A block below the cut means that another lane has the decision already, so that
	 * ours is on its way: without it the file would have half a step. */
	if (gate_decides(shard->gate))
		return;
	shard->cut_version = 0;
}

uint64_t engine_cut_reach(const struct shard *shard, uint32_t block)
{
	return model_version(shard->model, block) + model_busy(shard->model, block);
}

enum engine_cut engine_cut_next(const struct shard *shard, uint32_t *block)
{
	const struct model *model = shard->model;
	bool async = model->settings.mode == MSG_ASYNC;
	enum engine_cut state = ENGINE_CUT_DONE;

	assert(shard->cutting);
	for (uint32_t n = 0; n < model->owned.count; n++) {
		uint32_t i = shard->cut_at + n;
		i -= i >= model->owned.count ? model->owned.count : 0;
		if (shard->cut_saved[i])
			continue;
		bool busy = model_busy(model, model->owned.first + i);
		if (!busy && (async || model->versions[i] >= shard->cut_version)) {
			*block = model->owned.first + i;
			return ENGINE_CUT_BLOCK;
		}
		state = ENGINE_CUT_WAIT;
	}
	return state;
}

void engine_cut_saved(struct engine *engine, struct shard *shard, uint32_t block)
{
	uint32_t index = block - shard->model->owned.first;

	assert(shard->cutting && model_owns(shard->model, block));
	shard->cut_saved[index] = 1;
	shard->cut_at = index + 1;
	if (shard->cut_last)
		return;
	shard->cut_free[index] = 1;
	shard_run(engine, shard, block);
}

void engine_cut_end(struct engine *engine, struct shard *shard)
{
	if (!shard->cutting || shard->cut_last)
		return;
	cut_forget(shard);
	shard_run_all(engine, shard);
}
