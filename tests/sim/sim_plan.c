/* The plan of a run, drawn from its seed, and the comparison with the reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/settings.h"
#include "server/core/whole.h"
#include "tests/sim/sim.h"

struct layout *plan_layout(const struct sim *sim)
{
	struct layout *layout = layout_new();
	char name[16];

	for (uint32_t i = 0; i < sim->tensor_count; i++) {
		int bytes = snprintf(name, sizeof(name), "t%u", i);
		if (layout_add(layout, name, (size_t)bytes, &sim->counts[i], 1, 0) < 0)
			abort();
	}
	return layout;
}

static void plan_optim(struct sim *sim, struct optim *optim)
{
	char why[256];
	const double half[2] = {0.5, 0.75};
	const struct optim_rule *rule;

	do {
		rule = optim_rule(rng_below(&sim->rng, optim_rule_count()));
		if (optim_init(optim, rule, OPTIM_TORCH2, why, sizeof(why)) < 0)
			abort();
		/* All tensors are vectors. */
	} while (optim_replies(optim) || strcmp(optim_rule_name(rule), "muon") == 0);
	optim_set(optim, "lr", half, 1, why, sizeof(why));
	optim_set(optim, "momentum", half, 1, why, sizeof(why));
}

/* In every other run odd tensors have another rule, and one is frozen. */
static void plan_groups(struct sim *sim)
{
	struct groups *groups = &sim->settings.groups;
	const struct optim *own = &sim->settings.optim;
	char why[256];

	if (rng_one_in(&sim->rng, 2))
		return;
	groups->count = 2;
	if (group_begin(&groups->list[0], "t2", own, NULL, NULL, why, sizeof(why)) < 0 ||
	    group_begin(&groups->list[1], "t*[13579]", own, NULL, NULL, why, sizeof(why)) < 0)
		abort();
	groups->list[0].frozen = true;
	plan_optim(sim, &groups->list[1].optim);
}

static void reference_groups(const struct sim *sim, struct reference *reference)
{
	if (sim->settings.groups.count == 0)
		return;
	reference_group(reference, 2, NULL);
	for (uint32_t i = 1; i < sim->tensor_count; i += 2)
		reference_group(reference, i, &sim->settings.groups.list[1].optim);
}

/* In every other run. */
static void plan_clip(struct sim *sim)
{
	static const double limits[] = {1e-2, 1, 50};
	struct msg_clip *clip = &sim->settings.clip;

	if (rng_one_in(&sim->rng, 2))
		return;
	*(rng_one_in(&sim->rng, 2) ? &clip->norm : &clip->tensor_norm) = limits[rng_below(&sim->rng, 3)];
	clip->norm_type = 1 + rng_below(&sim->rng, 2);
}

/* In two of three runs; from numbers of its own, so that the plans of before stay. */
static void plan_average(struct sim *sim)
{
	struct rng rng = rng_new(sim->seed ^ UINT64_C(0x61766572616765));
	const double start = rng_below(&rng, 3), every = 1 + rng_below(&rng, 2);
	struct average *average = &sim->settings.average;
	char why[256];

	if (rng_one_in(&rng, 3))
		return;
	if (average_begin(average, rng_one_in(&rng, 2) ? "ema" : "swa", why, sizeof(why)) < 0 ||
	    average_set(average, "start", &start, 1, why, sizeof(why)) < 0 ||
	    average_set(average, "every", &every, 1, why, sizeof(why)) < 0)
		abort();
}

