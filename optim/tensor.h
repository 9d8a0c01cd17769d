/*
 * Tensor: updates of the rules that look at a whole tensor (lars, lamb, adafactor,
 * muon).
 *
 * Such an update is a few passes over the tensor: sums first, then what is done with
 * them.  It may take long (a large matrix), so it is done in slices: begin, then
 * tensor_run with a budget until it says that all is done.  The bits do not depend on
 * the budgets: sums are formed of pieces of a fixed size, in their order.
 *
 * Between the slices w and the slots are in between two updates and must be left
 * alone.  Readers of w see the old or the new weights in each element.
 */
#ifndef OPTD_OPTIM_TENSOR_H
#define OPTD_OPTIM_TENSOR_H

#include "optim/optim.h"

/* A tensor as these rules see it: its last two dimensions are a matrix, those before
 * count matrices.  A vector or a scalar is one row, and no matrix. */
struct tensor_shape {
	uint64_t batch, rows, columns;
	bool matrix;
};

struct tensor_shape tensor_shape_of(const uint64_t *shape, uint32_t rank);
uint64_t tensor_elements(const struct tensor_shape *shape);

/* What a state vector has a number for: each element of the tensor, or each row or
 * column of its matrices.  PyTorch's shape of it has 1 in place of the other dimension. */
enum tensor_span { TENSOR_EACH, TENSOR_ROWS, TENSOR_COLUMNS };

/* A state vector of one tensor: adafactor has one number for each row and column of a
 * matrix, and one for each element of a vector. */
struct tensor_slot {
	const char *name;
	float initial;
	uint64_t elements;
	enum tensor_span span;
};

/* The slots that a tensor of this shape needs, for any rule; returns how many. */
uint32_t tensor_slots(const struct optim *optim, const struct tensor_shape *shape,
                      struct tensor_slot out[OPTIM_SLOTS_MAX]);

/* Whether these settings' slots depend on the shape: then optim_slot_count is the most
 * of them, and their names and sizes are those of tensor_slots. */
bool tensor_slots_vary(const struct optim *optim);

/* Why the rule cannot update a tensor of this shape (muon takes matrices only), or
 * NULL. */
const char *tensor_refusal(const struct optim *optim, const struct tensor_shape *shape);

/* Floats of working memory that an update needs; 0 for most rules. */
uint64_t tensor_scratch(const struct optim *optim, const struct tensor_shape *shape);

/* One update under way.  The caller fills the first part and keeps what it points to
 * until the update is done; the rest is the rule's. */
struct tensor_update {
	const struct optim *optim;
	enum optim_isa isa;
	const struct optim_scalars *scalars;
	struct tensor_shape shape;
	float *w;
	float *const *slots;
	struct optim_gradient g; /* its factor is taken into account in every pass */
	float *scratch; /* [tensor_scratch], unspecified at the beginning */

	uint32_t pass;
	uint64_t at;      /* how far the pass is */
	double sums[4];
	float factors[4];
};

/* Makes an update ready to run, from its first part. */
void tensor_begin(struct tensor_update *update);

/* Does about `budget` multiplications' worth of it, at least one piece; true when all
 * is done. */
bool tensor_run(struct tensor_update *update, uint64_t budget);

#endif
