/* What each block has been given: making a gate, and taking contributions in. */
#include "server/core/gate_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/core/clipping.h"
#include "server/core/whole.h"

/* Whether contributions are kept until a step is complete: those of several workers, of a
 * tensor that is updated as a whole, or where something is decided about all of the step. */
static bool settings_collect(const struct model_settings *settings)
{
	return settings->mode == MSG_SYNC &&
	       (settings->workers > 1 || whole_any(&settings->groups, &settings->optim) ||
	        clipping_on(&settings->clip));
}

static bool settings_direct(const struct model_settings *settings)
{
	return !settings_collect(settings);
}

/* Whether segments of a block may be multiplied with different factors as it is committed:
 * where norms are clipped, or a loss scale is in some of them alone. */
static bool settings_differ(const struct model_settings *settings)
{
	return clipping_on(&settings->clip) ||
	       (settings_direct(settings) && groups_mixed(&settings->groups, &settings->optim));
}

uint32_t gate_most_segments(const struct layout *layout, struct layout_run run)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < run.count; i++) {
		uint32_t count = layout_block(layout, run.first + i)->segment_count;
		most = count > most ? count : most;
	}
	return most;
}

uint64_t gate_bytes(const struct model_settings *settings, const struct layout *layout,
                    struct model_place place)
{
	struct layout_run run = layout_owned(layout, place.daemon, place.daemons,
	                                     place.lane, place.lanes);
	uint64_t blocks = run.count;
	uint64_t bytes = sizeof(struct gate) + (blocks + 1) * sizeof(struct gate_block) +
	                 (gate_most_segments(layout, run) + 1u) * sizeof(struct commit_scalars);

	if (settings_differ(settings))
		bytes += (gate_most_segments(layout, run) + 1u) * sizeof(float);
	if (layout_has_whole(layout))
		bytes += (blocks + 1) * sizeof(struct gate_tensor);
	if (settings_direct(settings))
		return bytes;
	return bytes + mem_bytes(layout_run_elements(layout, run) * sizeof(float)) +
	       blocks * LIMIT_MASK_BYTES + gate_decide_bytes(settings, layout, run);
}

uint64_t gate_rank_bytes(const struct layout *layout, struct layout_run run)
{
	/* One contribution a block, its mask behind it; a parcel can be one's own. */
	uint64_t each = sizeof(struct contribution) + sizeof(struct parcel) + 2 * MALLOC_BYTES +
	                sizeof(struct seat) + 1;

	return (layout_has_whole(layout) ? 2 : 1) * sizeof(struct commit_contributor) + run.count * each +
	       layout_run_segments(layout, run) / 8;
}

static bool gate_allocate(struct gate *gate)
{
	const struct model *model = gate->model;
	uint32_t blocks = model->owned.count;

	gate->blocks = calloc(blocks + 1, sizeof(*gate->blocks));
	gate->contributors = calloc(gate->workers, sizeof(*gate->contributors));
	gate->scalars =
	        calloc(gate_most_segments(model->layout, model->owned) + 1u, sizeof(*gate->scalars));
	if (settings_differ(&model->settings)) {
		gate->factors =
		        calloc(gate_most_segments(model->layout, model->owned) + 1u, sizeof(*gate->factors));
		if (gate->factors == NULL)
			return false;
	}
	if (gate->blocks == NULL || gate->contributors == NULL || gate->scalars == NULL ||
	    !gate_tensors_new(gate))
		return false;
	if (gate->direct || blocks == 0)
		return true;
	gate->sums = mem_new(model->elements * sizeof(float));
	gate->seats = calloc((size_t)blocks * gate->workers, sizeof(*gate->seats));
	return gate->sums != NULL && gate->seats != NULL &&
	       (!clipping_on(&model->settings.clip) || gate_decide_allocate(gate));
}

struct gate *gate_new(struct model *model, enum optim_isa isa)
{
	struct gate *gate = calloc(1, sizeof(*gate));
	if (gate == NULL)
		return NULL;
	gate->model = model;
	gate->isa = isa;
	gate->direct = settings_direct(&model->settings);
	gate->workers = model->settings.workers > 0 ? model->settings.workers : 1;
	if (!gate_allocate(gate)) {
		gate_free(gate);
		return NULL;
	}
	return gate;
}

void gate_free(struct gate *gate)
{
	if (gate == NULL)
		return;
	for (uint32_t i = 0; gate->blocks != NULL && i < gate->model->owned.count; i++) {
		while (gate->blocks[i].waiting != NULL) {
			struct contribution *c = gate->blocks[i].waiting;
			gate->blocks[i].waiting = c->next;
			gate_discard(gate, c);
		}
		free(gate->blocks[i].mask);
	}
	mem_free(gate->sums, gate->model->elements * sizeof(float));
	gate_decide_free(gate);
	free(gate->seats);
	free(gate->blocks);
	free(gate->contributors);
	free(gate->scalars);
	free(gate->factors);
	gate_tensors_free(gate);
	free(gate);
}

struct gate_block *gate_block(const struct gate *gate, uint32_t block)
{
	assert(model_owns(gate->model, block));
	return &gate->blocks[block - gate->model->owned.first];
}

struct seat *gate_seat(const struct gate *gate, uint32_t block, uint32_t rank)
{
	assert(rank < gate->workers);
	return &gate->seats[(size_t)(block - gate->model->owned.first) * gate->workers + rank];
}

struct contribution *gate_waiting(const struct gate *gate, uint32_t block, uint32_t rank)
{
	struct contribution *c = gate_block(gate, block)->waiting;
	while (c != NULL && c->rank != rank)
		c = c->next;
	return c;
}

