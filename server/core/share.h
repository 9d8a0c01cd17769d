/*
 * Share: weights that were copied for one answer and serve others.
 *
 * Those whom a commit releases mostly ask for the same parts: in sync every worker, and
 * readers of a whole model.  A copy that was made for one is kept while answers are
 * being made, and given to all who ask for the same blocks at the same versions.
 *
 * Only the files behind the engine include this.
 */
#ifndef OPTD_CORE_SHARE_H
#define OPTD_CORE_SHARE_H

#include <stdint.h>

#include "server/core/shard.h"

/* As many as there are messages of different parts between two of the same, for few
 * workers; together they may take a window. */
#define SHARE_COPIES 4

struct share {
	struct share_copy {
		struct buf *buf; /* held, or NULL */
		struct share_key {
			uint32_t handle;
			enum msg_source source;
			uint64_t updates; /* the sum of the blocks' versions: each of them only rises */
		} key;
		uint32_t part_count;
		struct msg_part parts[LIMIT_PARTS]; /* whole blocks */
	} copies[SHARE_COPIES];
	uint32_t next; /* to be replaced */
};

/* The weights of these parts, or their average, from a copy if there is one: held for the caller; NULL
 * without memory. */
struct buf *share_weights(struct share *share, const struct shard *shard, enum msg_source source,
                          const struct msg_part *parts, uint32_t count, struct buf_pool *pool);

/* Lets the copies go: answers have been made, or a model has begun again. */
void share_clear(struct share *share);

#endif
