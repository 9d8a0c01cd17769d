/*
 * Skips: steps of a model that were left out, and whose gradient the last of them was for.
 * Who pushes to that step again is told the same.
 */
#ifndef OPTD_CORE_SKIPS_H
#define OPTD_CORE_SKIPS_H

#include <stdint.h>

struct skips {
	uint64_t count;   /* since the daemon started */
	uint64_t version; /* that the last made; 0: there was none */
	uint32_t rank;    /* the lowest whose gradient was not finite, or MSG_SKIPPED_SUM - 1 */
	uint32_t tensor_plus_one; /* the first that was not; 0: nobody said */
};

#endif
