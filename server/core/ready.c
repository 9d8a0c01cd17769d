/* Lists through the waits, and a ring of the peers that have pulls in theirs. */
#include "server/core/ready.h"

#include <assert.h>

#include "server/core/verbs.h"

static struct ready_list *list_of(struct engine *engine, const struct wait *wait)
{
	return wait->verb == MSG_PULL || wait->kept ? &engine->sessions[wait->peer].ready : &engine->ready.pushes;
}

/* ---- turns -------------------------------------------------------------- */

static void turn_add(struct engine *engine, uint32_t peer)
{
	struct ready *ready = &engine->ready;

	if (engine->sessions[peer].in_turn)
		return;
	engine->sessions[peer].in_turn = true;
	if (ready->peer_count++ == 0)
		ready->first_peer = peer;
	else
		engine->sessions[ready->last_peer].next_peer = peer;
	ready->last_peer = peer;
}

static uint32_t turn_take(struct engine *engine)
{
	struct ready *ready = &engine->ready;
	uint32_t peer = ready->first_peer;

	assert(ready->peer_count > 0);
	engine->sessions[peer].in_turn = false;
	ready->first_peer = engine->sessions[peer].next_peer;
	ready->peer_count--;
	return peer;
}

/* ---- the lists ---------------------------------------------------------- */

void ready_add(struct engine *engine, struct wait *wait)
{
	struct ready_list *list = list_of(engine, wait);

	assert(!wait->ready && !wait->watching.in);
	wait->ready = true;
	/* From here on its receiver has the time that others had to complete it. */
	wait->since_ms = engine->now_ms;
	wait->next_ready = NULL;
	wait->previous_ready = list->last;
	if (list->last != NULL)
		list->last->next_ready = wait;
	else
		list->first = wait;
	list->last = wait;
	if (wait->verb == MSG_PULL || wait->kept)
		turn_add(engine, wait->peer);
}

void ready_remove(struct engine *engine, struct wait *wait)
{
	struct ready_list *list = list_of(engine, wait);

	if (!wait->ready)
		return;
	wait->ready = false;
	engine->sessions[wait->peer].kept -= wait->kept;
	if (wait->previous_ready != NULL)
		wait->previous_ready->next_ready = wait->next_ready;
	else
		list->first = wait->next_ready;
	if (wait->next_ready != NULL)
		wait->next_ready->previous_ready = wait->previous_ready;
	else
		list->last = wait->previous_ready;
}

void ready_keep(struct engine *engine, struct wait *wait)
{
	assert(wait->ready && !wait->kept);
	ready_remove(engine, wait);
	wait->kept = true;
	engine->sessions[wait->peer].kept++;
	ready_add(engine, wait);
}

struct wait *ready_push(const struct engine *engine)
{
	return engine->ready.pushes.first;
}

/* The first whose weights are not being updated, or NULL. */
static struct wait *first_of(const struct ready_list *list)
{
	struct wait *wait = list->first;

	while (wait != NULL && wait_is_busy(wait))
		wait = wait->next_ready;
	return wait;
}

struct wait *ready_kept(struct engine *engine, const struct engine_room *room)
{
	for (uint32_t left = engine->ready.peer_count; left > 0; left--) {
		uint32_t peer = turn_take(engine);
		struct wait *wait = first_of(&engine->sessions[peer].ready);
		if (engine->sessions[peer].ready.first == NULL)
			continue;
		turn_add(engine, peer);
		if (wait == NULL)
			continue;
		if (room == NULL || room->has(room->user, wait))
			return wait;
	}
	return NULL;
}
