/* Walks over the tensors, with the finder of their groups. */
#include "server/core/whole.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/status.h"

static bool looks_at_all(const struct optim *optim)
{
	return optim_rule_class(optim->rule) == OPTIM_TENSOR;
}

bool whole_any(const struct groups *groups, const struct optim *own)
{
	for (uint32_t i = 0; i <= groups->count; i++) {
		const struct optim *optim = groups_optim(groups, own, i);
		if (optim != NULL && looks_at_all(optim))
			return true;
	}
	return false;
}

/* What a tensor is updated by, or NULL. */
static const struct optim *optim_of(const struct group_finder *finder, const struct groups *groups,
                                    const struct optim *own, const struct layout_tensor *tensor)
{
	return groups_optim(groups, own, group_find(finder, tensor->name));
}

int whole_cut(const struct groups *groups, const struct optim *own, struct layout *layout)
{
	uint32_t count = layout_tensor_count(layout);
	struct group_finder finder;
	uint8_t *whole;

	if (!whole_any(groups, own) || count == 0)
		return layout_cut(layout, NULL);
	whole = malloc(count);
	if (whole == NULL)
		return OPTD_NO_MEMORY;
	group_finder_init(&finder, groups);
	for (uint32_t i = 0; i < count; i++) {
		const struct optim *optim = optim_of(&finder, groups, own, layout_tensor(layout, i));
		whole[i] = optim != NULL && looks_at_all(optim);
	}
	int rc = layout_cut(layout, whole);
	free(whole);
	return rc;
}

/* ---- what is not served ------------------------------------------------- */

#define SHAPE_TEXT_BYTES 128

static int check_tensor(const struct optim *optim, enum msg_mode mode, const struct layout_tensor *tensor,
                        char *why, size_t why_bytes)
{
	struct tensor_shape shape = whole_shape(tensor);
	const char *name = optim_rule_name(optim->rule), *refusal = tensor_refusal(optim, &shape);
	char text[SHAPE_TEXT_BYTES];

	layout_shape_text(tensor, text, sizeof(text));
	if (refusal != NULL)
		snprintf(why, why_bytes,
		         "tensor '%.200s' has the shape %s, and %s does not update it: %s; give it, and "
		         "others like it, to a parameter group with another optimizer ('*.bias' with adamw, say)",
		         tensor->name, text, name, refusal);
	else if (mode == MSG_ASYNC && tensor->count > LIMIT_BLOCK_ELEMENTS)
		snprintf(why, why_bytes,
		         "tensor '%.200s' %s has %llu elements; %s looks at all of them at once, and in async "
		         "mode that is for tensors of one block, %u elements: use mode sync, or a parameter "
		         "group with another optimizer for it",
		         tensor->name, text, (unsigned long long)tensor->count, name, LIMIT_BLOCK_ELEMENTS);
	else
		return OPTD_OK;
	return OPTD_HYPER;
}

int whole_check(const struct groups *groups, const struct optim *own, enum msg_mode mode,
                const struct layout *layout, char *why, size_t why_bytes)
{
	struct group_finder finder;
	int rc = OPTD_OK;

	if (!whole_any(groups, own))
		return rc;
	group_finder_init(&finder, groups);
	for (uint32_t i = 0; rc == OPTD_OK && i < layout_tensor_count(layout); i++) {
		const struct layout_tensor *tensor = layout_tensor(layout, i);
		const struct optim *optim = optim_of(&finder, groups, own, tensor);
		if (optim != NULL && looks_at_all(optim) && tensor->count > 0)
			rc = check_tensor(optim, mode, tensor, why, why_bytes);
	}
	return rc;
}

/* ---- state -------------------------------------------------------------- */

struct tensor_shape whole_shape(const struct layout_tensor *tensor)
{
	return tensor_shape_of(tensor->shape, tensor->rank);
}

uint32_t whole_slots(const struct optim *optim, const struct layout_tensor *tensor,
                     struct tensor_slot out[OPTIM_SLOTS_MAX])
{
	struct tensor_shape shape = whole_shape(tensor);
	uint32_t count = tensor_slots(optim, &shape, out);

	/* A matrix without rows has columns. */
	for (uint32_t i = 0; i < count && tensor->count == 0; i++) {
		out[i].elements = 0;
		out[i].span = TENSOR_EACH;
	}
	return count;
}

static bool is_first(const struct layout *layout, uint32_t segment)
{
	return segment == 0 ||
	       layout_segment(layout, segment - 1)->tensor != layout_segment(layout, segment)->tensor;
}

uint64_t whole_slot(const struct optim *optim, const struct layout *layout, uint32_t segment, uint32_t slot)
{
	const struct layout_segment *s = layout_segment(layout, segment);
	struct tensor_slot slots[OPTIM_SLOTS_MAX];

	if (optim == NULL)
		return 0;
	if (!tensor_slots_vary(optim))
		return slot < optim_slot_count(optim) ? s->count : 0;
	if (!is_first(layout, segment))
		return 0;
	return slot < whole_slots(optim, layout_tensor(layout, s->tensor), slots) ? slots[slot].elements : 0;
}

static void measure_segment(const struct optim *optim, const struct layout *layout, uint32_t segment,
                            struct whole_sizes *sizes)
{
	uint32_t tensor = layout_segment(layout, segment)->tensor;

	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		sizes->slots[i] += whole_slot(optim, layout, segment, i);
	if (!layout_whole(layout, tensor) || !is_first(layout, segment))
		return;
	struct tensor_shape shape = whole_shape(layout_tensor(layout, tensor));
	uint64_t scratch = tensor_scratch(optim, &shape);
	sizes->scratch = scratch > sizes->scratch ? scratch : sizes->scratch;
	sizes->tensors++;
}

struct whole_sizes whole_measure(const struct groups *groups, const struct optim *own,
                                 const struct layout *layout, struct layout_run run)
{
	struct whole_sizes sizes = {.scratch = 0};
	bool packed = whole_any(groups, own);
	struct group_finder finder;

	for (uint32_t i = 0; !packed && i < groups_slot_count(groups, own); i++)
		sizes.slots[i] = layout_run_elements(layout, run);
	if (run.count == 0 || !packed)
		return sizes;
	group_finder_init(&finder, groups);
	uint32_t first = layout_block(layout, run.first)->first_segment;
	for (uint32_t i = 0; i < layout_run_segments(layout, run); i++) {
		const struct layout_segment *s = layout_segment(layout, first + i);
		const struct optim *optim = optim_of(&finder, groups, own, layout_tensor(layout, s->tensor));
		measure_segment(optim, layout, first + i, &sizes);
	}
	return sizes;
}
