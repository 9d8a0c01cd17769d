/*
 * Model: the parameters, optimizer state, versions and counters that one lane
 * holds of a model, which is its shard.
 *
 * The struct is open to be read; model_apply is the only thing that changes
 * what a checkpoint would store.  Memory is taken once, when the model is made.
 */
#ifndef OPTD_CORE_MODEL_H
#define OPTD_CORE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "optim/optim.h"
#include "optim/tensor.h"
#include "proto/layout.h"
#include "proto/msg.h"
#include "server/core/average.h"
#include "server/core/change.h"
#include "server/core/commit.h"
#include "server/core/group.h"
#include "server/core/history.h"
#include "server/core/scaler.h"
#include "server/core/skips.h"

struct model_settings {
	struct optim optim; /* of tensors that no group has */
	struct groups groups;
	struct average average;
	enum msg_mode mode;
	enum msg_reduce reduce;
	uint32_t workers; /* ranks of a step in sync; in async only a hint */
	uint32_t step_timeout_ms;
	struct msg_clip clip; /* server/core/clipping.h */
	enum msg_nonfinite nonfinite;
	struct msg_loss_scale loss_scale;
};

/* Where a lane stands among those that share a model. */
struct model_place {
	uint32_t daemon, daemons;
	uint32_t lane, lanes;
};

/* An update of a whole tensor, which is done in slices. */
struct model_update {
	bool running;
	struct commit commit; /* what it points to stays until the end */
	struct commit_scalars scalars;
	struct optim optim; /* with the changes that hold for it */
	float *slots[OPTIM_SLOTS_MAX];
	struct tensor_update tensor;
	bool updated;      /* what is left is the average */
	uint64_t averaged; /* elements */
};

struct model {
	char name[LIMIT_NAME_BYTES];
	char run[LIMIT_NAME_BYTES]; /* the job's own name for the run, or "" */
	uint64_t run_id;
	struct model_settings settings; /* as it was made */
	struct changes changes;         /* what lies over them */
	struct model_place place;
	struct layout *layout; /* owned */
	uint64_t layout_id;
	struct layout_run owned;      /* blocks of this shard */
	uint64_t begin, elements;     /* the same in elements */
	uint32_t first_segment, segment_count;
	float *weights;               /* [elements] */
	/* [slot_count][slot_elements]: as many as the group that needs most.  Each lies as the
	 * weights do, and what a tensor's group does not need is never touched; or, packed
	 * (server/core/whole.h), has just what is needed, from slot_begins on. */
	float *slots[OPTIM_SLOTS_MAX];
	uint64_t slot_elements[OPTIM_SLOTS_MAX];
	uint64_t *slot_begins[OPTIM_SLOTS_MAX]; /* [segment_count] where packed, or NULL */
	uint32_t slot_count;
	float *scratch; /* [scratch_elements] for the update of a whole tensor */
	uint64_t scratch_elements;
	struct model_update update;
	float *average; /* [elements]; NULL where none is kept */
	uint64_t *versions; /* [owned.count] updates that block has seen */
	uint8_t *ready;     /* [owned.count] has its first weights */
	uint64_t *updates;  /* [segment_count] updates that segment has seen; frozen: none */
	struct optim_carry *carries; /* [segment_count]; NULL where no rule carries anything */
	uint8_t *groups;    /* [segment_count] number of the tensor's group; NULL: all are 0 */
	bool mixed;         /* a loss scale is in what some groups take, and not in all (groups_mixed) */
	uint32_t ready_count;
	/* Async: seen[rank][block of the shard] is the number of that rank's steps
	 * the block has taken in, so that a push sent again is known for what it is.
	 * NULL for ranks never seated.  In sync the versions say the same. */
	uint64_t **seen;
	uint32_t seats;
	struct scaler scaler; /* the same on all lanes: each sees the same steps skipped */
	struct skips skips;   /* of blocks here */
	bool restored;
	struct history history; /* of its restores */
	struct model_source {
		uint64_t epoch;   /* in which the checkpoint was written */
		uint64_t version; /* of the furthest block there */
		bool final;       /* as that epoch's last act */
	} source; /* of a restored model */
	int64_t born_ms; /* lane time of creation; of a restored model, of its checkpoint,
	                    which is before the lane began and so may be negative */
	int64_t created_s; /* unix time of creation, of a restored model; else 0 */
};

