/*
 * INIT, PUSH, PUSH_PULL and CLOSE_STEP: what changes a model.
 *
 * A push is checked as a whole before any of it is taken in, so that a refusal
 * leaves nothing half-done.  What passes goes to the gate block by block; what
 * the gate lets through is committed at once.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "server/core/own.h"
#include "server/core/verbs.h"
#include "server/core/watch.h"

uint64_t call_elements(struct call *call)
{
	const struct msg *request = call->request;
	char why[256] = "the message names no blocks";
	uint64_t elements = 0;

	for (uint32_t i = 0; i < request->part_count; i++) {
		uint64_t n = shard_part_elements(call->shard, &request->parts[i], why, sizeof(why));
		if (n == 0) {
			elements = 0;
			break;
		}
		elements += n;
	}
	if (elements == 0)
		call_refuse(call, OPTD_INVALID, "%s", why);
	return elements;
}

bool call_payload_fits(struct call *call)
{
	uint64_t elements = call_elements(call);
	if (elements == 0)
		return false;
	uint64_t bytes = elements * dtype_bytes(call->request->dtype);
	if (bytes == call->request->payload_bytes)
		return true;
	call_refuse(call, OPTD_INVALID, "model '%s': the blocks named take %llu bytes, %llu came",
	            call->shard->model->name, (unsigned long long)bytes,
	            (unsigned long long)call->request->payload_bytes);
	return false;
}

/* ---- INIT --------------------------------------------------------------- */

/* The lead knows which tokens it gave, and to whom; other lanes learn them from
 * use.  A newer token than the one a lane was made ready under means that the lead
 * is not ready, so nobody trains, and that the lane begins again. */
static bool init_known(const struct call *call)
{
	const struct shard *shard = call->shard;
	const struct grant *grant = &shard->grant;
	uint64_t token = call->request->token;

	if (token == 0 || shard->model->restored)
		return false;
	if (shard->model->owned.first != 0)
		return token >= grant->token;
	return token == grant->token &&
	       (shard->ready || (grant->active && grant->peer == call->peer));
}

static bool init_allowed(struct call *call)
{
	if (init_known(call))
		return true;
	call_refuse(call, OPTD_NO_TOKEN,
	            call->shard->ready ? "model '%s' has weights: pull them"
	                               : "model '%s': another worker was chosen to give the first "
	                                 "weights: open again and wait for it",
	            call->shard->model->name);
	return false;
}

static void init_block(struct call *call, uint32_t block, const float *values)
{
	struct commit commit = {.kind = COMMIT_INIT, .block = block, .values = values};

	/* Versions begin again. */
	share_clear(&call->engine->share);
	shard_commit(call->engine, call->shard, &commit);
}

static bool init_done(struct call *call)
{
	struct shard *shard = call->shard;
	if (!model_ready(shard->model)) {
		call_refuse(call, OPTD_NOT_READY, "model '%s': %u of %u blocks have their first weights",
		            shard->model->name, shard->model->ready_count, shard->model->owned.count);
		return false;
	}
	shard->ready = true;
	shard->grant.active = false;
	shard_begin(call->engine, shard);
	return true;
}

/* Whether the lane has its first weights from this very token. */
static bool init_repeats(const struct call *call)
{
	return call->shard->ready && call->request->token == call->shard->grant.token;
}

/* Before any of it is taken in: whole blocks, none of which has been trained. */
static bool init_fits(struct call *call)
{
	const struct msg *request = call->request;
	const struct model *model = call->shard->model;

	if (!call_payload_fits(call) || !call_finite(call))
		return false;
	for (uint32_t i = 0; i < request->part_count; i++) {
		const struct msg_part *part = &request->parts[i];
		if (part->mask != NULL) {
			call_refuse(call, OPTD_INVALID, "INIT takes whole blocks, block %u has a mask",
			            part->first);
			return false;
		}
		for (uint32_t j = 0; j < part->count && !init_repeats(call); j++) {
			uint64_t version = model_version(model, part->first + j);
			if (version == 0 && !model_busy(model, part->first + j))
				continue;
			call_refuse(call, OPTD_CONFLICT,
			            "block %u of model '%s' is at step %llu: first weights come before any push",
			            part->first + j, model->name, (unsigned long long)version);
			return false;
		}
	}
	return true;
}

static void init_blocks(struct call *call)
{
	const struct msg *request = call->request;
	const float *values = request->payload;

	for (uint32_t i = 0; i < request->part_count; i++) {
		for (uint32_t j = 0; j < request->parts[i].count; j++) {
			uint32_t block = request->parts[i].first + j;
			init_block(call, block, values);
			values += model_block(call->shard->model, block)->count;
		}
	}
}

