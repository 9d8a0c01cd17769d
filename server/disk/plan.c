/*
 * Plan: the list of a checkpoint's tensors.
 *
 * The pieces of one vector lie in the file as they lie in memory, one after the
 * other, but for slots that a tensor does not have; so a block is one run of bytes per
 * vector where all tensors have the same slots.
 */
#include "server/disk/plan.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/core/whole.h"
#include "server/disk/file.h"

/* "optd.weight." or "state.", a dot, and the name of a slot, carry or "step". */
#define NAME_EXTRA_BYTES 64u

/* What a head holds beside those of the layout's tensors: the names of model and
 * run, each byte written as six at worst, the other settings, and our tables. */
#define HEAD_OWN_BYTES (16u * 1024u)
/* A change, which a model that runs may yet come to: its key and text. */
#define HEAD_CHANGE_BYTES 720u
/* A group: its pattern, each byte as six, 16 hyper-parameters and a schedule. */
#define HEAD_GROUP_BYTES (8u * 1024u)

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
	return layout_owned(about->layout, about->daemon, about->daemons, 0, 1);
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

static void count_vectors(struct plan *plan, const struct checkpoint *about)
{
	for (uint32_t i = 0; i <= about->groups.count; i++) {
		const struct optim *optim = groups_optim(&about->groups, &about->optim, i);
		if (optim)
			plan->groups[i] = (struct plan_group){ optim_slot_count(optim), 1 + optim_carry_count(optim) };
	}
	plan->slot_count = groups_slot_count(&about->groups, &about->optim);
	plan->packed = whole_any(&about->groups, &about->optim);
	plan->carry_count = groups_carry_count(&about->groups, &about->optim);
	plan->average_count = average_is_kept(&about->average);
}

