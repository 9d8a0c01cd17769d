/* A heap of waits for each block, by the version they need. */
#include "server/core/watch.h"

#include <assert.h>

static struct heap *heap_of(struct shard *shard, uint32_t block)
{
	assert(model_owns(shard->model, block));
	return &shard->watched[block - shard->model->owned.first];
}

/* The version with which the block has come for this wait.  In async a push waits
 * for its own commit, whatever others do to the block meanwhile. */
static uint64_t version_needed(const struct shard *shard, const struct wait *wait, uint32_t block)
{
	if (wait->verb == MSG_PULL)
		return wait->min_version;
	if (shard->model->settings.mode == MSG_SYNC)
		return wait->step + 1;
	if (model_seen(shard->model, (uint32_t)wait->rank, block) > wait->step)
		return 0;
	return gate_version(shard->gate, block, (uint32_t)wait->rank);
}

bool watch_next(struct shard *shard, struct wait *wait)
{
	for (; wait->part < wait->part_count; wait->part++, wait->block = 0) {
		const struct msg_part *part = &wait->parts[wait->part];
		for (; wait->block < part->count; wait->block++) {
			uint32_t block = part->first + wait->block;
			uint64_t needed = version_needed(shard, wait, block);
			if (needed <= model_version(shard->model, block))
				continue;
			heap_add(heap_of(shard, block), &wait->watching, needed, wait->order);
			return true;
		}
	}
	return false;
}

struct wait *watch_take(struct shard *shard, uint32_t block)
{
	struct heap *heap = heap_of(shard, block);
	struct heap_node *first = heap->first;

	if (first == NULL || first->key > model_version(shard->model, block))
		return NULL;
	heap_remove(heap, first);
	return heap_owner(first, struct wait, watching);
}

void watch_leave(struct shard *shard, struct wait *wait)
{
	if (!wait->watching.in)
		return;
	heap_remove(heap_of(shard, wait->parts[wait->part].first + wait->block), &wait->watching);
}
