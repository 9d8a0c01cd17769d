/*
 * One array for gradient and weights: each answer of such a push_pull overwrites
 * the gradient it answers.  When the call fails half way, the array is part
 * gradient, part weights, and the same call made again would send weights as
 * gradients.  The model remembers such arrays until its step is done.
 */
#include <stdlib.h>

#include "client/internal.h"

int inplace_keep(struct call *call, const uint32_t *tensors, uint32_t count)
{
	const struct layout *layout = call->model->layout;
	call->shared = calloc(count + 1, sizeof(*call->shared));
	if (!call->shared)
		return OPTD_NO_MEMORY;
	if (!tensors) {
		call->shared[call->shared_count++] = (struct inplace_array){
			.begin = call->source, .count = layout_elements(layout), .tensor = INPLACE_WHOLE};
		return 0;
	}
	for (uint32_t i = 0; i < count; i++)
		if (call->sources[i] == call->targets[i])
			call->shared[call->shared_count++] = (struct inplace_array){
				.begin = call->sources[i],
				.count = layout_tensor(layout, tensors[i])->count,
				.tensor = tensors[i],
			};
	return 0;
}

void inplace_spoil(optd_model *model, struct call *call)
{
	uint32_t before = model->spoiled_count, all = before + call->shared_count;
	if (!call->overwrote)
		return;
	struct inplace_array *list = realloc(call->shared, all * sizeof(*list));
	if (!list)
		return; /* all that is lost is a warning */
	for (uint32_t i = 0; i < before; i++)
		list[call->shared_count + i] = model->spoiled[i];
	free(model->spoiled);
	model->spoiled = list;
	model->spoiled_count = all;
	call->shared = NULL;
	call->shared_count = 0;
}

void inplace_forget(optd_model *model)
{
	free(model->spoiled);
	model->spoiled = NULL;
	model->spoiled_count = 0;
}

static bool overlap(const struct inplace_array *array, const void *gradient, uint64_t bytes)
{
	uintptr_t a = (uintptr_t)array->begin, b = (uintptr_t)gradient;
	return a < b + bytes && b < a + array->count * sizeof(float);
}

int inplace_check(optd_model *model, const void *gradient, uint64_t bytes)
{
	for (uint32_t i = 0; i < model->spoiled_count; i++) {
		const struct inplace_array *array = &model->spoiled[i];
		bool whole = array->tensor == INPLACE_WHOLE;
		if (!overlap(array, gradient, bytes))
			continue;
		return client_fail(
			model->client, OPTD_INVALID,
			"model '%s' on %s: step %llu was broken off when weights had overwritten part of "
			"its gradient (push_pull with one array for both), and this gradient is in that "
			"array%s%s%s; nothing was sent. Push the step from another array, or call "
			"optd_resume_model once the array has a gradient again",
			model->name, model_endpoint(model), (unsigned long long)model->step,
			whole ? "" : ", of tensor '",
			whole ? "" : layout_tensor(model->layout, array->tensor)->name, whole ? "" : "'");
	}
	return 0;
}
