/*
 * Buf: bytes with a count of those who hold them.
 *
 * A payload that has arrived and waits for its turn, or weights on their way to
 * several workers, are one buffer with several holders; the last one to let go
 * gives it back to where it came from.  Counts are atomic, because a buffer that
 * is being sent is released by the transport's own thread.  The bytes do not
 * change once a buffer has a second holder.
 */
#ifndef OPTD_BASE_BUF_H
#define OPTD_BASE_BUF_H

#include <stdatomic.h>
#include <stddef.h>

struct buf {
	atomic_uint holders;
	size_t bytes;
	size_t room; /* memory it takes, at least bytes */
	void *data;
	void (*release)(struct buf *buf); /* called once, by the last holder */
};

struct buf *buf_hold(struct buf *buf);
/* NULL is fine. */
void buf_drop(struct buf *buf);

/* A buffer of just `bytes`, contents undefined, with one holder: for what is small and
 * may be kept long.  NULL without memory. */
struct buf *buf_new(size_t bytes);

/* A pool keeps released buffers for the next taker, so that memory stays warm.
 * It may be used from several threads. */
struct buf_pool;

/* keep_bytes: how much the pool may keep idle. NULL without memory. */
struct buf_pool *buf_pool_new(size_t keep_bytes);
/* Every buffer must have been dropped before. */
void buf_pool_free(struct buf_pool *pool);

/* A buffer of `bytes`, contents undefined, with one holder; NULL without memory.  It
 * takes 4 KiB or the next power of two. */
struct buf *buf_pool_take(struct buf_pool *pool, size_t bytes);

#endif
