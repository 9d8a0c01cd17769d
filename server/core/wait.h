/*
 * Wait: requests that cannot be answered yet.
 *
 * A push waits until the step of its blocks is complete, a pull until its
 * blocks have seen enough updates.  Which block a wait looks at meanwhile is
 * the watch's to know (server/core/watch.h).
 */
#ifndef OPTD_CORE_WAIT_H
#define OPTD_CORE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/msg.h"
#include "server/base/buf.h"
#include "server/base/heap.h"

struct shard;

struct wait {
	struct wait *next, *previous;           /* all, by arrival */
	struct wait *next_ready, *previous_ready; /* of those that have all: server/core/ready.h */
	bool ready;
	bool kept; /* ready, and its answer has weights that its peer had no room for */
	struct shard *shard;
	uint64_t order;                         /* of arrival, in its list */
	struct heap_node watching; /* the block it waits for, by the version it takes */
	struct heap_node folded;   /* its bytes are folded and it has not been told */
	uint32_t part, block;      /* up to this block of this part all have come */
	uint32_t peer;
	uint64_t session;
	uint64_t request;
	enum msg_verb verb;
	int32_t rank;
	uint64_t step;        /* pushes: the step that must complete */
	uint64_t min_version; /* pulls */
	enum msg_source source; /* pulls; of a push it is the weights */
	uint32_t unfolded;    /* blocks whose bytes are still held */
	bool folded_told;
	uint64_t zeroed; /* elements of this push that counted as 0 */
	uint64_t since_ms, told_ms;
	uint64_t payload_bytes; /* of weights in the answer */
	struct buf *own; /* what is answered in place of weights, or NULL: server/core/own.h */
	uint32_t bytes; /* that this takes */
	uint32_t part_count;
	struct msg_part parts[]; /* masks behind them in the same allocation */
};

struct wait_list {
	struct wait *first, *last;
	struct wait *at; /* the next one that a round over all of them comes to, or NULL */
	struct wait *telling; /* likewise, of those who may have to hear: server/core/reject.h */
	uint32_t count;
	uint64_t added; /* ever */
};

/* A copy of what an answer will need, not in any list; NULL without memory. */
struct wait *wait_new(uint32_t peer, const struct msg *request, uint64_t now_ms);
void wait_free(struct wait *wait);

void wait_append(struct wait_list *list, struct wait *wait);
void wait_remove(struct wait_list *list, struct wait *wait);

#endif