/* The run in elements, segments and tensors. */
static void find_run(struct plan *plan, const struct checkpoint *about)
{
	const struct layout *layout = about->layout;
	struct layout_run owned = checkpoint_owned(about);

	plan->owned = owned;
	count_vectors(plan, about);
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

/* Vectors of a file: the weights, each slot, the average, the step, each carry. */
static uint32_t vector_count(const struct plan *plan)
{
	return 2 + plan_state_count(plan) + plan->carry_count;
}

/* Whether a vector is a slot that lies in memory as in the file. */
static bool is_packed(const struct plan *plan, uint32_t vector)
{
	return plan->packed && vector > 0 && vector <= plan->slot_count;
}

/* Whether tensors of a group are in a vector. */
static bool group_has(const struct plan *plan, uint32_t group, uint32_t vector)
{
	if (vector <= plan->slot_count)
		return vector == 0 || vector <= plan->groups[group].slots;
	if (vector <= plan_state_count(plan))
		return true;
	return vector - plan_state_count(plan) <= plan->groups[group].numbers;
}

/* What vector 1 and all after it are called where a group has them. */
static const char *vector_name(const struct plan *plan, const struct optim *optim, uint32_t vector)
{
	if (vector <= plan->slot_count)
		return optim_slot_name(optim, vector - 1);
	if (vector <= plan_state_count(plan))
		return "average";
	if (vector == plan_state_count(plan) + 1)
		return "step";
	return optim_carry_name(optim, vector - plan_state_count(plan) - 2);
}

static void find_groups(struct plan *plan, const struct checkpoint *about)
{
	struct group_finder finder;

	group_finder_init(&finder, &about->groups);
	for (uint32_t i = 0; i < plan->piece_count; i++) {
		const char *name = layout_tensor(about->layout, plan->first_tensor + i)->name;
		plan->group_of[i] = (uint8_t)group_find(&finder, name);
	}
}

/* What a tensor is updated by, or NULL. */
static const struct optim *optim_of(const struct plan *plan, const struct checkpoint *about, uint32_t tensor)
{
	return groups_optim(&about->groups, &about->optim, plan->group_of[tensor - plan->first_tensor]);
}

/* One number a row or column: the tensor's shape with 1 in place of the other dimension. */
static void set_slot_shape(struct plan *plan, struct safetensors_tensor *piece, const struct layout_tensor *tensor,
                           enum tensor_span span)
{
	uint64_t *shape = plan->shapes_of_slots + plan->shapes_used;

	if (span == TENSOR_EACH) {
		set_shape(plan, piece, tensor);
		return;
	}
	plan->shapes_used += tensor->rank;
	memcpy(shape, tensor->shape, tensor->rank * sizeof *shape);
	shape[span == TENSOR_ROWS ? tensor->rank - 1 : tensor->rank - 2] = 1;
	piece->rank = tensor->rank;
	piece->shape = shape;
}

/* A tensor's slot where they depend on shapes, if it has so many. */
static void add_slot(struct plan *plan, const struct optim *optim, const struct layout_tensor *tensor, uint32_t slot)
{
	struct tensor_slot slots[OPTIM_SLOTS_MAX];

	if (!optim || slot >= whole_slots(optim, tensor, slots))
		return;
	set_slot_shape(plan, add_named(plan, "state.", tensor->name, slots[slot].name), tensor, slots[slot].span);
}

static void add_pieces(struct plan *plan, const struct checkpoint *about)
{
	for (uint32_t vector = 0; vector < vector_count(plan); vector++) {
		for (uint32_t i = 0; i < plan->piece_count; i++) {
			const struct layout_tensor *tensor = layout_tensor(about->layout, plan->first_tensor + i);
			const struct optim *optim = optim_of(plan, about, plan->first_tensor + i);
			if (is_packed(plan, vector)) {
				add_slot(plan, optim, tensor, vector - 1);
				continue;
			}
			if (!group_has(plan, plan->group_of[i], vector))
				continue;
			struct safetensors_tensor *piece =
				vector == 0 ? add_named(plan, weight_prefix(tensor->name), tensor->name, "")
				            : add_named(plan, "state.", tensor->name, vector_name(plan, optim, vector));
			if (vector <= plan_state_count(plan))
				set_shape(plan, piece, tensor);
			else
				plan->number_count++;
		}
	}
}

static bool segment_has(const struct plan *plan, const struct layout *layout, uint32_t segment, uint32_t vector)
{
	uint32_t piece = layout_segment(layout, segment)->tensor - plan->first_tensor;

	return group_has(plan, plan->group_of[piece], vector);
}

/* Elements that a segment has of a vector. */
static uint64_t segment_elements(const struct plan *plan, const struct checkpoint *about, uint32_t segment,
                                 uint32_t vector)
{
	const struct layout_segment *s = layout_segment(about->layout, segment);

	if (is_packed(plan, vector))
		return whole_slot(optim_of(plan, about, s->tensor), about->layout, segment, vector - 1);
	return segment_has(plan, about->layout, segment, vector) ? s->count : 0;
}

/* Where each block's part of each vector begins, and behind them where the last one ends. */
static uint64_t find_places(struct plan *plan, const struct checkpoint *about)
{
	uint64_t place = 0;
	size_t at = 0;

	for (uint32_t vector = 0; vector <= plan_state_count(plan); vector++) {
		for (uint32_t i = 0; i < plan->owned.count; i++) {
			const struct layout_block *b = layout_block(about->layout, plan->owned.first + i);
			plan->places[at++] = place;
			for (uint32_t j = 0; j < b->segment_count; j++)
				place += segment_elements(plan, about, b->first_segment + j, vector) * sizeof(float);
		}
	}
	plan->places[at] = place;
	return place;
}

static size_t place_number(const struct plan *plan, uint32_t block, uint32_t vector)
{
	return (size_t)vector * plan->owned.count + (block - plan->owned.first);
}

uint64_t plan_distance(const struct plan *plan, const struct layout *layout, uint32_t from, uint32_t block,
                       uint32_t vector)
{
	if (is_packed(plan, vector))
		return (plan->places[place_number(plan, block, vector)] -
		        plan->places[place_number(plan, from, vector)]) / sizeof(float);
	return layout_block(layout, block)->begin - layout_block(layout, from)->begin;
}

struct plan_stretch plan_begin(const struct plan *plan, const struct layout *layout, uint32_t block,
                               uint32_t vector)
{
	return (struct plan_stretch){
		.place = plan->places[place_number(plan, block, vector)],
		.next = layout_block(layout, block)->first_segment,
	};
}

bool plan_next(const struct plan *plan, const struct layout *layout, uint32_t block, uint32_t vector,
               struct plan_stretch *stretch)
{
	const struct layout_block *b = layout_block(layout, block);
	uint32_t end = b->first_segment + b->segment_count;

	stretch->place += stretch->count * sizeof(float);
	stretch->count = 0;
	if (is_packed(plan, vector)) {
		size_t number = place_number(plan, block, vector);
		if (stretch->next != end)
			stretch->count = (plan->places[number + 1] - plan->places[number]) / sizeof(float);
		stretch->next = end;
		return stretch->count > 0;
	}
	while (stretch->next < end && !segment_has(plan, layout, stretch->next, vector))
		stretch->next++;
	if (stretch->next == end)
		return false;
	stretch->offset = layout_segment(layout, stretch->next)->offset;
	for (; stretch->next < end && segment_has(plan, layout, stretch->next, vector); stretch->next++)
		stretch->count += layout_segment(layout, stretch->next)->count;
	return true;
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

static void add_tables(struct plan *plan, const struct checkpoint *about, uint64_t shapes_bytes)
{
	uint32_t carriers = plan->carry_count > 0 ? plan->segment_count : 0;

	plan->numbers_at = find_places(plan, about);
	plan->shapes = plan->numbers_at + plan->number_count * sizeof(float);
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

/* What the entries of one tensor beside that of its weights add to a head: each is that
 * of the weights with a longer name.  Steps and carries have no shape, and are counted
 * with one. */
static void count_entries(const struct plan *plan, const struct optim *optim, uint32_t group, uint32_t *entries,
                          uint64_t *names)
{
	*entries = 1;
	*names = 0;
	for (uint32_t vector = 1; vector < vector_count(plan); vector++) {
		if (!group_has(plan, group, vector))
			continue;
		++*entries;
		/* Those of a vector are longer by one than what a matrix has in their place. */
		*names += strlen("state.") + 1 + strlen(vector_name(plan, optim, vector)) + plan->packed;
	}
}

uint64_t checkpoint_head_bytes(const struct checkpoint *about)
{
	uint64_t last_byte, bytes = HEAD_OWN_BYTES + LIMIT_CHANGES * HEAD_CHANGE_BYTES + about->groups.count * HEAD_GROUP_BYTES;
	uint64_t names[LIMIT_GROUPS + 1];
	uint32_t entries[LIMIT_GROUPS + 1];
	struct group_finder finder;
	struct plan plan = { 0 };

	find_run(&plan, about);
	group_finder_init(&finder, &about->groups);
	for (uint32_t i = 0; i <= about->groups.count; i++)
		count_entries(&plan, groups_optim(&about->groups, &about->optim, i), i, &entries[i], &names[i]);
	last_byte = (plan.element_count * (1u + plan_state_count(&plan)) +
	             plan.piece_count * (1u + (uint64_t)plan.carry_count)) * sizeof(float);
	for (uint32_t i = 0; i < plan.piece_count; i++) {
		const struct layout_tensor *tensor = layout_tensor(about->layout, plan.first_tensor + i);
		struct safetensors_tensor piece = { tensor->name, SAFETENSORS_F32, tensor->rank, tensor->shape, 0, 0 };
		uint32_t group = group_find(&finder, tensor->name);
		bytes += entries[group] * safetensors_entry_bytes(&piece, last_byte) +
		         strlen(weight_prefix(tensor->name)) + names[group];
	}
	return bytes;
}

/* Memory for the tensors and their names. */
static int reserve(struct plan *plan, const struct layout *layout)
{
	uint64_t copies = vector_count(plan), bytes = 1, dimensions = 1;

	for (uint32_t i = 0; i < plan->piece_count && plan->packed; i++)
		dimensions += (uint64_t)layout_tensor(layout, plan->first_tensor + i)->rank * plan->slot_count;
	for (uint32_t i = 0; i < plan->piece_count; i++)
		bytes += (strlen(layout_tensor(layout, plan->first_tensor + i)->name) + NAME_EXTRA_BYTES) * copies;
	plan->names = malloc(bytes);
	plan->tensors = calloc(plan->piece_count * copies + 9, sizeof *plan->tensors);
	plan->group_of = calloc(plan->piece_count + 1u, 1);
	plan->places = calloc((size_t)plan->owned.count * (1 + plan_state_count(plan)) + 1, sizeof *plan->places);
	plan->shapes_of_slots = calloc(dimensions, sizeof *plan->shapes_of_slots);
	return plan->names && plan->tensors && plan->group_of && plan->places && plan->shapes_of_slots ?
	               OPTD_OK : OPTD_NO_MEMORY;
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
	find_groups(plan, about);
	add_pieces(plan, about);
	add_tables(plan, about, shapes_bytes);
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
	free(plan->group_of);
	free(plan->places);
	free(plan->shapes_of_slots);
	free(plan);
}

/* Number `which` of each piece that has it: 0 is the step, 1 + c is carry c.  Returns
 * behind the last. */
static float *fill_numbers(const struct plan *plan, const struct layout *layout, uint32_t which,
                           const uint64_t *updates, const struct optim_carry *carries, float *out)
{
	uint32_t i = 0;

	for (uint32_t piece = 0; piece < plan->piece_count; piece++) {
		uint32_t first = i, furthest = i;
		for (; i < plan->segment_count &&
		       layout_segment(layout, plan->first_segment + i)->tensor - plan->first_tensor == piece; i++)
			furthest = updates[i] > updates[furthest] ? i : furthest;
		if (which >= plan->groups[plan->group_of[piece]].numbers)
			continue;
		/* An empty tensor has zeros. */
		if (i == first)
			*out++ = 0.0f;
		else
			*out++ = which == 0 ? (float)updates[furthest] : carries[furthest].values[which - 1];
	}
	return out;
}

void plan_numbers(const struct plan *plan, const struct layout *layout, const uint64_t *updates,
                  const struct optim_carry *carries, float *numbers)
{
	for (uint32_t which = 0; which <= plan->carry_count; which++)
		numbers = fill_numbers(plan, layout, which, updates, carries, numbers);
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
