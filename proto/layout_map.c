/* Who owns which blocks, and the number both sides check it by. */
#include "proto/layout.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The block that an element is in. */
static uint32_t block_of(const struct layout *layout, uint64_t element)
{
	uint32_t low = 0, high = layout_block_count(layout);

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (layout_block(layout, middle)->begin <= element)
			low = middle;
		else
			high = middle;
	}
	return low;
}

struct layout_run layout_unit(const struct layout *layout, uint32_t block)
{
	const struct layout_block *b = layout_block(layout, block);
	uint32_t number = layout_segment(layout, b->first_segment)->tensor;
	const struct layout_tensor *tensor = layout_tensor(layout, number);

	if (!layout_whole(layout, number))
		return (struct layout_run){block, 1};
	uint32_t first = block_of(layout, tensor->offset);
	return (struct layout_run){first, block_of(layout, tensor->offset + tensor->count - 1) - first + 1};
}

static uint64_t begin_of(const struct layout *layout, uint32_t block)
{
	return block < layout_block_count(layout) ? layout_block(layout, block)->begin :
	                                            layout_elements(layout);
}

/* The border nearest to an element, the lower of two. */
static uint32_t nearest_border(const struct layout *layout, uint64_t at)
{
	struct layout_run unit = layout_unit(layout, block_of(layout, at));
	uint32_t end = unit.first + unit.count;

	return at - begin_of(layout, unit.first) <= begin_of(layout, end) - at ? unit.first : end;
}

/* Where the share of owner `index` begins: nearest to its part of the elements, but behind
 * something of the one before, while there is anything left. */
static uint32_t border_of(const struct layout *layout, struct layout_run all, uint32_t index,
                          uint32_t count)
{
	uint64_t begin = begin_of(layout, all.first), elements = layout_run_elements(layout, all);
	uint32_t border = all.first, end = all.first + all.count;

	if (index == count)
		return end;
	for (uint32_t i = 1; i <= index && border < end; i++) {
		struct layout_run next = layout_unit(layout, border);
		/* At most 2^42 elements and 2^8 owners. */
		uint32_t nearest = nearest_border(layout, begin + elements * i / count);
		border = nearest > border ? nearest : next.first + next.count;
	}
	return border;
}

struct layout_run layout_share(const struct layout *layout, struct layout_run all, uint32_t index,
                               uint32_t count)
{
	assert(index < count);
	if (layout_has_whole(layout)) {
		uint32_t first = border_of(layout, all, index, count);
		return (struct layout_run){first, border_of(layout, all, index + 1, count) - first};
	}
	uint32_t each = all.count / count;
	uint32_t rest = all.count % count; /* the first `rest` owners take one more */
	uint32_t before = index * each + (index < rest ? index : rest);

	return (struct layout_run){all.first + before, each + (index < rest)};
}

struct layout_run layout_owned(const struct layout *layout, uint32_t daemon, uint32_t daemons,
                               uint32_t lane, uint32_t lanes)
{
	struct layout_run all = {0, layout_block_count(layout)};

	return layout_share(layout, layout_share(layout, all, daemon, daemons), lane, lanes);
}

uint64_t layout_run_elements(const struct layout *layout, struct layout_run run)
{
	if (run.count == 0)
		return 0;
	const struct layout_block *last = layout_block(layout, run.first + run.count - 1);
	return last->begin + last->count - layout_block(layout, run.first)->begin;
}

uint32_t layout_run_segments(const struct layout *layout, struct layout_run run)
{
	if (run.count == 0)
		return 0;
	const struct layout_block *last = layout_block(layout, run.first + run.count - 1);
	return last->first_segment + last->segment_count - layout_block(layout, run.first)->first_segment;
}

uint64_t layout_id(const struct layout *layout, uint32_t daemon, uint32_t daemons, uint32_t lanes)
{
	uint64_t parts[] = {layout_cut_id(layout), daemon, daemons, lanes, LIMIT_BLOCK_ELEMENTS,
	                    LIMIT_BLOCK_SEGMENTS};
	uint64_t id = XXH3_64bits(parts, sizeof(parts));

	return id ? id : 1;
}
