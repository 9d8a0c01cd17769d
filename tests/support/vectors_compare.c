/*
 * Distances between floats, see the header.
 */
#include "tests/support/vectors_compare.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Place among all floats, both zeros being 0. */
static int64_t place(float x)
{
	int32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits >= 0 ? bits : -(int64_t)(bits & 0x7fffffff);
}

uint32_t vectors_ulp(float a, float b)
{
	int64_t distance;

	if (isnan(a) || isnan(b))
		return isnan(a) && isnan(b) ? 0 : UINT32_MAX;
	distance = place(a) - place(b);
	return (uint32_t)(distance < 0 ? -distance : distance);
}

double vectors_sulp(float got, float want, float scale)
{
	double largest = isfinite(scale) ? scale : fabs((double)want);
	double sulp;

	if (vectors_ulp(got, want) == 0)
		return 0;
	if (largest < FLT_MIN)
		largest = FLT_MIN;
	sulp = fabs((double)got - (double)want) / largest / FLT_EPSILON;
	return isnan(sulp) ? INFINITY : sulp;
}