/* Vectors as long as the model that it has: weights, state unless that is packed, average. */
uint32_t model_vector_count(const struct model_settings *settings);

/* Bytes that model_new would take, and the layout takes, whose tables each lane has. */
uint64_t model_bytes(const struct model_settings *settings, const struct layout *layout,
                     struct model_place place);

/* A model without weights.  Takes *layout, which is cut for these rules (whole_cut) and
 * has a tensor for each group (groups_fit).  NULL without memory: then *layout is still the caller's. */
struct model *model_new(const char *name, const struct model_settings *settings,
                        struct layout **layout, struct model_place place);
void model_free(struct model *model);

/* Makes room for a rank's duplicate checks; needed once before its first push in
 * async.  OPTD_NO_MEMORY leaves the model as it was. */
int model_seat(struct model *model, uint32_t rank);
/* Steps of this rank that the block has taken in (async). */
uint64_t model_seen(const struct model *model, uint32_t rank, uint32_t block);

bool model_owns(const struct model *model, uint32_t block);
const struct layout_block *model_block(const struct model *model, uint32_t block);
/* The block's elements in this shard's arrays. */
uint64_t model_offset(const struct model *model, uint32_t block);
/* Likewise where they begin in a slot. */
uint64_t model_slot_offset(const struct model *model, uint32_t block, uint32_t slot);
uint64_t model_version(const struct model *model, uint32_t block);
bool model_block_ready(const struct model *model, uint32_t block);
bool model_ready(const struct model *model);
/* Lowest and highest version over the shard's blocks; 0, 0 for an empty one. */
void model_versions(const struct model *model, uint64_t *lowest, uint64_t *highest);

/* What segment `index` of the shard is updated by, as the model was made: for what changes
 * do not touch, such as the rule.  NULL: it is frozen. */
const struct optim *model_optim_made(const struct model *model, uint32_t index);

/* Whether its gradient counts in the norms that a step is clipped by: frozen tensors and
 * pushes of values have none. */
bool model_has_gradient(const struct model *model, uint32_t index);

/* Whether a loss scale is in what is pushed of it (groups_scaled). */
bool model_is_scaled(const struct model *model, uint32_t index);

/* Fills scalars (room for one a segment) with what the present segments of a
 * block need for their next update, frozen ones none; returns how many. */
uint32_t model_scalars(const struct model *model, uint32_t block, const uint8_t *present,
                       struct commit_scalars *scalars);

/* What the groups' next update of a block is done by. */
void model_changed(const struct model *model, uint32_t block, struct changed *out);

/* Whether who pushes segment `i` of a block is answered something else than weights. */
bool model_answers(const struct model *model, uint32_t block, uint32_t i);
/* That answer to x, from the weights as they are and the block's settings (model_changed), or for x without values these themselves;
 * nothing for a segment that has no such answer. */
void model_answer(const struct model *model, enum optim_isa isa, const struct changed *changed, uint32_t block,
                  uint32_t i, struct optim_gradient x, float *out);

/* Does what the commit says.  The commit is right by construction: this asserts. */
void model_apply(struct model *model, enum optim_isa isa, const struct commit *commit);

/* The blocks that one step's commit of this block is of: a whole tensor's, or it alone. */
struct layout_run model_unit(const struct model *model, uint32_t block);
/* Whether the block is part of a whole tensor. */
bool model_is_whole(const struct model *model, uint32_t block);
/* model_apply of a whole tensor in slices: begins, then goes on by about `budget`
 * multiplications at a time until true.  One at a time; meanwhile its weights and slots
 * are in between (model_busy), and all else of the model may change. */
void model_begin(struct model *model, enum optim_isa isa, const struct commit *commit);
bool model_go_on(struct model *model, uint64_t budget);
bool model_busy(const struct model *model, uint32_t block);

/* A restored model goes on in this epoch of the daemon, later than its source's. */
void model_begin_epoch(struct model *model, uint64_t epoch);

/* Declares the shard's weights as given, for a model read from a checkpoint. */
void model_set_ready(struct model *model);

/* A hash of everything model_apply may change, for tests and replay. */
uint64_t model_hash(const struct model *model);

#endif
