/* A few copies, the oldest replaced first. */
#include "server/core/share.h"

#include <string.h>

/* A mask is hardly ever another's as well, and takes more to compare and keep. */
static bool shareable(const struct msg_part *parts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (parts[i].mask != NULL)
			return false;
	}
	return count <= LIMIT_PARTS;
}

static uint64_t updates_of(const struct shard *shard, const struct msg_part *parts, uint32_t count)
{
	uint64_t updates = 0;
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t j = 0; j < parts[i].count; j++)
			updates += model_version(shard->model, parts[i].first + j);
	}
	return updates;
}

static bool is_of(const struct share_copy *copy, const struct msg_part *parts, uint32_t count)
{
	if (copy->part_count != count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (copy->parts[i].first != parts[i].first || copy->parts[i].count != parts[i].count)
			return false;
	}
	return true;
}

static struct buf *find(const struct share *share, struct share_key key, const struct msg_part *parts,
                        uint32_t count)
{
	for (int i = 0; i < SHARE_COPIES; i++) {
		const struct share_copy *copy = &share->copies[i];
		if (copy->buf != NULL && copy->key.handle == key.handle && copy->key.source == key.source &&
		    copy->key.updates == key.updates && is_of(copy, parts, count))
			return copy->buf;
	}
	return NULL;
}

static void keep(struct share *share, struct share_key key, const struct msg_part *parts, uint32_t count,
                 struct buf *buf)
{
	struct share_copy *copy = &share->copies[share->next];

	share->next = (share->next + 1) % SHARE_COPIES;
	buf_drop(copy->buf);
	copy->buf = buf_hold(buf);
	copy->key = key;
	copy->part_count = count;
	memcpy(copy->parts, parts, count * sizeof(*parts));
}

struct buf *share_weights(struct share *share, const struct shard *shard, enum msg_source source,
                          const struct msg_part *parts, uint32_t count, struct buf_pool *pool)
{
	if (!shareable(parts, count))
		return shard_weights(shard, source, parts, count, pool);
	struct share_key key = {shard->handle, source, updates_of(shard, parts, count)};
	struct buf *buf = find(share, key, parts, count);
	if (buf != NULL)
		return buf_hold(buf);
	buf = shard_weights(shard, source, parts, count, pool);
	if (buf != NULL)
		keep(share, key, parts, count, buf);
	return buf;
}

void share_clear(struct share *share)
{
	for (int i = 0; i < SHARE_COPIES; i++) {
		buf_drop(share->copies[i].buf);
		share->copies[i].buf = NULL;
	}
}
