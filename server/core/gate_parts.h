/*
 * Gate, the parts: what its files share.  Only they include this.
 *
 *     gate.c         making one, and taking contributions in
 *     gate_fold.c    adding them up in rank order
 *     gate_scale.c   what of them a loss scale divides
 *     gate_decide.c  what is decided about a step as a whole
 *     gate_commit.c  handing out what is complete
 *     gate_tensor.c  likewise whole tensors, all their blocks together
 *     gate_wait.c    who is told of what
 *     gate_poison.c  steps that are skipped
 */
#ifndef OPTD_CORE_GATE_PARTS_H
#define OPTD_CORE_GATE_PARTS_H

#include "server/core/gate.h"
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
	double loss_scale;
	bool poisoned; /* only where direct; values are NULL */
	uint32_t poison_tensor_plus_one;
	const void *values; /* NULL: nothing */
	enum dtype type;
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
	/* The lowest rank that poisoned the step; 0: none has.  Nothing is folded then, and
	 * no contribution kept. */
	uint32_t poison_rank_plus_one, poison_tensor_plus_one;
	bool held;
	bool counted; /* among its tensor's blocks that are complete */
	bool weighed; /* whether it is weighted has been decided */
	bool weighted;
	enum touched touched; /* segments that hold a sum */
	uint8_t *mask;        /* with TOUCHED_SOME; kept for the next time */
};

/* A whole tensor; of a block that is not part of one, nothing but its run. */
struct gate_tensor {
	struct layout_run run;
	uint32_t complete; /* of its blocks; direct: not kept */
	bool queued;
	struct gate_tensor *next; /* in the queue of those that are due */
};

/* A step as a whole.  A block that has all contributions of `step` has collected it; one
 * at the version before has the last decision and has not been committed, since it is
 * held. */
struct gate_decide {
	uint64_t step;      /* all before it are decided */
	uint32_t collected; /* blocks */
	double *parts;      /* [segments] of its norms */
	const struct lane_message *decision; /* on the step before; the lead's to keep */
};

/* What a contribution's elements are multiplied with, by what their tensor's rule takes. */
struct gate_factors {
	float gradient; /* of the loss: the loss scale is divided out */
	float value;    /* anything else */
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
	struct gate_decide *decide; /* NULL: each block commits by itself */
	/* What gate_next hands out. */
	struct commit_contributor *contributors;
	struct commit_scalars *scalars; /* [segments of a block, at most] */
	float *factors; /* likewise, where segments of a block may differ in them; or NULL */
	/* Where tensors are whole: [blocks], those of a tensor at its first. */
	struct gate_tensor *tensors;
	struct gate_tensor *first_due, *last_due;
	struct commit_contributor *tensor_contributors; /* of the update under way */
	struct commit_scalars tensor_scalars;
	float tensor_factor;
};

struct gate_block *gate_block(const struct gate *gate, uint32_t block);
struct seat *gate_seat(const struct gate *gate, uint32_t block, uint32_t rank);
/* The rank's contribution whose bytes are still needed, or NULL. */
struct contribution *gate_waiting(const struct gate *gate, uint32_t block, uint32_t rank);

/* Puts a contribution where it is to be folded, or committed: by rank, or by arrival. */
void gate_queue(struct gate *gate, struct gate_block *b, struct contribution *c);
/* Whether all have come, and what they brought is folded or not needed. */
bool gate_complete(const struct gate *gate, const struct gate_block *b);
/* Folds what can be: weights are known when everyone has come; without weights, a rank
 * can be folded as soon as all lower ones are. */
void gate_fold(struct gate *gate, uint32_t block);
/* The step of the block is to be skipped: lets go of all that waits for it. */
void gate_poison(struct gate *gate, struct gate_block *b, const struct gate_push *push);
/* Those of a share of all, rounded once; of segment `i` of a block; how many from there on
 * have the same. */
struct gate_factors gate_factors(double share, double loss_scale);
float gate_factor(const struct gate *gate, uint32_t block, uint32_t i, struct gate_factors factors);
uint32_t gate_alike(const struct gate *gate, uint32_t block, uint32_t i, struct gate_factors factors);
/* Where direct: adds them to a commit. */
void gate_scale_commit(struct gate *gate, const struct contribution *c, struct commit *commit);
/* Lets go of a contribution's bytes. */
void gate_discard(struct gate *gate, struct contribution *c);
/* The most segments that a block of the run has. */
uint32_t gate_most_segments(const struct layout *layout, struct layout_run run);

/* gate_decide.c: what it takes, makes and gives back; nothing for other models. */
uint64_t gate_decide_bytes(const struct model_settings *settings, const struct layout *layout,
                           struct layout_run run);
bool gate_decide_allocate(struct gate *gate);
void gate_decide_free(struct gate *gate);
/* The block has all contributions of its step. */
void gate_decide_collect(struct gate *gate, uint32_t block);
/* Whether that step is decided. */
bool gate_decide_allows(const struct gate *gate, uint32_t block);
/* Adds the decision to a commit. */
void gate_decide_commit(struct gate *gate, struct commit *commit);
/* gate_tensor.c.  False without memory. */
bool gate_tensors_new(struct gate *gate);
void gate_tensors_free(struct gate *gate);
/* Something of the block was folded; it begins its next step. */
void gate_tensor_folded(struct gate *gate, uint32_t block);
void gate_tensor_emptied(struct gate *gate, uint32_t block);
/* A wait's bytes of one block are folded. */
void gate_fold_told(struct gate *gate, struct wait *wait);

#endif
