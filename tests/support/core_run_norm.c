/* Parts of norms between the daemons of a run: carried by one rank, in any order, and now and
 * then twice. */
#include <stdlib.h>
#include <string.h>

#include "tests/support/core_run.h"
#include "tests/support/core_world.h"

static struct layout_run blocks_of(const struct run *run, uint32_t daemon)
{
	return layout_owned(run->layout, daemon, run->daemons, 0, 1);
}

static bool is_needed(const struct run *run)
{
	const struct msg_clip *clip = &run->settings.clip;
	return run->daemons > 1 && (clip->norm > 0 || clip->tensor_norm > 0) &&
	       blocks_of(run, 0).count < layout_block_count(run->layout);
}

void run_norm_begin(struct run *run)
{
	run->norm = (struct run_norm){.rank = rng_below(&run->rng, run->settings.workers), .numbers = run->norm.numbers};
	run->norm.needed = is_needed(run);
	if (run->norm.needed && run->norm.numbers == NULL)
		run->norm.numbers = calloc(layout_segment_count(run->layout), sizeof(double));
}

static uint32_t segment_of(const struct run *run, uint32_t block)
{
	return block == layout_block_count(run->layout) ? layout_segment_count(run->layout)
	                                                : layout_block(run->layout, block)->first_segment;
}

void run_norm_take(struct run *run, const struct msg *head, const void *payload)
{
	const struct msg_part *part = &head->parts[0];

	assert_int_equal(head->status, OPTD_OK);
	if (head->part_count == 0)
		return; /* to what was told */
	uint32_t first = segment_of(run, part->first);
	assert_int_equal(head->payload_bytes, (segment_of(run, part->first + part->count) - first) * sizeof(double));
	memcpy(run->norm.numbers + first, payload, head->payload_bytes);
	for (uint32_t i = 0; i < run->daemons; i++)
		run->norm.came[i] |= blocks_of(run, i).first == part->first;
}

/* About these blocks; as tidings where there are numbers. */
static void send(struct run *run, uint32_t daemon, struct layout_run blocks, bool tells)
{
	uint32_t engine = daemon * run->lanes, rank = run->norm.rank, first = segment_of(run, blocks.first);
	const struct msg_opened *opened = &run->opened[engine][rank];
	struct layout *none = NULL;
	struct msg msg = {.verb = MSG_NORM,
	                  .request = 1000000 + daemon,
	                  .session = 100 + rank,
	                  .epoch = 3,
	                  .object = opened->model,
	                  .layout = opened->layout,
	                  .rank = (int32_t)rank,
	                  .incarnation = opened->incarnation,
	                  .step = run->steps,
	                  .part_count = 1,
	                  .parts = {{.first = blocks.first, .count = blocks.count}}};

	if (tells) {
		msg.payload = run->norm.numbers + first;
		msg.payload_bytes = (segment_of(run, blocks.first + blocks.count) - first) * sizeof(double);
	}
	engine_handle(run->engines[engine], rank, &PRINCIPAL_ANONYMOUS, &msg, NULL, &none, 0, &run->out);
	run_answers(run, engine);
}

static void tell(struct run *run, uint32_t daemon)
{
	struct layout_run own = blocks_of(run, daemon);
	uint32_t end = own.first + own.count, left = layout_block_count(run->layout) - end;

	if (own.first > 0)
		send(run, daemon, (struct layout_run){0, own.first}, true);
	if (left > 0)
		send(run, daemon, (struct layout_run){end, left}, true);
}

static bool all_came(const struct run *run)
{
	bool all = true;
	for (uint32_t i = 0; i < run->daemons; i++)
		all &= run->norm.came[i] || blocks_of(run, i).count == 0;
	return all;
}

bool run_norm_turn(struct run *run)
{
	struct run_norm *norm = &run->norm;
	uint32_t daemon = rng_below(&run->rng, run->daemons);
	bool done = true;

	if (!norm->needed)
		return false;
	if (blocks_of(run, daemon).count > 0 && (!norm->asked[daemon] || rng_one_in(&run->rng, 8))) {
		norm->asked[daemon] = true;
		send(run, daemon, blocks_of(run, daemon), false);
	} else if (blocks_of(run, daemon).count > 0 && all_came(run)) {
		norm->told[daemon] = true;
		tell(run, daemon);
	}
	for (uint32_t i = 0; i < run->daemons; i++)
		done &= norm->told[i] || blocks_of(run, i).count == 0;
	return !done;
}
