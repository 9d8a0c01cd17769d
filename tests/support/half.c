#include "tests/support/half.h"

#include <math.h>

float half_value(enum dtype type, uint16_t bits)
{
	const int fraction_bits = type == DTYPE_BF16 ? 7 : 10, bias = type == DTYPE_BF16 ? 127 : 15;
	const int fraction = bits & ((1 << fraction_bits) - 1);
	const int exponent = bits >> fraction_bits & (2 * bias + 1);
	double value;

	if (exponent == 2 * bias + 1)
		value = fraction == 0 ? (double)INFINITY : (double)NAN;
	else if (exponent == 0)
		value = ldexp(fraction, 1 - bias - fraction_bits);
	else
		value = ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
	return (float)copysign(value, bits >> 15 != 0 ? -1.0 : 1.0);
}

uint16_t half_narrow(enum dtype type, float value)
{
	const int fraction_bits = type == DTYPE_BF16 ? 7 : 10, bias = type == DTYPE_BF16 ? 127 : 15;
	const uint16_t sign = signbit(value) ? 0x8000 : 0;
	int exponent;

	frexp(fabs((double)value), &exponent);
	/* Of 1.xxx, or of the least one where that is below it. */
	exponent = exponent - 1 + bias < 1 ? 1 - bias : exponent - 1;
	int fraction = (int)ldexp(fabs((double)value), fraction_bits - exponent);
	if (fraction >> fraction_bits == 0)
		return (uint16_t)(sign | fraction);
	fraction -= 1 << fraction_bits;
	return (uint16_t)(sign | (exponent + bias) << fraction_bits | fraction);
}

uint16_t half_random(enum dtype type, struct rng *rng)
{
	uint16_t sign = rng_one_in(rng, 2) ? 0x8000 : 0;

	/* Rules square them: not far below 2^-15, where bf16 goes on to 2^-133. */
	if (type == DTYPE_BF16)
		return (uint16_t)(sign | (0x3800 + rng_below(rng, 0x4000 - 0x3800)));
	return (uint16_t)(sign | rng_below(rng, 0x4000));
}

void half_values(enum dtype type, const uint16_t *bits, float *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		values[i] = half_value(type, bits[i]);
}
