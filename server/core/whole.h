/*
 * Whole: which tensors of a model are updated in one piece, because their rule looks at
 * all of them, and what their state takes.
 *
 * All of it follows from the settings and the layout, so a daemon, another one and a
 * reader of a checkpoint come to the same.  A frozen tensor is not whole, whatever the
 * rule of others is.
 */
#ifndef OPTD_CORE_WHOLE_H
#define OPTD_CORE_WHOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "optim/optim.h"
#include "optim/tensor.h"
#include "proto/layout.h"
#include "proto/msg.h"
#include "server/core/group.h"

/* Whether any tensor may be: some rule looks at whole tensors.  Such a rule may have slots
 * that depend on a tensor's shape, and people put it beside others that have more.  So each
 * slot of a shard is then packed: what its segments have of it, one after the other
 * (whole_slot).  Otherwise each slot has as many elements as the weights, and lies as they
 * do. */
bool whole_any(const struct groups *groups, const struct optim *own);

/* layout_cut for these rules. */
int whole_cut(const struct groups *groups, const struct optim *own, struct layout *layout);

/* Whether each whole tensor has a shape that its rule takes and, in async, fits into one
 * block, whose push is then complete.  OPTD_HYPER, and a sentence about the first that
 * does not, with what to do.  The layout need not be cut. */
int whole_check(const struct groups *groups, const struct optim *own, enum msg_mode mode,
                const struct layout *layout, char *why, size_t why_bytes);

/* A tensor as its rule sees it. */
struct tensor_shape whole_shape(const struct layout_tensor *tensor);
/* The slots of a tensor without elements have none either; returns how many there are. */
uint32_t whole_slots(const struct optim *optim, const struct layout_tensor *tensor,
                     struct tensor_slot out[OPTIM_SLOTS_MAX]);
/* Elements of packed slot `slot` that belong to a segment of the layout: of a tensor whose
 * slots depend on its shape all, with its first segment.  optim NULL: it is frozen. */
uint64_t whole_slot(const struct optim *optim, const struct layout *layout, uint32_t segment,
                    uint32_t slot);

/* Elements of each slot of a run of blocks, and floats of working memory for the largest
 * update in it.  Where nothing is whole it takes no time. */
struct whole_sizes {
	uint64_t slots[OPTIM_SLOTS_MAX]; /* those beyond groups_slot_count are 0 */
	uint64_t scratch;
	uint32_t tensors; /* that are whole */
};
struct whole_sizes whole_measure(const struct groups *groups, const struct optim *own,
                                 const struct layout *layout, struct layout_run run);

#endif
