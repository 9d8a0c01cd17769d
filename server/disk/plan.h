/*
 * Plan: which byte of a checkpoint's data is what.
 *
 * A pure function of what the checkpoint is about and of the size of its table
 * of shapes; writer and reader make the same plan, and the reader accepts a file
 * only if its head describes exactly that.
 */
#ifndef OPTD_DISK_PLAN_H
#define OPTD_DISK_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/safetensors.h"
#include "server/disk/checkpoint.h"

/* The most tensors a checkpoint can have: weights, slots, step, carries, and ours. */
#define PLAN_TENSORS_MAX (LIMIT_TENSORS * (OPTIM_SLOTS_MAX + 2u + OPTIM_CARRIES_MAX) + 16u)

struct plan {
	uint64_t first_element, element_count; /* of the daemon's run of blocks */
	uint32_t first_segment, segment_count;
	uint32_t first_tensor, piece_count; /* tensors of which there is a piece */
	struct layout_run owned;
	uint32_t slot_count, carry_count, seats;
	/* Places in the data, in bytes.  Vector 0 are the weights, 1 + i is slot i. */
	uint64_t vector_bytes;
	uint64_t numbers_at, shapes, padding, versions, updates, carries, seen, checksums, seal, end;
	struct safetensors_tensor *tensors; /* placed */
	uint32_t tensor_count;
	/* Memory behind tensors. */
	char *names;
	size_t names_used;
	uint64_t numbers[16];
	uint32_t numbers_used;
};

/* OPTD_NO_MEMORY or OPTD_TOO_LARGE. */
int plan_new(const struct checkpoint *about, uint64_t shapes_bytes, struct plan **out);
void plan_free(struct plan *plan);

/* Numbers that PyTorch keeps for a tensor: first the step of each piece, then the
 * first carry of each, and so on. */
uint64_t plan_number_count(const struct plan *plan);
/* A tensor's are those of its segment with the most updates.  carries may be NULL
 * where the rule has none. */
void plan_numbers(const struct plan *plan, const struct layout *layout, const uint64_t *updates,
                  const struct optim_carry *carries, float *numbers);

/* 0, or OPTD_CORRUPT and the first tensor that is not where the plan has it. */
int plan_compare(const struct plan *plan, const struct safetensors *head, char *why, size_t why_bytes);

#endif
