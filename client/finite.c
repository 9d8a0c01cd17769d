/*
 * The finite check of a whole gradient, before anything of it is sent.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "client/internal.h"

/* Constant, so that the compiler makes vector code of the inner loop at any
 * level of optimization. */
#define CHUNK 1024u

static uint32_t any_bad32(const float *values, int32_t largest)
{
	uint32_t bad = 0;
	for (uint32_t i = 0; i < CHUNK; i++) {
		uint32_t bits;
		memcpy(&bits, &values[i], sizeof(bits));
		/* The exponent is all ones in NaN and Inf, so their bits are above all
		 * others'; without the sign bit the comparison may be signed, which every
		 * vector unit has. */
		bad |= (uint32_t)((int32_t)(bits & 0x7fffffffu) > largest);
	}
	return bad;
}

static uint64_t check32(const float *values, int32_t largest, uint64_t count)
{
	uint64_t i = 0;
	while (i + CHUNK <= count && !any_bad32(values + i, largest))
		i += CHUNK;
	for (; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, &values[i], sizeof(bits));
		if ((int32_t)(bits & 0x7fffffffu) > largest)
			return i;
	}
	return count;
}

static uint32_t any_bad16(const uint16_t *values, uint16_t largest)
{
	uint32_t bad = 0;
	for (uint32_t i = 0; i < CHUNK; i++)
		bad |= (values[i] & 0x7fffu) > largest;
	return bad;
}

static uint64_t check16(const uint16_t *values, uint16_t largest, uint64_t count)
{
	uint64_t i = 0;
	while (i + CHUNK <= count && !any_bad16(values + i, largest))
		i += CHUNK;
	while (i < count && (values[i] & 0x7fffu) <= largest)
		i++;
	return i;
}

/* The bits of infinity in a type of two bytes. */
static uint16_t infinity_of(enum dtype type)
{
	return type == DTYPE_BF16 ? 0x7f80 : 0x7c00;
}

float finite_limit(double loss_scale)
{
	float factor = loss_scale > 0 && loss_scale < 1 ? (float)(1.0 / loss_scale) : 1.0f;
	float limit = (float)((double)FLT_MAX / (double)factor);

	/* It is that, or next to it. */
	while (!isfinite(factor * limit))
		limit = nextafterf(limit, 0.0f);
	while (isfinite(factor * nextafterf(limit, INFINITY)))
		limit = nextafterf(limit, INFINITY);
	return limit;
}

/* Of a positive, finite number. */
static double f16_value(uint16_t bits)
{
	int exponent = bits >> 10, fraction = bits & 0x3ff;
	return exponent > 0 ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
}

/* The bits of the largest number of a type of two bytes that is not above the limit, which
 * is hardly ever below all that f16 has. */
static uint16_t largest16(enum dtype type, float limit)
{
	uint32_t bits;
	uint16_t largest = 0x7bff;
	memcpy(&bits, &limit, sizeof(bits));
	if (type == DTYPE_BF16)
		return (uint16_t)(bits >> 16);
	while (f16_value(largest) > (double)limit)
		largest--;
	return largest;
}

uint64_t finite_check(const void *values, enum dtype type, uint64_t count, float limit)
{
	int32_t largest;
	memcpy(&largest, &limit, sizeof(largest));
	return type == DTYPE_F32 ? check32(values, largest, count)
	                         : check16(values, largest16(type, limit), count);
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
