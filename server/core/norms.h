/*
 * Norms: the parts of a step's norm, of the whole model, with the lane that decides.
 *
 * Those of its own daemon come from the daemon's lanes.  Where a model is shared among
 * daemons, clients bring the others': who pushes asks each daemon for its parts (NORM),
 * which waits until they are collected, and then tells them to the rest.  So each daemon
 * decides by itself, from the same numbers in the same order, and to the same bits.  All
 * workers do it, so it does not matter which of them dies; what comes again is passed over.
 *
 * The parts of the step before are kept: another daemon may have lost what it was told, by
 * a restart, while this one has decided.
 *
 * After a crash a daemon may repeat steps that others are long past.  Those have parts of
 * another step for them, or none, and say so: they are guessed.  A daemon goes on with such
 * numbers only when every rank has told it some, so that nobody knows better.
 */
#ifndef OPTD_CORE_NORMS_H
#define OPTD_CORE_NORMS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/core/model.h"
#include "server/core/outbox.h"

struct engine;
struct shard;

enum norm_told { NORM_UNKNOWN, NORM_GUESSED, NORM_TOLD };

/* A rank that waits for parts. */
struct norm_ask {
	bool waits;
	uint32_t peer;
	uint64_t session, request;
	uint64_t step;
	struct msg_part part;
};

struct norms {
	const struct layout *layout;
	struct layout_run own; /* blocks of this daemon */
	uint64_t step;         /* all before it are decided */
	bool collected;        /* this daemon's parts of it are there */
	bool has_last;         /* and those of the step before, too */
	double *parts[2];      /* [segments], by parity of the step; one, where nobody asks */
	/* Where other daemons have blocks too, or NULL: */
	uint8_t *told;    /* [blocks] of the step: enum norm_told */
	uint32_t missing; /* blocks of others that have not been told */
	uint32_t unknown; /* of these, those that were not even guessed */
	uint8_t *guesses; /* [workers] who has told guessed parts of the step */
	uint32_t guessing; /* how many have */
	struct norm_ask *asks; /* [workers] */
	uint32_t workers, waiting;
};

uint64_t norms_bytes(const struct model_settings *settings, const struct layout *layout,
                     struct model_place place);
/* Begins with this step.  NULL without memory. */
struct norms *norms_new(const struct model *model, uint64_t step);
void norms_free(struct norms *norms);

/* Where the parts of this step, or of the one before, are kept: [segments]. */
double *norms_parts(const struct norms *norms, uint64_t step);
/* Whether this daemon's own parts of a step are there. */
bool norms_has(const struct norms *norms, uint64_t step);
/* Whether all parts of the step are there. */
bool norms_complete(const struct norms *norms);
/* The step is decided, the next one begins. */
void norms_next(struct norms *norms);
/* A rank tells parts of other daemons' blocks in this step, doubles at any address. */
void norms_tell(struct norms *norms, uint32_t rank, struct msg_part part, const void *parts, bool guessed);

/* The connection is gone. */
void norms_leave(struct norms *norms, uint32_t peer);
/* An answer to a rank that waits, which then does not any more. */
struct outbox_entry *norms_reply(struct engine *engine, struct shard *shard, uint32_t rank, int status,
                                 struct outbox *out);
/* The model is dropped: says so to those who wait; false: there are more than a batch. */
bool norms_end(struct engine *engine, struct shard *shard, struct outbox *out);
/* Answers up to `room` of those who wait, if it is time; how many. */
uint32_t norms_answer(struct engine *engine, struct shard *shard, uint32_t room, struct outbox *out);
/* An answer's payload: the parts of these blocks; NULL without memory. */
struct buf *norms_copy(const struct norms *norms, uint64_t step, struct msg_part part,
                       struct buf_pool *pool);

#endif
