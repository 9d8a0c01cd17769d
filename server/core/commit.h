/*
 * Commit: the one kind of change to a model.
 *
 * Whatever changes a model's weights, optimizer state, versions or counters is
 * described by a commit and done by model_apply.  A run's commits, replayed on
 * an empty model of the same settings, give the same bytes.
 */
#ifndef OPTD_CORE_COMMIT_H
#define OPTD_CORE_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "optim/optim.h"

struct change;

enum commit_kind {
	COMMIT_INIT, /* values are a block's first weights */
	COMMIT_STEP, /* values are its reduced gradient */
	COMMIT_SETTINGS, /* of no block: updates use other hyper-parameters from a version on */
};

/* A rank whose push is in the commit, and which push that was. */
struct commit_contributor {
	uint32_t rank;
	uint64_t incarnation;
	uint64_t step;
};

/* The scalars of a segment that is updated for the t-th time, with the numbers that
 * its rule carries from update to update.  A block's segments of one parameter group
 * nearly always share them. */
struct commit_scalars {
	uint64_t t;
	uint32_t group; /* server/core/group.h */
	struct optim_carry before, after;
	struct optim_scalars scalars;
};

struct commit {
	uint64_t number; /* place in this lane's order, from 1 */
	enum commit_kind kind;
	uint32_t block;   /* index in the layout */
	uint32_t more;    /* blocks behind it that it is of as well: those of a whole tensor */
	uint64_t version; /* of each, after this commit */
	const struct commit_contributor *contributors;
	uint32_t contributor_count;
	/* Segments that get an update: bit i is the block's i-th; NULL: all.
	 * With `empty`, none: the step had nothing for this block, or is skipped. */
	const uint8_t *present;
	bool empty;
	/* A worker's gradient was not finite, or (MSG_SKIPPED_SUM - 1) the norm of their sum: the
	 * step is left out, and nothing but the version, the loss scale, and what is told of it
	 * changes.  With `empty`. */
	bool skipped;
	uint32_t skipped_rank, skipped_tensor_plus_one;
	/* Values of the type, one an element of the blocks; `packed`: of the present
	 * segments only, one after the other. */
	const void *values;
	enum dtype type; /* COMMIT_INIT: DTYPE_F32 */
	bool packed;
	float factor; /* each value is multiplied with it first; of sums 1 */
	const float *factors; /* in place of it, one for each segment of the block; or NULL */
	const struct commit_scalars *scalars; /* one for each t, group and carry of the present */
	uint32_t scalars_count;
	/* COMMIT_SETTINGS alone, which has nothing else: the change, and a version that all
	 * blocks of the daemon have, of which changes that are over may be joined. */
	const struct change *change;
	uint64_t passed;
};

static inline bool commit_has(const uint8_t *mask, uint32_t segment)
{
	return mask == NULL || (mask[segment / 8] >> (segment % 8) & 1) != 0;
}

#endif
