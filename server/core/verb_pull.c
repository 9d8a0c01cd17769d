/* PULL, and the answers to all who waited. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "server/core/verbs.h"
#include "server/core/watch.h"

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
	gate_forget(shard->gate, wait);
	watch_leave(shard, wait);
	wait_remove(&shard->waits, wait);
	wait_free(wait);
}

/* In sync all workers get the same bytes: the last answer in the outbox serves
 * again if it is about the same block of the same version. */
static struct buf *same_payload(const struct outbox *out, const struct wait *wait,
                                const struct outbox_entry *entry)
{
	/* The entry being filled is the last one. */
	const struct outbox_entry *before = out->count >= 2 ? &out->entries[out->count - 2] : NULL;

	if (before == NULL || before->payload == NULL || wait->part_count != 1 ||
	    wait->parts[0].mask != NULL || before->head.part_count != 1)
		return NULL;
	const struct msg_part *part = &before->head.parts[0];
	if (part->mask != NULL || part->first != wait->parts[0].first ||
	    part->count != wait->parts[0].count || before->head.object != entry->head.object ||
	    before->head.version != entry->head.version ||
	    before->head.version_max != entry->head.version_max || entry->head.version != entry->head.version_max)
		return NULL;
	return buf_hold(before->payload);
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

static void attach_weights(struct engine *engine, struct shard *shard, const struct wait *wait,
                           struct outbox_entry *entry, struct outbox *out)
{
	copy_parts(entry, wait, out);
	entry->payload = same_payload(out, wait, entry);
	if (entry->payload == NULL)
		entry->payload = shard_weights(shard, wait->parts, wait->part_count, engine->pool);
	if (entry->payload == NULL) {
		entry->head.status = OPTD_NO_MEMORY;
		entry->head.part_count = 0;
		entry->head.text = outbox_printf(out, "no memory for an answer: ask again");
		return;
	}
	entry->head.payload_bytes = entry->payload->bytes;
}

void wait_finish(struct engine *engine, struct shard *shard, struct wait *wait, struct outbox *out)
{
	struct outbox_entry *entry = wait_reply(engine, shard, wait, OPTD_OK, out);

	assert(!wait->watching.in && wait->part == wait->part_count);
	shard_part_versions(shard, wait->parts, wait->part_count, &entry->head.version,
	                    &entry->head.version_max);
	if (wait->verb == MSG_PULL || wait->verb == MSG_PUSH_PULL)
		attach_weights(engine, shard, wait, entry, out);
	wait_abandon(engine, shard, wait);
}

void shard_begin(struct engine *engine, struct shard *shard, struct outbox *out)
{
	struct wait *next;

	assert(shard->ready);
	for (struct wait *wait = shard->waits.first; wait != NULL; wait = next) {
		next = wait->next;
		if (wait->verb != MSG_PULL)
			continue;
		watch_leave(shard, wait);
		if (!watch_next(shard, wait))
			wait_finish(engine, shard, wait, out);
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

void verb_pull(struct call *call)
{
	struct shard *shard = call->shard;
	uint64_t elements = call_elements(call);

	if (elements == 0)
		return;
	if (elements * sizeof(float) > call->engine->options.message_bytes) {
		call_refuse(call, OPTD_TOO_LARGE, "the blocks asked for take %llu bytes, a message has %u",
		            (unsigned long long)(elements * sizeof(float)),
		            call->engine->options.message_bytes);
		return;
	}
	struct wait *wait = call_wait(call);
	if (wait == NULL)
		return;
	shard->counts.pulls++;
	/* Blocks given so far may be replaced by another worker's until all have come. */
	if (shard->ready && !watch_next(shard, wait))
		wait_finish(call->engine, shard, wait, call->out);
	else if (!room_to_wait(call))
		wait_abandon(call->engine, shard, wait);
}
