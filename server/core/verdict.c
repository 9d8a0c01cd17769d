/*
 * Verdicts: what the server does about a gradient that is not finite.
 *
 * skip_step: the worker says so itself, of every message of its step, since it has looked
 * through all of it before the first one goes out.  So each block of the step hears the same
 * verdict, on every lane, and is skipped alike, and nobody has to be asked.  NaN in a push that
 * does not say so is refused, as under `reject`: other blocks of it may be applied already.
 *
 * reject: a marked message is refused too, and what it says is passed on (server/core/reject.h).
 */
#include <string.h>

#include "server/core/verbs.h"

static enum msg_nonfinite policy_of(const struct call *call)
{
	return call->shard->model->settings.nonfinite;
}

bool verdict_allows(struct call *call)
{
	const struct msg *request = call->request;
	const struct model *model = call->shard->model;
	uint32_t tensors = layout_tensor_count(model->layout);

	if (request->verdict != MSG_POISONED)
		return true;
	if (request->poison_tensor_plus_one > tensors) {
		call_refuse(call, OPTD_INVALID, "model '%s': a push names tensor %u as not finite, the model has %u",
		            model->name, request->poison_tensor_plus_one - 1, tensors);
		return false;
	}
	if (policy_of(call) == MSG_SKIP_STEP)
		return true;
	if (reject_note(call))
		call_refuse(call, OPTD_NOT_FINITE,
		            "model '%s': step %llu of rank %d is marked as not finite, which is for models with "
		            "nonfinite skip_step; this one has %s", model->name, (unsigned long long)request->step,
		            request->rank, msg_nonfinite_name(policy_of(call)));
	return false;
}

bool verdict_holds(struct call *call)
{
	return policy_of(call) == MSG_ZERO || call->request->verdict == MSG_POISONED || call_finite(call);
}

/* Elements that a contribution has for its block. */
static uint64_t elements_of(const struct call *call, const struct gate_push *push)
{
	const struct msg_part part = {push->block, 1, push->mask, push->mask_bytes};
	char why[8];

	return shard_part_elements(call->shard, &part, why, sizeof(why));
}

/* Elements that are looked at one by one behind one that is not finite: where all are not,
 * each costs a call, and not a look at those behind it. */
#define PIECE 1024u

static uint64_t zero_piece(enum optim_isa isa, char *values, enum dtype type, uint64_t count)
{
	uint32_t size = dtype_bytes(type);
	uint64_t zeroed = 0;

	for (uint64_t i = 0; i < count; i++, values += size) {
		if (optim_finite(isa, values, type, 1) == 1)
			continue;
		memset(values, 0, size);
		zeroed++;
	}
	return zeroed;
}

uint64_t verdict_zero(const struct call *call, const struct gate_push *push)
{
	enum optim_isa isa = call->engine->options.isa;
	uint32_t size = dtype_bytes(push->type);
	/* The payload is this message's alone, until it is folded. */
	char *values = (char *)(uintptr_t)push->values;
	uint64_t zeroed = 0, at = 0;

	if (policy_of(call) != MSG_ZERO || values == NULL)
		return 0;
	uint64_t count = elements_of(call, push);
	for (;;) {
		at += optim_finite(isa, values + at * size, push->type, count - at);
		if (at == count)
			return zeroed;
		uint64_t piece = count - at < PIECE ? count - at : PIECE;
		zeroed += zero_piece(isa, values + at * size, push->type, piece);
		at += piece;
	}
}

void verdict_tell(const struct shard *shard, const struct wait *wait, struct msg *head)
{
	const struct model *model = shard->model;
	const struct skips *skips = &model->skips;

	if (wait->verb == MSG_PULL)
		return;
	head->zeroed = wait->zeroed;
	head->next_loss_scale = (double)model->scaler.scale;
	if (model->settings.mode != MSG_SYNC || skips->version != wait->step + 1)
		return;
	head->skipped_rank_plus_one = skips->rank + 1;
	head->skipped_tensor_plus_one = skips->tensor_plus_one;
}
