/* SplitMix64: small, and good enough for choosing what a test does. */
#include "tests/support/rng_seed.h"

#include <stdlib.h>
#include <time.h>

struct rng rng_new(uint64_t seed)
{
	return (struct rng){seed};
}

uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint32_t rng_below(struct rng *rng, uint32_t n)
{
	return n == 0 ? 0 : (uint32_t)(rng_next(rng) >> 32) % n;
}

bool rng_one_in(struct rng *rng, uint32_t n)
{
	return rng_below(rng, n) == 0;
}

float rng_float(struct rng *rng)
{
	static const float sizes[] = {1.0f, 1.0f, 0.1f, 1e-3f, 1e-6f};
	float unit = (float)((int64_t)(rng_next(rng) >> 40) - (1 << 23)) / (float)(1 << 23);
	return unit * sizes[rng_below(rng, 5)];
}

uint64_t rng_seed(void)
{
	const char *given = getenv("OPTD_SEED");
	struct timespec now;

	if (given != NULL)
		return strtoull(given, NULL, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec * 1000000007u) ^ (uint64_t)now.tv_nsec;
}

uint32_t rng_environment(const char *name, uint32_t otherwise)
{
	const char *given = getenv(name);
	return given != NULL ? (uint32_t)strtoul(given, NULL, 0) : otherwise;
}
