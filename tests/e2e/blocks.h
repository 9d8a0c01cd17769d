/*
 * Blocks: a worker in mode async that pushes one block at a time, so that a
 * test decides how far each of them is.
 *
 * It is rank 0 of a model of BLOCKS blocks, sgd, first weights zero.
 */
#ifndef OPTD_TEST_BLOCKS_H
#define OPTD_TEST_BLOCKS_H

#include "tests/e2e/speak.h"

#define BLOCKS 3u

/* Connects, opens the model and, if it is new, gives it its weights; ended by
 * speak_close. */
void blocks_join(struct speaker *speaker, const char *endpoint, const char *model);
/* Gives these blocks their weights, and says that they are all of this lane's. */
void blocks_init(struct speaker *speaker, uint32_t first, uint32_t count);
/* Pushes to one block; returns when it is acknowledged. */
void blocks_push(struct speaker *speaker, uint32_t block, uint64_t step);
/* SAVE or DROP of this model, or of all for ""; not answered yet. */
struct msg blocks_named(struct speaker *speaker, enum msg_verb verb, const char *model);
/* The same, answered: its status. */
int blocks_ask(struct speaker *speaker, enum msg_verb verb, const char *model);

#endif
