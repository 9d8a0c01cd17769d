/* A checkpoint's cut: which blocks may be saved, and which must wait. */
#include <assert.h>
#include <stdlib.h>

#include "server/core/verbs.h"

int engine_cut_begin(struct shard *shard, uint64_t version)
{
	assert(!shard->cutting);
	shard->cut_saved = calloc(shard->model->owned.count + 1, 1);
	if (shard->cut_saved == NULL)
		return OPTD_NO_MEMORY;
	shard->cutting = true;
	shard->cut_version = version;
	return OPTD_OK;
}

enum engine_cut engine_cut_next(const struct shard *shard, bool force, uint32_t *block)
{
	const struct model *model = shard->model;
	bool async = model->settings.mode == MSG_ASYNC;
	enum engine_cut state = ENGINE_CUT_DONE;

	assert(shard->cutting);
	for (uint32_t i = 0; i < model->owned.count; i++) {
		if (shard->cut_saved[i])
			continue;
		if (force || async || model->versions[i] >= shard->cut_version) {
			*block = model->owned.first + i;
			return ENGINE_CUT_BLOCK;
		}
		state = ENGINE_CUT_WAIT;
	}
	return state;
}

void engine_cut_saved(struct engine *engine, struct shard *shard, uint32_t block,
                      struct outbox *out)
{
	assert(shard->cutting && model_owns(shard->model, block));
	shard->cut_saved[block - shard->model->owned.first] = 1;
	shard_run(engine, shard, block, out);
	shard_tell_folded(engine, shard, out);
}

void engine_cut_end(struct engine *engine, struct shard *shard, struct outbox *out)
{
	if (!shard->cutting)
		return;
	shard->cutting = false;
	free(shard->cut_saved);
	shard->cut_saved = NULL;
	for (uint32_t i = 0; i < shard->model->owned.count; i++)
		shard_run(engine, shard, shard->model->owned.first + i, out);
	shard_tell_folded(engine, shard, out);
}
