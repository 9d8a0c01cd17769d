/*
 * Layout: tensors, the index of their names, blocks, segments.
 *
 * Tensors are appended to one array; their names live in chunks that never
 * move, so a name's pointer stays good.  Names are found through an open
 * hash table of tensor numbers.  Cutting walks the vector twice with the same
 * code: once to count, once to write, so the tables have exactly their size.
 */
#include "proto/layout.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/status.h"
#include "proto/utf8.h"

_Static_assert((LIMIT_BLOCK_ELEMENTS & (LIMIT_BLOCK_ELEMENTS - 1)) == 0, "a power of two");
/* Even a tensor each, cut once more by each border, cannot overflow a table's number. */
_Static_assert(LIMIT_ELEMENTS / LIMIT_BLOCK_ELEMENTS + 2 * (uint64_t)LIMIT_TENSORS < UINT32_MAX / 2,
               "blocks and segments are numbered by 32 bits");

#define NAME_CHUNK_BYTES (64u * 1024u)

struct name_chunk {
	struct name_chunk *next;
	size_t used;
	char bytes[NAME_CHUNK_BYTES];
};

/* A slot of the index: part of the hash, so that a miss rarely has to look at
 * a name, and the tensor's number + 1; 0 is an empty slot. */
struct name_slot {
	uint32_t tag;
	uint32_t number;
};

struct layout {
	struct layout_tensor *tensors;
	uint32_t tensor_count, tensor_room;
	struct name_chunk *names;
	struct name_slot *slots;
	uint32_t slot_count; /* a power of two, at least twice the tensors */
	uint64_t elements;
	struct layout_block *blocks;
	struct layout_segment *segments;
	uint32_t block_count, segment_count;
	uint8_t *whole; /* [tensor_count] as cut; NULL: none is */
	uint64_t hash, id; /* see layout_cut_id */
	bool cut;
};

struct layout *layout_new(void)
{
	return calloc(1, sizeof(struct layout));
}

void layout_free(struct layout *layout)
{
	if (!layout)
		return;
	while (layout->names) {
		struct name_chunk *next = layout->names->next;
		free(layout->names);
		layout->names = next;
	}
	free(layout->tensors);
	free(layout->slots);
	free(layout->blocks);
	free(layout->segments);
	free(layout->whole);
	free(layout);
}

/* The slot that holds this name, or the empty one where it belongs. */
static struct name_slot *slot_find(const struct layout *layout, const char *name, size_t bytes,
                                   uint64_t hash)
{
	uint32_t mask = layout->slot_count - 1;

	for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
		struct name_slot *slot = &layout->slots[i];
		if (slot->number == 0)
			return slot;
		if (slot->tag != (uint32_t)(hash >> 32))
			continue;
		const char *other = layout->tensors[slot->number - 1].name;
		if (strncmp(other, name, bytes) == 0 && other[bytes] == '\0')
			return slot;
	}
}

static int slots_grow(struct layout *layout)
{
	uint32_t count = layout->slot_count ? layout->slot_count * 2 : 64;
	struct name_slot *old = layout->slots;

	struct name_slot *slots = calloc(count, sizeof(*slots));
	if (!slots)
		return OPTD_NO_MEMORY;
	layout->slots = slots;
	layout->slot_count = count;
	for (uint32_t i = 0; i < layout->tensor_count; i++) {
		const char *name = layout->tensors[i].name;
		size_t bytes = strlen(name);
		uint64_t hash = XXH3_64bits(name, bytes);
		*slot_find(layout, name, bytes, hash) = (struct name_slot){(uint32_t)(hash >> 32), i + 1};
	}
	free(old);
	return 0;
}

/* Room for one more tensor and its name. */
static int layout_reserve(struct layout *layout, size_t name_bytes)
{
	if (layout->tensor_count == layout->tensor_room) {
		uint32_t room = layout->tensor_room ? layout->tensor_room * 2 : 16;
		struct layout_tensor *tensors = realloc(layout->tensors, room * sizeof(*tensors));
		if (!tensors)
			return OPTD_NO_MEMORY;
		layout->tensors = tensors;
		layout->tensor_room = room;
	}
	if (!layout->names || NAME_CHUNK_BYTES - layout->names->used < name_bytes + 1) {
		struct name_chunk *chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return OPTD_NO_MEMORY;
		chunk->next = layout->names;
		chunk->used = 0;
		layout->names = chunk;
	}
	if (layout->slot_count / 2 <= layout->tensor_count)
		return slots_grow(layout);
	return 0;
}

/* The product of the dimensions; OPTD_TOO_LARGE beyond LIMIT_ELEMENTS, also for
 * a single dimension of a tensor that has none. */
