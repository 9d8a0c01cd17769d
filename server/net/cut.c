/* Writing a shard's blocks between requests. */
#include "server/net/lane_parts.h"

/* Blocks written in one turn: about a millisecond into the page cache. */
#define BLOCKS_PER_TURN 2

static void on_idle(uv_idle_t *idle)
{
	cut_turn(idle->data);
}

static void finish(struct lane *lane, int status)
{
	struct lane_cut cut = lane->cut;

	lane->cutting = false;
	uv_idle_stop(&lane->cut_idle);
	engine_cut_end(lane->engine, cut.shard);
	lane_send(lane, &lane->out);
	cut.done(cut.user, lane, status);
}

void cut_turn(struct lane *lane)
{
	struct shard *shard = lane->cut.shard;
	uint64_t now_ms = lane_now_ms();

	for (int i = 0; i < BLOCKS_PER_TURN; i++) {
		uint32_t block;
		enum engine_cut state = engine_cut_next(shard, &block);

		if (state == ENGINE_CUT_WAIT && now_ms - lane->cut_began_ms >= lane->cut.patience_ms) {
			/* Once and for all its blocks: a step that stands still has many. */
			engine_cut_force(shard);
			state = engine_cut_next(shard, &block);
		}
		if (state == ENGINE_CUT_WAIT) {
			/* The next message may complete a step; the timer looks as well. */
			uv_idle_stop(&lane->cut_idle);
			return;
		}
		if (state == ENGINE_CUT_DONE) {
			finish(lane, OPTD_OK);
			return;
		}
		int rc = lane->cut.put(lane->cut.user, shard, block);
		if (rc < 0) {
			finish(lane, rc);
			return;
		}
		engine_cut_saved(lane->engine, shard, block);
		lane_send(lane, &lane->out);
	}
	uv_idle_start(&lane->cut_idle, on_idle);
}

void lane_cut(struct lane *lane, const struct lane_cut *cut)
{
	lane->cut = *cut;
	lane->cutting = true;
	lane->cut_began_ms = lane_now_ms();
	cut_turn(lane);
}