enum gate_standing gate_standing(const struct gate *gate, uint32_t block, uint32_t rank,
                                 uint64_t step)
{
	bool sync = gate->model->settings.mode == MSG_SYNC;
	uint64_t due = sync ? model_version(gate->model, block) : model_seen(gate->model, rank, block);

	if (step < due)
		return GATE_DONE;
	if (gate->direct) {
		const struct contribution *c = gate_waiting(gate, block, rank);
		if (c != NULL)
			return c->step == step ? GATE_HAS : GATE_AHEAD;
		/* In async a rank's steps may have gaps: what it skipped, it skipped. */
		return sync && step > due ? GATE_AHEAD : GATE_DUE;
	}
	if (step > due)
		return GATE_AHEAD;
	return gate_seat(gate, block, rank)->came ? GATE_HAS : GATE_DUE;
}

bool gate_direct(const struct gate *gate)
{
	return gate->direct;
}

uint64_t gate_version(const struct gate *gate, uint32_t block, uint32_t rank)
{
	const struct contribution *c = gate_block(gate, block)->waiting;
	uint64_t version = model_version(gate->model, block) + 1;

	assert(gate->direct);
	while (c != NULL && c->rank != rank) {
		c = c->next;
		version++;
	}
	assert(c != NULL);
	return version;
}

/* ---- taking in ---------------------------------------------------------- */

static struct contribution *contribution_new(const struct gate_push *push)
{
	struct contribution *c = calloc(1, sizeof(*c) + push->mask_bytes);
	if (c == NULL)
		return NULL;
	c->rank = push->rank;
	c->incarnation = push->incarnation;
	c->step = push->step;
	c->weight = push->weight;
	c->loss_scale = push->loss_scale > 0 ? push->loss_scale : 1.0;
	c->poisoned = push->poisoned;
	c->poison_tensor_plus_one = push->poison_tensor_plus_one;
	c->values = push->poisoned ? NULL : push->values;
	c->type = push->type;
	c->wait = push->wait;
	if (push->mask != NULL) {
		c->mask = (uint8_t *)(c + 1);
		memcpy(c->mask, push->mask, push->mask_bytes);
	}
	c->parcel = push->parcel;
	if (c->parcel != NULL)
		c->parcel->holders++;
	return c;
}

static bool decides_weight(const struct gate_push *push)
{
	return push->values != NULL || push->weight > 0;
}

int gate_check(const struct gate *gate, const struct gate_push *push, char *why, size_t why_bytes)
{
	const struct gate_block *b = gate_block(gate, push->block);
	bool weighted = push->weight > 0;

	if (gate->direct || !b->weighed || !decides_weight(push) || b->weighted == weighted)
		return OPTD_OK;
	snprintf(why, why_bytes,
	         "step %llu: rank %u gives %s weight and others of this step %s; give one on every "
	         "rank or on none",
	         (unsigned long long)push->step, push->rank, weighted ? "a" : "no",
	         weighted ? "do not" : "do");
	return OPTD_CONFLICT;
}

/* Keeps a contribution until it is folded or committed. */
static int keep(struct gate *gate, struct gate_block *b, const struct gate_push *push, char *why,
                size_t why_bytes)
{
	if (!gate->direct && b->mask == NULL && push->mask != NULL)
		b->mask = malloc(LIMIT_MASK_BYTES);
	struct contribution *c = contribution_new(push);
	if (c == NULL || (!gate->direct && push->mask != NULL && b->mask == NULL)) {
		if (c != NULL)
			gate_discard(gate, c);
		snprintf(why, why_bytes, "no memory to take in block %u", push->block);
		return OPTD_NO_MEMORY;
	}
	gate_queue(gate, b, c);
	if (push->wait != NULL)
		push->wait->unfolded++;
	return OPTD_OK;
}

int gate_admit(struct gate *gate, const struct gate_push *push, char *why, size_t why_bytes)
{
	struct gate_block *b = gate_block(gate, push->block);
	int rc = OPTD_OK;

	assert(gate_standing(gate, push->block, push->rank, push->step) == GATE_DUE);
	if (push->poisoned && !gate->direct)
		gate_poison(gate, b, push);
	if (b->poison_rank_plus_one == 0)
		rc = keep(gate, b, push, why, why_bytes);
	if (rc < 0 || gate->direct)
		return rc;
	if (decides_weight(push)) {
		b->weighed = true;
		b->weighted = push->weight > 0;
	}
	b->came++;
	struct seat *seat = gate_seat(gate, push->block, push->rank);
	seat->came = 1;
	seat->wait = push->wait;
	seat->gave = push->values != NULL;
	seat->incarnation = (uint32_t)push->incarnation & 0x3fffffffu;
	gate_fold(gate, push->block);
	gate_tensor_folded(gate, push->block);
	return OPTD_OK;
}

/* ---- looking ------------------------------------------------------------ */

uint32_t gate_missing(const struct gate *gate, uint32_t block, uint32_t *ranks, uint32_t room)
{
	uint32_t count = 0;
	for (uint32_t rank = 0; !gate->direct && rank < gate->workers; rank++) {
		if (gate_seat(gate, block, rank)->came)
			continue;
		if (count < room)
			ranks[count] = rank;
		count++;
	}
	return count;
}

void gate_hold(struct gate *gate, uint32_t block, bool held)
{
	gate_block(gate, block)->held = held;
}

uint64_t gate_waiting_bytes(const struct gate *gate)
{
	return gate->waiting_bytes;
}
