/* Skipped steps, in the log: the core counts, and each lane sees the same steps skipped, so
 * that the first one tells for the daemon. */
#include <string.h>

#include "server/core/shard.h"
#include "server/net/lane_parts.h"

/* Rank and tensor are left out where none is known: a sum that is not finite is nobody's. */
static void log_skipped(const struct lane *lane, const struct model *model, uint64_t steps)
{
	const struct skips *skips = &model->skips;
	struct log_field fields[7] = {log_str("event", "skipped"), log_str("model", model->name),
	                              log_u64("step", skips->version - 1)};
	uint32_t count = 3;

	if (skips->rank != MSG_SKIPPED_SUM - 1)
		fields[count++] = log_u64("rank", skips->rank);
	if (skips->tensor_plus_one > 0)
		fields[count++] = log_str("tensor", layout_tensor(model->layout, skips->tensor_plus_one - 1)->name);
	fields[count++] = log_u64("steps", steps);
	fields[count] = log_end();
	log_write(lane->options.log, LOG_WARN, fields);
}

void skipped_log(struct lane *lane, uint64_t now_ms)
{
	uint32_t count = lane->options.index == 0 ? engine_shard_count(lane->engine) : 0;
	uint64_t left_out;

	for (uint32_t i = 0; i < count; i++) {
		struct shard *shard = engine_shard(lane->engine, i);
		const struct model *model = shard->model;
		uint64_t steps = model->skips.count - shard->skips_told;
		if (steps == 0 || !log_limit(&lane->skipped_limit, model->name, strlen(model->name), now_ms, &left_out))
			continue;
		log_skipped(lane, model, steps);
		shard->skips_told = model->skips.count;
	}
}
