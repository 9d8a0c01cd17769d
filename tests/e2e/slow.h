/*
 * Slow: a worker that pushes block by block, so that a test can leave a step
 * standing between two of them.
 *
 * It is the only worker, rank 0, of model "slow": sync, sgd, all zeros.
 */
#ifndef OPTD_TEST_SLOW_H
#define OPTD_TEST_SLOW_H

#include "tests/e2e/speak.h"

#define SLOW_MODEL "slow"
#define SLOW_BLOCKS 2u

/* Connects and opens the model; ended by speak_close. */
void slow_join(struct speaker *speaker, const char *endpoint);
/* Gives a new model its first weights. */
void slow_init(struct speaker *speaker);
/* Pushes some blocks in a step; returns when they are acknowledged. */
void slow_push(struct speaker *speaker, uint64_t step, uint32_t first, uint32_t count);

#endif
