/*
 * Fuzzing layouts: the payload of an OPEN, and the cut of what was read.
 *
 * Input: the payload.  Seeds: corpus/layout, each a stream of Tensor records.
 *
 * What is accepted must cover its vector with blocks and segments exactly once,
 * and come through encoding and decoding again unchanged.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/layout.h"
#include "proto/status.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the cut: what a fuzzer's process may take. */
#define MOST_ELEMENTS (UINT64_C(1) << 28)

static void must(bool true_one)
{
	if (!true_one)
		abort();
}

static void check_names(const struct layout *layout)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		const struct layout_tensor *tensor = layout_tensor(layout, i);
		must(layout_find(layout, tensor->name) == i);
		must(tensor->offset == at);
		at += tensor->count;
	}
	must(at == layout_elements(layout) && at <= LIMIT_ELEMENTS);
	if (layout_tensor_count(layout) > 0) {
		const char *name = layout_tensor(layout, 0)->name;
		must(strcmp(layout_nearest(layout, name), name) == 0);
	}
}

static void check_block(const struct layout *layout, const struct layout_block *block)
{
	uint32_t at = 0;

	must(block->count > 0 && block->count <= LIMIT_BLOCK_ELEMENTS);
	must(block->segment_count > 0 && block->segment_count <= LIMIT_BLOCK_SEGMENTS);
	for (uint32_t i = 0; i < block->segment_count; i++) {
		const struct layout_segment *segment = layout_segment(layout, block->first_segment + i);
		const struct layout_tensor *tensor = layout_tensor(layout, segment->tensor);
		uint64_t begin = block->begin + segment->offset;
		must(segment->offset == at && segment->count > 0);
		must(begin >= tensor->offset && begin + segment->count <= tensor->offset + tensor->count);
		at += segment->count;
	}
	must(at == block->count);
}

/* Runs follow one another, the first is never empty, and none has part of a whole tensor. */
static void check_shares(const struct layout *layout)
{
	uint32_t next = 0;

	for (uint32_t owner = 0; owner < 15; owner++) {
		struct layout_run run = layout_owned(layout, owner / 5, 3, owner % 5, 5);
		must(run.first == next && (owner > 0 || run.count > 0));
		next += run.count;
		must(run.count == 0 || layout_unit(layout, run.first).first == run.first);
	}
	must(next == layout_block_count(layout));
}

static void check_cut(const struct layout *layout)
{
	uint64_t at = 0;
	uint32_t segments = 0;

	for (uint32_t i = 0; i < layout_block_count(layout); i++) {
		const struct layout_block *block = layout_block(layout, i);
		must(block->begin == at && block->first_segment == segments);
		check_block(layout, block);
		at += block->count;
		segments += block->segment_count;
	}
	must(at == layout_elements(layout) && segments == layout_segment_count(layout));
	check_shares(layout);
}

static struct layout *encode_again(struct wire_arena *arena, const struct layout *layout)
{
	struct layout *again = NULL;
	char why[256];
	size_t size = wire_layout_bytes(layout);
	uint8_t *bytes = malloc(size ? size : 1);

	must(bytes != NULL);
	wire_layout_encode(layout, bytes);
	must(wire_layout_decode(arena, bytes, size, &again, why, sizeof(why)) == 0);
	must(layout_compare(layout, again, why, sizeof(why)) == 0);
	free(bytes);
	return again;
}

/* Which tensors are to be whole: some, decided by their names. */
static uint8_t *choose_whole(const struct layout *layout)
{
	uint32_t count = layout_tensor_count(layout);
	uint8_t *whole = malloc(count ? count : 1);

	must(whole != NULL);
	for (uint32_t i = 0; i < count; i++)
		whole[i] = (uint8_t)(layout_tensor(layout, i)->name[0] & 1);
	return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct wire_arena *arena;
	struct layout *layout = NULL;
	char why[256];

	if (!arena)
		arena = wire_arena_new();
	if (wire_layout_decode(arena, data, size, &layout, why, sizeof(why)) < 0) {
		must(layout == NULL && why[0] != '\0');
		return 0;
	}
	check_names(layout);
	struct layout *again = encode_again(arena, layout);
	if (layout_elements(layout) == 0) {
		must(layout_cut(layout, NULL) == OPTD_INVALID);
	} else if (layout_elements(layout) <= MOST_ELEMENTS) {
		uint8_t *whole = choose_whole(layout);
		must(layout_cut(layout, whole) == 0 && layout_cut(again, whole) == 0);
		must(layout_hash(layout) == layout_hash(again));
		must(layout_id(layout, 0, 1, 1) != 0);
		check_cut(layout);
		free(whole);
	}
	layout_free(layout);
	layout_free(again);
	return 0;
}
