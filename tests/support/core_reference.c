/* As plain as it gets: this is what the rest is measured against. */
#include "tests/support/core_reference.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/core_world.h"

static float *vector_of(uint64_t elements, float value)
{
	float *vector = malloc((elements + 1) * sizeof(float));
	assert_non_null(vector);
	for (uint64_t i = 0; i < elements; i++)
		vector[i] = value;
	return vector;
}

void reference_init(struct reference *reference, const struct optim *optim,
                    const uint64_t *counts, uint32_t tensor_count, const float *weights)
{
	memset(reference, 0, sizeof(*reference));
	reference->optim = *optim;
	reference->tensor_count = tensor_count;
	reference->begin = calloc(tensor_count + 1, sizeof(uint64_t));
	reference->updates = calloc(tensor_count, sizeof(uint64_t));
	assert_non_null(reference->begin);
	assert_non_null(reference->updates);
	reference->carries = calloc(tensor_count, sizeof(*reference->carries));
	assert_non_null(reference->carries);
	for (uint32_t i = 0; i < tensor_count; i++)
		optim_carry_initial(optim, &reference->carries[i]);
	for (uint32_t i = 0; i < tensor_count; i++)
		reference->begin[i + 1] = reference->begin[i] + counts[i];
	reference->elements = reference->begin[tensor_count];
	reference->weights = vector_of(reference->elements, 0.0f);
	reference->sum = vector_of(reference->elements, 0.0f);
	memcpy(reference->weights, weights, reference->elements * sizeof(float));
	reference->slot_count = optim_slot_count(optim);
	for (uint32_t i = 0; i < reference->slot_count; i++)
		reference->slots[i] = vector_of(reference->elements, optim_slot_initial(optim, i));
}

void reference_deinit(struct reference *reference)
{
	free(reference->begin);
	free(reference->updates);
	free(reference->carries);
	free(reference->weights);
	free(reference->sum);
	for (uint32_t i = 0; i < reference->slot_count; i++)
		free(reference->slots[i]);
}

static void update(struct reference *reference, uint32_t tensor, const float *gradient)
{
	uint64_t begin = reference->begin[tensor];
	struct optim_scalars scalars;
	float *slots[OPTIM_SLOTS_MAX] = {NULL};

	optim_scalars(&reference->optim, ++reference->updates[tensor], &reference->carries[tensor],
	              &scalars);
	for (uint32_t i = 0; i < reference->slot_count; i++)
		slots[i] = reference->slots[i] + begin;
	optim_step(&reference->optim, OPTIM_ISA_BASE, &scalars, reference->weights + begin, slots,
	           gradient, reference->begin[tensor + 1] - begin);
}

static void step_tensor(struct reference *reference, uint32_t tensor,
                        const struct reference_part *parts, uint32_t count, bool mean, double total)
{
	uint64_t begin = reference->begin[tensor], n = reference->begin[tensor + 1] - begin;
	bool first = true;

	for (uint32_t rank = 0; rank < count; rank++) {
		const float *gradient = parts[rank].gradient + begin;
		double weight = parts[rank].weight > 0 ? parts[rank].weight : 1.0;
		float factor = mean ? (float)(weight / total) : 1.0f;
		if (!parts[rank].has[tensor])
			continue;
		for (uint64_t i = 0; i < n; i++) {
			float scaled = factor * gradient[i];
			reference->sum[i] = first ? scaled : reference->sum[i] + scaled;
		}
		first = false;
	}
	if (!first && n > 0)
		update(reference, tensor, reference->sum);
}

void reference_step(struct reference *reference, const struct reference_part *parts, uint32_t count,
                    bool mean)
{
	double total = 0;

	for (uint32_t rank = 0; rank < count; rank++)
		total += parts[rank].weight > 0 ? parts[rank].weight : 1.0;
	for (uint32_t tensor = 0; tensor < reference->tensor_count; tensor++)
		step_tensor(reference, tensor, parts, count, mean, total);
}

void reference_push(struct reference *reference, const struct reference_part *part, uint32_t tensor)
{
	uint64_t begin = reference->begin[tensor];

	if (part->has[tensor] && reference->begin[tensor + 1] > begin)
		update(reference, tensor, part->gradient + begin);
}
