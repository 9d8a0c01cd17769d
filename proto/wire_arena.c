/*
 * The arena: a bump allocator with a budget.
 *
 * Unpacking a message of n bytes can allocate many times n; here it fails
 * cleanly instead, and giving everything back is one assignment.
 */
#include "proto/wire_internal.h"

#include <stdlib.h>

static void *arena_alloc(void *data, size_t size)
{
	struct wire_arena *arena = data;

	if (size > LIMIT_ARENA_BYTES - arena->used)
		return NULL;
	void *memory = arena->bytes + arena->used;
	arena->used += (size + 15) & ~(size_t)15;
	if (arena->used > LIMIT_ARENA_BYTES)
		arena->used = LIMIT_ARENA_BYTES;
	return memory;
}

/* Nothing: the arena is emptied as a whole. */
static void arena_release(void *data, void *pointer)
{
	(void)data;
	(void)pointer;
}

struct wire_arena *wire_arena_new(void)
{
	struct wire_arena *arena = malloc(sizeof(*arena));

	if (!arena)
		return NULL;
	arena->allocator = (ProtobufCAllocator){arena_alloc, arena_release, arena};
	arena->used = arena->mark = 0;
	return arena;
}

void wire_arena_free(struct wire_arena *arena)
{
	free(arena);
}
