/*
 * Plan: the list of a checkpoint's tensors.
 *
 * The pieces of one vector lie in the file as they lie in memory, one after the
 * other, so a block is one run of bytes per vector.
 */
#include "server/disk/plan.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/disk/file.h"

/* "optd.weight." or "state.", a dot, and the name of a slot, carry or "step". */
#define NAME_EXTRA_BYTES 64u

/* What a head holds beside those of the layout's tensors: the names of model and
 * run, each byte written as six at worst, the other settings, and our tables. */
#define HEAD_OWN_BYTES (16u * 1024u)

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

struct layout_run checkpoint_owned(const struct checkpoint *about)
{
	return layout_owned(layout_block_count(about->layout), about->daemon, about->daemons, 0, 1);
}

/* Whether the run has a piece of this tensor.  An empty tensor goes with what
 * follows it, or with the end of the vector. */
static int has_piece(const struct plan *plan, const struct layout *layout, const struct layout_tensor *tensor)
{
	uint64_t end = plan->first_element + plan->element_count;

	if (plan->element_count == 0 || tensor->offset + tensor->count < plan->first_element)
		return 0;
	if (tensor->count > 0)
		return tensor->offset + tensor->count > plan->first_element && tensor->offset < end;
	return tensor->offset < end || end == layout_elements(layout);
}

/* The run in elements, segments and tensors. */
static void find_run(struct plan *plan, const struct checkpoint *about)
{
	const struct layout *layout = about->layout;
	struct layout_run owned = checkpoint_owned(about);

	plan->owned = owned;
	plan->slot_count = optim_slot_count(&about->optim);
	plan->carry_count = optim_carry_count(&about->optim);
	plan->seats = about->seats;
	if (owned.count > 0) {
		const struct layout_block *first = layout_block(layout, owned.first);
		const struct layout_block *last = layout_block(layout, owned.first + owned.count - 1);
		plan->first_element = first->begin;
		plan->element_count = last->begin + last->count - first->begin;
		plan->first_segment = first->first_segment;
		plan->segment_count = last->first_segment + last->segment_count - first->first_segment;
	}
	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		if (!has_piece(plan, layout, layout_tensor(layout, i)))
			continue;
		if (plan->piece_count == 0)
			plan->first_tensor = i;
		plan->piece_count++;
	}
}

static const uint64_t *keep_number(struct plan *plan, uint64_t number)
{
	assert(plan->numbers_used < sizeof plan->numbers / sizeof *plan->numbers);
	plan->numbers[plan->numbers_used] = number;
	return &plan->numbers[plan->numbers_used++];
}

static struct safetensors_tensor *add(struct plan *plan, const char *name, enum safetensors_dtype dtype)
{
	struct safetensors_tensor *tensor = &plan->tensors[plan->tensor_count++];

	*tensor = (struct safetensors_tensor){ .name = name, .dtype = dtype };
	return tensor;
}

/* A tensor called prefix + name + dot + suffix. */
static struct safetensors_tensor *add_named(struct plan *plan, const char *prefix, const char *name,
                                            const char *suffix)
{
	char *text = plan->names + plan->names_used;
	size_t room = strlen(name) + NAME_EXTRA_BYTES;
	int n = snprintf(text, room, "%s%s%s%s", prefix, name, *suffix ? "." : "", suffix);

	assert(n > 0 && (size_t)n < room);
	plan->names_used += (size_t)n + 1;
	return add(plan, text, SAFETENSORS_F32);
}

static void add_list(struct plan *plan, const char *name, enum safetensors_dtype dtype, uint64_t count)
{
	struct safetensors_tensor *tensor = add(plan, name, dtype);

	tensor->rank = 1;
	tensor->shape = keep_number(plan, count);
}

/* The tensor's own shape, or a flat slice when only a part is here. */
static void set_shape(struct plan *plan, struct safetensors_tensor *piece, const struct layout_tensor *tensor)
{
	uint64_t begin = larger(tensor->offset, plan->first_element);
	uint64_t end = smaller(tensor->offset + tensor->count, plan->first_element + plan->element_count);

	if (tensor->count == 0 || end - begin == tensor->count) {
		piece->rank = tensor->rank;
		piece->shape = tensor->shape;
		return;
	}
	piece->rank = 1;
	/* Only the first and the last piece of a run can be partial; all vectors
	 * share their numbers. */
	for (uint32_t i = 0; i < plan->numbers_used; i++) {
		if (plan->numbers[i] == end - begin) {
			piece->shape = &plan->numbers[i];
			return;
		}
	}
	piece->shape = keep_number(plan, end - begin);
}