static int shape_count(const uint64_t *shape, uint32_t rank, uint64_t *out)
{
	uint64_t count = 1;

	for (uint32_t i = 0; i < rank; i++) {
		if (shape[i] > LIMIT_ELEMENTS)
			return OPTD_TOO_LARGE;
		/* both factors are at most 2^42, so divide rather than overflow */
		if (shape[i] && count > LIMIT_ELEMENTS / shape[i])
			return OPTD_TOO_LARGE;
		count *= shape[i];
	}
	*out = count;
	return 0;
}

int layout_add(struct layout *layout, const char *name, size_t name_bytes,
               const uint64_t *shape, uint32_t rank, uint32_t group)
{
	uint64_t count;
	int rc;

	assert(!layout->cut);
	if (name_bytes == 0 || rank > LIMIT_TENSOR_RANK || !utf8_valid(name, name_bytes))
		return OPTD_INVALID;
	if (name_bytes > LIMIT_NAME_BYTES || layout->tensor_count == LIMIT_TENSORS)
		return OPTD_TOO_LARGE;
	rc = shape_count(shape, rank, &count);
	if (rc < 0)
		return rc;
	if (count > LIMIT_ELEMENTS - layout->elements)
		return OPTD_TOO_LARGE;
	rc = layout_reserve(layout, name_bytes);
	if (rc < 0)
		return rc;

	uint64_t hash = XXH3_64bits(name, name_bytes);
	struct name_slot *slot = slot_find(layout, name, name_bytes, hash);
	if (slot->number)
		return OPTD_INVALID;

	char *copy = layout->names->bytes + layout->names->used;
	memcpy(copy, name, name_bytes);
	copy[name_bytes] = '\0';
	layout->names->used += name_bytes + 1;

	struct layout_tensor *tensor = &layout->tensors[layout->tensor_count++];
	*tensor = (struct layout_tensor){
	        .name = copy, .offset = layout->elements, .count = count, .group = group, .rank = rank};
	if (rank)
		memcpy(tensor->shape, shape, rank * sizeof(*shape));
	*slot = (struct name_slot){(uint32_t)(hash >> 32), layout->tensor_count};
	layout->elements += count;
	return 0;
}

/* The cut under way; the tables are NULL while counting, and of a digest. */
struct cutter {
	struct layout_block *blocks;
	struct layout_segment *segments;
	XXH3_state_t *digest; /* of the blocks, or NULL */
	uint32_t block_count, segment_count;
	struct layout_block open; /* the block being filled */
};

static void cutter_close(struct cutter *cutter)
{
	uint64_t next = cutter->open.begin + cutter->open.count;

	if (cutter->open.count == 0)
		return;
	if (cutter->digest) {
		uint32_t numbers[2] = {cutter->open.count, cutter->open.segment_count};
		XXH3_64bits_update(cutter->digest, numbers, sizeof(numbers));
	}
	if (cutter->blocks)
		cutter->blocks[cutter->block_count] = cutter->open;
	cutter->block_count++;
	cutter->open = (struct layout_block){.begin = next, .first_segment = cutter->segment_count};
}

/* Puts one tensor into the open block and as many new ones as it takes. */
static void cutter_tensor(struct cutter *cutter, uint32_t number, uint64_t count)
{
	struct layout_block *open = &cutter->open;

	while (count > 0) {
		if (open->count == LIMIT_BLOCK_ELEMENTS || open->segment_count == LIMIT_BLOCK_SEGMENTS)
			cutter_close(cutter);
		uint32_t take = LIMIT_BLOCK_ELEMENTS - open->count;
		if (take > count)
			take = (uint32_t)count;
		if (cutter->segments)
			cutter->segments[cutter->segment_count] = (struct layout_segment){
			        .tensor = number, .offset = open->count, .count = take};
		cutter->segment_count++;
		open->segment_count++;
		open->count += take;
		count -= take;
	}
}

static void cutter_walk(struct cutter *cutter, const struct layout *layout, const uint8_t *whole)
{
	cutter->block_count = cutter->segment_count = 0;
	cutter->open = (struct layout_block){0};
	for (uint32_t i = 0; i < layout->tensor_count; i++) {
		bool alone = whole && whole[i] && layout->tensors[i].count > 0;
		if (alone)
			cutter_close(cutter);
		cutter_tensor(cutter, i, layout->tensors[i].count);
		if (alone)
			cutter_close(cutter);
	}
	cutter_close(cutter);
}

/* Of the tensors, the blocks that they are cut into, and which are whole. */
static uint64_t layout_digest(const struct layout *layout, const uint8_t *whole)
{
	XXH3_state_t state;
	struct cutter cutter = {.digest = &state};

	XXH3_64bits_reset(&state);
	for (uint32_t i = 0; i < layout->tensor_count; i++) {
		const struct layout_tensor *tensor = &layout->tensors[i];
		uint32_t numbers[2] = {tensor->group, tensor->rank};
		/* with its NUL, so that names cannot run into one another */
		XXH3_64bits_update(&state, tensor->name, strlen(tensor->name) + 1);
		XXH3_64bits_update(&state, numbers, sizeof(numbers));
		XXH3_64bits_update(&state, tensor->shape, tensor->rank * sizeof(tensor->shape[0]));
	}
	cutter_walk(&cutter, layout, whole);
	/* Blocks may be the same, and have other owners. */
	if (whole)
		XXH3_64bits_update(&state, whole, layout->tensor_count);
	uint64_t hash = XXH3_64bits_digest(&state);
	return hash ? hash : 1;
}

