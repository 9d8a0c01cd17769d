/*
 * Vector: the loops of the data path that are not an update rule: scale, fold,
 * and the search for NaN and Inf.
 */
#include <string.h>

#include "optim/kernel.h"

/* Not restrict: out may be x itself, and the compiler's own check of that costs
 * nothing. */
static void scale(float *out, const float *x, float a, size_t n)
{
	if (a == 1) {
		memmove(out, x, n * sizeof(*out));
		return;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = a * x[i];
}

static void fold(float *restrict out, const float *restrict x, float a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = out[i] + a * x[i];
}

/* Bits of |x|; NaN and Inf are the only ones from FINITE_END on. */
#define FINITE_END 0x7f800000

static inline int32_t magnitude(const float *x)
{
	int32_t bits;

	memcpy(&bits, x, sizeof(bits));
	return bits & 0x7fffffff;
}

/* Looks at the largest magnitude of a piece, which vectorises where an early
 * return would not, and at single elements only in a piece that holds one. */
static size_t first_not_finite(const float *x, size_t n)
{
	enum { PIECE = 1024 };

	for (size_t begin = 0; begin < n; begin += PIECE) {
		size_t end = n - begin < PIECE ? n : begin + PIECE;
		int32_t largest = 0;

		for (size_t i = begin; i < end; i++) {
			int32_t m = magnitude(&x[i]);

			largest = m > largest ? m : largest;
		}
		if (largest < FINITE_END)
			continue;
		for (size_t i = begin; i < end; i++) {
			if (magnitude(&x[i]) >= FINITE_END)
				return i;
		}
	}
	return n;
}

const struct vector_row KERNEL(optim_vector) = { scale, fold, first_not_finite };
