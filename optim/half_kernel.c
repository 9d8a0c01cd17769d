/*
 * Half: gradients of two bytes an element, bf16 and IEEE f16, made float32.
 *
 * Both are subsets of float32, so nothing is rounded, and every instruction set gives
 * the same bits.  A signalling NaN of f16 becomes a quiet one, as F16C makes it.
 */
#include <string.h>

#include "optim/kernel.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

static void widen_bf16(float *restrict out, const uint16_t *restrict x, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t bits = (uint32_t)x[i] << 16;

		memcpy(&out[i], &bits, sizeof(bits));
	}
}

/* All ones where the comparison holds: gcc vectorises masks, and no choice between a float
 * and an integer. */
static inline uint32_t mask(bool holds)
{
	return 0u - (uint32_t)holds;
}

/* Exponent and fraction move to float32's place, and the bias grows from 15 to 127; that of
 * Inf and NaN, twice.  Below the least exponent a fraction is a whole number of 2^-24. */
static inline uint32_t f16_bits(uint16_t x)
{
	const int32_t moved = (int32_t)(x & 0x7fffu) << 13;
	const uint32_t top = mask(moved >= 0x0f800000), nan = mask(moved > 0x0f800000);
	const uint32_t tiny = mask(moved < 0x00800000);
	const uint32_t normal = ((uint32_t)moved + 0x38000000u + (top & 0x38000000u)) | (nan & 0x00400000u);
	const float small = (float)(int32_t)(x & 0x03ffu) * 0x1p-24f;
	uint32_t bits;

	memcpy(&bits, &small, sizeof(bits));
	return (tiny & bits) | (~tiny & normal) | (uint32_t)(x & 0x8000u) << 16;
}

static void widen_f16(float *restrict out, const uint16_t *restrict x, size_t n)
{
	size_t i = 0;

#if defined(__F16C__)
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
#endif
	for (; i < n; i++) {
		uint32_t bits = f16_bits(x[i]);

		memcpy(&out[i], &bits, sizeof(bits));
	}
}

/* As vector_kernel.c looks: for the largest magnitude of a piece first. */
static size_t first_not_finite(const uint16_t *x, int16_t end, size_t n)
{
	enum { PIECE = 1024 };

	for (size_t begin = 0; begin < n; begin += PIECE) {
		size_t stop = n - begin < PIECE ? n : begin + PIECE;
		int16_t largest = 0;

		for (size_t i = begin; i < stop; i++) {
			int16_t m = (int16_t)(x[i] & 0x7fff);

			largest = m > largest ? m : largest;
		}
		if (largest < end)
			continue;
		for (size_t i = begin; i < stop; i++) {
			if ((x[i] & 0x7fff) >= end)
				return i;
		}
	}
	return n;
}

const struct half_row KERNEL(optim_half) = {
	.widen = { [DTYPE_BF16] = widen_bf16, [DTYPE_F16] = widen_f16 },
	.finite = first_not_finite,
	.finite_end = { [DTYPE_BF16] = 0x7f80, [DTYPE_F16] = 0x7c00 },
};
