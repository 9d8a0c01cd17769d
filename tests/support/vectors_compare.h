/*
 * How near a result is to a recorded one.
 */
#ifndef OPTD_TESTS_VECTORS_COMPARE_H
#define OPTD_TESTS_VECTORS_COMPARE_H

#include <stddef.h>
#include <stdint.h>

/* Steps between two floats in the order of representable values.  NaN equals
 * NaN, +0 equals -0; NaN and a number are UINT32_MAX apart. */
uint32_t vectors_ulp(float a, float b);

/* |got - want| / (FLT_EPSILON * scale), the distance that does not explode near
 * zero; scale is the largest magnitude the element had.  INFINITY where one is
 * NaN or they are different infinities. */
double vectors_sulp(float got, float want, float scale);

#endif
