/*
 * Ready: waits that have all they waited for and are not answered yet.
 *
 * One commit can concern any number of waits, and an answer takes memory: more than
 * its wait, and with weights far more.  So a commit only puts them here, and they are
 * answered one after the other, each when the one before is on its way.  Pushes come
 * first, in the order in which they were completed.  Then pulls, and pushes whose
 * weights their peer had no room for: each peer's in that order and peers in turn.  One
 * whose transport has no room is passed over, so that who reads slowly delays himself
 * only.
 *
 * Only the files behind the engine include this.
 */
#ifndef OPTD_CORE_READY_H
#define OPTD_CORE_READY_H

#include <stdint.h>

#include "server/core/wait.h"

struct engine;
struct engine_room;

/* Waits in the order in which they were completed. */
struct ready_list {
	struct wait *first, *last;
};

struct ready {
	struct ready_list pushes; /* all others are with their sessions */
	uint32_t first_peer, last_peer; /* of those in turn, if there are any */
	uint32_t peer_count;
};

/* Puts a wait that looks at nothing any more behind the others. */
void ready_add(struct engine *engine, struct wait *wait);
/* Takes it out; harmless if it is not ready. */
void ready_remove(struct engine *engine, struct wait *wait);

/* Puts a push behind its peer's pulls. */
void ready_keep(struct engine *engine, struct wait *wait);

/* The push to answer next, or NULL. */
struct wait *ready_push(const struct engine *engine);
/* The one to answer next of those with their sessions that there is room for, or NULL;
 * its peer's turn has passed then.  room may be NULL: there always is. */
struct wait *ready_kept(struct engine *engine, const struct engine_room *room);

#endif
