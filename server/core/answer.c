/*
 * Answers to those who waited, a few at a time.
 *
 * Each function here makes some and says whether it did; whoever drives the engine
 * sends them and calls again.  So what is not sent yet is never more than a batch,
 * however many a commit released.
 */
#include <assert.h>
#include <string.h>

#include "server/core/norms.h"
#include "server/core/own.h"
#include "server/core/verbs.h"

/* Of payloads in a batch, beside the one that passes it: two messages. */
#define BATCH_BYTES (2u * LIMIT_MESSAGE_BYTES)

struct outbox_entry *wait_reply(struct engine *engine, struct shard *shard, const struct wait *wait,
                                int status, struct outbox *out)
{
	struct outbox_entry *entry = outbox_add(out, wait->peer);

	entry->after_commit = engine->commits;
	entry->head.verb = wait->verb;
	entry->head.status = status;
	entry->head.request = wait->request;
	entry->head.session = wait->session;
	entry->head.epoch = engine->options.epoch;
	entry->head.object = shard->handle;
	entry->head.rank = wait->rank;
	entry->head.step = wait->step;
	return entry;
}

static void copy_parts(struct outbox_entry *entry, const struct wait *wait, struct outbox *out)
{
	entry->head.part_count = wait->part_count;
	for (uint32_t i = 0; i < wait->part_count; i++) {
		entry->head.parts[i] = wait->parts[i];
		if (wait->parts[i].mask != NULL)
			entry->head.parts[i].mask =
			        outbox_bytes(out, wait->parts[i].mask, wait->parts[i].mask_bytes);
	}
}

static void attach_weights(struct engine *engine, struct shard *shard, struct wait *wait,
                           struct outbox_entry *entry, struct outbox *out)
{
	copy_parts(entry, wait, out);
	entry->head.source = wait->source;
	entry->payload = own_take(shard, wait);
	if (entry->payload == NULL)
		entry->payload = share_weights(&engine->share, shard, wait->source, wait->parts, wait->part_count,
		                               engine->pool);
	if (entry->payload == NULL) {
		entry->head.status = OPTD_NO_MEMORY;
		entry->head.part_count = 0;
		entry->head.text = outbox_printf(out, "no memory for an answer: ask again");
		return;
	}
	entry->head.payload_bytes = entry->payload->bytes;
}

uint64_t wait_finish(struct engine *engine, struct shard *shard, struct wait *wait,
                     struct outbox *out)
{
	struct outbox_entry *entry = wait_reply(engine, shard, wait, OPTD_OK, out);

	assert(!wait->watching.in && wait->part == wait->part_count);
	assert(wait->verb == MSG_PUSH || wait->verb == MSG_CLOSE_STEP || !wait_is_busy(wait));
	shard_part_versions(shard, wait->parts, wait->part_count, &entry->head.version,
	                    &entry->head.version_max);
	verdict_tell(shard, wait, &entry->head);
	if (wait->verb == MSG_PULL || wait->verb == MSG_PUSH_PULL)
		attach_weights(engine, shard, wait, entry, out);
	wait_abandon(engine, shard, wait);
	return entry->head.payload_bytes;
}

/* Tells those whose bytes are folded while their step goes on. */
static uint32_t tell_folded(struct engine *engine, uint32_t room, struct outbox *out)
{
	struct wait *wait;
	uint32_t told = 0;

	for (uint32_t i = 0; i < engine->shard_count; i++) {
		struct shard *shard = engine->shards[i];
		for (; told < room && (wait = gate_folded(shard->gate)) != NULL; told++)
			wait_reply(engine, shard, wait, OPTD_FOLDED, out);
	}
	return told;
}

static bool is_kept(const struct wait *wait, const struct engine_room *room)
{
	return wait->verb == MSG_PUSH_PULL &&
	       (wait_is_busy(wait) || (room != NULL && !room->has(room->user, wait)));
}

bool engine_answer(struct engine *engine, const struct engine_room *room, struct outbox *out)
{
	struct wait *wait;
	uint64_t bytes = 0;
	uint32_t made = 0;

	while (made < ENGINE_BATCH && bytes < BATCH_BYTES && (wait = ready_push(engine)) != NULL) {
		if (is_kept(wait, room)) {
			ready_keep(engine, wait);
			continue;
		}
		bytes += wait_finish(engine, wait->shard, wait, out);
		made++;
	}
	made += tell_folded(engine, ENGINE_BATCH - made, out);
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		made += rejects_answer(engine, engine->shards[i], ENGINE_BATCH - made, out);
		made += norms_answer(engine, engine->shards[i], ENGINE_BATCH - made, out);
	}
	if (made == 0 && !engine_has_kept(engine))
		share_clear(&engine->share);
	return made > 0;
}

bool engine_has_kept(const struct engine *engine)
{
	return engine->ready.peer_count > 0;
}

bool engine_answer_kept(struct engine *engine, const struct engine_room *room, struct outbox *out)
{
	struct wait *wait = ready_kept(engine, room);

	if (wait == NULL) {
		share_clear(&engine->share);
		return false;
	}
	engine->sessions[wait->peer].answered_ms = engine->now_ms;
	wait_finish(engine, wait->shard, wait, out);
	return true;
}
