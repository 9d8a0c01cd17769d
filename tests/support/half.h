/* Elements of two bytes, as a test sees them: by sign, exponent and fraction, in double,
 * which is another way than that of the loops. */
#ifndef OPTD_TEST_HALF_H
#define OPTD_TEST_HALF_H

#include <stddef.h>
#include <stdint.h>

#include "proto/dtype.h"
#include "tests/support/rng_seed.h"

/* What the bits mean; exact. */
float half_value(enum dtype type, uint16_t bits);
/* The nearest towards zero, of a finite value that the type can hold. */
uint16_t half_narrow(enum dtype type, float value);
/* Finite, of any magnitude up to 2, denormals of f16 included. */
uint16_t half_random(enum dtype type, struct rng *rng);
/* values[i] = half_value(type, bits[i]) */
void half_values(enum dtype type, const uint16_t *bits, float *values, size_t n);

#endif
