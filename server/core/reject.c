/* Who rejected its own gradient, and who has heard of it. */
#include "server/core/reject.h"

#include <assert.h>
#include <stdlib.h>

#include "server/base/mem.h"
#include "server/core/verbs.h"

bool rejects_needed(const struct model_settings *settings)
{
	return settings->mode == MSG_SYNC && settings->nonfinite == MSG_REJECT && settings->workers > 1;
}

uint64_t rejects_bytes(const struct model_settings *settings)
{
	return rejects_needed(settings) ? sizeof(struct rejects) + MALLOC_BYTES : 0;
}

uint64_t rejects_rank_bytes(const struct model_settings *settings)
{
	return rejects_needed(settings) ? sizeof(struct reject) : 0;
}

struct rejects *rejects_new(const struct model_settings *settings)
{
	struct rejects *rejects = calloc(1, sizeof(*rejects) + settings->workers * sizeof(struct reject));

	if (rejects == NULL)
		return NULL;
	rejects->rank_count = settings->workers;
	rejects->newest[0] = rejects->newest[1] = UINT32_MAX;
	return rejects;
}

/* ---- who rejected ------------------------------------------------------- */

static uint64_t client_of(const struct shard *shard, uint32_t rank)
{
	return shard->holders[rank].client;
}

/* A process that has taken the rank over since has another gradient. */
bool reject_stands(const struct shard *shard, uint32_t rank, uint64_t step)
{
	const struct reject *reject;

	if (shard->rejects == NULL || rank >= shard->rejects->rank_count)
		return false;
	reject = &shard->rejects->ranks[rank];
	return reject->number > 0 && reject->step == step && reject->client == client_of(shard, rank);
}

/* Two, since a rank does not hear of its own. */
static void find_newest(struct rejects *rejects)
{
	uint64_t first = 0, second = 0;

	rejects->newest[0] = rejects->newest[1] = UINT32_MAX;
	for (uint32_t rank = 0; rank < rejects->rank_count; rank++) {
		uint64_t number = rejects->ranks[rank].number;
		if (number > first) {
			rejects->newest[1] = rejects->newest[0];
			second = first;
			rejects->newest[0] = rank;
			first = number;
		} else if (number > second) {
			rejects->newest[1] = rank;
			second = number;
		}
	}
}

static bool is_due(const struct call *call)
{
	const struct msg *request = call->request;
	const struct gate *gate = call->shard->gate;

	for (uint32_t i = 0; i < request->part_count; i++) {
		for (uint32_t j = 0; j < request->parts[i].count; j++) {
			if (gate_standing(gate, request->parts[i].first + j, (uint32_t)request->rank,
			                  request->step) == GATE_DUE)
				return true;
		}
	}
	return false;
}

bool reject_note(struct call *call)
{
	struct shard *shard = call->shard;
	const struct msg *request = call->request;
	uint32_t rank = (uint32_t)request->rank;

	if (shard->rejects == NULL || request->verb != MSG_CLOSE_STEP)
		return true;
	if (call_elements(call) == 0)
		return false;
	/* What it gave before counts, and nobody waits for it. */
	if (!is_due(call))
		return true;
	struct reject *reject = &shard->rejects->ranks[rank];
	if (reject_stands(shard, rank, request->step) && reject->request == request->request)
		return true;
	reject->number = ++shard->rejects->count;
	reject->client = client_of(shard, rank);
	reject->step = request->step;
	reject->request = request->request;
	reject->tensor_plus_one = request->poison_tensor_plus_one;
	find_newest(shard->rejects);
	shard->waits.telling = shard->waits.first;
	return true;
}

void reject_mend(struct shard *shard, const struct msg *request)
{
	if (shard->rejects == NULL || shard->rejects->ranks[request->rank].number == 0)
		return;
	shard->rejects->ranks[request->rank].number = 0;
	find_newest(shard->rejects);
}

/* ---- who hears ---------------------------------------------------------- */

void reject_look(struct shard *shard, struct wait *wait)
{
	if (shard->rejects != NULL && shard->rejects->newest[0] != UINT32_MAX && shard->waits.telling == NULL)
		shard->waits.telling = wait;
}

/* The rank whose rejection holds this push up, the newest; UINT32_MAX: none does. */
static uint32_t held_by(const struct shard *shard, const struct wait *wait)
{
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t rank = shard->rejects->newest[i];
		if (rank != UINT32_MAX && rank != (uint32_t)wait->rank && reject_stands(shard, rank, wait->step))
			return rank;
	}
	return UINT32_MAX;
}

static bool has_block(const struct wait *wait, uint32_t block)
{
	for (uint32_t i = 0; i < wait->part_count; i++) {
		if (block - wait->parts[i].first < wait->parts[i].count)
			return true;
	}
	return false;
}

/* Whether this push, held up by a rejection of this number, is to be told; notes it then. */
static bool hears(struct reject *own, const struct wait *wait, uint64_t client, uint64_t number)
{
	if (own->told < number || own->told_client != client) {
		own->knows = false;
		own->told = number;
		own->told_client = client;
		own->told_block = wait->parts[0].first;
		own->told_request = wait->request;
		return true;
	}
	if (wait->request <= own->told_request)
		return true;
	own->knows |= has_block(wait, own->told_block);
	if (!own->knows)
		own->told_request = wait->request;
	return !own->knows;
}

static void tell(struct engine *engine, struct shard *shard, struct wait *wait, uint32_t rank,
                 struct outbox *out)
{
	const struct reject *reject = &shard->rejects->ranks[rank];
	const struct holder *holder = &shard->holders[rank];
	const struct layout *layout = shard->model->layout;
	uint32_t tensor = reject->tensor_plus_one;
	struct outbox_entry *entry = wait_reply(engine, shard, wait, OPTD_NOT_FINITE, out);

	entry->head.text = outbox_printf(
	        out,
	        "model '%s': step %llu waits for rank %u (%s:%u), whose gradient was not finite%s%s%s; this push "
	        "stays and counts, make the same call again to go on waiting for rank %u's",
	        shard->model->name, (unsigned long long)wait->step, rank, holder->host, holder->pid,
	        tensor > 0 ? ", first in tensor '" : "", tensor > 0 ? layout_tensor(layout, tensor - 1)->name : "",
	        tensor > 0 ? "'" : "", rank);
	wait_abandon(engine, shard, wait);
}

uint32_t rejects_answer(struct engine *engine, struct shard *shard, uint32_t room, struct outbox *out)
{
	struct wait *wait;
	uint32_t made = 0;

	while (made < room && (wait = shard->waits.telling) != NULL) {
		shard->waits.telling = wait->next;
		if (wait->verb == MSG_PULL || wait->ready)
			continue;
		uint32_t rank = held_by(shard, wait);
		if (rank == UINT32_MAX || !hears(&shard->rejects->ranks[wait->rank], wait,
		                                 client_of(shard, (uint32_t)wait->rank),
		                                 shard->rejects->ranks[rank].number))
			continue;
		tell(engine, shard, wait, rank, out);
		made++;
	}
	return made;
}
