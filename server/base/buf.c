/* Counted buffers and the pool they return to. */
#include "server/base/buf.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/base/mem.h"

/* Sizes are rounded up to powers of two from 4 KiB on: a few lists serve all. */
#define CLASS_SHIFT 12
#define CLASS_COUNT 32

struct pooled {
	struct buf buf;
	struct buf_pool *pool;
	struct pooled *next;
	unsigned class;
};

struct buf_pool {
	pthread_mutex_t lock;
	struct pooled *idle[CLASS_COUNT];
	size_t idle_bytes;
	size_t keep_bytes;
	size_t out; /* buffers that someone holds */
};

struct buf *buf_hold(struct buf *buf)
{
	atomic_fetch_add_explicit(&buf->holders, 1, memory_order_relaxed);
	return buf;
}

void buf_drop(struct buf *buf)
{
	if (buf == NULL)
		return;
	if (atomic_fetch_sub_explicit(&buf->holders, 1, memory_order_acq_rel) == 1)
		buf->release(buf);
}

static void single_release(struct buf *buf)
{
	free(buf);
}

struct buf *buf_new(size_t bytes)
{
	struct buf *buf = bytes < SIZE_MAX / 2 ? malloc(sizeof(*buf) + bytes) : NULL;
	if (buf == NULL)
		return NULL;
	atomic_init(&buf->holders, 1);
	buf->bytes = bytes;
	buf->room = sizeof(*buf) + bytes;
	buf->data = buf + 1;
	buf->release = single_release;
	return buf;
}

static unsigned class_of(size_t bytes)
{
	unsigned class = 0;
	while (class < CLASS_COUNT && ((size_t)1 << (class + CLASS_SHIFT)) < bytes)
		class++;
	return class;
}

static size_t class_bytes(unsigned class)
{
	return (size_t)1 << (class + CLASS_SHIFT);
}

static void pooled_free(struct pooled *pooled)
{
	mem_free(pooled->buf.data, class_bytes(pooled->class));
	free(pooled);
}

static void pooled_release(struct buf *buf)
{
	struct pooled *pooled = (struct pooled *)buf;
	struct buf_pool *pool = pooled->pool;
	size_t bytes = class_bytes(pooled->class);

	pthread_mutex_lock(&pool->lock);
	pool->out--;
	bool keep = pool->idle_bytes + bytes <= pool->keep_bytes;
	if (keep) {
		pooled->next = pool->idle[pooled->class];
		pool->idle[pooled->class] = pooled;
		pool->idle_bytes += bytes;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!keep)
		pooled_free(pooled);
}

struct buf_pool *buf_pool_new(size_t keep_bytes)
{
	struct buf_pool *pool = calloc(1, sizeof(*pool));
	if (pool == NULL)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pool->keep_bytes = keep_bytes;
	return pool;
}

void buf_pool_free(struct buf_pool *pool)
{
	if (pool == NULL)
		return;
	assert(pool->out == 0);
	for (unsigned class = 0; class < CLASS_COUNT; class++) {
		while (pool->idle[class] != NULL) {
			struct pooled *pooled = pool->idle[class];
			pool->idle[class] = pooled->next;
			pooled_free(pooled);
		}
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static struct pooled *pool_pop(struct buf_pool *pool, unsigned class)
{
	pthread_mutex_lock(&pool->lock);
	struct pooled *pooled = pool->idle[class];
	if (pooled != NULL) {
		pool->idle[class] = pooled->next;
		pool->idle_bytes -= class_bytes(class);
	}
	pool->out++;
	pthread_mutex_unlock(&pool->lock);
	return pooled;
}

static struct pooled *pooled_new(struct buf_pool *pool, unsigned class)
{
	struct pooled *pooled = calloc(1, sizeof(*pooled));
	if (pooled == NULL)
		return NULL;
	pooled->buf.data = mem_new(class_bytes(class));
	if (pooled->buf.data == NULL) {
		free(pooled);
		return NULL;
	}
	pooled->buf.room = class_bytes(class);
	pooled->buf.release = pooled_release;
	pooled->pool = pool;
	pooled->class = class;
	return pooled;
}

struct buf *buf_pool_take(struct buf_pool *pool, size_t bytes)
{
	unsigned class = class_of(bytes);
	if (class >= CLASS_COUNT)
		return NULL;
	struct pooled *pooled = pool_pop(pool, class);
	if (pooled == NULL)
		pooled = pooled_new(pool, class);
	if (pooled == NULL) {
		pthread_mutex_lock(&pool->lock);
		pool->out--;
		pthread_mutex_unlock(&pool->lock);
		return NULL;
	}
	pooled->buf.bytes = bytes;
	atomic_store_explicit(&pooled->buf.holders, 1, memory_order_relaxed);
	return &pooled->buf;
}
