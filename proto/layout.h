/*
 * Layout: what a model's flat vector of float32 parameters is made of, and how
 * it is cut.
 *
 *     tensors   names and shapes, one after the other in the vector
 *     blocks    the unit of messages, versions and waiting: a run of at most
 *               LIMIT_BLOCK_ELEMENTS elements and LIMIT_BLOCK_SEGMENTS segments
 *     segments  tensor intersected with block: the unit of a kernel call
 *     map       which daemon and lane owns which run of blocks
 *
 * Everything here is a pure function of the tensors (and, for blocks, of which
 * tensors need to be whole), never of the number of servers; so client and
 * server compute the same tables and need not send them.
 *
 * A layout is immutable once cut and may then be read from any thread.
 */
#ifndef OPTD_PROTO_LAYOUT_H
#define OPTD_PROTO_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

struct layout_tensor {
	const char *name; /* NUL-terminated UTF-8, unique in the layout */
	uint64_t offset;  /* first element in the vector */
	uint64_t count;   /* elements; 0 is allowed and takes part in nothing */
	uint32_t group;   /* parameter group, 0 unless given */
	uint32_t rank;    /* dimensions; 0 is a scalar of one element */
	uint64_t shape[LIMIT_TENSOR_RANK];
};

struct layout_block {
	uint64_t begin;         /* first element in the vector */
	uint32_t count;         /* elements */
	uint32_t first_segment; /* index into the layout's segments */
	uint32_t segment_count;
};

struct layout_segment {
	uint32_t tensor;
	uint32_t offset; /* first element, counted from the block's begin */
	uint32_t count;  /* elements, at least 1 */
};

struct layout;

/* The blocks of one owner, or of a whole tensor: [first, first + count). */
struct layout_run {
	uint32_t first;
	uint32_t count;
};

/* An empty layout, or NULL without memory. */
struct layout *layout_new(void);
void layout_free(struct layout *layout);

/* Appends a tensor; copies name and shape.  OPTD_INVALID for a bad or repeated
 * name or rank, OPTD_TOO_LARGE beyond a limit, OPTD_NO_MEMORY; the layout is
 * then as before.  Only before layout_cut.  Pointers from layout_tensor are
 * good until the next layout_add or layout_cut, names until layout_free. */
int layout_add(struct layout *layout, const char *name, size_t name_bytes,
               const uint64_t *shape, uint32_t rank, uint32_t group);

/* Makes blocks and segments.  `whole` has a byte for each tensor, nonzero where
 * the tensor's rule needs it in one piece, or is NULL for none: such a tensor
 * begins and ends a block, and one owner has all its blocks.  Call once.
 * OPTD_INVALID without an element.
 *
 * Takes 24 bytes a block and 12 a segment, whatever a peer has put into a
 * shape: compare layout_elements with what is allowed before cutting. */
int layout_cut(struct layout *layout, const uint8_t *whole);

/* Memory that the layout takes, with the tables that it has by now. */
uint64_t layout_bytes(const struct layout *layout);

uint32_t layout_tensor_count(const struct layout *layout);
const struct layout_tensor *layout_tensor(const struct layout *layout, uint32_t index);
/* Index of the tensor with this name, or -1. */
int64_t layout_find(const struct layout *layout, const char *name);
/* The name nearest to `name` by edit distance, or NULL if none is near. */
const char *layout_nearest(const struct layout *layout, const char *name);

uint64_t layout_elements(const struct layout *layout);
uint32_t layout_block_count(const struct layout *layout);
const struct layout_block *layout_block(const struct layout *layout, uint32_t index);
uint32_t layout_segment_count(const struct layout *layout);
const struct layout_segment *layout_segment(const struct layout *layout, uint32_t index);

/* Whether the tensor was cut as a whole one: never one without elements. */
bool layout_whole(const struct layout *layout, uint32_t tensor);
/* The blocks of a whole tensor, given one of them; of any other block, itself alone. */
struct layout_run layout_unit(const struct layout *layout, uint32_t block);

/* A hash of names, shapes and groups, and of the cut without whole tensors; equal
 * layouts have equal ones, and none has 0.  Who does not know the rules yet has it too. */
uint64_t layout_hash(const struct layout *layout);

/* 0 when a and b are equal; else -1 and a sentence about the first tensor that
 * differs, with both shapes ("tensor 'fc1.weight': here [128,784], the model
 * has [256,784]"), where a is "here" and b "the model".  Where both are cut,
 * the cuts are compared too. */
int layout_compare(const struct layout *a, const struct layout *b, char *why, size_t why_bytes);

/* "[128,784]" into text; always terminated. */
void layout_shape_text(const struct layout_tensor *tensor, char *text, size_t text_bytes);

/* Elements and segments of a run of blocks. */
uint64_t layout_run_elements(const struct layout *layout, struct layout_run run);
uint32_t layout_run_segments(const struct layout *layout, struct layout_run run);

/* Owner `index` of `count` gets this run of [all.first, +all.count).  Runs follow
 * one another, and owner 0 is never empty while there is a block.  Without whole
 * tensors they differ by at most one block.  With some, borders are where the elements
 * are shared equally, moved to the nearest border of a whole tensor or block, but each
 * owner has something while anything is left.  So those who have none are the last. */
struct layout_run layout_share(const struct layout *layout, struct layout_run all, uint32_t index,
                               uint32_t count);

/* Blocks of lane `lane` of `lanes` on daemon `daemon` of `daemons`: first the
 * daemons share the model, then a daemon's lanes share what it has, so that a
 * daemon may change its lanes without the others noticing. */
struct layout_run layout_owned(const struct layout *layout, uint32_t daemon, uint32_t daemons,
                               uint32_t lane, uint32_t lanes);

/* A hash of tensors, groups and the cut as it is; without whole tensors layout_hash.
 * Only after layout_cut, as is whether any tensor is whole. */
uint64_t layout_cut_id(const struct layout *layout);
bool layout_has_whole(const struct layout *layout);

/* The number that travels in every header: what both sides must agree on to
 * mean the same elements by the same block number at this daemon.  It covers which
 * tensors are whole.  Never 0.  Only after layout_cut. */
uint64_t layout_id(const struct layout *layout, uint32_t daemon, uint32_t daemons, uint32_t lanes);

#endif
