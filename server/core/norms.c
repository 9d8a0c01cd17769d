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

	if (own_run(layout, place).count == layout_block_count(layout))
		return bytes;
	return bytes + mem_bytes(parts_bytes(layout)) + layout_block_count(layout) +
	       settings->workers * sizeof(struct norm_ask) + 2 * MALLOC_BYTES;
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
	norms->missing = layout_block_count(layout) - norms->own.count;
	norms->parts[0] = mem_new(parts_bytes(layout));
	bool whole = norms->parts[0] != NULL;
	if (norms->missing > 0) {
		norms->workers = model->settings.workers;
		norms->parts[1] = mem_new(parts_bytes(layout));
		norms->told = calloc(layout_block_count(layout), 1);
		norms->asks = calloc(norms->workers, sizeof(*norms->asks));
		whole = whole && norms->parts[1] != NULL && norms->told != NULL && norms->asks != NULL;
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
	return norms->collected && norms->missing == 0;
}

void norms_next(struct norms *norms)
{
	norms->step++;
	norms->collected = false;
	norms->has_last = true;
	if (norms->told == NULL)
		return;
	norms->missing = layout_block_count(norms->layout) - norms->own.count;
	memset(norms->told, 0, layout_block_count(norms->layout));
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

static void answer(struct engine *engine, const struct shard *shard, uint32_t rank, struct buf *payload,
                   struct outbox *out)
{
	const struct norm_ask *ask = &shard->lead->norms->asks[rank];
	struct outbox_entry *entry = outbox_add(out, ask->peer);

	entry->after_commit = engine->commits;
	entry->head.verb = MSG_NORM;
	entry->head.status = payload != NULL ? OPTD_OK : OPTD_NO_MEMORY;
	entry->head.request = ask->request;
	entry->head.session = ask->session;
	entry->head.epoch = engine->options.epoch;
	entry->head.object = shard->handle;
	entry->head.rank = (int32_t)rank;
	entry->head.step = ask->step;
	if (payload == NULL)
		return;
	entry->head.part_count = 1;
	entry->head.parts[0] = ask->part;
	entry->head.payload_bytes = payload->bytes;
	entry->payload = buf_hold(payload);
}

/* Those who ask for other blocks than the one before them have a copy of their own. */
uint32_t norms_answer(struct engine *engine, struct shard *shard, uint32_t room, struct outbox *out)
{
	struct norms *norms = shard->lead != NULL ? shard->lead->norms : NULL;
	struct msg_part last = {0};
	struct buf *payload = NULL;
	uint32_t made = 0;

	if (norms == NULL || norms->waiting == 0)
		return 0;
	for (uint32_t rank = 0; rank < norms->workers && made < room; rank++) {
		struct norm_ask *ask = &norms->asks[rank];
		if (!ask->waits || !norms_has(norms, ask->step))
			continue;
		if (payload == NULL || last.first != ask->part.first || last.count != ask->part.count) {
			buf_drop(payload);
			payload = norms_copy(norms, ask->step, ask->part, engine->pool);
			last = ask->part;
		}
		answer(engine, shard, rank, payload, out);
		ask->waits = false;
		norms->waiting--;
		made++;
	}
	buf_drop(payload);
	return made;
}