static const char *weight_prefix(const char *name)
{
	int reserved = strncmp(name, "state.", 6) == 0 || strncmp(name, "optd.", 5) == 0 ||
	               strcmp(name, "__metadata__") == 0;

	return reserved ? "optd.weight." : "";
}

/* Vectors of a file per tensor: the weights, each slot, the step, each carry. */
static uint32_t vector_count(const struct plan *plan)
{
	return 2 + plan->slot_count + plan->carry_count;
}

/* What vector 1 and all after it are called. */
static const char *vector_name(const struct plan *plan, const struct optim *optim, uint32_t vector)
{
	if (vector <= plan->slot_count)
		return optim_slot_name(optim, vector - 1);
	if (vector == plan->slot_count + 1)
		return "step";
	return optim_carry_name(optim, vector - plan->slot_count - 2);
}

static void add_pieces(struct plan *plan, const struct checkpoint *about)
{
	for (uint32_t vector = 0; vector < vector_count(plan); vector++) {
		for (uint32_t i = 0; i < plan->piece_count; i++) {
			const struct layout_tensor *tensor = layout_tensor(about->layout, plan->first_tensor + i);
			struct safetensors_tensor *piece =
				vector == 0 ? add_named(plan, weight_prefix(tensor->name), tensor->name, "")
				            : add_named(plan, "state.", tensor->name,
				                        vector_name(plan, &about->optim, vector));
			if (vector <= plan->slot_count)
				set_shape(plan, piece, tensor);
		}
	}
}

uint64_t plan_number_count(const struct plan *plan)
{
	return (uint64_t)plan->piece_count * (1 + plan->carry_count);
}

/* A matrix of our own. */
static void add_matrix(struct plan *plan, const char *name, enum safetensors_dtype dtype, uint64_t rows,
                       uint64_t columns)
{
	struct safetensors_tensor *tensor = add(plan, name, dtype);

	tensor->rank = 2;
	tensor->shape = keep_number(plan, rows);
	keep_number(plan, columns);
}

static void add_tables(struct plan *plan, uint64_t shapes_bytes)
{
	uint32_t carriers = plan->carry_count > 0 ? plan->segment_count : 0;

	plan->vector_bytes = plan->element_count * sizeof(float);
	plan->numbers_at = plan->vector_bytes * (1u + plan->slot_count);
	plan->shapes = plan->numbers_at + plan_number_count(plan) * sizeof(float);
	plan->padding = plan->shapes + shapes_bytes;
	add_list(plan, "optd.layout", SAFETENSORS_U8, shapes_bytes);
	plan->versions = (plan->padding + 7) / 8 * 8;
	add_list(plan, "optd.padding", SAFETENSORS_U8, plan->versions - plan->padding);
	plan->updates = plan->versions + plan->owned.count * sizeof(uint64_t);
	add_list(plan, "optd.versions", SAFETENSORS_I64, plan->owned.count);
	plan->carries = plan->updates + plan->segment_count * sizeof(uint64_t);
	add_list(plan, "optd.updates", SAFETENSORS_I64, plan->segment_count);
	plan->seen = plan->carries + carriers * sizeof(struct optim_carry);
	add_matrix(plan, "optd.carries", SAFETENSORS_F32, carriers, OPTIM_CARRIES_MAX);
	plan->checksums = plan->seen + (uint64_t)plan->seats * plan->owned.count * sizeof(uint64_t);
	add_matrix(plan, "optd.seen", SAFETENSORS_I64, plan->seats, plan->owned.count);
	plan->seal = plan->checksums + plan->owned.count * sizeof(uint64_t);
	add_list(plan, "optd.checksums", SAFETENSORS_I64, plan->owned.count);
	plan->end = plan->seal + sizeof(uint64_t);
	add_list(plan, "optd.seal", SAFETENSORS_I64, 1);
}

/* An entry a vector is that of the weights with a longer name; steps and carries
 * have no shape, and are counted with one. */