void verb_init(struct call *call)
{
	struct shard *shard = call->shard;
	const struct msg *request = call->request;

	if (!init_allowed(call))
		return;
	if (call->engine->draining && !init_repeats(call)) {
		call_refuse(call, OPTD_DRAINING,
		            "the server is shutting down and will not keep model '%s', which has no weights "
		            "yet; it can be opened when the server is back",
		            shard->model->name);
		return;
	}
	if (request->part_count > 0 && !init_fits(call))
		return;
	if (shard->ready && !init_repeats(call))
		shard_pause(call->engine, shard);
	shard->grant.token = request->token;
	if (request->part_count == 0) {
		if (!shard->ready && !init_done(call))
			return;
	} else if (!shard->ready) {
		init_blocks(call);
	}
	if (shard->grant.active)
		shard->grant.expires_ms = call->now_ms + call->engine->options.lease_ms;
	call_reply(call, OPTD_OK);
}

/* ---- PUSH --------------------------------------------------------------- */

bool call_rank_holds(struct call *call)
{
	struct shard *shard = call->shard;
	const struct msg *request = call->request;

	if (request->rank < 0 || (uint32_t)request->rank >= shard->holder_count) {
		call_refuse(call, OPTD_DENIED, "only a worker with a rank may push; this session reads");
		return false;
	}
	const struct holder *holder = &shard->holders[request->rank];
	if (holder->held && holder->peer == call->peer && holder->incarnation == request->incarnation)
		return true;
	if (!holder->held) {
		call_refuse(call, OPTD_STALE_INCARNATION,
		            "rank %d of model '%s' is not held by this session: open the model again",
		            request->rank, shard->model->name);
		return false;
	}
	call_refuse(call, OPTD_STALE_INCARNATION,
	            "rank %d of model '%s' is held by %s:%u (incarnation %llu, yours %llu)",
	            request->rank, shard->model->name, holder->host, holder->pid,
	            (unsigned long long)holder->incarnation, (unsigned long long)request->incarnation);
	return false;
}

/* Elements of block `block` in the payload, given the part it belongs to. */
static uint64_t block_elements(const struct shard *shard, const struct msg_part *part,
                               uint32_t block)
{
	char why[8];
	if (part->mask == NULL)
		return model_block(shard->model, block)->count;
	return shard_part_elements(shard, part, why, sizeof(why));
}

static uint64_t pushed_elements(const struct call *call)
{
	return call->request->payload_bytes / dtype_bytes(call->request->dtype);
}

/* Element `index` of a push. */
static double value_at(const struct call *call, uint64_t index)
{
	const struct msg *request = call->request;
	struct optim_gradient one = {dtype_at(request->payload, request->dtype, index), 1.0f, request->dtype};
	float value;

	optim_scale(call->engine->options.isa, &value, one, 1);
	return (double)value;
}

bool call_finite(struct call *call)
{
	const struct msg *request = call->request;
	uint64_t elements = pushed_elements(call);
	uint64_t bad = optim_finite(call->engine->options.isa, request->payload, request->dtype, elements);
	uint64_t before = 0;

	if (bad == elements)
		return true;
	for (uint32_t i = 0; i < request->part_count; i++) {
		for (uint32_t j = 0; j < request->parts[i].count; j++) {
			uint32_t block = request->parts[i].first + j;
			uint64_t n = block_elements(call->shard, &request->parts[i], block);
			if (bad < before + n) {
				call_refuse(call, OPTD_NOT_FINITE,
				            "model '%s', block %u: element %llu of the push is %g; nothing of "
				            "it was applied",
				            call->shard->model->name, block, (unsigned long long)(bad - before),
				            value_at(call, bad));
				return false;
			}
			before += n;
		}
	}
	return false;
}

/* What a message says about one of its blocks, as the gate takes it. */
static struct gate_push push_of(const struct call *call, const struct msg_part *part, uint32_t block,
                                const void *values)
{
	const struct msg *request = call->request;
	return (struct gate_push){.block = block,
	                          .rank = (uint32_t)request->rank,
	                          .incarnation = request->incarnation,
	                          .step = request->step,
	                          .weight = request->weight,
	                          .loss_scale = request->loss_scale,
	                          .poisoned = request->verdict == MSG_POISONED,
	                          .poison_tensor_plus_one = request->poison_tensor_plus_one,
	                          .values = values,
	                          .type = request->dtype,
	                          .mask = part->mask,
	                          .mask_bytes = part->mask_bytes};
}

