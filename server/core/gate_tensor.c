/*
 * Whole tensors: their blocks are collected one by one, like all others, and committed
 * together when the last of them is complete.
 *
 * A tensor that is complete comes into a queue, and who drives the engine takes it from
 * there when there is time for its update.  A block of it that a checkpoint holds keeps
 * all of it; it is put into the queue again when the block is let go.
 *
 * Parts of a tensor that nobody has given in a step, while others were, count as zero.  If
 * nobody has given any, the step passes without an update.
 */
#include "server/core/gate_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool gate_tensors_new(struct gate *gate)
{
	const struct model *model = gate->model;
	struct layout_run unit;

	if (!layout_has_whole(model->layout))
		return true;
	/* No more than blocks; the formula has one for each. */
	gate->tensors = calloc(model->owned.count + 1u, sizeof(*gate->tensors));
	gate->tensor_contributors = calloc(gate->workers, sizeof(*gate->tensor_contributors));
	if (gate->tensors == NULL || gate->tensor_contributors == NULL)
		return false;
	for (uint32_t at = 0; at < model->owned.count; at += unit.count) {
		unit = model_unit(model, model->owned.first + at);
		for (uint32_t i = 0; i < unit.count; i++)
			gate->tensors[at + i].run = unit;
	}
	return true;
}

void gate_tensors_free(struct gate *gate)
{
	free(gate->tensors);
	free(gate->tensor_contributors);
}

/* Of the tensor that has this block: its first block's place. */
static struct gate_tensor *tensor_of(const struct gate *gate, uint32_t block)
{
	uint32_t first = gate->tensors[block - gate->model->owned.first].run.first;

	return &gate->tensors[first - gate->model->owned.first];
}

void gate_tensor_folded(struct gate *gate, uint32_t block)
{
	struct gate_block *b = gate_block(gate, block);

	if (gate->tensors == NULL || b->counted || !gate_complete(gate, b))
		return;
	b->counted = true;
	tensor_of(gate, block)->complete++;
}

void gate_tensor_emptied(struct gate *gate, uint32_t block)
{
	if (gate_block(gate, block)->counted)
		tensor_of(gate, block)->complete--;
	gate_block(gate, block)->counted = false;
}

/* ---- the queue ---------------------------------------------------------- */

void gate_due(struct gate *gate, uint32_t block)
{
	struct gate_tensor *tensor = tensor_of(gate, block);
	bool complete = gate->direct ? gate_complete(gate, gate_block(gate, block)) : tensor->complete == tensor->run.count;

	assert(!gate->direct || tensor->run.count == 1);
	/* Where steps are decided as a whole, this one has to be. */
	if (gate->decide != NULL && !gate_decide_allows(gate, block))
		return;
	if (tensor->queued || !complete || model_busy(gate->model, block))
		return;
	tensor->queued = true;
	tensor->next = NULL;
	if (gate->last_due != NULL)
		gate->last_due->next = tensor;
	else
		gate->first_due = tensor;
	gate->last_due = tensor;
}

const struct layout_run *gate_due_first(const struct gate *gate)
{
	return gate->first_due != NULL ? &gate->first_due->run : NULL;
}

static bool held(const struct gate *gate, struct layout_run run)
{
	for (uint32_t i = 0; i < run.count; i++) {
		if (gate_block(gate, run.first + i)->held)
			return true;
	}
	return false;
}

/* Who gave to any of its blocks, in rank order. */
static uint32_t contributors(const struct gate *gate, struct layout_run run)
{
	uint32_t count = 0;

	for (uint32_t rank = 0; rank < gate->workers; rank++) {
		const struct seat *gave = NULL;
		for (uint32_t i = 0; i < run.count && gave == NULL; i++) {
			const struct seat *seat = gate_seat(gate, run.first + i, rank);
			gave = seat->gave ? seat : NULL;
		}
		if (gave != NULL)
			gate->tensor_contributors[count++] = (struct commit_contributor){
			        rank, gave->incarnation, model_version(gate->model, run.first)};
	}
	return count;
}

/* Its step is skipped if a block's is, for the lowest rank that says so. */
static void find_poison(const struct gate *gate, struct layout_run run, struct commit *commit)
{
	for (uint32_t i = 0; i < run.count; i++) {
		const struct gate_block *b = gate_block(gate, run.first + i);
		if (b->poison_rank_plus_one == 0 ||
		    (commit->skipped && b->poison_rank_plus_one - 1 >= commit->skipped_rank))
			continue;
		commit->skipped = true;
		commit->skipped_rank = b->poison_rank_plus_one - 1;
		commit->skipped_tensor_plus_one = b->poison_tensor_plus_one;
	}
}

static void fill_folded(struct gate *gate, struct layout_run run, struct commit *commit)
{
	find_poison(gate, run, commit);
	commit->empty = true;
	for (uint32_t i = 0; i < run.count; i++)
		commit->empty = commit->skipped ||
		                (commit->empty && gate_block(gate, run.first + i)->touched == TOUCHED_NONE);
	for (uint32_t i = 0; i < run.count && !commit->empty; i++) {
		if (gate_block(gate, run.first + i)->touched == TOUCHED_NONE)
			memset(gate->sums + model_offset(gate->model, run.first + i), 0,
			       model_block(gate->model, run.first + i)->count * sizeof(float));
	}
	commit->values = gate->sums + model_offset(gate->model, run.first);
	commit->contributor_count = contributors(gate, run);
}

static void fill_direct(struct gate *gate, struct layout_run run, struct commit *commit)
{
	const struct contribution *c = gate_block(gate, run.first)->waiting;

	commit->values = c->values;
	commit->type = c->type;
	commit->skipped = c->poisoned;
	commit->skipped_rank = c->rank;
	commit->skipped_tensor_plus_one = c->poison_tensor_plus_one;
	commit->empty = c->values == NULL;
	gate_scale_commit(gate, c, commit);
	gate->tensor_contributors[0] = (struct commit_contributor){c->rank, c->incarnation, c->step};
	commit->contributor_count = 1;
}

/* The factor of its one tensor: others' are found while its update is under way. */
static void take_decision(struct gate *gate, struct commit *commit)
{
	gate_decide_commit(gate, commit);
	if (commit->factors == NULL)
		return;
	gate->tensor_factor = commit->factors[0];
	commit->factors = &gate->tensor_factor;
}

bool gate_due_take(struct gate *gate, struct commit *commit)
{
	struct gate_tensor *tensor = gate->first_due;
	struct layout_run run = tensor->run;

	gate->first_due = tensor->next;
	if (gate->first_due == NULL)
		gate->last_due = NULL;
	tensor->queued = false;
	if (held(gate, run))
		return false;
	*commit = (struct commit){.kind = COMMIT_STEP,
	                          .block = run.first,
	                          .more = run.count - 1,
	                          .version = model_version(gate->model, run.first) + 1,
	                          .contributors = gate->tensor_contributors,
	                          .factor = 1.0f,
	                          .scalars = &gate->tensor_scalars};
	if (gate->direct)
		fill_direct(gate, run, commit);
	else
		fill_folded(gate, run, commit);
	if (gate->decide != NULL)
		take_decision(gate, commit);
	if (!commit->empty)
		commit->scalars_count = model_scalars(gate->model, run.first, NULL, &gate->tensor_scalars);
	return true;
}
