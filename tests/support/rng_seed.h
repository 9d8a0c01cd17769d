/*
 * Rng: random numbers for tests, the same everywhere from the same seed.
 *
 * A test takes its seed from the environment (OPTD_SEED) or from the clock, and
 * prints it, so that a failure can be had again.
 */
#ifndef OPTD_TEST_RNG_SEED_H
#define OPTD_TEST_RNG_SEED_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
	uint64_t state;
};

struct rng rng_new(uint64_t seed);
uint64_t rng_next(struct rng *rng);
/* A number below n; 0 for n == 0. */
uint32_t rng_below(struct rng *rng, uint32_t n);
/* True once in n times. */
bool rng_one_in(struct rng *rng, uint32_t n);
/* A float in (-1, 1) whose size varies over several powers of ten. */
float rng_float(struct rng *rng);

/* OPTD_SEED, or a number from the clock. */
uint64_t rng_seed(void);
/* A number from the environment, or `otherwise`. */
uint32_t rng_environment(const char *name, uint32_t otherwise);

#endif
