/* What the verbs share about one model on one lane. */
#include "server/core/shard.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"

static bool has_own(const struct model_settings *settings)
{
	return groups_answering(&settings->groups, &settings->optim) != NULL;
}

struct shard *shard_new(struct model **model, enum optim_isa isa)
{
	struct shard *shard = calloc(1, sizeof(*shard));
	if (shard == NULL)
		return NULL;
	shard->gate = gate_new(*model, isa);
	shard->watched = calloc((*model)->owned.count + 1, sizeof(*shard->watched));
	if (shard->gate != NULL && gate_decides(shard->gate))
		shard->lead = lead_new(*model, gate_step(shard->gate));
	bool rejects = rejects_needed(&(*model)->settings);
	if (rejects)
		shard->rejects = rejects_new(&(*model)->settings);
	if (shard->gate == NULL || shard->watched == NULL || (rejects && shard->rejects == NULL) ||
	    (gate_decides(shard->gate) && shard->lead == NULL)) {
		shard_free(shard);
		return NULL;
	}
	shard->model = *model;
	shard->ranks = shard->model->settings.workers;
	shard->has_own = has_own(&shard->model->settings);
	*model = NULL;
	return shard;
}

void shard_free(struct shard *shard)
{
	if (shard == NULL)
		return;
	while (shard->waits.first != NULL) {
		struct wait *wait = shard->waits.first;
		wait_remove(&shard->waits, wait);
		wait_free(wait);
	}
	gate_free(shard->gate);
	lead_free(shard->lead);
	free(shard->rejects);
	model_free(shard->model);
	free(shard->holders);
	free(shard->watched);
	free(shard->cut_saved);
	free(shard->cut_free);
	free(shard);
}

/* A rank has at most one step under way, so it cannot fill a window that is larger
 * than the shard. */
static uint64_t smaller(uint64_t elements, uint32_t bytes)
{
	return elements * sizeof(float) < bytes ? elements * sizeof(float) : bytes;
}

uint64_t shard_allows(const struct shard *shard, struct shard_window window)
{
	uint64_t elements = shard->model->elements;

	/* Each rank keeps to its own window; a message more is in memory already. */
	return shard->ranks * smaller(elements, window.bytes) + smaller(elements, window.message_bytes);
}

static struct layout_run run_of(const struct layout *layout, struct model_place place)
{
	return layout_owned(layout, place.daemon, place.daemons, place.lane,
	                    place.lanes);
}

uint64_t shard_rank_bytes(const struct model_settings *settings, const struct layout *layout,
                          struct model_place place, struct shard_window window)
{
	struct layout_run run = run_of(layout, place);
	uint64_t windows = has_own(settings) ? 3 : 2;
	/* Which of its steps each block has, and a wait for each: no message is about less. */
	uint64_t each = sizeof(uint64_t) + sizeof(struct wait) + sizeof(struct msg_part) + MALLOC_BYTES + 1;

	/* Twice: what was pushed waits for others, and answers wait to be sent; those of its own
	 * before that for room. */
	return windows * smaller(layout_run_elements(layout, run), window.bytes) + sizeof(struct holder) +
	       sizeof(uint64_t *) + run.count * each + layout_run_segments(layout, run) / 8 +
	       gate_rank_bytes(layout, run) + rejects_rank_bytes(settings);
}

uint64_t shard_own_bytes(const struct model_settings *settings, const struct layout *layout,
                         struct model_place place)
{
	/* Who waits for a block, and what a checkpoint has of it. */
	uint64_t each = sizeof(struct heap) + 2;

	return model_bytes(settings, layout, place) + gate_bytes(settings, layout, place) +
	       lead_bytes(settings, layout, place) + rejects_bytes(settings) + sizeof(struct shard) + (run_of(layout, place).count + 1) * each;
}

uint64_t shard_bytes(const struct model_settings *settings, const struct layout *layout,
                     struct model_place place, struct shard_window window)
{
	return shard_own_bytes(settings, layout, place) +
	       smaller(layout_run_elements(layout, run_of(layout, place)), window.message_bytes) +
	       settings->workers * shard_rank_bytes(settings, layout, place, window);
}

static uint64_t masked_elements(const struct shard *shard, const struct msg_part *part)
{
	const struct layout_block *b = model_block(shard->model, part->first);
	uint64_t elements = 0;
	for (uint32_t i = 0; i < b->segment_count; i++) {
		if (commit_has(part->mask, i))
			elements += layout_segment(shard->model->layout, b->first_segment + i)->count;
	}
	return elements;
}

static bool mask_fits(const struct layout_block *b, const struct msg_part *part)
{
	if (part->mask_bytes != (b->segment_count + 7) / 8)
		return false;
	uint32_t spare = part->mask_bytes * 8 - b->segment_count;
	return spare == 0 || part->mask[part->mask_bytes - 1] >> (8 - spare) == 0;
}

uint64_t shard_part_elements(const struct shard *shard, const struct msg_part *part, char *why,
                             size_t why_bytes)
{
	const struct model *model = shard->model;
	struct layout_run owned = model->owned;

	if (part->count == 0 || !model_owns(model, part->first) ||
	    part->count > owned.first + owned.count - part->first) {
		snprintf(why, why_bytes,
		         "blocks %u to %llu are asked for; this lane owns %u to %u of model '%s'",
		         part->first, (unsigned long long)part->first + part->count - 1, owned.first,
		         owned.first + owned.count - 1, model->name);
		return 0;
	}
	const struct layout_block *first = model_block(model, part->first);
	if (part->mask == NULL) {
		const struct layout_block *last = model_block(model, part->first + part->count - 1);
		return last->begin + last->count - first->begin;
	}
	if (!mask_fits(first, part)) {
		snprintf(why, why_bytes, "the mask of block %u has %u bytes, for %u segments it takes %u",
		         part->first, part->mask_bytes, first->segment_count,
		         (first->segment_count + 7) / 8);
		return 0;
	}
	return masked_elements(shard, part);
}

