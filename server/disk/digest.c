/* Digest: XXH3 behind a door, so that its long header is compiled once. */
#include "server/disk/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Files are little-endian and so are the machines optd runs on: vectors are
 * written as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "optd needs a little-endian machine");

struct digest {
	XXH3_state_t *state; /* on its own: it wants 64-byte alignment */
};

struct digest *digest_new(void)
{
	struct digest *digest = malloc(sizeof *digest);

	if (!digest)
		return NULL;
	digest->state = XXH3_createState();
	if (!digest->state) {
		free(digest);
		return NULL;
	}
	digest_reset(digest);
	return digest;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	XXH3_freeState(digest->state);
	free(digest);
}

void digest_reset(struct digest *digest)
{
	XXH3_64bits_reset(digest->state);
}

void digest_add(struct digest *digest, const void *bytes, size_t size)
{
	XXH3_64bits_update(digest->state, bytes, size);
}

uint64_t digest_value(const struct digest *digest)
{
	return XXH3_64bits_digest(digest->state);
}

void digest_name(const char *name, size_t size, char hex[33])
{
	XXH128_hash_t hash = XXH3_128bits(name, size);

	snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64, (uint64_t)hash.low64);
}
