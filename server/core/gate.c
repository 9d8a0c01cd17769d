/* Contributions become commits: folding in rank order, or one by one. */
#include "server/core/gate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"
#include "server/core/wait.h"

struct parcel {
	uint32_t holders; /* contributions, and the message while it is taken in */
	struct buf *payload;
};

/* A contribution whose bytes are still needed. */
struct contribution {
	struct contribution *next; /* by rank; by arrival where direct */
	uint32_t rank;
	uint64_t incarnation;
	uint64_t step;
	double weight;
	const float *values; /* NULL: nothing */
	struct parcel *parcel;
	struct wait *wait;
	uint8_t *mask; /* behind the struct, or NULL: all segments */
};

/* What a rank has done about a block's step, with the incarnation that did it. */
struct seat {
	struct wait *wait; /* who is told of it, or NULL */
	uint32_t incarnation : 30;
	uint32_t came : 1;
	uint32_t gave : 1; /* came with values */
};

enum touched { TOUCHED_NONE, TOUCHED_SOME, TOUCHED_ALL };

struct gate_block {
	struct contribution *waiting;
	uint32_t came;      /* ranks that contributed or had nothing */
	uint32_t next_rank; /* all lower ones are folded */
	bool held;
	bool weighed; /* whether it is weighted has been decided */
	bool weighted;
	enum touched touched; /* segments that hold a sum */
	uint8_t *mask;        /* with TOUCHED_SOME; kept for the next time */
};

struct gate {
	struct model *model;
	enum optim_isa isa;
	bool direct;
	uint32_t workers;
	float *sums; /* [elements], where not direct */
	struct gate_block *blocks;
	struct seat *seats; /* [blocks][workers], where not direct */
	uint64_t waiting_bytes; /* of all parcels */
	struct heap folded; /* waits to be told so, by arrival */
	/* What gate_next hands out. */
	struct commit_contributor *contributors;
	struct commit_scalars *scalars; /* [segments of a block, at most] */
};

static bool settings_direct(const struct model_settings *settings)
{
	return settings->mode == MSG_ASYNC || settings->workers == 1;
}

/* The most segments that a block of the run has. */
static uint32_t most_segments(const struct layout *layout, struct layout_run run)
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
	struct layout_run run = layout_owned(layout_block_count(layout), place.daemon, place.daemons,
	                                     place.lane, place.lanes);
	uint64_t blocks = run.count;
	uint64_t bytes = sizeof(struct gate) + (blocks + 1) * sizeof(struct gate_block) +
	                 (most_segments(layout, run) + 1u) * sizeof(struct commit_scalars);

	if (settings_direct(settings))
		return bytes;
	return bytes + mem_bytes(layout_run_elements(layout, run) * sizeof(float)) +
	       blocks * LIMIT_MASK_BYTES;
}

uint64_t gate_rank_bytes(const struct layout *layout, struct layout_run run)
{
	/* One contribution a block, its mask behind it; a parcel can be one's own. */
	uint64_t each = sizeof(struct contribution) + sizeof(struct parcel) + 2 * MALLOC_BYTES +
	                sizeof(struct seat) + 1;

	return sizeof(struct commit_contributor) + run.count * each +
	       layout_run_segments(layout, run) / 8;
}

