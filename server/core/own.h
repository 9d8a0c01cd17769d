/*
 * Own: answers that are a worker's own, and not the model's weights.
 *
 * A rule such as easgd answers who pushes x with new values for x, which come from x and
 * from the weights as they are before the commit.  Afterwards neither is there.  So what
 * a PUSH_PULL will be answered is made as its blocks are committed, and kept with its wait,
 * in a buffer taken when it arrives: no commit then lacks memory for the answer that it owes.
 * Elements of tensors under other rules are the model's weights, filled in last.
 *
 * Elsewhere an answer that its receiver has no room for takes no memory until there is.
 * These do: they are counted by shard_rank_bytes, and a push beyond that is refused.
 */
#ifndef OPTD_CORE_OWN_H
#define OPTD_CORE_OWN_H

#include "server/core/verbs.h"

/* Whether a PUSH_PULL's answer of so many bytes may be kept: false after a refusal.  Always,
 * for models whose rules have no answers of their own, and for other verbs. */
bool own_allows(struct call *call, uint64_t bytes);

/* Takes the buffer of an answer that is such a one.  OPTD_NO_MEMORY. */
int own_begin(struct engine *engine, struct shard *shard, struct wait *wait);

/* Makes the answer for a block whose commit is about to be applied, if anyone waits for
 * it. */
void own_commit(struct engine *engine, struct shard *shard, const struct commit *commit);

/* Makes it for a block that has this push already: from x as it came again and the weights
 * of now, without another update. */
void own_repeat(struct engine *engine, struct shard *shard, const struct gate_push *push);

/* The answer, complete; NULL if this wait has none of its own.  The caller's to drop. */
struct buf *own_take(struct shard *shard, struct wait *wait);

/* The wait goes away unanswered. */
void own_drop(struct shard *shard, struct wait *wait);

#endif
