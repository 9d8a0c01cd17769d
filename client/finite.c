/*
 * The finite check of a whole gradient, before anything of it is sent.
 */
#include <string.h>

#include "client/internal.h"

/* Constant, so that the compiler makes vector code of the inner loop at any
 * level of optimization. */
#define CHUNK 1024u

static uint32_t any_bad32(const float *values)
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

static uint64_t check32(const float *values, uint64_t count)
{
	uint64_t i = 0;
	while (i + CHUNK <= count && !any_bad32(values + i))
		i += CHUNK;
	for (; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, &values[i], sizeof(bits));
		if ((bits & 0x7fffffffu) > 0x7f7fffffu)
			return i;
	}
	return count;
}

static uint32_t any_bad16(const uint16_t *values, uint16_t infinite)
{
	uint32_t bad = 0;
	for (uint32_t i = 0; i < CHUNK; i++)
		bad |= (values[i] & 0x7fffu) >= infinite;
	return bad;
}

static uint64_t check16(const uint16_t *values, uint16_t infinite, uint64_t count)
{
	uint64_t i = 0;
	while (i + CHUNK <= count && !any_bad16(values + i, infinite))
		i += CHUNK;
	while (i < count && (values[i] & 0x7fffu) < infinite)
		i++;
	return i;
}

/* The bits of infinity in a type of two bytes. */
static uint16_t infinity_of(enum dtype type)
{
	return type == DTYPE_BF16 ? 0x7f80 : 0x7c00;
}

uint64_t finite_check(const void *values, enum dtype type, uint64_t count)
{
	return type == DTYPE_F32 ? check32(values, count) : check16(values, infinity_of(type), count);
}

const char *finite_name(const void *values, enum dtype type, uint64_t index)
{
	uint32_t bits = 0, infinite = type == DTYPE_F32 ? 0x7f800000u : infinity_of(type);
	uint32_t sign = type == DTYPE_F32 ? 0x80000000u : 0x8000u;
	if (type == DTYPE_F32)
		memcpy(&bits, (const float *)values + index, sizeof(bits));
	else
		bits = ((const uint16_t *)values)[index];
	if ((bits & ~sign) > infinite)
		return bits & sign ? "-nan" : "nan";
	return bits & sign ? "-inf" : "inf";
}