static bool block_allows(struct call *call, const struct msg_part *part, uint32_t block)
{
	const struct msg *request = call->request;
	struct shard *shard = call->shard;
	bool closes = request->verb == MSG_CLOSE_STEP;
	struct gate_push push = push_of(call, part, block, closes ? NULL : request->payload);
	char why[256];

	enum gate_standing standing = gate_standing(shard->gate, block, push.rank, push.step);
	if (standing == GATE_AHEAD) {
		call_refuse(call, OPTD_STEP_GAP,
		            "rank %d pushes step %llu to block %u of model '%s', which is at step %llu",
		            request->rank, (unsigned long long)request->step, block, shard->model->name,
		            (unsigned long long)model_version(shard->model, block));
		return false;
	}
	if (standing == GATE_DUE && gate_check(shard->gate, &push, why, sizeof(why)) < 0) {
		call_refuse(call, OPTD_CONFLICT, "%s", why);
		return false;
	}
	return true;
}

static bool blocks_allow(struct call *call)
{
	const struct msg *request = call->request;

	for (uint32_t i = 0; i < request->part_count; i++) {
		for (uint32_t j = 0; j < request->parts[i].count; j++) {
			if (!block_allows(call, &request->parts[i], request->parts[i].first + j))
				return false;
		}
	}
	return true;
}

static bool window_allows(struct call *call)
{
	uint64_t held = gate_waiting_bytes(call->shard->gate);
	uint64_t allowed = shard_allows(call->shard, engine_window(call->engine));

	if (held + call->request->payload_bytes <= allowed)
		return true;
	call_refuse(call, OPTD_BUSY,
	            "%llu bytes of pushes wait for model '%s' and %llu are allowed: keep to the window",
	            (unsigned long long)held, call->shard->model->name, (unsigned long long)allowed);
	return false;
}

/* Takes one block in, or finds that it is there already. */
static int push_block(struct call *call, const struct gate_push *push, char *why, size_t why_bytes)
{
	struct gate *gate = call->shard->gate;

	switch (gate_standing(gate, push->block, push->rank, push->step)) {
	case GATE_DONE:
		call->shard->counts.duplicates++;
		/* What it is answered comes from its values; they count no more. */
		if (push->wait->own != NULL)
			verdict_zero(call, push);
		own_repeat(call->engine, call->shard, push);
		return OPTD_OK;
	case GATE_HAS:
		call->shard->counts.duplicates++;
		gate_rejoin(gate, push->block, push->rank, push->wait);
		return OPTD_OK;
	case GATE_DUE:
		break;
	case GATE_AHEAD:
		assert(false); /* block_allows has looked */
	}
	uint64_t zeroed = verdict_zero(call, push);
	push->wait->zeroed += zeroed;
	call->shard->counts.zeroed += zeroed;
	return gate_admit(gate, push, why, why_bytes);
}

static int push_blocks(struct call *call, struct wait *wait, struct parcel *parcel, char *why,
                       size_t why_bytes)
{
	const struct msg *request = call->request;
	const void *values = request->verb == MSG_CLOSE_STEP ? NULL : request->payload;

	for (uint32_t i = 0; i < request->part_count; i++) {
		const struct msg_part *part = &request->parts[i];
		for (uint32_t j = 0; j < part->count; j++) {
			struct gate_push push = push_of(call, part, part->first + j, values);
			push.parcel = parcel;
			push.wait = wait;
			int rc = push_block(call, &push, why, why_bytes);
			if (rc < 0)
				return rc;
			if (values != NULL)
				values = dtype_at(values, request->dtype,
				                  block_elements(call->shard, part, part->first + j));
		}
	}
	return OPTD_OK;
}

static int push_message(struct call *call, struct wait *wait, char *why, size_t why_bytes)
{
	struct gate *gate = call->shard->gate;

	if (call->request->verb == MSG_CLOSE_STEP || call->request->verdict == MSG_POISONED)
		return push_blocks(call, wait, NULL, why, why_bytes);
	int rc = own_begin(call->engine, call->shard, wait);
	struct parcel *parcel = rc < 0 ? NULL : gate_unpack(gate, call->payload);
	if (parcel == NULL) {
		snprintf(why, why_bytes, "no memory to take in a push");
		return OPTD_NO_MEMORY;
	}
	rc = push_blocks(call, wait, parcel, why, why_bytes);
	gate_unpacked(gate, parcel);
	return rc;
}

static void run_blocks(struct call *call)
{
	const struct msg *request = call->request;
	for (uint32_t i = 0; i < request->part_count; i++) {
		for (uint32_t j = 0; j < request->parts[i].count; j++)
			shard_run(call->engine, call->shard, request->parts[i].first + j);
	}
	if (call->shard->lead != NULL)
		lead_collect(call->engine, call->shard, call->out);
}

