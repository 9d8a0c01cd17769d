/* Contributions are added up, in rank order. */
#include "server/core/gate_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- payloads ----------------------------------------------------------- */

struct parcel *gate_unpack(struct gate *gate, struct buf *payload)
{
	struct parcel *parcel = malloc(sizeof(*parcel));
	if (parcel == NULL)
		return NULL;
	*parcel = (struct parcel){.holders = 1, .payload = buf_hold(payload)};
	gate->waiting_bytes += payload->bytes;
	return parcel;
}

void gate_unpacked(struct gate *gate, struct parcel *parcel)
{
	if (parcel == NULL || --parcel->holders > 0)
		return;
	gate->waiting_bytes -= parcel->payload->bytes;
	buf_drop(parcel->payload);
	free(parcel);
}

void gate_discard(struct gate *gate, struct contribution *c)
{
	gate_unpacked(gate, c->parcel);
	free(c);
}

/* ---- folding ------------------------------------------------------------ */

static bool touched_has(const struct gate_block *b, uint32_t segment)
{
	return b->touched == TOUCHED_ALL ||
	       (b->touched == TOUCHED_SOME && commit_has(b->mask, segment));
}

static void fold_whole(struct gate *gate, struct gate_block *b, uint32_t block,
                       struct optim_gradient values)
{
	float *sum = gate->sums + model_offset(gate->model, block);
	uint32_t n = model_block(gate->model, block)->count;

	if (b->touched == TOUCHED_NONE)
		optim_scale(gate->isa, sum, values, n);
	else
		optim_fold(gate->isa, sum, values, n);
	b->touched = TOUCHED_ALL;
}

static void fold_segments(struct gate *gate, struct gate_block *b, uint32_t block,
                          const struct contribution *c, struct optim_gradient values)
{
	const struct layout_block *lb = model_block(gate->model, block);
	float *sum = gate->sums + model_offset(gate->model, block);

	if (b->touched == TOUCHED_NONE)
		memset(b->mask, 0, LIMIT_MASK_BYTES);
	for (uint32_t i = 0; i < lb->segment_count; i++) {
		const struct layout_segment *s = layout_segment(gate->model->layout, lb->first_segment + i);
		if (!commit_has(c->mask, i))
			continue;
		if (touched_has(b, i))
			optim_fold(gate->isa, sum + s->offset, values, s->count);
		else
			optim_scale(gate->isa, sum + s->offset, values, s->count);
		if (b->touched != TOUCHED_ALL)
			b->mask[i / 8] |= (uint8_t)(1u << (i % 8));
		values.values = dtype_at(values.values, values.type, s->count);
	}
	if (c->mask == NULL)
		b->touched = TOUCHED_ALL;
	else if (b->touched == TOUCHED_NONE)
		b->touched = TOUCHED_SOME;
}

static void fold_one(struct gate *gate, uint32_t block, struct contribution *c, double whole_weight)
{
	struct gate_block *b = gate_block(gate, block);
	struct optim_gradient values = {c->values, 1.0f, c->type};
	double share = 1.0;

	if (c->values == NULL)
		return;
	if (gate->model->settings.reduce == MSG_MEAN)
		share = (b->weighted ? c->weight : 1.0) / whole_weight;
	values.factor = (float)(share / c->loss_scale);
	if (c->mask == NULL && b->touched != TOUCHED_SOME)
		fold_whole(gate, b, block, values);
	else
		fold_segments(gate, b, block, c, values);
}

void gate_queue(struct gate *gate, struct gate_block *b, struct contribution *c)
{
	struct contribution **at = &b->waiting;
	while (*at != NULL && (gate->direct || (*at)->rank < c->rank))
		at = &(*at)->next;
	c->next = *at;
	*at = c;
}

static void fold_waiting(struct gate *gate, struct gate_block *b, uint32_t block)
{
	double whole_weight = gate->workers;

	if (b->weighted) {
		if (b->came < gate->workers)
			return;
		whole_weight = 0;
		for (const struct contribution *c = b->waiting; c != NULL; c = c->next)
			whole_weight += c->weight;
	}
	while (b->next_rank < gate->workers && gate_seat(gate, block, b->next_rank)->came) {
		struct contribution *c = b->waiting;
		assert(c != NULL && c->rank == b->next_rank);
		fold_one(gate, block, c, whole_weight);
		if (c->wait != NULL)
			gate_fold_told(gate, c->wait);
		b->waiting = c->next;
		b->next_rank++;
		gate_discard(gate, c);
	}
}

void gate_fold(struct gate *gate, uint32_t block)
{
	struct gate_block *b = gate_block(gate, block);

	if (b->poison_rank_plus_one == 0)
		fold_waiting(gate, b, block);
	if (gate->decide != NULL && gate_complete(gate, b))
		gate_decide_collect(gate, block);
}
