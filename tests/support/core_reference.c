/* As plain as it gets: this is what the rest is measured against. */
#include "tests/support/core_reference.h"

#include <math.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "optim/clip.h"
#include "tests/support/core_world.h"

static void *zeros(uint64_t count, size_t size)
{
	void *memory = calloc(count + 1, size);
	assert_non_null(memory);
	return memory;
}

void reference_group(struct reference *reference, uint32_t tensor, const struct optim *optim)
{
	reference->optims[tensor] = optim;
	memset(&reference->carries[tensor], 0, sizeof(reference->carries[tensor]));
	if (optim != NULL)
		optim_carry_initial(optim, &reference->carries[tensor]);
	for (uint32_t s = 0; s < OPTIM_SLOTS_MAX; s++) {
		bool has = optim != NULL && s < optim_slot_count(optim);
		for (uint64_t i = reference->begin[tensor]; i < reference->begin[tensor + 1]; i++)
			reference->slots[s][i] = has ? optim_slot_initial(optim, s) : 0.0f;
	}
}

void reference_init(struct reference *reference, const struct optim *optim,
                    const uint64_t *counts, uint32_t tensor_count, const float *weights)
{
	memset(reference, 0, sizeof(*reference));
	reference->optim = *optim;
	reference->tensor_count = tensor_count;
	reference->begin = zeros(tensor_count + 1, sizeof(uint64_t));
	reference->updates = zeros(tensor_count, sizeof(uint64_t));
	reference->offers = zeros(tensor_count, sizeof(uint64_t));
	reference->sets = zeros(tensor_count, sizeof(*reference->sets));
	reference->carries = zeros(tensor_count, sizeof(*reference->carries));
	reference->optims = zeros(tensor_count, sizeof(struct optim *));
	reference->shapes = zeros(tensor_count, sizeof(*reference->shapes));
	reference->gave = zeros(tensor_count, sizeof(bool));
	for (uint32_t i = 0; i < tensor_count; i++) {
		reference->begin[i + 1] = reference->begin[i] + counts[i];
		reference->shapes[i] = tensor_shape_of(&counts[i], 1);
	}
	reference->elements = reference->begin[tensor_count];
	reference->weights = zeros(reference->elements, sizeof(float));
	reference->sum = zeros(reference->elements, sizeof(float));
	reference->answers = zeros(reference->elements, sizeof(float));
	memcpy(reference->weights, weights, reference->elements * sizeof(float));
	reference->averaged = zeros(tensor_count, sizeof(uint64_t));
	reference->averages = zeros(reference->elements, sizeof(float));
	memcpy(reference->averages, weights, reference->elements * sizeof(float));
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		reference->slots[i] = zeros(reference->elements, sizeof(float));
	for (uint32_t i = 0; i < tensor_count; i++)
		reference_group(reference, i, &reference->optim);
}

void reference_shape(struct reference *reference, uint32_t tensor, const uint64_t *shape, uint32_t rank)
{
	reference->shapes[tensor] = tensor_shape_of(shape, rank);
}

void reference_deinit(struct reference *reference)
{
	free(reference->begin);
	free(reference->updates);
	free(reference->offers);
	for (uint32_t i = 0; i < reference->tensor_count; i++)
		free(reference->sets[i].list);
	free(reference->sets);
	free(reference->carries);
	free(reference->weights);
	free(reference->sum);
	free(reference->answers);
	free(reference->averages);
	free(reference->averaged);
	free(reference->optims);
	free(reference->shapes);
	free(reference->gave);
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		free(reference->slots[i]);
}

/* All of it at once. */
static void update_whole(const struct optim *optim, const struct optim_scalars *scalars,
                         const struct tensor_shape *shape, float *w, float **slots, const float *g)
{
	float *scratch = zeros(tensor_scratch(optim, shape), sizeof(float));
	struct tensor_update whole = {.optim = optim,
	                              .isa = OPTIM_ISA_BASE,
	                              .scalars = scalars,
	                              .shape = *shape,
	                              .w = w,
	                              .slots = slots,
	                              .g = {g, 1.0f, DTYPE_F32},
	                              .scratch = scratch};

	tensor_begin(&whole);
	while (!tensor_run(&whole, UINT64_MAX))
		continue;
	free(scratch);
}

/* easgd is the one that there is. */
/* Its settings for the offer at hand; NULL: it is frozen. */
static const struct optim *optim_now(const struct reference *reference, uint32_t tensor, struct optim *room)
{
	if (reference->optims[tensor] == NULL)
		return NULL;
	*room = *reference->optims[tensor];
	for (uint32_t i = 0; i < reference->sets[tensor].count; i++) {
		const struct reference_set *set = &reference->sets[tensor].list[i];
		if (set->from <= reference->offers[tensor])
			memcpy(room->values[set->hyper], set->values, sizeof(set->values));
	}
	return room;
}

