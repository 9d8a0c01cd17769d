/* Answers made as blocks are committed. */
#include "server/core/own.h"

#include <assert.h>
#include <string.h>

/* ---- how much ----------------------------------------------------------- */

bool own_allows(struct call *call, uint64_t bytes)
{
	struct shard *shard = call->shard;
	uint64_t allowed = shard_allows(shard, engine_window(call->engine));

	if (!shard->has_own || call->request->verb != MSG_PUSH_PULL || shard->own_bytes + bytes <= allowed)
		return true;
	call_refuse(call, OPTD_BUSY,
	            "%llu bytes of answers wait for the workers of model '%s', with this one %llu, and %llu are "
	            "allowed: keep to the window, and read answers as they come",
	            (unsigned long long)shard->own_bytes, shard->model->name,
	            (unsigned long long)(shard->own_bytes + bytes), (unsigned long long)allowed);
	return false;
}

int own_begin(struct engine *engine, struct shard *shard, struct wait *wait)
{
	if (!shard->has_own || wait->verb != MSG_PUSH_PULL)
		return OPTD_OK;
	wait->own = buf_pool_take(engine->pool, wait->payload_bytes);
	if (wait->own == NULL)
		return OPTD_NO_MEMORY;
	shard->own_bytes += wait->own->bytes;
	return OPTD_OK;
}

void own_drop(struct shard *shard, struct wait *wait)
{
	if (wait->own == NULL)
		return;
	shard->own_bytes -= wait->own->bytes;
	buf_drop(wait->own);
	wait->own = NULL;
}

/* ---- a block ------------------------------------------------------------ */

/* Where a block's elements are in a wait's answer, and the part that it is of. */
static float *place_of(const struct shard *shard, const struct wait *wait, uint32_t block,
                       const struct msg_part **part)
{
	float *at = wait->own->data;
	char why[8];

	for (uint32_t i = 0; i < wait->part_count; i++) {
		*part = &wait->parts[i];
		if (block - (*part)->first < (*part)->count)
			return at + (model_block(shard->model, block)->begin -
			             model_block(shard->model, (*part)->first)->begin);
		at += shard_part_elements(shard, *part, why, sizeof(why));
	}
	return NULL;
}

/* A contribution, as what is answered of it comes from. */
struct source {
	struct optim_gradient x;
	const uint8_t *mask;
};

/* Segments that the wait names and the contribution lacks get the weights: the block took
 * in another message of this rank's step. */
static void answer_block(struct engine *engine, struct shard *shard, const struct wait *wait, uint32_t block,
                         struct source from)
{
	const struct model *model = shard->model;
	const struct layout_block *b = model_block(model, block);
	const struct msg_part *part = NULL;
	float *out = place_of(shard, wait, block, &part);
	struct optim_gradient x = from.x;
	struct changed changed;

	model_changed(model, block, &changed);

	for (uint32_t i = 0; out != NULL && i < b->segment_count; i++) {
		uint32_t n = layout_segment(model->layout, b->first_segment + i)->count;
		/* No loss scale is in weights, which such rules take. */
		float factor = model_is_scaled(model, b->first_segment + i - model->first_segment) ? x.factor : 1.0f;
		bool given = x.values != NULL && commit_has(from.mask, i);
		if (commit_has(part->mask, i)) {
			model_answer(model, engine->options.isa, &changed, block, i,
			             (struct optim_gradient){given ? x.values : NULL, factor, x.type}, out);
			out += n;
		}
		if (given)
			x.values = dtype_at(x.values, x.type, n);
	}
}

void own_commit(struct engine *engine, struct shard *shard, const struct commit *commit)
{
	if (!shard->has_own)
		return;
	assert(gate_direct(shard->gate) && commit->contributor_count == 1);
	const struct wait *wait = gate_waiter(shard->gate, commit->block, commit->contributors[0].rank);
	if (wait != NULL && wait->own != NULL)
		answer_block(engine, shard, wait, commit->block,
		             (struct source){{commit->values, commit->factor, commit->type}, commit->present});
}

void own_repeat(struct engine *engine, struct shard *shard, const struct gate_push *push)
{
	float factor = push->loss_scale > 0 ? (float)(1.0 / push->loss_scale) : 1.0f;

	if (push->wait->own != NULL)
		answer_block(engine, shard, push->wait, push->block,
		             (struct source){{push->values, factor, push->type}, push->mask});
}

/* ---- the whole ---------------------------------------------------------- */

static float *fill_block(const struct model *model, uint32_t block, const uint8_t *mask, float *out)
{
	const struct layout_block *b = model_block(model, block);
	const float *weights = model->weights + model_offset(model, block);

	for (uint32_t i = 0; i < b->segment_count; i++) {
		const struct layout_segment *s = layout_segment(model->layout, b->first_segment + i);
		if (!commit_has(mask, i))
			continue;
		if (!model_answers(model, block, i))
			memcpy(out, weights + s->offset, s->count * sizeof(float));
		out += s->count;
	}
	return out;
}

struct buf *own_take(struct shard *shard, struct wait *wait)
{
	struct buf *buf = wait->own;

	if (buf == NULL)
		return NULL;
	float *out = buf->data;
	for (uint32_t i = 0; i < wait->part_count; i++) {
		const struct msg_part *part = &wait->parts[i];
		for (uint32_t j = 0; j < part->count; j++)
			out = fill_block(shard->model, part->first + j, part->mask, out);
	}
	shard->own_bytes -= buf->bytes;
	wait->own = NULL;
	return buf;
}