/* A push into weights that are not all there would keep them from being replaced
 * when another worker takes over to give them. */
static bool model_begun(struct call *call)
{
	const struct model *model = call->shard->model;

	if (call->shard->ready)
		return true;
	call_refuse(call, OPTD_NOT_READY,
	            "model '%s' has no weights yet (%u of %u blocks, not declared complete): give it "
	            "its first weights, or pull to wait for them",
	            model->name, model->ready_count, model->owned.count);
	return false;
}

static bool push_allowed(struct call *call)
{
	if (!call_rank_holds(call) || !model_begun(call) || !verdict_allows(call))
		return false;
	if (call->request->verb == MSG_CLOSE_STEP) {
		if (call_elements(call) == 0)
			return false;
	} else if (!call_payload_fits(call) || !verdict_holds(call) || !window_allows(call)) {
		return false;
	}
	if (call->request->verb == MSG_PUSH_PULL && !call_answer_fits(call, pushed_elements(call)))
		return false;
	return blocks_allow(call);
}

/* An older number will get no other answer, and its bytes still count in its sender's
 * window. */
static void replace(struct call *call, struct wait *older)
{
	const struct msg *request = call->request;

	if (older->request != request->request) {
		struct outbox_entry *entry =
		        wait_reply(call->engine, call->shard, older, OPTD_CANCELLED, call->out);
		entry->head.text = outbox_printf(call->out, "request %llu is of the same blocks and takes its place",
		                                 (unsigned long long)request->request);
	}
	wait_abandon(call->engine, call->shard, older);
}

/* A push that came again waits once, as the newer request, and so does one that has a
 * block in common with it: a rank waits for a block once, whatever it sends. */
static void replace_older(struct call *call)
{
	const struct msg *request = call->request;
	const struct gate *gate = call->shard->gate;
	uint32_t rank = (uint32_t)request->rank;

	for (uint32_t i = 0; i < request->part_count; i++) {
		for (uint32_t j = 0; j < request->parts[i].count; j++) {
			uint32_t block = request->parts[i].first + j;
			if (gate_standing(gate, block, rank, request->step) != GATE_HAS)
				continue;
			struct wait *older = gate_waiter(gate, block, rank);
			if (older != NULL)
				replace(call, older);
		}
	}
}

static bool has_in_common(const struct wait *wait, const struct msg *request)
{
	for (uint32_t i = 0; i < wait->part_count; i++) {
		for (uint32_t j = 0; j < request->part_count; j++) {
			const struct msg_part *a = &wait->parts[i], *b = &request->parts[j];
			if (a->first < b->first + b->count && b->first < a->first + a->count)
				return true;
		}
	}
	return false;
}

/* Who pushes a block again, or on, does without the weights that wait for room there: this
 * push may change them, and answering all that one message names would take no account of
 * the room. */
static void replace_kept(struct call *call)
{
	const struct session *session = &call->engine->sessions[call->peer];
	struct wait *wait = session->kept > 0 ? session->ready.first : NULL;

	while (wait != NULL) {
		struct wait *next = wait->next_ready;
		if (wait->kept && wait->shard == call->shard && has_in_common(wait, call->request))
			replace(call, wait);
		wait = next;
	}
}

void verb_push(struct call *call)
{
	struct shard *shard = call->shard;
	char why[256];

	if (!push_allowed(call))
		return;
	replace_kept(call);
	replace_older(call);
	uint64_t bytes = pushed_elements(call) * sizeof(float);
	/* Those that it replaces have let go of theirs. */
	if (!own_allows(call, bytes))
		return;
	struct wait *wait = call_wait(call);
	if (wait == NULL)
		return;
	if (wait->verb == MSG_PUSH_PULL)
		wait->payload_bytes = bytes;
	shard->counts.pushes++;
	int rc = push_message(call, wait, why, sizeof(why));
	if (rc < 0) {
		/* What was taken in stays: a resend finds it and adds the rest. */
		wait_abandon(call->engine, shard, wait);
		call_refuse(call, rc, "%s", why);
		return;
	}
	reject_mend(shard, call->request);
	if (wait->unfolded == 0)
		gate_tell(shard->gate, wait);
	if (watch_next(shard, wait)) {
		run_blocks(call);
		reject_look(shard, wait);
	} else if (wait->verb == MSG_PUSH_PULL && wait_is_busy(wait)) {
		ready_add(call->engine, wait);
	} else {
		wait_finish(call->engine, shard, wait, call->out);
	}
}