void reference_answer(const struct reference *reference, uint32_t tensor, const float *x, float *out)
{
	struct optim room;
	const struct optim *optim = optim_now(reference, tensor, &room);
	const float *w = reference->weights + reference->begin[tensor];

	assert_string_equal(optim_rule_name(optim->rule), "easgd");
	for (uint64_t i = 0; i < reference->begin[tensor + 1] - reference->begin[tensor]; i++) {
		float e = (float)optim->values[0][0] * (x[i] - w[i]);
		out[i] = x[i] - e;
	}
}

void reference_scale(struct reference *reference, const struct msg_loss_scale *scaling)
{
	reference->scaling = *scaling;
	reference->scale = (float)scaling->init_scale;
}

/* torch.amp.GradScaler.update. */
static void update_scale(struct reference *reference, bool found_inf)
{
	float grown = (float)((double)reference->scale * reference->scaling.growth_factor);

	if (!reference->scaling.given)
		return;
	if (found_inf) {
		reference->scale = (float)((double)reference->scale * reference->scaling.backoff_factor);
		reference->tracker = 0;
	} else if (++reference->tracker == reference->scaling.growth_interval) {
		reference->scale = grown <= FLT_MAX ? grown : reference->scale;
		reference->tracker = 0;
	}
}

double reference_scale_of(const struct reference *reference, const struct reference_part *part, uint32_t tensor)
{
	const struct optim *optim = reference->optims[tensor];
	bool gradient = optim == NULL || optim_rule_push(optim->rule) == OPTIM_GRADIENT;

	return gradient && part->loss_scale > 0 ? part->loss_scale : 1.0;
}

static void average(struct reference *reference, uint32_t tensor)
{
	const struct average *how = &reference->average;
	uint64_t begin = reference->begin[tensor], n = reference->begin[tensor + 1] - begin;
	uint64_t updates = reference->updates[tensor];
	float *slots[OPTIM_SLOTS_MAX] = {NULL};
	struct optim_carry carry = {{0}};
	struct optim_scalars scalars;

	if (!average_is_kept(how))
		return;
	if (updates <= how->start) {
		memcpy(reference->averages + begin, reference->weights + begin, n * sizeof(float));
		return;
	}
	if ((updates - how->start) % how->every != 0)
		return;
	optim_scalars(&how->optim, ++reference->averaged[tensor], &carry, &scalars);
	optim_step(&how->optim, OPTIM_ISA_BASE, &scalars, reference->averages + begin, slots,
	           reference->weights + begin, n);
}

void reference_set(struct reference *reference, uint32_t tensor, uint64_t from, uint32_t hyper,
                   const double *values)
{
	struct reference_sets *sets = &reference->sets[tensor];
	uint32_t i = sets->count++;

	sets->list = realloc(sets->list, sets->count * sizeof(*sets->list));
	assert_non_null(sets->list);
	for (; i > 0 && sets->list[i - 1].from > from; i--)
		sets->list[i] = sets->list[i - 1];
	sets->list[i] = (struct reference_set){.hyper = hyper, .from = from};
	memcpy(sets->list[i].values, values, sizeof(sets->list[i].values));
}

static void update(struct reference *reference, uint32_t tensor, const float *gradient)
{
	uint64_t begin = reference->begin[tensor];
	struct optim room;
	const struct optim *optim = optim_now(reference, tensor, &room);
	struct optim_scalars scalars;
	float *slots[OPTIM_SLOTS_MAX] = {NULL};

	if (optim == NULL)
		return;
	optim_scalars(optim, ++reference->updates[tensor], &reference->carries[tensor],
	              &scalars);
	if (optim_replies(optim))
		reference_answer(reference, tensor, gradient, reference->answers + begin);
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		slots[i] = reference->slots[i] + begin;
	if (optim_rule_class(optim->rule) == OPTIM_TENSOR)
		update_whole(optim, &scalars, &reference->shapes[tensor], reference->weights + begin, slots,
		             gradient);
	else
		optim_step(optim, OPTIM_ISA_BASE, &scalars, reference->weights + begin, slots, gradient,
		           reference->begin[tensor + 1] - begin);
	average(reference, tensor);
}