static char *copy_part(const struct shard *shard, const float *vector, const struct msg_part *part,
                       char *to)
{
	const struct model *model = shard->model;
	const float *from = vector + model_offset(model, part->first);
	const struct layout_block *first = model_block(model, part->first);

	if (part->mask == NULL) {
		const struct layout_block *last = model_block(model, part->first + part->count - 1);
		size_t bytes = (last->begin + last->count - first->begin) * sizeof(float);
		memcpy(to, from, bytes);
		return to + bytes;
	}
	for (uint32_t i = 0; i < first->segment_count; i++) {
		const struct layout_segment *s = layout_segment(model->layout, first->first_segment + i);
		if (!commit_has(part->mask, i))
			continue;
		memcpy(to, from + s->offset, s->count * sizeof(float));
		to += s->count * sizeof(float);
	}
	return to;
}

struct buf *shard_weights(const struct shard *shard, enum msg_source source,
                          const struct msg_part *parts, uint32_t count, struct buf_pool *pool)
{
	const float *vector = source == MSG_AVERAGE ? shard->model->average : shard->model->weights;
	char why[8];
	uint64_t elements = 0;

	for (uint32_t i = 0; i < count; i++)
		elements += shard_part_elements(shard, &parts[i], why, sizeof(why));
	struct buf *buf = buf_pool_take(pool, elements * sizeof(float));
	if (buf == NULL)
		return NULL;
	char *to = buf->data;
	for (uint32_t i = 0; i < count; i++)
		to = copy_part(shard, vector, &parts[i], to);
	return buf;
}

void shard_part_versions(const struct shard *shard, const struct msg_part *parts, uint32_t count,
                         uint64_t *lowest, uint64_t *highest)
{
	*lowest = UINT64_MAX;
	*highest = 0;
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t j = 0; j < parts[i].count; j++) {
			uint64_t version = model_version(shard->model, parts[i].first + j);
			if (version < *lowest)
				*lowest = version;
			if (version > *highest)
				*highest = version;
		}
	}
	if (count == 0)
		*lowest = 0;
}

struct holder *shard_holder(struct shard *shard, uint32_t rank)
{
	assert(rank < LIMIT_WORKERS);
	if (rank >= shard->holder_count) {
		struct holder *holders = realloc(shard->holders, (rank + 1) * sizeof(*holders));
		if (holders == NULL)
			return NULL;
		memset(holders + shard->holder_count, 0,
		       (rank + 1 - shard->holder_count) * sizeof(*holders));
		shard->holders = holders;
		shard->holder_count = rank + 1;
	}
	return &shard->holders[rank];
}

uint32_t shard_workers_present(const struct shard *shard)
{
	uint32_t present = 0;
	for (uint32_t rank = 0; rank < shard->holder_count; rank++)
		present += shard->holders[rank].held;
	return present;
}

uint32_t shard_missing_text(const struct shard *shard, uint32_t block, char *text, size_t bytes)
{
	uint32_t ranks[8];
	uint32_t count = gate_missing(shard->gate, block, ranks, 8);
	size_t used = 0;

	/* Where a step is decided as a whole, the block may wait for another. */
	if (count == 0 && gate_decides(shard->gate) && gate_uncollected(shard->gate) != UINT32_MAX) {
		block = gate_uncollected(shard->gate);
		count = gate_missing(shard->gate, block, ranks, 8);
	}

	text[0] = '\0';
	for (uint32_t i = 0; i < count && i < 8 && used < bytes; i++) {
		const struct holder *holder =
		        ranks[i] < shard->holder_count ? &shard->holders[ranks[i]] : NULL;
		const char *comma = i > 0 ? ", " : "";
		int n;
		if (holder == NULL || !holder->ever)
			n = snprintf(text + used, bytes - used, "%srank %u", comma, ranks[i]);
		else
			n = snprintf(text + used, bytes - used, "%srank %u (%s:%u%s%s)", comma, ranks[i],
			             holder->host, holder->pid,
			             reject_stands(shard, ranks[i], model_version(shard->model, block))
			                     ? ", whose gradient was not finite" : "",
			             holder->held ? "" : ", gone");
		used += n > 0 ? (size_t)n : 0;
	}
	if (count > 8 && used < bytes)
		snprintf(text + used, bytes - used, " and %u more", count - 8);
	return count;
}

static bool lags(const struct shard *shard, const struct wait *wait, uint32_t block)
{
	uint64_t version = model_version(shard->model, block);
	if (wait->verb == MSG_PULL)
		return !shard->ready || version < wait->min_version;
	return version <= wait->step;
}

uint32_t shard_lagging_block(const struct shard *shard, const struct wait *wait)
{
	const struct model *model = shard->model;
	uint32_t lowest = model->owned.first;

	for (uint32_t i = 0; wait != NULL && i < wait->part_count; i++) {
		for (uint32_t j = 0; j < wait->parts[i].count; j++) {
			if (lags(shard, wait, wait->parts[i].first + j))
				return wait->parts[i].first + j;
		}
	}
	for (uint32_t i = 1; i < model->owned.count; i++) {
		if (model->versions[i] < model_version(model, lowest))
			lowest = model->owned.first + i;
	}
	return lowest;
}
