/*
 * Reference: parameters of a model as one would train them in a loop.
 *
 * It knows tensors and ranks and nothing else: no blocks, segments, shards,
 * versions or messages.  A step takes, for each tensor, what some ranks have for
 * it, reduces that in rank order, clips it, and calls the rule over the whole tensor.  What
 * the server does in pieces must come out the same, bit for bit.
 */
#ifndef OPTD_TEST_CORE_REFERENCE_H
#define OPTD_TEST_CORE_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "optim/optim.h"
#include "optim/tensor.h"
#include "proto/layout.h"
#include "proto/msg.h"
#include "server/core/average.h"

/* Settings of a tensor's optimizer from an offer on: by from; of the same, as they came. */
struct reference_sets {
	uint32_t count;
	struct reference_set {
		uint32_t hyper;
		uint64_t from;
		double values[OPTIM_VALUES_MAX];
	} *list;
};

struct reference {
	struct optim optim; /* of tensors that were given no other */
	const struct optim **optims; /* [tensor_count] NULL: frozen */
	uint32_t tensor_count;
	uint64_t *begin;   /* [tensor_count + 1] */
	uint64_t *updates; /* [tensor_count] */
	uint64_t *offers;  /* [tensor_count] steps, or pushes, that had it or not */
	struct reference_sets *sets; /* [tensor_count] */
	struct optim_carry *carries; /* [tensor_count] */
	struct tensor_shape *shapes; /* [tensor_count] a row each, unless given */
	uint64_t elements;
	float *weights;
	/* Zeros where a tensor has none; what is shorter than the tensor is at its begin. */
	float *slots[OPTIM_SLOTS_MAX];
	bool *gave; /* [tensor_count] some rank has something for it in this step */
	struct msg_clip clip;
	const struct layout *layout; /* with clip: a norm is added up by its segments */
	uint64_t clipped, overflowed; /* steps */
	bool skipped;     /* the last step updates nothing, */
	bool skipped_sum; /* since it was one of those that overflowed */
	float *sum;
	/* [elements] what the last update of a tensor answers, where its rule answers each
	 * worker by itself. */
	float *answers;
	/* The loss scale, after every step; 0: there is none. */
	float scale;
	uint32_t tracker;
	struct msg_loss_scale scaling;
	struct average average; /* how `averages` come about; none: they stay the first weights */
	uint64_t *averaged; /* [tensor_count] updates that were averaged */
	float *averages;
};

/* What one rank has for a step: gradients of the whole vector, of which those of
 * tensors in `has` count. */
struct reference_part {
	const float *gradient;
	const bool *has; /* [tensor_count] */
	double weight;   /* samples; 0 on all parts: not given */
	double loss_scale; /* 0: 1 */
	bool poisoned;   /* not finite: nobody's step counts */
};

void reference_init(struct reference *reference, const struct optim *optim,
                    const uint64_t *counts, uint32_t tensor_count, const float *weights);
/* Before any step: this tensor's optimizer, which is kept, or NULL: it is frozen. */
void reference_group(struct reference *reference, uint32_t tensor, const struct optim *optim);
/* Before any step: this tensor's shape, for rules that look at whole tensors. */
void reference_shape(struct reference *reference, uint32_t tensor, const uint64_t *shape, uint32_t rank);
/* Before any step: what a norm is held to, and the segments, kept, in whose order it is
 * added up. */
void reference_clip(struct reference *reference, const struct msg_clip *clip, const struct layout *layout);
/* Before any step: a loss scale that is kept. */
void reference_scale(struct reference *reference, const struct msg_loss_scale *scaling);
/* From the offer after `from` others on, hyper-parameter `hyper` has these values. */
void reference_set(struct reference *reference, uint32_t tensor, uint64_t from, uint32_t hyper,
                   const double *values);
/* What a part's elements of a tensor are divided by: 1 unless its rule takes gradients of the
 * loss. */
double reference_scale_of(const struct reference *reference, const struct reference_part *part, uint32_t tensor);
void reference_deinit(struct reference *reference);

/* One step of all ranks; parts are in rank order. */
void reference_step(struct reference *reference, const struct reference_part *parts, uint32_t count,
                    bool mean);

/* Its two halves: what becomes of the step, which is known before settings may change in it,
 * and its updates. */
void reference_judge(struct reference *reference, const struct reference_part *parts, uint32_t count,
                     bool mean);
void reference_finish(struct reference *reference);

/* What such a rule answers to x, without an update: a tensor's elements. */
void reference_answer(const struct reference *reference, uint32_t tensor, const float *x, float *out);

/* One rank's push in async, of one tensor. */
void reference_push(struct reference *reference, const struct reference_part *part, uint32_t tensor);

#endif
