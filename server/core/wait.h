/*
 * Wait: requests that cannot be answered yet.
 *
 * A push waits until the step of its blocks is complete, a pull until its
 * blocks have seen enough updates.  A wait counts how many of its blocks are
 * still missing; each commit takes its block off the waits that cover it.
 */
#ifndef OPTD_CORE_WAIT_H
#define OPTD_CORE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/msg.h"

struct model;

struct wait {
	struct wait *next, *previous;
	uint32_t peer;
	uint64_t session;
	uint64_t request;
	enum msg_verb verb;
	int32_t rank;
	uint64_t step;        /* pushes: the step that must complete */
	uint64_t min_version; /* pulls */
	uint32_t missing;     /* blocks still to come; for pulls, once the model is ready */
	uint32_t unfolded;    /* blocks whose bytes are still held */
	bool folded_told;
	uint64_t since_ms, told_ms;
	uint32_t part_count;
	struct msg_part parts[]; /* masks behind them in the same allocation */
};

struct wait_list {
	struct wait *first, *last;
	uint32_t count;
};

/* A copy of what an answer will need, not in any list; NULL without memory. */
struct wait *wait_new(uint32_t peer, const struct msg *request, uint64_t now_ms);
void wait_free(struct wait *wait);

void wait_append(struct wait_list *list, struct wait *wait);
void wait_remove(struct wait_list *list, struct wait *wait);

/* Whether the wait is of this peer's request, or of an earlier one of its rank about
 * the same segments of the same step: of pushes, which the newer one stands for. */
bool wait_repeats(const struct wait *wait, uint32_t peer, const struct msg *request);

/* Whether a block that now has `version` was one of those the wait missed. */
bool wait_covers(const struct wait *wait, uint32_t block);
bool wait_satisfied_by(const struct wait *wait, uint32_t block, uint64_t version);

#endif
