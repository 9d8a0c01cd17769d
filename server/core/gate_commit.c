/* What a block has been given becomes a commit. */
#include "server/core/gate_parts.h"

#include <string.h>

static void commit_direct(struct gate *gate, const struct contribution *c, struct commit *commit)
{
	commit->values = c->values;
	commit->type = c->type;
	commit->skipped = c->poisoned;
	commit->skipped_rank = c->rank;
	commit->skipped_tensor_plus_one = c->poison_tensor_plus_one;
	commit->packed = c->mask != NULL;
	commit->present = c->mask;
	commit->empty = c->values == NULL;
	gate_scale_commit(gate, c, commit);
	gate->contributors[0] = (struct commit_contributor){c->rank, c->incarnation, c->step};
	commit->contributor_count = 1;
}

static void commit_folded(struct gate *gate, uint32_t block, struct commit *commit)
{
	const struct gate_block *b = gate_block(gate, block);

	commit->values = gate->sums + model_offset(gate->model, block);
	commit->factor = 1.0f;
	commit->skipped = b->poison_rank_plus_one > 0;
	if (commit->skipped) {
		commit->skipped_rank = b->poison_rank_plus_one - 1;
		commit->skipped_tensor_plus_one = b->poison_tensor_plus_one;
	}
	commit->present = b->touched == TOUCHED_SOME ? b->mask : NULL;
	commit->empty = commit->skipped || b->touched == TOUCHED_NONE;
	for (uint32_t rank = 0; rank < gate->workers; rank++) {
		const struct seat *seat = gate_seat(gate, block, rank);
		if (seat->gave)
			gate->contributors[commit->contributor_count++] = (struct commit_contributor){
			        rank, seat->incarnation, model_version(gate->model, block)};
	}
}

bool gate_complete(const struct gate *gate, const struct gate_block *b)
{
	if (gate->direct)
		return b->waiting != NULL;
	return b->poison_rank_plus_one > 0 ? b->came == gate->workers : b->next_rank == gate->workers;
}

bool gate_next(struct gate *gate, uint32_t block, struct commit *commit)
{
	struct gate_block *b = gate_block(gate, block);

	if (b->held || !gate_complete(gate, b))
		return false;
	if (gate->decide != NULL && !gate_decide_allows(gate, block))
		return false;
	memset(commit, 0, sizeof(*commit));
	commit->kind = COMMIT_STEP;
	commit->block = block;
	commit->version = model_version(gate->model, block) + 1;
	commit->contributors = gate->contributors;
	if (gate->direct)
		commit_direct(gate, b->waiting, commit);
	else
		commit_folded(gate, block, commit);
	if (gate->decide != NULL)
		gate_decide_commit(gate, commit);
	commit->scalars = gate->scalars;
	if (!commit->empty)
		commit->scalars_count =
		        model_scalars(gate->model, block, commit->present, gate->scalars);
	return true;
}

void gate_committed(struct gate *gate, uint32_t block)
{
	struct gate_block *b = gate_block(gate, block);

	if (gate->direct) {
		struct contribution *c = b->waiting;
		if (c->wait != NULL)
			gate_fold_told(gate, c->wait);
		b->waiting = c->next;
		gate_discard(gate, c);
		return;
	}
	gate_tensor_emptied(gate, block);
	b->came = 0;
	b->next_rank = 0;
	b->poison_rank_plus_one = 0;
	b->poison_tensor_plus_one = 0;
	b->weighed = false;
	b->weighted = false;
	b->touched = TOUCHED_NONE;
	memset(gate_seat(gate, block, 0), 0, gate->workers * sizeof(struct seat));
}
