/*
 * Plan: which byte of a checkpoint's data is what.
 *
 * A pure function of what the checkpoint is about and of the size of its table
 * of shapes; writer and reader make the same plan, and the reader accepts a file
 * only if its head describes exactly that.
 */
#ifndef OPTD_DISK_PLAN_H
#define OPTD_DISK_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/safetensors.h"
#include "server/disk/checkpoint.h"

/* The most tensors a checkpoint can have: weights, slots, average, step, carries, and ours. */
#define PLAN_TENSORS_MAX (LIMIT_TENSORS * (OPTIM_SLOTS_MAX + 3u + OPTIM_CARRIES_MAX) + 16u)

/* What tensors of one parameter group keep beside their weights. */
struct plan_group {
	uint32_t slots, numbers; /* numbers: the step, then carries; none of frozen tensors */
};

struct plan {
	uint64_t first_element, element_count; /* of the daemon's run of blocks */
	uint32_t first_segment, segment_count;
	uint32_t first_tensor, piece_count; /* tensors of which there is a piece */
	struct layout_run owned;
	uint32_t slot_count, carry_count, seats; /* the most of any group */
	uint32_t average_count; /* 1 where one is kept, else 0 */
	bool packed; /* slots lie in memory as in the file: server/core/whole.h */
	struct plan_group groups[LIMIT_GROUPS + 1];
	uint8_t *group_of; /* [piece_count] number of the tensor's group */
	/* Places in the data, in bytes.  Vector 0 are the weights, 1 + i is slot i, and behind the
	 * slots comes the average. */
	/* [1 + plan_state_count][blocks] where a block's part of a vector begins; one more: the end. */
	uint64_t *places;
	uint64_t number_count;
	uint64_t numbers_at, shapes, padding, versions, updates, carries, seen, checksums, seal, end;
	struct safetensors_tensor *tensors; /* placed */
	uint32_t tensor_count;
	/* Memory behind tensors. */
	char *names;
	size_t names_used;
	uint64_t *shapes_of_slots; /* where they are not the tensor's */
	size_t shapes_used;
	uint64_t numbers[16];
	uint32_t numbers_used;
};

/* Vectors as long as the weights, beside them. */
#define PLAN_STATES_MAX (OPTIM_SLOTS_MAX + 1u)
static inline uint32_t plan_state_count(const struct plan *plan)
{
	return plan->slot_count + plan->average_count;
}

/* OPTD_NO_MEMORY or OPTD_TOO_LARGE. */
int plan_new(const struct checkpoint *about, uint64_t shapes_bytes, struct plan **out);
void plan_free(struct plan *plan);

/* A stretch of a block that lies together in memory and in the file: of weights and
 * average all of it, of a slot tensors that have it and follow one another, or, packed, all
 * of it, which may be more than a block's elements: a tensor's state is with its first
 * block. */
struct plan_stretch {
	uint64_t offset, count; /* elements, from the block's begin */
	uint64_t place;         /* bytes, in the data */
	uint32_t next;          /* segment to go on with */
};

/* Before the first stretch of a block's part of a vector. */
struct plan_stretch plan_begin(const struct plan *plan, const struct layout *layout, uint32_t block,
                               uint32_t vector);
/* Moves on to the next; false when there is none. */
bool plan_next(const struct plan *plan, const struct layout *layout, uint32_t block, uint32_t vector,
               struct plan_stretch *stretch);

/* Elements in memory from where block `from` begins in a vector to where `block` does. */
uint64_t plan_distance(const struct plan *plan, const struct layout *layout, uint32_t from, uint32_t block,
                       uint32_t vector);

/* Fills the numbers that PyTorch keeps for a tensor, number_count in all: first the step
 * of each piece that has one, then the first carry of each, and so on.  A tensor's are
 * those of its segment with the most updates.  carries may be NULL where there are none. */
void plan_numbers(const struct plan *plan, const struct layout *layout, const uint64_t *updates,
                  const struct optim_carry *carries, float *numbers);

/* 0, or OPTD_CORRUPT and the first tensor that is not where the plan has it. */
int plan_compare(const struct plan *plan, const struct safetensors *head, char *why, size_t why_bytes);

#endif
