/*
 * The finite check of a whole gradient, before anything of it is sent.
 */
#include <string.h>

#include "client/internal.h"

/* Constant, so that the compiler makes vector code of the inner loop at any
 * level of optimization. */
#define CHUNK 1024u

static uint32_t any_bad(const float *values)
{
	uint32_t bad = 0;
	for (uint32_t i = 0; i < CHUNK; i++) {
		uint32_t bits;
		memcpy(&bits, &values[i], sizeof(bits));
		/* The exponent is all ones in NaN and Inf; without the sign bit the
		 * comparison may be signed, which every vector unit has. */
		bad |= (uint32_t)((int32_t)(bits & 0x7fffffffu) > 0x7f7fffff);
	}
	return bad;
}

uint64_t finite_check(const float *values, uint64_t count)
{
	uint64_t i = 0;
	while (i + CHUNK <= count && !any_bad(values + i))
		i += CHUNK;
	for (; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, &values[i], sizeof(bits));
		if ((bits & 0x7fffffffu) > 0x7f7fffffu)
			return i;
	}
	return count;
}
