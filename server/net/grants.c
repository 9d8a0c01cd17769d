/* Who holds which ranks, as bytes: looked up when that changes, not with each message. */
#include "server/net/lane_parts.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A rank's pushes and answers are in the models' formula, a window each or the weights
 * if those are less (shard_rank_bytes).  Nobody else's greed is to stop training: a
 * rank may leave the answers to a step unread, in buffers of up to twice their size.
 * In async a step's bytes return to the window when its answer has been read; in sync
 * they do earlier. */
static void add_rank(const struct lane *lane, const struct shard *shard, struct peer_grant *grant)
{
	uint64_t weights = (uint64_t)shard->model->owned.count * LIMIT_BLOCK_BYTES;
	uint64_t window = lane->options.window_bytes;
	bool sync = shard->model->settings.mode == MSG_SYNC;

	/* One window, whatever it is for. */
	grant->window = window;
	grant->counted += smaller(shard->model->elements * sizeof(float), window);
	/* In buffers of whole blocks. */
	grant->share += 2 * (sync ? weights : smaller(weights, window));
}

void grants_renew(struct lane *lane)
{
	struct peers *peers = &lane->peers;

	for (uint32_t i = 0; i < peers->room; i++)
		peers->all[i].grant = (struct peer_grant){0};
	for (uint32_t i = 0; i < engine_shard_count(lane->engine); i++) {
		const struct shard *shard = engine_shard(lane->engine, i);
		for (uint32_t rank = 0; rank < shard->holder_count; rank++) {
			const struct holder *holder = &shard->holders[rank];
			if (holder->held && holder->peer < peers->room && peers->all[holder->peer].used)
				add_rank(lane, shard, &peers->all[holder->peer].grant);
		}
	}
}
