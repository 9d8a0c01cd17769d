/*
 * Daemons: engines that share a model, each a world of its own, and clients that carry the
 * parts of a norm between them by hand.
 *
 * The model is scalars, one block for each engine, unless the test says what else.
 */
#ifndef OPTD_TEST_CORE_DAEMONS_H
#define OPTD_TEST_CORE_DAEMONS_H

#include "tests/support/core_world.h"

#define DAEMONS_MOST 4 /* engines */
#define DAEMONS_RANKS 2

struct daemons {
	uint32_t daemons, lanes, workers;
	struct msg_clip clip;
	const uint64_t *tensors; /* or NULL */
	uint32_t tensor_count;
	struct core_world worlds[DAEMONS_MOST]; /* by daemon, then lane */
	struct core_client clients[DAEMONS_MOST][DAEMONS_RANKS];
};

/* The ranks of at most DAEMONS_RANKS workers join each engine, as peers of their number. */
void daemons_start(struct daemons *d);
void daemons_end(struct daemons *d);

/* Of a daemon's first lane; its blocks of the model, and segments up to a block. */
struct core_world *daemons_world(struct daemons *d, uint32_t daemon);
struct core_client *daemons_client(struct daemons *d, uint32_t daemon, uint32_t rank);
struct layout_run daemons_blocks(struct daemons *d, uint32_t daemon);
uint32_t daemons_segment(struct daemons *d, uint32_t block);
const struct model *daemons_model(struct daemons *d, uint32_t daemon);

/* A gradient of the whole model: what an engine has of it, or all of a daemon's lanes, whose
 * messages to each other then are carried. */
uint64_t daemons_push_lane(struct daemons *d, uint32_t engine, uint32_t rank, uint64_t step, const float *gradient);
uint64_t daemons_push(struct daemons *d, uint32_t daemon, uint32_t rank, uint64_t step, const float *gradient);
void daemons_carry(struct daemons *d, uint32_t daemon);

/* NORM about these blocks, with so many numbers or none. */
struct msg daemons_norm(struct core_client *client, uint64_t step, struct layout_run run);
uint64_t daemons_send(struct core_client *client, uint64_t step, struct layout_run run, const double *numbers,
                      uint32_t count);
/* A daemon is asked for all that is its own, or told all of another's, given the parts of
 * the whole model. */
uint64_t daemons_ask(struct daemons *d, uint32_t daemon, uint32_t rank, uint64_t step);
uint64_t daemons_tell(struct daemons *d, uint32_t daemon, uint32_t rank, uint64_t step, uint32_t of,
                      const double *parts);

/* The answer's numbers, which must be as many. */
const double *daemons_told(struct daemons *d, uint32_t daemon, uint64_t request, uint32_t count);

#endif
