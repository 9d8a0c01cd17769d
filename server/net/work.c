/*
 * Updates of whole tensors in the turns of a lane's loop: each has LIMIT_WORK_MS of them,
 * and between two turns the socket is read and others are answered.
 */
#include "server/net/lane_parts.h"

static bool has_time(uint64_t began)
{
	return uv_hrtime() - began < LIMIT_WORK_MS * UINT64_C(1000000);
}

static void work_turn(uv_idle_t *idle)
{
	struct lane *lane = idle->data;
	uint64_t began = uv_hrtime();
	enum engine_worked worked;
	bool finished = false, more;

	do {
		worked = engine_work(lane->engine, LIMIT_WORK_SLICE);
		if (worked == ENGINE_FINISHED)
			lane_send(lane, &lane->out);
		finished |= worked == ENGINE_FINISHED;
		/* Who has waited for a tensor gets it before it is updated again. */
		more = worked == ENGINE_WORKED ||
		       (worked == ENGINE_FINISHED && !engine_has_kept(lane->engine));
	} while (more && has_time(began));
	if (!engine_has_work(lane->engine))
		uv_idle_stop(&lane->work_idle);
	if (finished && lane->cutting)
		cut_turn(lane);
}

void work_soon(struct lane *lane)
{
	/* Again and again is fine: it is one handle. */
	if (engine_has_work(lane->engine))
		uv_idle_start(&lane->work_idle, work_turn);
}
