/*
 * Cutting a call into messages: walks the blocks of each lane once, closing the
 * message under construction when the next block would not fit.
 */
#include "client/route.h"

#include <stdlib.h>
#include <string.h>

#define NO_ITEM UINT32_MAX

struct builder {
	struct route *route;
	const struct layout *layout;
	const uint32_t *item_of; /* by tensor; NULL: the whole model */
	uint32_t message_room, part_room, piece_room, mask_room;
	uint64_t cap;          /* payload of a message on this lane */
	bool open;             /* the last message may still grow */
	uint32_t header_bytes; /* of its parts */
	/* Masks move while their array grows: pointers are set at the end. */
	uint32_t *mask_at;     /* by part; NO_ITEM: none */
	uint32_t mask_at_room;
};

/* Makes room for one more element in a growing array. */
static int reserve(void *array_pointer, uint32_t *room, uint32_t need, size_t size)
{
	void *array;
	memcpy(&array, array_pointer, sizeof(array));
	if (need <= *room)
		return 0;
	uint32_t bigger = *room ? *room * 2 : 16;
	if (bigger < need)
		bigger = need;
	array = realloc(array, bigger * size);
	if (!array)
		return OPTD_NO_MEMORY;
	memcpy(array_pointer, &array, sizeof(array));
	*room = bigger;
	return 0;
}

static int add_message(struct builder *b, uint32_t lane, bool close)
{
	struct route *r = b->route;
	int rc = reserve(&r->messages, &b->message_room, r->message_count + 1, sizeof(*r->messages));
	if (rc < 0)
		return rc;
	r->messages[r->message_count++] = (struct route_message){
		.lane = lane,
		.close = close,
		.first_part = r->part_count,
		.first_piece = r->piece_count,
	};
	b->open = true;
	b->header_bytes = 0;
	return 0;
}

static struct route_message *last_message(struct builder *b)
{
	return &b->route->messages[b->route->message_count - 1];
}

/* Whether the last part can take block `index` as the next of its run. */
static bool extends(const struct builder *b, uint32_t index)
{
	const struct route *r = b->route;
	if (!b->open || r->messages[r->message_count - 1].part_count == 0)
		return false;
	const struct msg_part *part = &r->parts[r->part_count - 1];
	return b->mask_at[r->part_count - 1] == NO_ITEM && part->first + part->count == index;
}

/* Makes sure that the last message takes `bytes` more of payload and a part
 * with this mask. */
static int make_room(struct builder *b, uint32_t lane, bool close, uint64_t bytes, bool new_part,
                     uint32_t mask_bytes)
{
	uint32_t header = new_part ? ROUTE_PART_BYTES + mask_bytes : 0;
	if (b->open) {
		const struct route_message *m = last_message(b);
		bool full = m->bytes > 0 && m->bytes + bytes > b->cap;
		if (new_part)
			full = full || m->part_count == LIMIT_PARTS ||
			       b->header_bytes + header > ROUTE_PARTS_BYTES;
		if (!full)
			return 0;
	}
	return add_message(b, lane, close);
}

static int add_part(struct builder *b, uint32_t first, uint32_t mask_at, uint32_t mask_bytes)
{
	struct route *r = b->route;
	int rc = reserve(&r->parts, &b->part_room, r->part_count + 1, sizeof(*r->parts));
	if (rc == 0)
		rc = reserve(&b->mask_at, &b->mask_at_room, r->part_count + 1, sizeof(*b->mask_at));
	if (rc < 0)
		return rc;
	b->mask_at[r->part_count] = mask_at;
	r->parts[r->part_count++] =
		(struct msg_part){.first = first, .count = 1, .mask_bytes = mask_bytes};
	last_message(b)->part_count++;
	b->header_bytes += ROUTE_PART_BYTES + mask_bytes;
	return 0;
}

