/* The checksum of a payload: XXH3, 64 bits, which runs at the speed of memory. */
#include "proto/wire.h"

/* gcc's -O2 leaves the accumulators in memory: 13 GB/s instead of 28. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t wire_checksum(const void *payload, size_t bytes)
{
	if (bytes == 0)
		return 0;
	uint64_t hash = XXH3_64bits(payload, bytes);
	return hash ? hash : 1;
}
