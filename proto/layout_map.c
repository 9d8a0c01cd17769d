/* Who owns which blocks, and the number both sides check it by. */
#include "proto/layout.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Rules that need a whole tensor on one owner will have to move these borders
 * to the tensor's; until there is one, shares are counted in blocks alone. */
struct layout_run layout_share(struct layout_run whole, uint32_t index, uint32_t count)
{
	assert(index < count);
	uint32_t each = whole.count / count;
	uint32_t rest = whole.count % count; /* the first `rest` owners take one more */
	uint32_t before = index * each + (index < rest ? index : rest);

	return (struct layout_run){whole.first + before, each + (index < rest)};
}

struct layout_run layout_owned(uint32_t block_count, uint32_t daemon, uint32_t daemons,
                               uint32_t lane, uint32_t lanes)
{
	struct layout_run all = {0, block_count};

	return layout_share(layout_share(all, daemon, daemons), lane, lanes);
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
	uint64_t parts[] = {layout_hash(layout), daemon, daemons, lanes, LIMIT_BLOCK_ELEMENTS,
	                    LIMIT_BLOCK_SEGMENTS};
	uint64_t id = XXH3_64bits(parts, sizeof(parts));

	return id ? id : 1;
}