/* No tensor comes after the cut: the room for more, up to half of it, goes back. */
static void layout_trim(struct layout *layout)
{
	struct layout_tensor *tensors =
	        realloc(layout->tensors, layout->tensor_count * sizeof(*tensors));

	if (!tensors)
		return;
	layout->tensors = tensors;
	layout->tensor_room = layout->tensor_count;
}

/* Keeps which tensors are whole; *out stays NULL where none is. */
static int keep_whole(const struct layout *layout, const uint8_t *whole, uint8_t **out)
{
	uint32_t count = 0;

	for (uint32_t i = 0; whole && i < layout->tensor_count; i++)
		count += whole[i] && layout->tensors[i].count > 0;
	if (count == 0)
		return 0;
	*out = malloc(layout->tensor_count);
	if (!*out)
		return OPTD_NO_MEMORY;
	for (uint32_t i = 0; i < layout->tensor_count; i++)
		(*out)[i] = whole[i] && layout->tensors[i].count > 0 ? 1 : 0;
	return 0;
}

int layout_cut(struct layout *layout, const uint8_t *whole)
{
	struct cutter cutter = {0};
	uint8_t *kept = NULL;

	assert(!layout->cut);
	if (layout->elements == 0)
		return OPTD_INVALID;
	if (keep_whole(layout, whole, &kept) < 0)
		return OPTD_NO_MEMORY;
	cutter_walk(&cutter, layout, kept);
	cutter.blocks = malloc(cutter.block_count * sizeof(*cutter.blocks));
	cutter.segments = malloc(cutter.segment_count * sizeof(*cutter.segments));
	if (!cutter.blocks || !cutter.segments) {
		free(cutter.blocks);
		free(cutter.segments);
		free(kept);
		return OPTD_NO_MEMORY;
	}
	cutter_walk(&cutter, layout, kept);
	layout_trim(layout);
	layout->blocks = cutter.blocks;
	layout->segments = cutter.segments;
	layout->block_count = cutter.block_count;
	layout->segment_count = cutter.segment_count;
	layout->whole = kept;
	layout->hash = layout_digest(layout, NULL);
	layout->id = kept ? layout_digest(layout, kept) : layout->hash;
	layout->cut = true;
	return 0;
}

uint64_t layout_bytes(const struct layout *layout)
{
	uint64_t bytes = sizeof(*layout);

	for (const struct name_chunk *chunk = layout->names; chunk; chunk = chunk->next)
		bytes += sizeof(*chunk);
	bytes += layout->tensor_room * (uint64_t)sizeof(*layout->tensors);
	bytes += layout->slot_count * (uint64_t)sizeof(*layout->slots);
	bytes += layout->block_count * (uint64_t)sizeof(*layout->blocks);
	bytes += layout->whole ? layout->tensor_count : 0;
	return bytes + layout->segment_count * (uint64_t)sizeof(*layout->segments);
}

uint32_t layout_tensor_count(const struct layout *layout)
{
	return layout->tensor_count;
}

const struct layout_tensor *layout_tensor(const struct layout *layout, uint32_t index)
{
	assert(index < layout->tensor_count);
	return &layout->tensors[index];
}

int64_t layout_find(const struct layout *layout, const char *name)
{
	size_t bytes = strlen(name);

	if (layout->slot_count == 0)
		return -1;
	return (int64_t)slot_find(layout, name, bytes, XXH3_64bits(name, bytes))->number - 1;
}

uint64_t layout_elements(const struct layout *layout)
{
	return layout->elements;
}

uint32_t layout_block_count(const struct layout *layout)
{
	return layout->block_count;
}

const struct layout_block *layout_block(const struct layout *layout, uint32_t index)
{
	assert(index < layout->block_count);
	return &layout->blocks[index];
}

uint32_t layout_segment_count(const struct layout *layout)
{
	return layout->segment_count;
}

const struct layout_segment *layout_segment(const struct layout *layout, uint32_t index)
{
	assert(index < layout->segment_count);
	return &layout->segments[index];
}

uint64_t layout_hash(const struct layout *layout)
{
	return layout->cut ? layout->hash : layout_digest(layout, NULL);
}

uint64_t layout_cut_id(const struct layout *layout)
{
	assert(layout->cut);
	return layout->id;
}

bool layout_whole(const struct layout *layout, uint32_t tensor)
{
	assert(tensor < layout->tensor_count);
	return layout->whole && layout->whole[tensor];
}

bool layout_has_whole(const struct layout *layout)
{
	return layout->whole != NULL;
}
