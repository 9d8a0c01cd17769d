/*
 * Reject: in a sync model with nonfinite `reject`, a rank whose gradient is not finite says
 * so by a CLOSE_STEP that is marked.  Nothing of it is taken in; the others, who wait for
 * that rank, are told why, and wait on if they make their calls again.
 *
 * A rank hears of each rejection once: all of its messages that wait in the step, and those
 * of the same call that are still on their way.  A call that is made again begins with a
 * message about a block that was told of already, under a later number: from there on the
 * rank knows.  A message that comes again under its old number has lost its answer, and gets
 * it again.
 *
 * What is kept is one entry a rank, whoever sends what how often.
 */
#ifndef OPTD_CORE_REJECT_H
#define OPTD_CORE_REJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "server/core/model.h"

struct call;
struct engine;
struct msg;
struct outbox;
struct shard;
struct wait;

/* What is known of one rank. */
struct reject {
	/* Its own gradient, while it has none that is finite. */
	uint64_t number; /* in the order in which all came; 0: nothing stands */
	uint64_t client, step, request;
	uint32_t tensor_plus_one; /* 0: nobody said */
	/* Of others'. */
	bool knows;          /* it makes its calls again */
	uint32_t told_block; /* the first that it was told of */
	uint64_t told;       /* the newest, by number */
	uint64_t told_client, told_request; /* the last request that ended with it */
};

struct rejects {
	uint64_t count;       /* ever */
	uint32_t newest[2];   /* ranks; UINT32_MAX: none */
	uint32_t rank_count;
	struct reject ranks[];
};

/* Bytes of it, without ranks, and of one rank; 0 for a model that needs none. */
uint64_t rejects_bytes(const struct model_settings *settings);
uint64_t rejects_rank_bytes(const struct model_settings *settings);
/* Whether such a model has it; one of it, NULL without memory. */
bool rejects_needed(const struct model_settings *settings);
struct rejects *rejects_new(const struct model_settings *settings);

/* A marked message that will be refused: notes what it says, if its rank is due in the step
 * that it names.  False after another refusal. */
bool reject_note(struct call *call);
/* Something of this rank was taken in: what it rejected before is forgotten. */
void reject_mend(struct shard *shard, const struct msg *request);
/* A push begins to wait: it may have to be told. */
void reject_look(struct shard *shard, struct wait *wait);
/* Answers some of those who are to be told; how many. */
uint32_t rejects_answer(struct engine *engine, struct shard *shard, uint32_t room, struct outbox *out);

/* Whether the rank's gradient of this step was not finite, and it has brought none since. */
bool reject_stands(const struct shard *shard, uint32_t rank, uint64_t step);

#endif
