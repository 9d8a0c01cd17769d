/*
 * Pool: buffers that travel to ZeroMQ and come back, so that sending a step
 * touches no new memory.
 *
 * A buffer is taken on the client's thread, filled, handed over, and given
 * back by ZeroMQ's own thread when the bytes are in the kernel.  Touching fresh
 * pages is many times slower than copying into warm ones.
 */
#ifndef OPTD_CLIENT_POOL_H
#define OPTD_CLIENT_POOL_H

#include <stddef.h>

struct pool;

struct pool *pool_new(void); /* NULL without memory */
/* Frees the pool and its buffers, all of which must have come back. */
void pool_free(struct pool *pool);

/* A buffer of at least `bytes`, aligned to 64; NULL without memory. */
void *pool_take(struct pool *pool, size_t bytes);
/* Gives a buffer back to the pool that it came from.  From any thread. */
void pool_give(void *buffer);

#endif
