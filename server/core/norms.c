/* Parts of two steps, what others have told, and who waits. */
#include "server/core/norms.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/core/verbs.h"

static struct layout_run own_run(const struct layout *layout, struct model_place place)
{
	return layout_owned(layout, place.daemon, place.daemons, 0, 1);
}

static size_t parts_bytes(const struct layout *layout)
{
	return layout_segment_count(layout) * sizeof(double);
}

uint64_t norms_bytes(const struct model_settings *settings, const struct layout *layout,
                     struct model_place place)
{
	uint64_t bytes = sizeof(struct norms) + MALLOC_BYTES + mem_bytes(parts_bytes(layout));

	struct layout_run own = own_run(layout, place);
	uint64_t told = layout_run_segments(layout, own);

	if (own.count == layout_block_count(layout))
		return bytes;
	/* Each rank may have an answer of its own. */
	told = (told < LIMIT_NORM_SEGMENTS ? told : LIMIT_NORM_SEGMENTS) * sizeof(double);
	return bytes + mem_bytes(parts_bytes(layout)) + layout_block_count(layout) +
	       settings->workers * (1 + sizeof(struct norm_ask) + told) + 3 * MALLOC_BYTES;
}

struct norms *norms_new(const struct model *model, uint64_t step)
{
	const struct layout *layout = model->layout;
	struct norms *norms = calloc(1, sizeof(*norms));
	if (norms == NULL)
		return NULL;
	norms->layout = layout;
	norms->step = step;
	norms->own = own_run(layout, model->place);
	norms->missing = norms->unknown = layout_block_count(layout) - norms->own.count;
	norms->parts[0] = mem_new(parts_bytes(layout));
	bool whole = norms->parts[0] != NULL;
	if (norms->missing > 0) {
		norms->workers = model->settings.workers;
		norms->parts[1] = mem_new(parts_bytes(layout));
		norms->told = calloc(layout_block_count(layout), 1);
		norms->guesses = calloc(norms->workers, 1);
		norms->asks = calloc(norms->workers, sizeof(*norms->asks));
		whole = whole && norms->parts[1] != NULL && norms->told != NULL && norms->guesses != NULL &&
		        norms->asks != NULL;
	}
	if (whole)
		return norms;
	norms_free(norms);
	return NULL;
}

void norms_free(struct norms *norms)
{
	if (norms == NULL)
		return;
	mem_free(norms->parts[0], parts_bytes(norms->layout));
	mem_free(norms->parts[1], parts_bytes(norms->layout));
	free(norms->told);
	free(norms->guesses);
	free(norms->asks);
	free(norms);
}

double *norms_parts(const struct norms *norms, uint64_t step)
{
	return norms->parts[norms->told != NULL ? step % 2 : 0];
}

bool norms_has(const struct norms *norms, uint64_t step)
{
	return step == norms->step ? norms->collected : norms->has_last && step + 1 == norms->step;
}

bool norms_complete(const struct norms *norms)
{
	bool nobody_knows = norms->unknown == 0 && norms->guessing == norms->workers;

	return norms->collected && (norms->missing == 0 || (norms->told != NULL && nobody_knows));
}

void norms_next(struct norms *norms)
{
	norms->step++;
	norms->collected = false;
	norms->has_last = true;
	if (norms->told == NULL)
		return;
	norms->missing = norms->unknown = layout_block_count(norms->layout) - norms->own.count;
	norms->guessing = 0;
	memset(norms->told, 0, layout_block_count(norms->layout));
	memset(norms->guesses, 0, norms->workers);
}

static void tell_block(struct norms *norms, uint32_t block, const char *parts, bool guessed)
{
	const struct layout_block *b = layout_block(norms->layout, block);
	uint8_t *told = &norms->told[block];

	if (guessed && *told == NORM_TOLD)
		return;
	norms->unknown -= *told == NORM_UNKNOWN;
	norms->missing -= !guessed && *told != NORM_TOLD;
	*told = guessed ? NORM_GUESSED : NORM_TOLD;
	memcpy(norms_parts(norms, norms->step) + b->first_segment, parts, b->segment_count * sizeof(double));
}

