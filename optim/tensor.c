/* Shapes, and the doors to the rules that look at whole tensors. */
#include "optim/tensor.h"

#include <assert.h>
#include <string.h>

#include "optim/rule.h"

struct tensor_shape tensor_shape_of(const uint64_t *shape, uint32_t rank)
{
	struct tensor_shape out = { 1, 1, 1, rank >= 2 };

	if (rank == 1)
		out.columns = shape[0];
	if (rank < 2)
		return out;
	out.rows = shape[rank - 2];
	out.columns = shape[rank - 1];
	for (uint32_t i = 0; i + 2 < rank; i++)
		out.batch *= shape[i];
	return out;
}

uint64_t tensor_elements(const struct tensor_shape *shape)
{
	return shape->batch * shape->rows * shape->columns;
}

uint32_t tensor_slots(const struct optim *optim, const struct tensor_shape *shape,
                      struct tensor_slot out[OPTIM_SLOTS_MAX])
{
	const struct rule_row *row = rule_row(optim->rule);
	struct rule_slot slots[OPTIM_SLOTS_MAX];
	uint32_t count;

	if (row->tensor_slots != NULL)
		return row->tensor_slots(optim, shape, out);
	count = row->slots(optim, slots);
	for (uint32_t i = 0; i < count; i++)
		out[i] = (struct tensor_slot){ slots[i].name, slots[i].initial, tensor_elements(shape),
			                       TENSOR_EACH };
	return count;
}

bool tensor_slots_vary(const struct optim *optim)
{
	return rule_row(optim->rule)->tensor_slots != NULL;
}

const char *tensor_refusal(const struct optim *optim, const struct tensor_shape *shape)
{
	const struct rule_row *row = rule_row(optim->rule);

	return row->refusal != NULL ? row->refusal(shape) : NULL;
}

uint64_t tensor_scratch(const struct optim *optim, const struct tensor_shape *shape)
{
	const struct rule_row *row = rule_row(optim->rule);

	return row->scratch != NULL ? row->scratch(shape) : 0;
}

void tensor_begin(struct tensor_update *update)
{
	update->pass = 0;
	update->at = 0;
	memset(update->sums, 0, sizeof(update->sums));
	memset(update->factors, 0, sizeof(update->factors));
}

bool tensor_run(struct tensor_update *update, uint64_t budget)
{
	assert(optim_isa_usable(update->isa));
	assert(optim_rule_class(update->optim->rule) == OPTIM_TENSOR);
	return update->optim->rule->rows[update->isa]->run(update, budget);
}
