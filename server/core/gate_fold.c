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

/* The elements of `count` segments of a block from segment i on. */
static uint32_t elements_of(const struct gate *gate, const struct layout_block *lb, uint32_t i, uint32_t count)
{
	const struct layout_segment *first = layout_segment(gate->model->layout, lb->first_segment + i);
	const struct layout_segment *last = layout_segment(gate->model->layout, lb->first_segment + i + count - 1);

	return last->offset + last->count - first->offset;
}

static void fold_whole(struct gate *gate, struct gate_block *b, uint32_t block,
                       const struct contribution *c, struct gate_factors factors)
{
	const struct layout_block *lb = model_block(gate->model, block);
	struct optim_gradient values = {c->values, 1.0f, c->type};
	float *sum = gate->sums + model_offset(gate->model, block);

	for (uint32_t i = 0, alike; i < lb->segment_count; i += alike) {
		alike = gate_alike(gate, block, i, factors);
		uint32_t n = elements_of(gate, lb, i, alike);
		values.factor = gate_factor(gate, block, i, factors);
		if (b->touched == TOUCHED_NONE)
			optim_scale(gate->isa, sum, values, n);
		else
			optim_fold(gate->isa, sum, values, n);
		sum += n;
		values.values = dtype_at(values.values, values.type, n);
	}
	b->touched = TOUCHED_ALL;
}

static void fold_segments(struct gate *gate, struct gate_block *b, uint32_t block,
                          const struct contribution *c, struct gate_factors factors)
{
	const struct layout_block *lb = model_block(gate->model, block);
	struct optim_gradient values = {c->values, 1.0f, c->type};
	float *sum = gate->sums + model_offset(gate->model, block);

	if (b->touched == TOUCHED_NONE)
		memset(b->mask, 0, LIMIT_MASK_BYTES);
	for (uint32_t i = 0; i < lb->segment_count; i++) {
		const struct layout_segment *s = layout_segment(gate->model->layout, lb->first_segment + i);
		if (!commit_has(c->mask, i))
			continue;
		values.factor = gate_factor(gate, block, i, factors);
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
	double share = 1.0;

	if (c->values == NULL)
		return;
	if (gate->model->settings.reduce == MSG_MEAN)
		share = (b->weighted ? c->weight : 1.0) / whole_weight;
	struct gate_factors factors = gate_factors(share, c->loss_scale);
	if (c->mask == NULL && b->touched != TOUCHED_SOME)
		fold_whole(gate, b, block, c, factors);
	else
		fold_segments(gate, b, block, c, factors);
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