static int add_piece(struct builder *b, uint32_t item, uint64_t offset, uint32_t count)
{
	struct route *r = b->route;
	struct route_message *m = last_message(b);
	m->bytes += (uint64_t)count * sizeof(float);
	if (m->bytes > r->largest)
		r->largest = m->bytes;
	if (m->piece_count > 0) {
		struct route_piece *last = &r->pieces[r->piece_count - 1];
		if (last->item == item && last->offset + last->count == offset) {
			last->count += count;
			return 0;
		}
	}
	int rc = reserve(&r->pieces, &b->piece_room, r->piece_count + 1, sizeof(*r->pieces));
	if (rc < 0)
		return rc;
	r->pieces[r->piece_count++] = (struct route_piece){item, count, offset};
	m->piece_count++;
	return 0;
}

/* Appends block `index` to the run of the last message, without payload. */
static int add_run(struct builder *b, uint32_t lane, uint32_t index, bool close, uint64_t bytes)
{
	bool grows = extends(b, index);
	uint32_t messages = b->route->message_count;
	int rc = make_room(b, lane, close, bytes, !grows, 0);
	if (rc < 0)
		return rc;
	if (grows && messages == b->route->message_count) {
		b->route->parts[b->route->part_count - 1].count++;
		return 0;
	}
	return add_part(b, index, NO_ITEM, 0);
}

/* The segments of a block that were chosen, and their elements. */
static uint32_t chosen(const struct builder *b, const struct layout_block *block, uint64_t *elements)
{
	uint32_t n = 0;
	*elements = 0;
	for (uint32_t i = 0; i < block->segment_count; i++) {
		const struct layout_segment *s = layout_segment(b->layout, block->first_segment + i);
		if (b->item_of[s->tensor] == NO_ITEM)
			continue;
		n++;
		*elements += s->count;
	}
	return n;
}