void plan_make(struct sim *sim)
{
	struct rng *rng = &sim->rng;

	/* Mostly small blocks are not to be had: a block ends at its element limit.  So
	 * one tensor is large, and the others make it uneven. */
	sim->tensor_count = 3 + rng_below(rng, 12);
	for (uint32_t i = 0; i < sim->tensor_count; i++)
		sim->counts[i] = 1 + rng_below(rng, 50);
	if (!rng_one_in(rng, 4))
		sim->counts[rng_below(rng, sim->tensor_count)] =
		        LIMIT_BLOCK_ELEMENTS * (1 + rng_below(rng, 3)) + rng_below(rng, 1000);
	sim->layout = plan_layout(sim);
	plan_optim(sim, &sim->settings.optim);
	plan_groups(sim);
	if (whole_cut(&sim->settings.groups, &sim->settings.optim, sim->layout) < 0)
		abort();
	plan_average(sim);
	sim->daemons = 1 + rng_below(rng, 2);
	sim->lanes = 1 + rng_below(rng, 3);
	sim->workers = 1 + rng_below(rng, SIM_WORKERS);
	sim->steps = 2 + rng_below(rng, 10);
	sim->deaths = rng_one_in(rng, 2);
	sim->poisons = rng_one_in(rng, 2);
	if (sim->poisons && rng_one_in(rng, 2))
		sim->settings.loss_scale = (struct msg_loss_scale){true, 64, 2, 0.5, 2};
	sim->fault_every_ms = 20 + rng_below(rng, rng_one_in(rng, 2) ? 100 : 2000);
	sim->settings.mode = MSG_SYNC;
	sim->settings.reduce = rng_one_in(rng, 3) ? MSG_SUM : MSG_MEAN;
	sim->settings.workers = sim->workers;
	sim->settings.step_timeout_ms = 2500; /* shorter than what a death can take */
	plan_clip(sim);
	sim->preset = (struct engine_preset){"m", true, sim->settings};
	uint64_t elements = layout_elements(sim->layout);
	sim->first_weights = malloc(elements * sizeof(float));
	for (uint64_t i = 0; i < elements; i++)
		sim->first_weights[i] = rng_float(rng);
}

void plan_gradient(const struct sim *sim, uint32_t rank, uint64_t step, const float *weights,
                   float *gradient, bool *has)
{
	struct rng rng = rng_new(sim->seed ^ (step * 1000003 + rank * 7919 + 1) * 0x9e3779b97f4a7c15u);
	uint64_t elements = layout_elements(sim->layout);
	bool all = rng_one_in(&rng, 2);

	for (uint32_t i = 0; i < sim->tensor_count; i++)
		has[i] = all || rng_one_in(&rng, 2);
	for (uint64_t i = 0; i < elements; i++) {
		gradient[i] = rng_float(&rng);
		if (!sim->deaths)
			gradient[i] += 0.01f * weights[i];
	}
	/* Finite, and its sum over the ranks is not.  Values would become the weights. */
	if (plan_clips(sim) && step % 4 == 2 && !sim->settings.loss_scale.given &&
	    optim_rule_push(sim->settings.optim.rule) != OPTIM_WEIGHTS)
		gradient[0] = 3e38f;
}

void plan_scale(const struct sim *sim, double scale, float *gradient)
{
	for (uint32_t i = 0; scale > 0 && i < sim->tensor_count; i++) {
		const struct layout_tensor *t = layout_tensor(sim->layout, i);
		bool odd = sim->settings.groups.count > 0 && i % 2 == 1;
		const struct optim *optim = odd ? &sim->settings.groups.list[1].optim : &sim->settings.optim;
		if (optim_rule_push(optim->rule) != OPTIM_GRADIENT)
			continue;
		for (uint64_t j = 0; j < t->count; j++)
			gradient[t->offset + j] *= (float)scale;
	}
}

bool plan_clips(const struct sim *sim)
{
	return sim->settings.clip.norm > 0 || sim->settings.clip.tensor_norm > 0;
}

bool plan_poisons(const struct sim *sim, uint32_t rank, uint64_t step)
{
	struct rng rng = rng_new(sim->seed ^ (step * 7001 + rank * 31 + 5) * 0xbf58476d1ce4e5b9u);
	return sim->poisons && rng_one_in(&rng, 6);
}

uint32_t plan_skipped(const struct sim *sim, uint64_t step)
{
	for (uint32_t rank = 0; rank < sim->workers; rank++) {
		if (plan_poisons(sim, rank, step))
			return rank + 1;
	}
	return 0;
}

/* ---- what must come out ------------------------------------------------- */

static void train_reference(const struct sim *sim, struct reference *reference)
{
	struct reference_part parts[SIM_WORKERS];
	float *gradients[SIM_WORKERS];
	bool has[SIM_WORKERS][64];

	reference_init(reference, &sim->settings.optim, sim->counts, sim->tensor_count,
	               sim->first_weights);
	reference->average = sim->settings.average;
	reference_groups(sim, reference);
	set_reference(sim, reference);
	if (plan_clips(sim))
		reference_clip(reference, &sim->settings.clip, sim->layout);
	reference_scale(reference, &sim->settings.loss_scale);
	for (uint32_t rank = 0; rank < sim->workers; rank++)
		gradients[rank] = malloc(layout_elements(sim->layout) * sizeof(float));
	for (uint64_t step = 0; step < sim->steps; step++) {
		for (uint32_t rank = 0; rank < sim->workers; rank++) {
			plan_gradient(sim, rank, step, reference->weights, gradients[rank], has[rank]);
			parts[rank] = (struct reference_part){gradients[rank], has[rank], 0, 0,
			                                      plan_poisons(sim, rank, step)};
		}
		reference_step(reference, parts, sim->workers, sim->settings.reduce == MSG_MEAN);
	}
	for (uint32_t rank = 0; rank < sim->workers; rank++)
		free(gradients[rank]);
}

