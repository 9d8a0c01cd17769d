/*
 * What a loss scale divides: gradients of the loss, which were multiplied with it.
 *
 * Rules that average, federate or assign take weights, or differences of weights.  No scale
 * is in those, and what the rest of the same push is divided by leaves them as they came.  A
 * block may have both kinds; one that has not is multiplied in one go.
 */
#include "server/core/gate_parts.h"

struct gate_factors gate_factors(double share, double loss_scale)
{
	return (struct gate_factors){.gradient = (float)(share / loss_scale), .value = (float)share};
}

static uint32_t index_of(const struct model *model, uint32_t block, uint32_t i)
{
	return model_block(model, block)->first_segment + i - model->first_segment;
}

float gate_factor(const struct gate *gate, uint32_t block, uint32_t i, struct gate_factors factors)
{
	return model_is_scaled(gate->model, index_of(gate->model, block, i)) ? factors.gradient : factors.value;
}

uint32_t gate_alike(const struct gate *gate, uint32_t block, uint32_t i, struct gate_factors factors)
{
	const struct model *model = gate->model;
	uint32_t index = index_of(model, block, i), count = model_block(model, block)->segment_count - i, n = 1;

	if (!model->mixed || factors.gradient == factors.value)
		return count;
	while (n < count && model_is_scaled(model, index + n) == model_is_scaled(model, index))
		n++;
	return n;
}

void gate_scale_commit(struct gate *gate, const struct contribution *c, struct commit *commit)
{
	struct gate_factors factors = gate_factors(1.0, c->loss_scale);
	uint32_t count = model_block(gate->model, commit->block)->segment_count;

	commit->factor = gate_factor(gate, commit->block, 0, factors);
	if (gate_alike(gate, commit->block, 0, factors) == count)
		return;
	for (uint32_t i = 0; i < count; i++)
		gate->factors[i] = gate_factor(gate, commit->block, i, factors);
	commit->factors = gate->factors;
}
