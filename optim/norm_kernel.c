/*
 * Norm: sums of powers of a gradient's elements, for clipping.
 *
 * The order of summation belongs to the result, so it is fixed: LANES running sums
 * in double, element i going to sum i modulo LANES, and at the end the sums added in
 * a tree.  A vector unit of any width does the same additions.  The square of a float
 * is exact in double.
 */
#include "optim/kernel.h"
#include "optim/kernel_pow.h"

enum { LANES = 32 };

enum power { ABSOLUTE, SQUARE, ANY };

static double tree(const double *sums)
{
	double half[LANES];

	for (int i = 0; i < LANES; i++)
		half[i] = sums[i];
	for (int n = LANES / 2; n > 0; n /= 2) {
		for (int i = 0; i < n; i++)
			half[i] = half[i] + half[i + n];
	}
	return half[0];
}

static inline double powered(float x, double p, enum power power)
{
	if (power == ABSOLUTE)
		return fabs((double)x);
	if (power == SQUARE)
		return (double)x * (double)x;
	return (double)kernel_pow(fabsf(x), (float)p);
}

static inline __attribute__((always_inline)) double sum_of(const float *x, size_t n, double p,
                                                           enum power power)
{
	double sums[LANES] = { 0 };
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		for (int lane = 0; lane < LANES; lane++)
			sums[lane] = sums[lane] + powered(x[i + (size_t)lane], p, power);
	}
	for (int lane = 0; i < n; i++, lane++)
		sums[lane] = sums[lane] + powered(x[i], p, power);
	return tree(sums);
}

static double power_sum(const float *x, size_t n, double p)
{
	if (p == 1)
		return sum_of(x, n, p, ABSOLUTE);
	if (p == 2)
		return sum_of(x, n, p, SQUARE);
	return sum_of(x, n, p, ANY);
}

/* NaN wins. */
static float largest(const float *x, size_t n)
{
	float lanes[LANES] = { 0 };
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		for (int lane = 0; lane < LANES; lane++)
			lanes[lane] = kernel_max(lanes[lane], fabsf(x[i + (size_t)lane]));
	}
	for (int lane = 0; i < n; i++, lane++)
		lanes[lane] = kernel_max(lanes[lane], fabsf(x[i]));
	for (int lane = 1; lane < LANES; lane++)
		lanes[0] = kernel_max(lanes[0], lanes[lane]);
	return lanes[0];
}

/* NaN passes through both comparisons, as through torch.clamp. */
static void clamp(float *out, const float *x, float limit, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float xi = x[i];

		xi = xi < -limit ? -limit : xi;
		out[i] = xi > limit ? limit : xi;
	}
}

const struct norm_row KERNEL(optim_norm) = { power_sum, largest, clamp };