/* Segment by segment: where slots are packed, what has none takes no room. */
static bool same_slot(const struct model *model, uint32_t slot, const struct reference *reference)
{
	uint64_t begin = 0;
	bool same = true;

	for (uint32_t i = 0; i < model->segment_count; i++) {
		uint32_t segment = model->first_segment + i;
		uint64_t count = whole_slot(model_optim_made(model, i), model->layout, segment, slot);
		uint64_t at = model->slot_begins[slot] != NULL ? model->slot_begins[slot][i] : begin;
		same = same && (count == 0 || memcmp(model->slots[slot] + at,
		                                     reference->slots[slot] + model->begin + begin,
		                                     count * sizeof(float)) == 0);
		begin += layout_segment(model->layout, segment)->count;
	}
	return same;
}

static void compare_engine(struct sim *sim, uint32_t index, const struct reference *reference)
{
	const struct model *model = engine_find(sim->engines[index], "m")->model;
	size_t bytes = model->elements * sizeof(float);

	for (uint32_t i = 0; i < model->owned.count; i++) {
		if (model->versions[i] != sim->steps)
			sim_fail(sim, "engine %u block %u is at version %llu after %u steps", index,
			         model->owned.first + i, (unsigned long long)model->versions[i], sim->steps);
	}
	for (uint32_t i = 0; i < model->segment_count; i++) {
		const struct layout_segment *s = layout_segment(sim->layout, model->first_segment + i);
		if (model->updates[i] != reference->updates[s->tensor])
			sim_fail(sim, "tensor %u was updated %llu times, not %llu", s->tensor,
			         (unsigned long long)model->updates[i],
			         (unsigned long long)reference->updates[s->tensor]);
	}
	if (bytes > 0 && memcmp(model->weights, reference->weights + model->begin, bytes) != 0)
		sim_fail(sim, "the weights of engine %u differ from the fault-free ones", index);
	if (model->average != NULL && memcmp(model->average, reference->averages + model->begin, bytes) != 0)
		sim_fail(sim, "the average of engine %u differs", index);
	for (uint32_t i = 0; bytes > 0 && i < model->slot_count; i++) {
		if (!same_slot(model, i, reference))
			sim_fail(sim, "slot %u of engine %u differs", i, index);
	}
	uint64_t skipped = 0;
	for (uint64_t step = 0; step < sim->steps; step++)
		skipped += plan_skipped(sim, step) > 0;
	sim->skipped = skipped;
	skipped += reference->overflowed;
	if (model->owned.count > 0 && model->skips.count != skipped)
		sim_fail(sim, "engine %u has skipped %llu steps, not %llu", index,
		         (unsigned long long)model->skips.count, (unsigned long long)skipped);
	if (model->owned.count > 0 && model->scaler.scale != reference->scale)
		sim_fail(sim, "engine %u is at loss scale %g, not %g", index, (double)model->scaler.scale,
		         (double)reference->scale);
	const struct shard *shard = engine_find(sim->engines[index], "m");
	if (gate_waiting_bytes(shard->gate) != 0)
		sim_fail(sim, "engine %u still holds bytes of pushes", index);
}

void plan_compare(struct sim *sim)
{
	struct reference reference;

	train_reference(sim, &reference);
	for (uint32_t i = 0; i < sim->daemons * sim->lanes; i++) {
		if (engine_find(sim->engines[i], "m") == NULL) {
			struct layout_run run = layout_owned(sim->layout, i / sim->lanes,
			                                     sim->daemons, i % sim->lanes, sim->lanes);
			if (run.count > 0)
				sim_fail(sim, "engine %u has no model", i);
			continue;
		}
		compare_engine(sim, i, &reference);
	}
	for (uint32_t i = 0; i < sim->workers; i++) {
		if (memcmp(sim->worker[i].weights, reference.weights,
		           reference.elements * sizeof(float)) != 0)
			sim_fail(sim, "worker %u pulled other weights than the last step's", i);
	}
	sim->clipped = reference.clipped;
	sim->overflowed = reference.overflowed;
	reference_deinit(&reference);
}

void plan_free(struct sim *sim)
{
	layout_free(sim->layout);
	free(sim->first_weights);
}
