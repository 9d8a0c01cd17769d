/* PULL, and what is remembered of requests that wait. */
#include <assert.h>

#include "server/core/own.h"
#include "server/core/verbs.h"
#include "server/core/watch.h"

struct wait *call_wait(struct call *call)
{
	struct session *session = &call->engine->sessions[call->peer];

	if (session->waits >= LIMIT_WAITS) {
		call_refuse(call, OPTD_BUSY, "%u requests of this session wait and no more may: take their "
		            "answers", session->waits);
		return NULL;
	}
	struct wait *wait = wait_new(call->peer, call->request, call->now_ms);
	if (wait == NULL) {
		call_refuse(call, OPTD_NO_MEMORY, "no memory to take in a request");
		return NULL;
	}
	wait->shard = call->shard;
	session->waits++;
	if (wait->verb == MSG_PULL)
		call->engine->pull_bytes += wait->bytes;
	wait_append(&call->shard->waits, wait);
	return wait;
}

void wait_abandon(struct engine *engine, struct shard *shard, struct wait *wait)
{
	engine->sessions[wait->peer].waits--;
	if (wait->verb == MSG_PULL)
		engine->pull_bytes -= wait->bytes;
	own_drop(shard, wait);
	gate_forget(shard->gate, wait);
	watch_leave(shard, wait);
	ready_remove(engine, wait);
	wait_remove(&shard->waits, wait);
	wait_free(wait);
}

void shard_begin(struct engine *engine, struct shard *shard)
{
	assert(shard->ready);
	for (struct wait *wait = shard->waits.first; wait != NULL; wait = wait->next) {
		if (wait->verb != MSG_PULL || wait->ready)
			continue;
		watch_leave(shard, wait);
		if (!watch_next(shard, wait))
			ready_add(engine, wait);
	}
}

void shard_pause(struct engine *engine, struct shard *shard)
{
	shard->ready = false;
	for (struct wait *wait = shard->waits.first; wait != NULL; wait = wait->next) {
		if (wait->verb != MSG_PULL || !wait->ready)
			continue;
		ready_remove(engine, wait);
		wait->part = wait->block = 0;
	}
}

/* One that can be answered at once takes no room. */
static bool room_to_wait(struct call *call)
{
	uint64_t bytes = call->engine->pull_bytes;

	if (bytes <= LIMIT_PULLS_BYTES)
		return true;
	call_refuse(call, OPTD_BUSY,
	            "with this one, the pulls that wait on this lane take %llu bytes, and %u are "
	            "allowed: try again later, or for a version that is there",
	            (unsigned long long)bytes, LIMIT_PULLS_BYTES);
	return false;
}

bool call_answer_fits(struct call *call, uint64_t elements)
{
	uint64_t bytes = elements * sizeof(float);

	if (bytes <= call->engine->options.message_bytes)
		return true;
	call_refuse(call, OPTD_TOO_LARGE, "the blocks asked for take %llu bytes, a message has %u",
	            (unsigned long long)bytes, call->engine->options.message_bytes);
	return false;
}

/* One that cannot be given is no wait for it. */
static bool has_source(struct call *call)
{
	const struct model *model = call->shard->model;

	if (call->request->source != MSG_AVERAGE || average_is_kept(&model->settings.average))
		return true;
	call_refuse(call, OPTD_INVALID,
	            "model '%s' keeps no average of its weights: it was made without one; pull the weights, "
	            "or make the model anew with average: ema or swa", model->name);
	return false;
}

void verb_pull(struct call *call)
{
	struct shard *shard = call->shard;
	uint64_t elements = call_elements(call);

	if (elements == 0 || !has_source(call) || !call_answer_fits(call, elements))
		return;
	struct wait *wait = call_wait(call);
	if (wait == NULL)
		return;
	shard->counts.pulls++;
	wait->payload_bytes = elements * sizeof(float);
	/* Blocks given so far may be replaced by another worker's until all have come. */
	bool ready = shard->ready && !watch_next(shard, wait);
	if (ready && !wait_is_busy(wait))
		wait_finish(call->engine, shard, wait, call->out);
	else if (!room_to_wait(call))
		wait_abandon(call->engine, shard, wait);
	else if (ready)
		ready_add(call->engine, wait);
}
