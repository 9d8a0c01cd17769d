/*
 * A stack of buffers under a mutex: the last one given back is the warmest.
 */
#include "client/pool.h"

#include <pthread.h>
#include <stdlib.h>

/* Buffers are made for a full message at once, so that one serves all; pages
 * that are never touched cost nothing. */
#define POOL_BUFFER_BYTES (512u * 1024u)

struct pool {
	pthread_mutex_t mutex;
	struct buffer *spare;
};

/* Stands in front of the bytes. */
struct buffer {
	_Alignas(64) struct pool *pool;
	struct buffer *next;
	size_t bytes;
};

struct pool *pool_new(void)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	if (pool && pthread_mutex_init(&pool->mutex, NULL) != 0) {
		free(pool);
		return NULL;
	}
	return pool;
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	while (pool->spare) {
		struct buffer *next = pool->spare->next;
		free(pool->spare);
		pool->spare = next;
	}
	pthread_mutex_destroy(&pool->mutex);
	free(pool);
}

void *pool_take(struct pool *pool, size_t bytes)
{
	pthread_mutex_lock(&pool->mutex);
	struct buffer *b = pool->spare;
	if (b)
		pool->spare = b->next;
	pthread_mutex_unlock(&pool->mutex);
	if (b && b->bytes < bytes) {
		free(b);
		b = NULL;
	}
	if (!b) {
		size_t room = bytes < POOL_BUFFER_BYTES ? POOL_BUFFER_BYTES : (bytes + 63) / 64 * 64;
		b = aligned_alloc(64, sizeof(*b) + room);
		if (!b)
			return NULL;
		b->pool = pool;
		b->bytes = room;
	}
	return b + 1;
}

void pool_give(void *buffer)
{
	struct buffer *b = (struct buffer *)buffer - 1;
	struct pool *pool = b->pool;
	pthread_mutex_lock(&pool->mutex);
	b->next = pool->spare;
	pool->spare = b;
	pthread_mutex_unlock(&pool->mutex);
}