static void reduce_tensor(struct reference *reference, uint32_t tensor,
                          const struct reference_part *parts, uint32_t count, bool mean, double total)
{
	uint64_t begin = reference->begin[tensor], n = reference->begin[tensor + 1] - begin;
	float *sum = reference->sum + begin;
	bool first = true;

	for (uint32_t rank = 0; rank < count; rank++) {
		const float *gradient = parts[rank].gradient + begin;
		double weight = parts[rank].weight > 0 ? parts[rank].weight : 1.0;
		float factor = (float)((mean ? weight / total : 1.0) / reference_scale_of(reference, &parts[rank], tensor));
		if (!parts[rank].has[tensor])
			continue;
		for (uint64_t i = 0; i < n; i++) {
			float scaled = factor * gradient[i];
			sum[i] = first ? scaled : sum[i] + scaled;
		}
		first = false;
	}
	reference->gave[tensor] = !first && n > 0;
}

/* ---- clipping ----------------------------------------------------------- */

void reference_clip(struct reference *reference, const struct msg_clip *clip, const struct layout *layout)
{
	reference->clip = *clip;
	reference->layout = layout;
}

static bool is_normed(const struct reference *reference, uint32_t tensor)
{
	const struct optim *optim = reference->optims[tensor];
	return reference->gave[tensor] && optim != NULL && optim_rule_push(optim->rule) != OPTIM_WEIGHTS;
}

/* The norm of one tensor, or for UINT32_MAX of all. */
static double norm_of(const struct reference *reference, uint32_t tensor)
{
	double p = reference->clip.norm_type != 0 ? reference->clip.norm_type : 2, parts = 0;
	uint64_t begin = 0;

	for (uint32_t i = 0; i < layout_segment_count(reference->layout); i++) {
		const struct layout_segment *s = layout_segment(reference->layout, i);
		if ((tensor == UINT32_MAX || s->tensor == tensor) && is_normed(reference, s->tensor))
			parts = clip_join(parts, clip_part(OPTIM_ISA_BASE, reference->sum + begin, s->count, p), p);
		begin += s->count;
	}
	return clip_norm(parts, p);
}

static void scale(struct reference *reference, uint32_t tensor, float factor)
{
	for (uint64_t i = reference->begin[tensor]; i < reference->begin[tensor + 1]; i++)
		reference->sum[i] = factor * reference->sum[i];
}

/* False: the step is skipped. */
static bool clip_step(struct reference *reference)
{
	const struct msg_clip *clip = &reference->clip;
	double norm = clip->norm > 0 ? norm_of(reference, UINT32_MAX) : 0;
	float least = 1;

	for (uint32_t i = 0; i < reference->tensor_count; i++) {
		if (!is_normed(reference, i))
			continue;
		double own = clip->norm > 0 ? norm : norm_of(reference, i);
		float factor = clip_factor(own, clip->norm > 0 ? clip->norm : clip->tensor_norm);
		if (!isfinite(own)) {
			reference->overflowed++;
			return false;
		}
		scale(reference, i, factor);
		least = factor < least ? factor : least;
	}
	reference->clipped += least < 1;
	return true;
}

void reference_judge(struct reference *reference, const struct reference_part *parts, uint32_t count,
                     bool mean)
{
	double total = 0;
	bool poisoned = false;

	for (uint32_t rank = 0; rank < count; rank++) {
		poisoned |= parts[rank].poisoned;
		total += parts[rank].weight > 0 ? parts[rank].weight : 1.0;
	}
	for (uint32_t tensor = 0; !poisoned && tensor < reference->tensor_count; tensor++)
		reduce_tensor(reference, tensor, parts, count, mean, total);
	reference->skipped_sum = !poisoned && reference->layout != NULL && !clip_step(reference);
	reference->skipped = poisoned || reference->skipped_sum;
	update_scale(reference, reference->skipped);
}

void reference_finish(struct reference *reference)
{
	for (uint32_t tensor = 0; tensor < reference->tensor_count; tensor++) {
		if (!reference->skipped && reference->gave[tensor])
			update(reference, tensor, reference->sum + reference->begin[tensor]);
		reference->offers[tensor]++;
	}
}

void reference_step(struct reference *reference, const struct reference_part *parts, uint32_t count,
                    bool mean)
{
	reference_judge(reference, parts, count, mean);
	reference_finish(reference);
}

void reference_push(struct reference *reference, const struct reference_part *part, uint32_t tensor)
{
	uint64_t begin = reference->begin[tensor], n = reference->begin[tensor + 1] - begin;
	float factor = (float)(1.0 / reference_scale_of(reference, part, tensor));

	for (uint64_t i = 0; i < n; i++)
		reference->sum[i] = factor * part->gradient[begin + i];
	if (part->has[tensor] && n > 0)
		update(reference, tensor, reference->sum);
	reference->offers[tensor]++;
}
