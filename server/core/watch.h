/*
 * Watch: which waits a commit concerns.
 *
 * A wait with something missing looks at one block, the first that has not
 * come, in that block's heap under the version it needs there.  A commit takes
 * from its block's heap those it satisfies and leaves the others alone; each
 * goes on to its next missing block or is complete.  So a commit costs what the
 * waits it concerns cost, however many others wait, and a wait takes no memory
 * for its blocks.
 *
 * Only shard.c and the verbs include this.
 */
#ifndef OPTD_CORE_WATCH_H
#define OPTD_CORE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "server/core/shard.h"

/* Makes the wait look at the first block it misses, beginning where it has come
 * to.  False: none is missing.  It must not be watching. */
bool watch_next(struct shard *shard, struct wait *wait);

/* Takes out the next wait that looks at this block and that its version
 * satisfies, in order of arrival; NULL when there is none left. */
struct wait *watch_take(struct shard *shard, uint32_t block);

/* The wait looks at nothing any more; harmless if it did not. */
void watch_leave(struct shard *shard, struct wait *wait);

#endif
