/*
 * Kernel pow: x^p for x >= 0, with the same bits on every machine.
 *
 * libm's pow() chooses among versions by the processor it runs on, and their last
 * bits differ.  This one is made of additions, multiplications and one division in
 * double; its error of some 1e-15 is far below half a unit in the last place of a
 * float, so nearly every result is the correctly rounded one.
 */
#ifndef OPTD_OPTIM_KERNEL_POW_H
#define OPTD_OPTIM_KERNEL_POW_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* log2(x) = e + log2(m) with m from sqrt(1/2) to sqrt(2), and
 * log(m) = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716; the first term left out
 * is below 1e-16 of the sum. */
static inline double kernel_log2(double x)
{
	const double per_log = 2.8853900817779268; /* 2 / log(2) */
	int64_t bits, exponent;
	double m, s, q, sum;

	memcpy(&bits, &x, sizeof(bits));
	/* From the bits of sqrt(1/2) on, the exponent counts as one more. */
	exponent = (bits - 0x3fe6a09e667f3bcd) >> 52;
	bits -= exponent * ((int64_t)1 << 52);
	memcpy(&m, &bits, sizeof(m));
	s = (m - 1) / (m + 1);
	q = s * s;
	sum = 1.0 / 19;
	sum = sum * q + 1.0 / 17;
	sum = sum * q + 1.0 / 15;
	sum = sum * q + 1.0 / 13;
	sum = sum * q + 1.0 / 11;
	sum = sum * q + 1.0 / 9;
	sum = sum * q + 1.0 / 7;
	sum = sum * q + 1.0 / 5;
	sum = sum * q + 1.0 / 3;
	sum = sum * q + 1.0;
	return (double)exponent + sum * s * per_log;
}

/* 2^y = 2^k exp(f log(2)), |f| <= 1/2, by exp's series up to the 13th power. */
static inline double kernel_exp2(double y)
{
	const double to_whole = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds */
	double whole, f, sum, scale;
	int64_t bits;

	/* Beyond this a float is 0 or infinite anyway. */
	y = y < -500 ? -500 : y;
	y = y > 500 ? 500 : y;
	whole = (y + to_whole) - to_whole;
	f = (y - whole) * 0.69314718055994530942;
	sum = 1.0 / 6227020800;
	sum = sum * f + 1.0 / 479001600;
	sum = sum * f + 1.0 / 39916800;
	sum = sum * f + 1.0 / 3628800;
	sum = sum * f + 1.0 / 362880;
	sum = sum * f + 1.0 / 40320;
	sum = sum * f + 1.0 / 5040;
	sum = sum * f + 1.0 / 720;
	sum = sum * f + 1.0 / 120;
	sum = sum * f + 1.0 / 24;
	sum = sum * f + 1.0 / 6;
	sum = sum * f + 1.0 / 2;
	sum = sum * f + 1.0;
	sum = sum * f + 1.0;
	bits = ((int64_t)whole + 1023) * ((int64_t)1 << 52);
	memcpy(&scale, &bits, sizeof(scale));
	return sum * scale;
}

/* 0^p is 0, or 1 for p = 0; NaN for NaN and below 0. */
static inline float kernel_pow(float x, float p)
{
	double power = kernel_exp2((double)p * kernel_log2((double)x));
	float result = (float)power;

	result = x > 0 ? result : (x == 0 ? 0.0f : NAN);
	return p == 0 ? 1.0f : result;
}

#endif
