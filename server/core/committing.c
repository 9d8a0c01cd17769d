/* What the gate lets through is committed, and who waited for it goes on. */
#include "server/core/own.h"
#include "server/core/verbs.h"
#include "server/core/watch.h"

void shard_number(struct engine *engine, struct shard *shard, struct commit *commit)
{
	shard->counts.commits++;
	commit->number = ++engine->commits;
	if (engine->options.on_commit != NULL)
		engine->options.on_commit(engine->options.user, shard->model, commit);
}

void shard_commit(struct engine *engine, struct shard *shard, struct commit *commit)
{
	shard_number(engine, shard, commit);
	model_apply(shard->model, engine->options.isa, commit);
}

void shard_advance(struct engine *engine, struct shard *shard, uint32_t block)
{
	struct wait *wait;

	while ((wait = watch_take(shard, block)) != NULL) {
		/* A pull that came before the first weights were taken back: see shard_begin. */
		if (wait->verb == MSG_PULL && !shard->ready)
			continue;
		if (watch_next(shard, wait))
			continue;
		/* Its bytes are no news any more. */
		gate_forget(shard->gate, wait);
		ready_add(engine, wait);
	}
}

static bool cut_holds(const struct shard *shard, uint32_t block)
{
	return shard->cutting && !shard->cut_free[block - shard->model->owned.first] &&
	       (shard->model->settings.mode == MSG_ASYNC ||
	        model_version(shard->model, block) >= shard->cut_version);
}

static bool set_holds(const struct shard *shard, uint32_t block)
{
	return shard->setting && model_version(shard->model, block) >= shard->set.from;
}

bool shard_holds(const struct shard *shard, uint32_t block)
{
	return cut_holds(shard, block) || set_holds(shard, block);
}

void shard_run(struct engine *engine, struct shard *shard, uint32_t block)
{
	struct commit commit;

	if (model_is_whole(shard->model, block)) {
		gate_due(shard->gate, block);
		return;
	}
	for (;;) {
		gate_hold(shard->gate, block, shard_holds(shard, block));
		if (!gate_next(shard->gate, block, &commit))
			return;
		own_commit(engine, shard, &commit);
		shard_commit(engine, shard, &commit);
		gate_committed(shard->gate, block);
		shard_advance(engine, shard, block);
	}
}

void shard_run_all(struct engine *engine, struct shard *shard)
{
	for (uint32_t i = 0; i < shard->model->owned.count; i++)
		shard_run(engine, shard, shard->model->owned.first + i);
}
