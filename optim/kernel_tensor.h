/*
 * Kernel tensor: what the rules that look at a whole tensor share.
 *
 * A pass goes over the tensor in pieces of PIECE elements.  A piece's sum has the
 * fixed order of norm_kernel.c, and the pieces' sums are added in their order.
 */
#ifndef OPTD_OPTIM_KERNEL_TENSOR_H
#define OPTD_OPTIM_KERNEL_TENSOR_H

#include "optim/kernel.h"
#include "optim/tensor.h"

/* A few arrays of this size fit the first-level cache. */
#define PIECE 2048
/* What a piece costs beside its elements: rows may be of one element. */
#define PIECE_COST 64

/* Elements of the piece at hand; within a row, it ends with the row as well. */
static inline size_t piece_count(const struct tensor_update *update, bool within_row)
{
	uint64_t left = within_row ? update->shape.columns - update->at % update->shape.columns :
	                             tensor_elements(&update->shape) - update->at;

	return left < PIECE ? (size_t)left : PIECE;
}

/* One piece after the other through `visit`, within the budget.  True when the pass is
 * over; then the next one may begin. */
static inline bool pass_over(struct tensor_update *update, uint64_t *budget, bool within_row,
                             void (*visit)(struct tensor_update *update, size_t n))
{
	uint64_t elements = tensor_elements(&update->shape);

	while (update->at < elements && *budget > 0) {
		size_t n = piece_count(update, within_row), cost = n + PIECE_COST;

		visit(update, n);
		update->at += n;
		*budget -= *budget < cost ? *budget : cost;
	}
	if (update->at < elements)
		return false;
	update->at = 0;
	update->pass++;
	return true;
}

static inline bool pass_pieces(struct tensor_update *update, uint64_t *budget,
                               void (*visit)(struct tensor_update *update, size_t n))
{
	return pass_over(update, budget, false, visit);
}

static inline bool pass_rows(struct tensor_update *update, uint64_t *budget,
                             void (*visit)(struct tensor_update *update, size_t n))
{
	return pass_over(update, budget, true, visit);
}

/* The gradient of the piece at hand in float32, times its factor, which may take room. */
static inline const float *piece_gradient(const struct tensor_update *update, size_t n, float room[PIECE])
{
	const struct optim_gradient *g = &update->g;
	const void *values = dtype_at(g->values, g->type, update->at);

	if (g->type == DTYPE_F32 && g->factor == 1.0f)
		return values;
	if (g->type == DTYPE_F32) {
		KERNEL(optim_vector).scale(room, values, g->factor, n);
		return room;
	}
	KERNEL(optim_half).widen[g->type](room, values, n);
	KERNEL(optim_vector).scale(room, room, g->factor, n);
	return room;
}

static inline double piece_sum_of_squares(double before, const float *x, size_t n)
{
	return before + KERNEL(optim_norm).power_sum(x, n, 2);
}

#endif
