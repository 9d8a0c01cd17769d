/* Updates of whole tensors, in slices. */
#include "server/core/model_parts.h"

#include <assert.h>

#include "server/core/whole.h"

bool model_is_whole(const struct model *model, uint32_t block)
{
	const struct layout_block *b = model_block(model, block);

	return layout_whole(model->layout, layout_segment(model->layout, b->first_segment)->tensor);
}

struct layout_run model_unit(const struct model *model, uint32_t block)
{
	return layout_unit(model->layout, block);
}

bool model_busy(const struct model *model, uint32_t block)
{
	const struct commit *commit = &model->update.commit;

	return model->update.running && block >= commit->block && block - commit->block <= commit->more;
}

/* Fills in what the rule is called with, all of the tensor. */
static void prepare(struct model *model, enum optim_isa isa)
{
	struct model_update *u = &model->update;
	uint32_t segment = model_block(model, u->commit.block)->first_segment;
	uint32_t index = segment - model->first_segment;
	struct changed changed;
	const struct layout_tensor *tensor =
	        layout_tensor(model->layout, layout_segment(model->layout, segment)->tensor);

	assert(u->commit.scalars_count == 1 && u->commit.scalars[0].t == model->updates[index] + 1);
	u->scalars = u->commit.scalars[0];
	model_changed(model, u->commit.block, &changed);
	u->optim = *changed.at[model_group(model, index)];
	for (uint32_t s = 0; s < model->slot_count; s++)
		u->slots[s] = model->slots[s] + model_slot_offset(model, u->commit.block, s);
	u->tensor = (struct tensor_update){.optim = &u->optim,
	                                   .isa = isa,
	                                   .scalars = &u->scalars.scalars,
	                                   .shape = whole_shape(tensor),
	                                   .w = model->weights + model_offset(model, u->commit.block),
	                                   .slots = u->slots,
	                                   .g = {u->commit.values,
	                                         u->commit.factors != NULL ? u->commit.factors[0] :
	                                                                     u->commit.factor,
	                                         u->commit.type},
	                                   .scratch = model->scratch};
	tensor_begin(&u->tensor);
}

void model_begin(struct model *model, enum optim_isa isa, const struct commit *commit)
{
	struct layout_run unit = model_unit(model, commit->block);

	assert(!model->update.running && commit->kind == COMMIT_STEP);
	assert(unit.first == commit->block && unit.count == commit->more + 1);
	(void)unit;
	model->update.running = true;
	model->update.commit = *commit;
	model->update.updated = false;
	model->update.averaged = 0;
	/* A checkpoint's cut counts the update as made, and asks for the loss scale first. */
	model_judge(model, commit);
	if (!commit->empty)
		prepare(model, isa);
}

/* The average of the weights, once they are new. */
static bool average_some(struct model *model, uint64_t budget)
{
	struct model_update *u = &model->update;
	uint64_t elements = tensor_elements(&u->tensor.shape), left = elements - u->averaged;
	uint64_t n = left < budget ? left : budget, at = model_offset(model, u->commit.block) + u->averaged;

	average_update(&model->settings.average, u->tensor.isa, u->scalars.t, model->average + at,
	               model->weights + at, n);
	u->averaged += n;
	return u->averaged == elements;
}

bool model_go_on(struct model *model, uint64_t budget)
{
	struct model_update *u = &model->update;
	const struct commit *commit = &u->commit;
	uint32_t index = model_block(model, commit->block)->first_segment - model->first_segment;

	assert(u->running);
	if (!commit->empty && !u->updated) {
		u->updated = tensor_run(&u->tensor, budget);
		if (!u->updated || model->average != NULL)
			return false;
	}
	if (!commit->empty && model->average != NULL && !average_some(model, budget))
		return false;
	/* Each block of it has one segment. */
	for (uint32_t i = 0; i <= commit->more && !commit->empty; i++) {
		model->updates[index + i]++;
		if (model->carries != NULL)
			model->carries[index + i] = u->scalars.after;
	}
	model_count(model, commit);
	u->running = false;
	return true;
}
