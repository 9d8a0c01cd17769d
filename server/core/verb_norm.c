/*
 * NORM: a client asks for this daemon's parts of a step's norm, or tells those of others.
 *
 * To the lane that decides, the daemon's first.  Told twice changes nothing, and what is
 * about a step that is decided is passed over.
 */
#include <inttypes.h>
#include <string.h>

#include "server/core/norms.h"
#include "server/core/verbs.h"

static bool has_norms(struct call *call)
{
	const struct lead *lead = call->shard->lead;

	if (lead != NULL && lead->norms != NULL && lead->norms->told != NULL)
		return true;
	call_refuse(call, OPTD_INVALID,
	            "model '%s' has no norm to tell of on this lane: it takes clip_norm or clip_tensor_norm, "
	            "several servers, and a server's first lane",
	            call->shard->model->name);
	return false;
}

static bool due(struct call *call, const struct norms *norms)
{
	if (call->request->step <= norms->step)
		return true;
	call_refuse(call, OPTD_STEP_GAP, "NORM of step %" PRIu64 ": model '%s' is at step %" PRIu64 " here",
	            call->request->step, call->shard->model->name, norms->step);
	return false;
}

/* Blocks of this daemon only, or of others only; the number of their segments, or 0. */
static uint32_t segments(struct call *call, const struct norms *norms, bool own)
{
	const struct msg_part *part = &call->request->parts[0];
	uint64_t end = (uint64_t)part->first + part->count, own_end = norms->own.first + norms->own.count;
	bool within = part->first >= norms->own.first && end <= own_end;
	bool apart = end <= norms->own.first || part->first >= own_end;

	if (call->request->part_count == 1 && end <= layout_block_count(norms->layout) && (own ? within : apart))
		return layout_run_segments(norms->layout, (struct layout_run){part->first, part->count});
	call_refuse(call, OPTD_INVALID,
	            "NORM of %u parts, the first of block %u to %" PRIu64 ": model '%s' has %u blocks, of which %u "
	            "to %u are this server's; ask for blocks of these, or tell others, in one part",
	            call->request->part_count, part->first, end - 1, call->shard->model->name,
	            layout_block_count(norms->layout), norms->own.first, (unsigned)own_end - 1);
	return 0;
}

/* ---- asking ------------------------------------------------------------- */

/* One that was asked again, over another connection perhaps, waits no longer. */
static void wait_for(struct call *call, struct norms *norms)
{
	const struct msg *request = call->request;
	struct norm_ask *ask = &norms->asks[request->rank];

	if (ask->waits && (ask->peer != call->peer || ask->request != request->request)) {
		struct outbox_entry *entry = norms_reply(call->engine, call->shard, (uint32_t)request->rank,
		                                         OPTD_CANCELLED, call->out);
		entry->head.text = outbox_printf(call->out, "NORM was asked again, under number %" PRIu64,
		                                 request->request);
	}
	norms->waiting += !ask->waits;
	*ask = (struct norm_ask){true, call->peer, request->session, request->request, request->step,
	                         request->parts[0]};
}

/* Of the step, or instead of it of the last one that is known here. */
static void give(struct call *call, const struct norms *norms, uint64_t step)
{
	const struct msg *request = call->request;
	struct buf *payload = norms_copy(norms, step, request->parts[0], call->engine->pool);

	if (payload == NULL) {
		call_refuse(call, OPTD_NO_MEMORY, "no memory for an answer: ask again");
		return;
	}
	struct outbox_entry *entry = call_reply(call, OPTD_OK);
	entry->head.guessed = !norms_has(norms, request->step);
	entry->head.part_count = 1;
	entry->head.parts[0] = request->parts[0];
	entry->head.payload_bytes = payload->bytes;
	entry->payload = payload;
}

static void ask(struct call *call, struct norms *norms)
{
	const struct msg *request = call->request;
	uint32_t count = segments(call, norms, true);

	if (count == 0)
		return;
	if (count > LIMIT_NORM_SEGMENTS) {
		call_refuse(call, OPTD_TOO_LARGE, "the blocks asked for have %u parts of a norm, an answer has %u",
		            count, LIMIT_NORM_SEGMENTS);
		return;
	}
	if (norms_has(norms, request->step))
		give(call, norms, request->step);
	else if (request->step == norms->step)
		wait_for(call, norms);
	else
		give(call, norms, norms->step - 1);
}

/* ---- telling ------------------------------------------------------------ */

static void tell(struct call *call, struct norms *norms)
{
	const struct msg *request = call->request;
	const struct msg_part *part = &request->parts[0];
	uint32_t count = segments(call, norms, false);

	if (count == 0)
		return;
	if (request->payload_bytes != count * sizeof(double)) {
		call_refuse(call, OPTD_INVALID, "model '%s': the blocks named have %u parts of a norm, %" PRIu64 " came",
		            call->shard->model->name, count, request->payload_bytes / sizeof(double));
		return;
	}
	call_reply(call, OPTD_OK);
	if (request->step < norms->step)
		return;
	norms_tell(norms, (uint32_t)request->rank, *part, request->payload, request->guessed);
	lead_go_on(call->engine, call->shard, call->out);
}

void verb_norm(struct call *call)
{
	if (!has_norms(call) || !call_rank_holds(call))
		return;
	struct norms *norms = call->shard->lead->norms;
	if (!due(call, norms))
		return;
	if (call->request->payload_bytes > 0)
		tell(call, norms);
	else
		ask(call, norms);
}
