/*
 * Trainer: a worker that a test drives step by step, and the plain arithmetic
 * that its model must equal bit for bit.
 *
 * The model has tensors from one element to several blocks.  A gradient is a
 * fixed function of weights, step and rank, so a push that is lost, doubled or
 * taken for another changes all weights that follow.
 */
#ifndef OPTD_TEST_TRAINER_H
#define OPTD_TEST_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/optd.h"

/* What is trained: adam, sgd with momentum, or any other with its defaults. */
struct plan {
	const char *optimizer;
	uint32_t workers;
	optd_mode mode;
	uint32_t step_timeout_ms; /* 0: the daemon's */
	uint32_t timeout_ms;      /* of a call; 0: 30 s */
	optd_nonfinite nonfinite; /* 0: the daemon's choice */
	const optd_scaler *loss_scale; /* NULL: the daemon's choice */
	bool cosine;              /* with the schedule of trainer_schedule */
	const optd_half *halves;  /* by rank: what it pushes is of this type, if that is not 0;
	                             NULL: all push float32 */
	double clip_norm, clip_norm_type, clip_tensor_norm; /* as optd_open_options has them */
	/* What the reference sets from a step on; the test has the model do it. */
	uint32_t change_count;
	struct plan_change {
		uint64_t from;
		const char *name;
		double value;
	} changes[4];
};

struct trainer {
	struct plan plan;
	int32_t rank;
	optd_client *client;
	optd_model *model;
	float *weights, *gradient;
	uint16_t *half; /* the gradient, where it is pushed as such */
	uint64_t step; /* that is due */
};

/* Elements of the model: more than three blocks. */
uint64_t trainer_elements(void);
/* The model's layout; freed by optd_layout_free. */
optd_layout *trainer_layout(void);
/* A warm-up of two updates, then a cosine: as a worker gives it. */
extern const optd_schedule trainer_schedule[2];
/* Hyper-parameters and the like for optd_open. */
optd_open_options trainer_options(const struct plan *plan);
/* What a model of the trainers begins with. */
void trainer_first_weights(float *weights);
/* The gradient of a rank at a step. */
void trainer_gradient(float *gradient, const float *weights, uint64_t step, int32_t rank);

/* What the plan's limits make of a reduced gradient: parts of a norm are of a tensor within
 * a block, added up in their order (trainer_clip.c). */
void trainer_clip(float *gradient, const struct plan *plan);

/* Connects, opens model "m", gives it first weights (rank -1 only reads, and waits for a worker to make
 * it), and pulls those it has; the
 * step goes on where the server is.  A status: on error the trainer is there to
 * have its text read and be closed. */
int trainer_open(struct trainer *trainer, const char *endpoints, const struct plan *plan,
                 int32_t rank);
void trainer_close(struct trainer *trainer);
/* The last error's text. */
const char *trainer_error(const struct trainer *trainer);

/* One push_pull of the step that is due; it counts when it succeeds. */
int trainer_step(struct trainer *trainer);
/* Steps up to `step`; fails the test when one does. */
void trainer_run(struct trainer *trainer, uint64_t step);

/* Fails the test unless weights are those after so many steps of the plan, computed
 * by optim/ in this process. */
void trainer_assert_exact(const float *weights, const struct plan *plan, uint64_t steps);

#endif