uint64_t checkpoint_head_bytes(const struct checkpoint *about)
{
	uint64_t copies, last_byte, names = 0, bytes = HEAD_OWN_BYTES;
	struct plan plan = { 0 };

	find_run(&plan, about);
	copies = vector_count(&plan);
	last_byte = (plan.element_count * (1u + plan.slot_count) + plan_number_count(&plan)) * sizeof(float);
	for (uint32_t i = 1; i < copies; i++)
		names += strlen("state.") + 1 + strlen(vector_name(&plan, &about->optim, i));
	for (uint32_t i = 0; i < plan.piece_count; i++) {
		const struct layout_tensor *tensor = layout_tensor(about->layout, plan.first_tensor + i);
		struct safetensors_tensor piece = { tensor->name, SAFETENSORS_F32, tensor->rank, tensor->shape, 0, 0 };
		bytes += copies * safetensors_entry_bytes(&piece, last_byte) + strlen(weight_prefix(tensor->name)) + names;
	}
	return bytes;
}

/* Memory for the tensors and their names. */
static int reserve(struct plan *plan, const struct layout *layout)
{
	uint64_t copies = vector_count(plan), bytes = 1;

	for (uint32_t i = 0; i < plan->piece_count; i++)
		bytes += (strlen(layout_tensor(layout, plan->first_tensor + i)->name) + NAME_EXTRA_BYTES) * copies;
	plan->names = malloc(bytes);
	plan->tensors = calloc(plan->piece_count * copies + 9, sizeof *plan->tensors);
	return plan->names && plan->tensors ? OPTD_OK : OPTD_NO_MEMORY;
}

int plan_new(const struct checkpoint *about, uint64_t shapes_bytes, struct plan **out)
{
	struct plan *plan = calloc(1, sizeof *plan);
	uint64_t end;
	int rc;

	if (!plan)
		return OPTD_NO_MEMORY;
	find_run(plan, about);
	rc = reserve(plan, about->layout);
	if (rc < 0)
		goto out;
	add_pieces(plan, about);
	add_tables(plan, shapes_bytes);
	rc = safetensors_place(plan->tensors, plan->tensor_count, &end);
	if (rc < 0)
		goto out;
	assert(end == plan->end);
	*out = plan;
	return OPTD_OK;
out:
	plan_free(plan);
	return rc;
}

void plan_free(struct plan *plan)
{
	if (!plan)
		return;
	free(plan->tensors);
	free(plan->names);
	free(plan);
}

void plan_numbers(const struct plan *plan, const struct layout *layout, const uint64_t *updates,
                  const struct optim_carry *carries, float *numbers)
{
	uint32_t piece = UINT32_MAX;
	uint64_t highest = 0;

	/* All bits zero is 0.0f: what an empty tensor has. */
	memset(numbers, 0, plan_number_count(plan) * sizeof *numbers);
	for (uint32_t i = 0; i < plan->segment_count; i++) {
		uint32_t at = layout_segment(layout, plan->first_segment + i)->tensor - plan->first_tensor;
		assert(at < plan->piece_count);
		if (at == piece && updates[i] <= highest)
			continue;
		piece = at;
		highest = updates[i];
		numbers[at] = (float)highest;
		for (uint32_t c = 0; c < plan->carry_count; c++)
			numbers[(1 + c) * (uint64_t)plan->piece_count + at] = carries[i].values[c];
	}
}

static int tensor_equal(const struct safetensors_tensor *a, const struct safetensors_tensor *b)
{
	if (strcmp(a->name, b->name) != 0 || a->dtype != b->dtype || a->rank != b->rank || a->begin != b->begin)
		return 0;
	for (uint32_t d = 0; d < a->rank; d++)
		if (a->shape[d] != b->shape[d])
			return 0;
	return 1; /* dtype and shape decide the end */
}

int plan_compare(const struct plan *plan, const struct safetensors *head, char *why, size_t why_bytes)
{
	const struct safetensors_tensor *tensors = safetensors_tensors(head);
	uint32_t count = safetensors_count(head);

	if (count != plan->tensor_count)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "the file has %" PRIu32 " tensors, its layout and "
		                 "optimizer need %" PRIu32, count, plan->tensor_count);
	for (uint32_t i = 0; i < count; i++)
		if (!tensor_equal(&plan->tensors[i], &tensors[i]))
			return disk_fail(OPTD_CORRUPT, why, why_bytes, "tensor %" PRIu32 " of the file is not the '%.100s' "
			                 "that its layout and optimizer need", i, plan->tensors[i].name);
	return OPTD_OK;
}