static bool gate_allocate(struct gate *gate)
{
	const struct model *model = gate->model;
	uint32_t blocks = model->owned.count;

	gate->blocks = calloc(blocks + 1, sizeof(*gate->blocks));
	gate->contributors = calloc(gate->workers, sizeof(*gate->contributors));
	gate->scalars =
	        calloc(most_segments(model->layout, model->owned) + 1u, sizeof(*gate->scalars));
	if (gate->blocks == NULL || gate->contributors == NULL || gate->scalars == NULL)
		return false;
	if (gate->direct || blocks == 0)
		return true;
	gate->sums = mem_new(model->elements * sizeof(float));
	gate->seats = calloc((size_t)blocks * gate->workers, sizeof(*gate->seats));
	return gate->sums != NULL && gate->seats != NULL;
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

struct parcel *gate_unpack(struct gate *gate, struct buf *payload)
{
	struct parcel *parcel = malloc(sizeof(*parcel));
	if (parcel == NULL)
		return NULL;
	*parcel = (struct parcel){.holders = 1, .payload = buf_hold(payload)};
	gate->waiting_bytes += payload->bytes;
	return parcel;
}

void gate_unpacked(struct gate *gate, struct parcel *parcel)
{
	if (parcel == NULL || --parcel->holders > 0)
		return;
	gate->waiting_bytes -= parcel->payload->bytes;
	buf_drop(parcel->payload);
	free(parcel);
}

static void contribution_free(struct gate *gate, struct contribution *c)
{
	gate_unpacked(gate, c->parcel);
	free(c);
}

void gate_free(struct gate *gate)
{
	if (gate == NULL)
		return;
	for (uint32_t i = 0; gate->blocks != NULL && i < gate->model->owned.count; i++) {
		while (gate->blocks[i].waiting != NULL) {
			struct contribution *c = gate->blocks[i].waiting;
			gate->blocks[i].waiting = c->next;
			contribution_free(gate, c);
		}
		free(gate->blocks[i].mask);
	}
	mem_free(gate->sums, gate->model->elements * sizeof(float));
	free(gate->seats);
	free(gate->blocks);
	free(gate->contributors);
	free(gate->scalars);
	free(gate);
}

static struct gate_block *gate_block(const struct gate *gate, uint32_t block)
{
	assert(model_owns(gate->model, block));
	return &gate->blocks[block - gate->model->owned.first];
}

static struct seat *gate_seat(const struct gate *gate, uint32_t block, uint32_t rank)
{
	assert(rank < gate->workers);
	return &gate->seats[(size_t)(block - gate->model->owned.first) * gate->workers + rank];
}

static struct contribution *find_waiting(const struct gate *gate, uint32_t block, uint32_t rank)
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
		const struct contribution *c = find_waiting(gate, block, rank);
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

/* ---- telling that bytes are folded -------------------------------------- */

void gate_tell(struct gate *gate, struct wait *wait)
{
	if (!wait->folded_told && !wait->folded.in)
		heap_add(&gate->folded, &wait->folded, 0, wait->order);
}

static void wait_folded(struct gate *gate, struct wait *wait)
{
	if (--wait->unfolded == 0)
		gate_tell(gate, wait);
}

struct wait *gate_folded(struct gate *gate)
{
	while (gate->folded.first != NULL) {
		struct wait *wait = heap_owner(gate->folded.first, struct wait, folded);
		heap_remove(&gate->folded, &wait->folded);
		/* It may have taken another's bytes over since. */
		if (wait->unfolded > 0)
			continue;
		wait->folded_told = true;
		return wait;
	}
	return NULL;
}

/* ---- folding ------------------------------------------------------------ */

static bool touched_has(const struct gate_block *b, uint32_t segment)
{
	return b->touched == TOUCHED_ALL ||
	       (b->touched == TOUCHED_SOME && commit_has(b->mask, segment));
}

static void fold_whole(struct gate *gate, struct gate_block *b, uint32_t block, const float *values,
                       float factor)
{
	float *sum = gate->sums + model_offset(gate->model, block);
	uint32_t n = model_block(gate->model, block)->count;

	if (b->touched == TOUCHED_NONE)
		optim_scale(gate->isa, sum, values, factor, n);
	else
		optim_fold(gate->isa, sum, values, factor, n);
	b->touched = TOUCHED_ALL;
}

static void fold_segments(struct gate *gate, struct gate_block *b, uint32_t block,
                          const struct contribution *c, float factor)
{
	const struct layout_block *lb = model_block(gate->model, block);
	float *sum = gate->sums + model_offset(gate->model, block);
	const float *values = c->values;

	if (b->touched == TOUCHED_NONE)
		memset(b->mask, 0, LIMIT_MASK_BYTES);
	for (uint32_t i = 0; i < lb->segment_count; i++) {
		const struct layout_segment *s = layout_segment(gate->model->layout, lb->first_segment + i);
		if (!commit_has(c->mask, i))
			continue;
		if (touched_has(b, i))
			optim_fold(gate->isa, sum + s->offset, values, factor, s->count);
		else
			optim_scale(gate->isa, sum + s->offset, values, factor, s->count);
		if (b->touched != TOUCHED_ALL)
			b->mask[i / 8] |= (uint8_t)(1u << (i % 8));
		values += s->count;
	}
	if (c->mask == NULL)
		b->touched = TOUCHED_ALL;
	else if (b->touched == TOUCHED_NONE)
		b->touched = TOUCHED_SOME;
}

static void fold_one(struct gate *gate, uint32_t block, struct contribution *c, double whole_weight)
{
	struct gate_block *b = gate_block(gate, block);
	float factor = 1.0f;

	if (c->values == NULL)
		return;
	if (gate->model->settings.reduce == MSG_MEAN)
		factor = (float)((b->weighted ? c->weight : 1.0) / whole_weight);
	if (c->mask == NULL && b->touched != TOUCHED_SOME)
		fold_whole(gate, b, block, c->values, factor);
	else
		fold_segments(gate, b, block, c, factor);
}

/* Weights are known when everyone has come; without weights, a rank can be
 * folded as soon as all lower ones are. */
static void gate_fold(struct gate *gate, uint32_t block)
{
	struct gate_block *b = gate_block(gate, block);
	double whole_weight = gate->workers;

	if (b->weighted) {
		if (b->came < gate->workers)
			return;
		whole_weight = 0;
		for (const struct contribution *c = b->waiting; c != NULL; c = c->next)
			whole_weight += c->weight;
	}
	while (b->next_rank < gate->workers && gate_seat(gate, block, b->next_rank)->came) {
		struct contribution *c = b->waiting;
		assert(c != NULL && c->rank == b->next_rank);
		fold_one(gate, block, c, whole_weight);
		if (c->wait != NULL)
			wait_folded(gate, c->wait);
		b->waiting = c->next;
		b->next_rank++;
		contribution_free(gate, c);
	}
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
	c->values = push->values;
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

static void insert(struct gate *gate, struct gate_block *b, struct contribution *c)
{
	struct contribution **at = &b->waiting;
	while (*at != NULL && (gate->direct || (*at)->rank < c->rank))
		at = &(*at)->next;
	c->next = *at;
	*at = c;
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

int gate_admit(struct gate *gate, const struct gate_push *push, char *why, size_t why_bytes)
{
	struct gate_block *b = gate_block(gate, push->block);

	assert(gate_standing(gate, push->block, push->rank, push->step) == GATE_DUE);
	if (!gate->direct && b->mask == NULL && push->mask != NULL)
		b->mask = malloc(LIMIT_MASK_BYTES);
	struct contribution *c = contribution_new(push);
	if (c == NULL || (!gate->direct && push->mask != NULL && b->mask == NULL)) {
		if (c != NULL)
			contribution_free(gate, c);
		snprintf(why, why_bytes, "no memory to take in block %u", push->block);
		return OPTD_NO_MEMORY;
	}
	insert(gate, b, c);
	if (push->wait != NULL)
		push->wait->unfolded++;
	if (gate->direct)
		return OPTD_OK;
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
	return OPTD_OK;
}

/* ---- commits ------------------------------------------------------------ */

static void commit_direct(struct gate *gate, const struct contribution *c, struct commit *commit)
{
	commit->values = c->values;
	commit->packed = c->mask != NULL;
	commit->present = c->mask;
	commit->empty = c->values == NULL;
	gate->contributors[0] = (struct commit_contributor){c->rank, c->incarnation, c->step};
	commit->contributor_count = 1;
}

static void commit_folded(struct gate *gate, uint32_t block, struct commit *commit)
{
	const struct gate_block *b = gate_block(gate, block);

	commit->values = gate->sums + model_offset(gate->model, block);
	commit->present = b->touched == TOUCHED_SOME ? b->mask : NULL;
	commit->empty = b->touched == TOUCHED_NONE;
	for (uint32_t rank = 0; rank < gate->workers; rank++) {
		const struct seat *seat = gate_seat(gate, block, rank);
		if (seat->gave)
			gate->contributors[commit->contributor_count++] = (struct commit_contributor){
			        rank, seat->incarnation, model_version(gate->model, block)};
	}
}

bool gate_next(struct gate *gate, uint32_t block, struct commit *commit)
{
	struct gate_block *b = gate_block(gate, block);

	if (b->held || (gate->direct ? b->waiting == NULL : b->next_rank < gate->workers))
		return false;
	memset(commit, 0, sizeof(*commit));
	commit->kind = COMMIT_STEP;
	commit->block = block;
	commit->version = model_version(gate->model, block) + 1;
	commit->contributors = gate->contributors;
	if (gate->direct)
		commit_direct(gate, b->waiting, commit);
	else
		commit_folded(gate, block, commit);
	commit->scalars = gate->scalars;
	if (!commit->empty)
		commit->scalars_count =
		        model_scalars(gate->model, block, commit->present, gate->scalars);
	return true;
}

void gate_committed(struct gate *gate, uint32_t block)
{
	struct gate_block *b = gate_block(gate, block);

	if (gate->direct) {
		struct contribution *c = b->waiting;
		if (c->wait != NULL)
			wait_folded(gate, c->wait);
		b->waiting = c->next;
		contribution_free(gate, c);
		return;
	}
	b->came = 0;
	b->next_rank = 0;
	b->weighed = false;
	b->weighted = false;
	b->touched = TOUCHED_NONE;
	memset(gate_seat(gate, block, 0), 0, gate->workers * sizeof(struct seat));
}

/* ---- for those who wait ------------------------------------------------- */

struct wait *gate_waiter(const struct gate *gate, uint32_t block, uint32_t rank)
{
	if (!gate->direct)
		return gate_seat(gate, block, rank)->wait;
	const struct contribution *c = find_waiting(gate, block, rank);
	return c != NULL ? c->wait : NULL;
}

void gate_rejoin(struct gate *gate, uint32_t block, uint32_t rank, struct wait *wait)
{
	struct contribution *c = find_waiting(gate, block, rank);

	if (!gate->direct)
		gate_seat(gate, block, rank)->wait = wait;
	if (c == NULL)
		return;
	if (c->wait != NULL)
		wait_folded(gate, c->wait);
	c->wait = wait;
	wait->unfolded++;
}

static void forget_block(struct gate *gate, uint32_t block, const struct wait *wait)
{
	struct contribution *c = wait->unfolded > 0 ? gate_block(gate, block)->waiting : NULL;

	for (; c != NULL; c = c->next) {
		if (c->wait == wait)
			c->wait = NULL;
	}
	if (!gate->direct && gate_seat(gate, block, (uint32_t)wait->rank)->wait == wait)
		gate_seat(gate, block, (uint32_t)wait->rank)->wait = NULL;
}

void gate_forget(struct gate *gate, struct wait *wait)
{
	if (wait->folded.in)
		heap_remove(&gate->folded, &wait->folded);
	if (wait->verb == MSG_PULL)
		return;
	for (uint32_t i = 0; i < wait->part_count; i++) {
		for (uint32_t j = 0; j < wait->parts[i].count; j++)
			forget_block(gate, wait->parts[i].first + j, wait);
	}
}

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