static int add_segments(struct builder *b, const struct layout_block *block, uint8_t *mask)
{
	for (uint32_t i = 0; i < block->segment_count; i++) {
		const struct layout_segment *s = layout_segment(b->layout, block->first_segment + i);
		uint32_t item = b->item_of[s->tensor];
		if (item == NO_ITEM)
			continue;
		if (mask)
			mask[i / 8] = (uint8_t)(mask[i / 8] | 1u << (i % 8));
		uint64_t at = block->begin + s->offset - layout_tensor(b->layout, s->tensor)->offset;
		int rc = add_piece(b, item, at, s->count);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int add_masked(struct builder *b, uint32_t lane, uint32_t index, uint64_t bytes)
{
	struct route *r = b->route;
	const struct layout_block *block = layout_block(b->layout, index);
	uint32_t mask_bytes = (block->segment_count + 7) / 8;
	int rc = make_room(b, lane, false, bytes, true, mask_bytes);
	if (rc == 0)
		rc = reserve(&r->masks, &b->mask_room, r->mask_bytes + mask_bytes, 1);
	if (rc == 0)
		rc = add_part(b, index, r->mask_bytes, mask_bytes);
	if (rc < 0)
		return rc;
	uint8_t *mask = r->masks + r->mask_bytes;
	memset(mask, 0, mask_bytes);
	r->mask_bytes += mask_bytes;
	return add_segments(b, block, mask);
}

static int add_block(struct builder *b, uint32_t lane, uint32_t index)
{
	const struct layout_block *block = layout_block(b->layout, index);
	uint64_t elements = block->count;
	uint32_t n = block->segment_count;
	if (b->item_of)
		n = chosen(b, block, &elements);
	if (n == 0)
		return 0;
	if (n < block->segment_count)
		return add_masked(b, lane, index, elements * sizeof(float));
	int rc = add_run(b, lane, index, false, elements * sizeof(float));
	if (rc < 0)
		return rc;
	if (b->item_of)
		return add_segments(b, block, NULL);
	return add_piece(b, 0, block->begin, block->count);
}

/* The blocks of a lane that this call has nothing for. */
static int add_closed(struct builder *b, uint32_t lane, struct layout_run run)
{
	for (uint32_t i = run.first; i < run.first + run.count; i++) {
		uint64_t elements;
		if (chosen(b, layout_block(b->layout, i), &elements) > 0)
			continue;
		int rc = add_run(b, lane, i, true, 0);
		if (rc < 0)
			return rc;
	}
	b->open = false;
	return 0;
}

static int add_lane(struct builder *b, uint32_t index, const struct route_lane *lane, bool push)
{
	struct layout_run run = lane->blocks;
	b->open = false;
	b->cap = ROUTE_GATHER_BYTES;
	if (b->cap > lane->message_bytes)
		b->cap = lane->message_bytes;
	if (b->cap > lane->window_bytes / 2)
		b->cap = lane->window_bytes / 2;
	if (push && b->item_of) {
		int rc = add_closed(b, index, run);
		if (rc < 0)
			return rc;
	}
	for (uint32_t i = run.first; i < run.first + run.count; i++) {
		if ((uint64_t)layout_block(b->layout, i)->count * sizeof(float) > lane->message_bytes)
			return OPTD_TOO_LARGE;
		int rc = add_block(b, index, i);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* A table from tensor to its place among the chosen ones. */
static int map_items(const struct layout *layout, const uint32_t *tensors, uint32_t count,
                     uint32_t **out)
{
	uint32_t total = layout_tensor_count(layout);
	for (uint32_t i = 0; i < count; i++)
		if (tensors[i] >= total || (i > 0 && tensors[i] <= tensors[i - 1]))
			return OPTD_INVALID;
	uint32_t *item_of = malloc(total * sizeof(*item_of));
	if (!item_of)
		return OPTD_NO_MEMORY;
	for (uint32_t i = 0; i < total; i++)
		item_of[i] = NO_ITEM;
	for (uint32_t i = 0; i < count; i++)
		item_of[tensors[i]] = i;
	*out = item_of;
	return 0;
}

int route_new(const struct layout *layout, const struct route_lane *lanes, uint32_t lane_count,
              const uint32_t *tensors, uint32_t tensor_count, bool push, struct route **out)
{
	uint32_t *item_of = NULL;
	struct builder b = {.layout = layout};
	int rc = tensors ? map_items(layout, tensors, tensor_count, &item_of) : 0;
	if (rc < 0)
		return rc;
	b.item_of = item_of;
	b.route = calloc(1, sizeof(*b.route));
	if (!b.route)
		rc = OPTD_NO_MEMORY;
	for (uint32_t i = 0; rc == 0 && i < lane_count; i++)
		rc = add_lane(&b, i, &lanes[i], push);
	for (uint32_t i = 0; rc == 0 && i < b.route->part_count; i++)
		if (b.mask_at[i] != NO_ITEM)
			b.route->parts[i].mask = b.route->masks + b.mask_at[i];
	free(b.mask_at);
	free(item_of);
	if (rc < 0)
		route_free(b.route);
	else
		*out = b.route;
	return rc;
}

void route_free(struct route *route)
{
	if (!route)
		return;
	free(route->messages);
	free(route->parts);
	free(route->pieces);
	free(route->masks);
	free(route);
}

void route_gather(const struct route *route, const struct route_message *message,
                  const void *const *items, enum dtype type, void *payload)
{
	char *to = payload;
	for (uint32_t i = 0; i < message->piece_count; i++) {
		const struct route_piece *p = &route->pieces[message->first_piece + i];
		size_t bytes = (size_t)p->count * dtype_bytes(type);
		memcpy(to, dtype_at(items[p->item], type, p->offset), bytes);
		to += bytes;
	}
}

void route_scatter(const struct route *route, const struct route_message *message,
                   const float *payload, float *const *items)
{
	for (uint32_t i = 0; i < message->piece_count; i++) {
		const struct route_piece *p = &route->pieces[message->first_piece + i];
		memcpy(items[p->item] + p->offset, payload, p->count * sizeof(float));
		payload += p->count;
	}
}
