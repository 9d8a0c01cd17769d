/* Steps that are decided as a whole: collect, decide, apply. */
#include "server/core/gate_parts.h"

#include <assert.h>
#include <stdlib.h>

#include "optim/clip.h"
#include "server/base/mem.h"
#include "server/core/clipping.h"
#include "server/core/lane_message.h"

uint64_t gate_decide_bytes(const struct model_settings *settings, const struct layout *layout,
                           struct layout_run run)
{
	if (!clipping_on(&settings->clip))
		return 0;
	return sizeof(struct gate_decide) +
	       mem_bytes((layout_run_segments(layout, run) + 1u) * sizeof(double));
}

static size_t parts_bytes(const struct model *model)
{
	return (model->segment_count + 1u) * sizeof(double);
}

bool gate_decide_allocate(struct gate *gate)
{
	const struct model *model = gate->model;
	struct gate_decide *decide = calloc(1, sizeof(*decide));

	gate->decide = decide;
	if (decide == NULL)
		return false;
	decide->parts = mem_new(parts_bytes(model));
	/* One that was restored has all blocks at one version. */
	decide->step = model->owned.count > 0 ? model->versions[0] : 0;
	return decide->parts != NULL;
}

void gate_decide_free(struct gate *gate)
{
	if (gate->decide == NULL)
		return;
	mem_free(gate->decide->parts, parts_bytes(gate->model));
	free(gate->decide);
}

/* While the sums are warm. */
void gate_decide_collect(struct gate *gate, uint32_t block)
{
	const struct model *model = gate->model;
	const struct layout_block *lb = model_block(model, block);
	const struct gate_block *b = gate_block(gate, block);
	const float *sum = gate->sums + model_offset(model, block);
	double type = clipping_type(&model->settings.clip);
	bool poisoned = b->poison_rank_plus_one > 0; /* what is folded is not all */

	assert(model_version(model, block) == gate->decide->step);
	for (uint32_t i = 0; i < lb->segment_count; i++) {
		const struct layout_segment *s = layout_segment(model->layout, lb->first_segment + i);
		uint32_t index = lb->first_segment + i - model->first_segment;
		bool has = !poisoned && (b->touched == TOUCHED_ALL || (b->touched == TOUCHED_SOME && commit_has(b->mask, i)));
		gate->decide->parts[index] = has && model_has_gradient(model, index)
		                                     ? clip_part(gate->isa, sum + s->offset, s->count, type)
		                                     : 0;
	}
	gate->decide->collected++;
}

bool gate_decides(const struct gate *gate)
{
	return gate->decide != NULL;
}

uint64_t gate_step(const struct gate *gate)
{
	return gate->decide->step;
}

bool gate_collected(const struct gate *gate)
{
	return gate->decide != NULL && gate->decide->collected == gate->model->owned.count;
}

const double *gate_step_parts(const struct gate *gate)
{
	return gate->decide->parts;
}

void gate_decided(struct gate *gate, const struct lane_message *decision)
{
	assert(gate_collected(gate) && decision->step == gate->decide->step);
	gate->decide->decision = decision;
	gate->decide->collected = 0;
	gate->decide->step++;
}

uint32_t gate_uncollected(const struct gate *gate)
{
	struct layout_run owned = gate->model->owned;

	for (uint32_t i = 0; i < owned.count; i++) {
		if (!gate_complete(gate, &gate->blocks[i]))
			return owned.first + i;
	}
	return UINT32_MAX;
}

bool gate_decide_allows(const struct gate *gate, uint32_t block)
{
	return model_version(gate->model, block) < gate->decide->step;
}

void gate_decide_commit(struct gate *gate, struct commit *commit)
{
	const struct model *model = gate->model;
	const struct lane_message *decision = gate->decide->decision;
	const struct layout_block *b = model_block(model, commit->block);
	uint32_t first = b->first_segment - model->first_segment;
	bool each = model->settings.clip.tensor_norm > 0;

	assert(decision->step == model_version(model, commit->block));
	/* A worker that poisoned the step is named before a sum that overflowed. */
	if (decision->skip && !commit->skipped) {
		commit->skipped = true;
		commit->skipped_rank = MSG_SKIPPED_SUM - 1;
	}
	commit->empty |= decision->skip;
	if (decision->skip || !decision->clipped)
		return;
	for (uint32_t i = 0; i < b->segment_count; i++) {
		float factor = each ? (float)decision->numbers[first + i] : decision->factor;
		gate->factors[i] = model_has_gradient(model, first + i) ? factor : 1.0f;
	}
	commit->factors = gate->factors;
}