void norms_tell(struct norms *norms, uint32_t rank, struct msg_part part, const void *parts, bool guessed)
{
	const char *at = parts;

	for (uint32_t i = 0; i < part.count; i++) {
		tell_block(norms, part.first + i, at, guessed);
		at += layout_block(norms->layout, part.first + i)->segment_count * sizeof(double);
	}
	norms->guessing += guessed && !norms->guesses[rank];
	norms->guesses[rank] |= guessed;
}

/* ---- who waits ---------------------------------------------------------- */

void norms_leave(struct norms *norms, uint32_t peer)
{
	for (uint32_t rank = 0; rank < norms->workers && norms->waiting > 0; rank++) {
		struct norm_ask *ask = &norms->asks[rank];
		if (!ask->waits || ask->peer != peer)
			continue;
		ask->waits = false;
		norms->waiting--;
	}
}

struct buf *norms_copy(const struct norms *norms, uint64_t step, struct msg_part part, struct buf_pool *pool)
{
	uint32_t first = layout_block(norms->layout, part.first)->first_segment;
	uint32_t count = layout_run_segments(norms->layout, (struct layout_run){part.first, part.count});
	struct buf *buf = buf_pool_take(pool, count * sizeof(double));

	if (buf != NULL)
		memcpy(buf->data, norms_parts(norms, step) + first, count * sizeof(double));
	return buf;
}

struct outbox_entry *norms_reply(struct engine *engine, struct shard *shard, uint32_t rank, int status,
                                 struct outbox *out)
{
	struct norms *norms = shard->lead->norms;
	struct norm_ask *ask = &norms->asks[rank];
	struct outbox_entry *entry = outbox_add(out, ask->peer);

	assert(ask->waits);
	ask->waits = false;
	norms->waiting--;
	entry->after_commit = engine->commits;
	entry->head.verb = MSG_NORM;
	entry->head.status = status;
	entry->head.request = ask->request;
	entry->head.session = ask->session;
	entry->head.epoch = engine->options.epoch;
	entry->head.object = shard->handle;
	entry->head.rank = (int32_t)rank;
	entry->head.step = ask->step;
	return entry;
}

static void answer(struct engine *engine, struct shard *shard, uint32_t rank, struct buf *payload,
                   struct outbox *out)
{
	struct outbox_entry *entry = norms_reply(engine, shard, rank, payload != NULL ? OPTD_OK : OPTD_NO_MEMORY, out);

	if (payload == NULL)
		return;
	entry->head.part_count = 1;
	entry->head.parts[0] = shard->lead->norms->asks[rank].part;
	entry->head.payload_bytes = payload->bytes;
	entry->payload = buf_hold(payload);
}

static struct norms *waited_for(const struct shard *shard)
{
	struct norms *norms = shard->lead != NULL ? shard->lead->norms : NULL;
	return norms != NULL && norms->waiting > 0 ? norms : NULL;
}

/* Those who ask for something else than the one before them have a copy of their own. */
uint32_t norms_answer(struct engine *engine, struct shard *shard, uint32_t room, struct outbox *out)
{
	struct norms *norms = waited_for(shard);
	struct norm_ask last = {0};
	struct buf *payload = NULL;
	uint32_t made = 0;

	for (uint32_t rank = 0; norms != NULL && rank < norms->workers && made < room; rank++) {
		const struct norm_ask *ask = &norms->asks[rank];
		if (!ask->waits || !norms_has(norms, ask->step))
			continue;
		if (payload == NULL || last.step != ask->step || last.part.first != ask->part.first ||
		    last.part.count != ask->part.count) {
			buf_drop(payload);
			payload = norms_copy(norms, ask->step, ask->part, engine->pool);
			last = *ask;
		}
		answer(engine, shard, rank, payload, out);
		made++;
	}
	buf_drop(payload);
	return made;
}

bool norms_end(struct engine *engine, struct shard *shard, struct outbox *out)
{
	struct norms *norms = waited_for(shard);

	for (uint32_t rank = 0; norms != NULL && rank < norms->workers; rank++) {
		if (!norms->asks[rank].waits)
			continue;
		if (out->count >= ENGINE_BATCH)
			return false;
		struct outbox_entry *entry = norms_reply(engine, shard, rank, OPTD_MODEL_LOST, out);
		entry->head.text = outbox_printf(out, "model '%s' was dropped", shard->model->name);
	}
	return true;
}
