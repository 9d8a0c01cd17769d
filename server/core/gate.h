/*
 * Gate: what a block has been given and is not yet part of the model.
 *
 * In sync with several workers, contributions to a block's step are folded into
 * one accumulator in rank order, each as soon as all lower ranks have come, so
 * that the sum has the same bits whatever the order of arrival, and memory is
 * one accumulator however many workers there are.  When every rank has
 * contributed or declared that it has nothing, the block can be committed.
 *
 * In async, and in sync with a single worker, there is nothing to collect: a
 * contribution becomes a commit as it is, straight from the bytes that arrived.  With
 * whole tensors a single worker's are collected as well: each is committed when all its
 * blocks are complete.
 *
 * Where a step is decided as a whole (the norm of its gradient is clipped), a block that
 * has everything has collected the step and waits for the decision: collect, decide,
 * apply.  Who decides is server/core/lead.h's business.
 *
 * A block may be held (a checkpoint is being written): contributions are taken
 * in as always and commits wait.
 *
 * The gate decides nothing about sessions or answers: its caller asks for the
 * next commit of a block, applies it, and says so.
 */
#ifndef OPTD_CORE_GATE_H
#define OPTD_CORE_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/core/commit.h"
#include "server/core/model.h"

struct gate;
struct wait;

/* Bytes that gate_new would take for this model's settings, without what it keeps
 * about each rank. */
uint64_t gate_bytes(const struct model_settings *settings, const struct layout *layout,
                    struct model_place place);
/* What it keeps about one rank's step, beside the payloads that wait. */
uint64_t gate_rank_bytes(const struct layout *layout, struct layout_run run);

/* model is kept and must outlive the gate.  NULL without memory. */
struct gate *gate_new(struct model *model, enum optim_isa isa);
void gate_free(struct gate *gate);

/* What a rank has given a block so far. */
enum gate_standing {
	GATE_DUE,      /* this step is the one the block waits for, and it has none of it */
	GATE_HAS,      /* the step is under way and this rank's part is in */
	GATE_DONE,     /* the step is complete */
	GATE_AHEAD,    /* the step is not due yet */
};
enum gate_standing gate_standing(const struct gate *gate, uint32_t block, uint32_t rank,
                                 uint64_t step);

/* The payload of one message.  Some of its blocks may be folded long before others,
 * but its memory is free only when the last of them is: until then all of it counts
 * as waiting, as it does in its sender's window. */
struct parcel;

/* Keeps the payload, and counts it, until gate_unpacked and while contributions
 * need it.  NULL without memory. */
struct parcel *gate_unpack(struct gate *gate, struct buf *payload);
/* All its blocks have been admitted.  NULL is fine. */
void gate_unpacked(struct gate *gate, struct parcel *parcel);

/* A contribution to one block.  values are of the type, which may be another for each rank
 * of a step, and of the segments in mask (NULL:
 * all) one after the other; NULL values mean that the rank has nothing.  The
 * parcel they lie in is held until they are folded or committed. */
struct gate_push {
	uint32_t block;
	uint32_t rank;
	uint64_t incarnation;
	uint64_t step;
	double weight; /* samples; 0: not given */
	double loss_scale; /* values are divided by it; 0: by nothing */
	bool poisoned; /* not finite: values are not looked at, and the step is skipped; sync only */
	uint32_t poison_tensor_plus_one;
	const void *values;
	enum dtype type;
	const uint8_t *mask;
	uint32_t mask_bytes;
	struct parcel *parcel; /* may be NULL without values */
	struct wait *wait; /* told by counting down unfolded */
};

/* Whether a contribution that is GATE_DUE goes with those that the block has:
 * OPTD_CONFLICT when some ranks of this step give weights and others do not.  A
 * rank that has nothing may leave its weight out in either case. */
int gate_check(const struct gate *gate, const struct gate_push *push, char *why, size_t why_bytes);

/* Takes in a contribution that is GATE_DUE and passed gate_check, and folds what
 * can be folded.  OPTD_NO_MEMORY: nothing has changed. */
int gate_admit(struct gate *gate, const struct gate_push *push, char *why, size_t why_bytes);

/* Whether pushes are committed one by one, as they come. */
bool gate_direct(const struct gate *gate);

/* Where direct: the version that a block gets from the contribution of this rank
 * that waits for it, which must be there. */
uint64_t gate_version(const struct gate *gate, uint32_t block, uint32_t rank);

/* If the block can be committed, fills *commit (good until gate_committed) and
 * returns true.  commit->number is the caller's to set. */
bool gate_next(struct gate *gate, uint32_t block, struct commit *commit);
/* The commit was applied: the block begins its next step. */
void gate_committed(struct gate *gate, uint32_t block);

/* Whole tensors, whose commits take long, come into a queue instead: puts the tensor of
 * this block there if it is complete, and neither there nor being updated. */
void gate_due(struct gate *gate, uint32_t block);
/* The blocks of the first in the queue, or NULL. */
const struct layout_run *gate_due_first(const struct gate *gate);
/* Takes it from there.  Fills *commit, good until gate_committed of all its blocks; false
 * if one of them is held. */
bool gate_due_take(struct gate *gate, struct commit *commit);
/* Whether steps are decided as a whole, and if so: the first that is not; whether all
 * blocks have collected it; and its part of each segment of the shard, 0 where it has none. */
struct lane_message;
bool gate_decides(const struct gate *gate);
uint64_t gate_step(const struct gate *gate);
bool gate_collected(const struct gate *gate);
const double *gate_step_parts(const struct gate *gate);
/* The decision on that step: its blocks can be committed.  Borrows the message until all
 * blocks have been. */
void gate_decided(struct gate *gate, const struct lane_message *decision);
/* A block that has not collected it, or UINT32_MAX. */
uint32_t gate_uncollected(const struct gate *gate);

/* Who waits for a block's step with what this rank has given it, or NULL: at most one,
 * since a resend takes its place.  GATE_HAS only. */
struct wait *gate_waiter(const struct gate *gate, uint32_t block, uint32_t rank);

/* A resend: the contribution already there now speaks for this wait and no longer
 * for another.  If its bytes are still held, moves the count in unfolded along. */
void gate_rejoin(struct gate *gate, uint32_t block, uint32_t rank, struct wait *wait);

/* The wait is going away: contributions stay and no longer speak of it. */
void gate_forget(struct gate *gate, struct wait *wait);

/* The wait has no bytes that are not folded: it is to be told of it. */
void gate_tell(struct gate *gate, struct wait *wait);
/* The next wait whose bytes have all been folded and that has not been told, in order
 * of arrival; it counts as told from here on.  NULL when there is none left. */
struct wait *gate_folded(struct gate *gate);

/* Ranks the block's step still misses, lowest first; returns how many there are,
 * writes at most room. */
uint32_t gate_missing(const struct gate *gate, uint32_t block, uint32_t *ranks, uint32_t room);

/* Holds back commits of a block, and lets them go again. */
void gate_hold(struct gate *gate, uint32_t block, bool held);

/* Bytes of the payloads that wait in the gate, each until all of it is folded. */
uint64_t gate_waiting_bytes(const struct gate *gate);

#endif
