/*
 * Lane message: what one lane of a daemon tells another about a step of a model.
 *
 * A lane's parts of a step go to the lead in it, and the lead's decision comes back in the
 * same one.  So there is one for each shard, made with it, and to tell something never
 * takes memory.  It may arrive after the model was dropped, or made anew: the model's run,
 * the shard's handle and the step say whether it is still wanted.
 */
#ifndef OPTD_CORE_LANE_MESSAGE_H
#define OPTD_CORE_LANE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

enum lane_message_kind { LANE_PARTS, LANE_DECISION };

struct lane_message {
	struct lane_message *next; /* in the list of whoever has it */
	enum lane_message_kind kind;
	uint32_t to, from; /* lanes */
	char model[LIMIT_NAME_BYTES];
	uint64_t run_id;
	uint32_t handle; /* of the shard that it belongs to */
	uint64_t step;
	/* a decision */
	bool skip;    /* the step updates nothing */
	bool clipped; /* something is made smaller */
	double norm;  /* that was found: of all, or the largest of a tensor */
	float factor; /* of all, or the smallest of a tensor */
	/* [count] by segment of the shard: its parts; with clip_tensor_norm then its factors */
	uint32_t count;
	double numbers[];
};

#endif
