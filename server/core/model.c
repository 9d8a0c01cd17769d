/* A shard's state and the only function that changes it. */
#include "server/core/model_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "server/base/mem.h"
#include "server/core/whole.h"

static struct layout_run place_run(const struct layout *layout, struct model_place place)
{
	return layout_owned(layout, place.daemon, place.daemons, place.lane,
	                    place.lanes);
}

_Static_assert(LIMIT_ELEMENTS < UINT64_MAX / sizeof(float) / (3 + OPTIM_SLOTS_MAX),
               "no model's bytes overflow");

static uint64_t carry_bytes(const struct model_settings *settings)
{
	return groups_carry_count(&settings->groups, &settings->optim) > 0 ? sizeof(struct optim_carry) : 0;
}

uint32_t model_vector_count(const struct model_settings *settings)
{
	bool packed = whole_any(&settings->groups, &settings->optim);
	uint32_t slots = packed ? 0 : groups_slot_count(&settings->groups, &settings->optim);

	return 1 + slots + average_is_kept(&settings->average);
}

uint64_t model_bytes(const struct model_settings *settings, const struct layout *layout,
                     struct model_place place)
{
	struct layout_run run = place_run(layout, place);
	struct whole_sizes sizes = whole_measure(&settings->groups, &settings->optim, layout, run);
	uint64_t segments = layout_run_segments(layout, run);
	uint64_t vector = mem_bytes(layout_run_elements(layout, run) * sizeof(float));
	uint64_t vectors = (1 + average_is_kept(&settings->average)) * vector +
	                   mem_bytes(sizes.scratch * sizeof(float));
	uint64_t tables = mem_bytes(run.count * sizeof(uint64_t)) + mem_bytes(run.count) +
	                  mem_bytes(segments * sizeof(uint64_t)) +
	                  mem_bytes(segments * carry_bytes(settings)) +
	                  (settings->groups.count > 0 ? mem_bytes(segments) : 0);

	for (uint32_t i = 0; i < groups_slot_count(&settings->groups, &settings->optim); i++) {
		vectors += mem_bytes(sizes.slots[i] * sizeof(float));
		tables += whole_any(&settings->groups, &settings->optim) ?
		                  mem_bytes(segments * sizeof(uint64_t)) :
		                  0;
	}
	return sizeof(struct model) + vectors + tables + layout_bytes(layout);
}

/* mem_new gives NULL for nothing, which an empty shard has a right to. */
static bool take(void *slot, uint64_t count, size_t size)
{
	void *memory = count == 0 ? NULL : mem_new(count * size);
	memcpy(slot, &memory, sizeof(memory));
	return memory != NULL || count == 0;
}

static bool model_allocate(struct model *model)
{
	const struct model_settings *settings = &model->settings;
	bool packed = whole_any(&settings->groups, &settings->optim);

	for (uint32_t i = 0; i < model->slot_count; i++) {
		if (!take(&model->slots[i], model->slot_elements[i], sizeof(float)) ||
		    !take(&model->slot_begins[i], packed ? model->segment_count : 0, sizeof(uint64_t)))
			return false;
	}
	return take(&model->scratch, model->scratch_elements, sizeof(float)) &&
	       take(&model->weights, model->elements, sizeof(float)) &&
	       take(&model->average, average_is_kept(&model->settings.average) ? model->elements : 0,
	            sizeof(float)) &&
	       take(&model->versions, model->owned.count, sizeof(uint64_t)) &&
	       take(&model->ready, model->owned.count, 1) &&
	       take(&model->updates, model->segment_count, sizeof(uint64_t)) &&
	       take(&model->carries, carry_bytes(&model->settings) > 0 ? model->segment_count : 0,
	            sizeof(*model->carries)) &&
	       take(&model->groups, model->settings.groups.count > 0 ? model->segment_count : 0, 1);
}

/* Once, so that no update has to look at names. */
static void find_groups(struct model *model, const struct layout *layout)
{
	struct group_finder finder;
	uint32_t tensor = UINT32_MAX;
	uint8_t group = 0;

	group_finder_init(&finder, &model->settings.groups);
	for (uint32_t i = 0; model->groups != NULL && i < model->segment_count; i++) {
		const struct layout_segment *s = layout_segment(layout, model->first_segment + i);
		if (s->tensor != tensor)
			group = (uint8_t)group_find(&finder, layout_tensor(layout, s->tensor)->name);
		tensor = s->tensor;
		model->groups[i] = group;
	}
}

uint32_t model_group(const struct model *model, uint32_t index)
{
	return model->groups != NULL ? model->groups[index] : 0;
}

const struct optim *model_optim_made(const struct model *model, uint32_t index)
{
	return groups_optim(&model->settings.groups, &model->settings.optim, model_group(model, index));
}

static void find_slots(struct model *model, const struct layout *layout)
{
	for (uint32_t s = 0; s < model->slot_count; s++) {
		uint64_t begin = 0;
		for (uint32_t i = 0; model->slot_begins[s] != NULL && i < model->segment_count; i++) {
			model->slot_begins[s][i] = begin;
			begin += whole_slot(model_optim_made(model, i), layout, model->first_segment + i, s);
		}
	}
}

/* A segment's state before its first update. */
static void begin_segment(struct model *model, const struct layout *layout, const struct optim *optim,
                          uint32_t index, uint64_t begin)
{
	for (uint32_t s = 0; s < optim_slot_count(optim); s++) {
		float initial = optim_slot_initial(optim, s);
		uint64_t at = model->slot_begins[s] != NULL ? model->slot_begins[s][index] : begin;
		uint64_t count = whole_slot(optim, layout, model->first_segment + index, s);
		/* Zero is what fresh memory holds; touching it would only cost time. */
		for (uint64_t j = 0; initial != 0.0f && j < count; j++)
			model->slots[s][at + j] = initial;
	}
	if (model->carries != NULL)
		optim_carry_initial(optim, &model->carries[index]);
}

static void begin_state(struct model *model, const struct layout *layout)
{
	uint64_t begin = 0;

	for (uint32_t i = 0; i < model->segment_count; i++) {
		uint32_t count = layout_segment(layout, model->first_segment + i)->count;
		const struct optim *optim = model_optim_made(model, i);
		if (optim != NULL)
			begin_segment(model, layout, optim, i, begin);
		begin += count;
	}
}

struct model *model_new(const char *name, const struct model_settings *settings,
                        struct layout **layout, struct model_place place)
{
	struct model *model = calloc(1, sizeof(*model));
	if (model == NULL)
		return NULL;
	size_t name_bytes = strlen(name);
	assert(name_bytes < sizeof(model->name));
	memcpy(model->name, name, name_bytes);
	model->settings = *settings;
	model->place = place;
	model->owned = place_run(*layout, place);
	model->elements = layout_run_elements(*layout, model->owned);
	model->segment_count = layout_run_segments(*layout, model->owned);
	if (model->owned.count > 0) {
		const struct layout_block *first = layout_block(*layout, model->owned.first);
		model->begin = first->begin;
		model->first_segment = first->first_segment;
	}
	model->slot_count = groups_slot_count(&settings->groups, &settings->optim);
	struct whole_sizes sizes =
	        whole_measure(&settings->groups, &settings->optim, *layout, model->owned);
	memcpy(model->slot_elements, sizes.slots, sizeof(sizes.slots));
	model->scratch_elements = sizes.scratch;
	model->layout_id = layout_id(*layout, place.daemon, place.daemons, place.lanes);
	if (!model_allocate(model)) {
		model_free(model);
		return NULL;
	}
	model->mixed = groups_mixed(&settings->groups, &settings->optim);
	scaler_begin(&model->scaler, &settings->loss_scale);
	find_groups(model, *layout);
	find_slots(model, *layout);
	begin_state(model, *layout);
	model->layout = *layout;
	*layout = NULL;
	return model;
}

void model_free(struct model *model)
{
	if (model == NULL)
		return;
	for (uint32_t i = 0; i < model->slot_count; i++) {
		mem_free(model->slots[i], model->slot_elements[i] * sizeof(float));
		mem_free(model->slot_begins[i], model->segment_count * sizeof(uint64_t));
	}
	mem_free(model->scratch, model->scratch_elements * sizeof(float));
	mem_free(model->weights, model->elements * sizeof(float));
	mem_free(model->average, model->elements * sizeof(float));
	mem_free(model->versions, model->owned.count * sizeof(uint64_t));
	mem_free(model->ready, model->owned.count);
	mem_free(model->updates, model->segment_count * sizeof(uint64_t));
	mem_free(model->carries, model->segment_count * sizeof(*model->carries));
	mem_free(model->groups, model->segment_count);
	for (uint32_t i = 0; i < model->seats; i++)
		free(model->seen[i]);
	free(model->seen);
	layout_free(model->layout);
	free(model);
}

int model_seat(struct model *model, uint32_t rank)
{
	if (rank >= model->seats) {
		uint64_t **seen = realloc(model->seen, (rank + 1) * sizeof(*seen));
		if (seen == NULL)
			return OPTD_NO_MEMORY;
		memset(seen + model->seats, 0, (rank + 1 - model->seats) * sizeof(*seen));
		model->seen = seen;
		model->seats = rank + 1;
	}
	if (model->seen[rank] == NULL && model->owned.count > 0)
		model->seen[rank] = calloc(model->owned.count, sizeof(uint64_t));
	return model->seen[rank] == NULL && model->owned.count > 0 ? OPTD_NO_MEMORY : OPTD_OK;
}

uint64_t model_seen(const struct model *model, uint32_t rank, uint32_t block)
{
	assert(rank < model->seats && model_owns(model, block));
	return model->seen[rank][block - model->owned.first];
}

bool model_owns(const struct model *model, uint32_t block)
{
	return block >= model->owned.first && block - model->owned.first < model->owned.count;
}

const struct layout_block *model_block(const struct model *model, uint32_t block)
{
	assert(model_owns(model, block));
	return layout_block(model->layout, block);
}

uint64_t model_offset(const struct model *model, uint32_t block)
{
	return model_block(model, block)->begin - model->begin;
}

uint64_t model_slot_offset(const struct model *model, uint32_t block, uint32_t slot)
{
	uint32_t index = model_block(model, block)->first_segment - model->first_segment;

	return model->slot_begins[slot] != NULL ? model->slot_begins[slot][index] :
	                                          model_offset(model, block);
}

uint64_t model_version(const struct model *model, uint32_t block)
{
	assert(model_owns(model, block));
	return model->versions[block - model->owned.first];
}

bool model_block_ready(const struct model *model, uint32_t block)
{
	assert(model_owns(model, block));
	return model->ready[block - model->owned.first] != 0;
}

bool model_ready(const struct model *model)
{
	return model->ready_count == model->owned.count;
}

void model_versions(const struct model *model, uint64_t *lowest, uint64_t *highest)
{
	*lowest = model->owned.count > 0 ? model->versions[0] : 0;
	*highest = *lowest;
	for (uint32_t i = 1; i < model->owned.count; i++) {
		if (model->versions[i] < *lowest)
			*lowest = model->versions[i];
		if (model->versions[i] > *highest)
			*highest = model->versions[i];
	}
}

void model_changed(const struct model *model, uint32_t block, struct changed *out)
{
	changes_at(&model->changes, NULL, &model->settings.groups, &model->settings.optim,
	           model_version(model, block), out);
}

bool model_has_gradient(const struct model *model, uint32_t index)
{
	const struct optim *optim = model_optim_made(model, index);
	return optim != NULL && optim_rule_push(optim->rule) != OPTIM_WEIGHTS;
}

bool model_is_scaled(const struct model *model, uint32_t index)
{
	return groups_scaled(model_optim_made(model, index));
}

/* What segment `index` of the shard carries; zeros where no rule carries anything. */
static struct optim_carry carry_of(const struct model *model, uint32_t index)
{
	return model->carries != NULL ? model->carries[index] : (struct optim_carry){{0}};
}

/* By bits: NaN, which a rule may come to, equals itself. */
static bool carry_equal(struct optim_carry a, struct optim_carry b)
{
	uint64_t bits[2];

	_Static_assert(sizeof(a.values) == sizeof(bits[0]), "two floats");
	memcpy(&bits[0], a.values, sizeof(bits[0]));
	memcpy(&bits[1], b.values, sizeof(bits[1]));
	return bits[0] == bits[1];
}

/* Those that segment `index` needs for its next update, or NULL. */
static const struct commit_scalars *scalars_find(const struct model *model, uint32_t index,
                                                 const struct commit_scalars *scalars, uint32_t count)
{
	uint64_t t = model->updates[index] + 1;
	uint32_t group = model_group(model, index);
	struct optim_carry carry = carry_of(model, index);

	/* From the end: one of the last added serves the next segment, nearly always. */
	for (uint32_t i = count; i-- > 0;) {
		if (scalars[i].t == t && scalars[i].group == group && carry_equal(scalars[i].before, carry))
			return &scalars[i];
	}
	return NULL;
}

uint32_t model_scalars(const struct model *model, uint32_t block, const uint8_t *present,
                       struct commit_scalars *scalars)
{
	const struct layout_block *b = model_block(model, block);
	struct changed changed;
	uint32_t count = 0;

	model_changed(model, block, &changed);
	for (uint32_t i = 0; i < b->segment_count; i++) {
		uint32_t index = b->first_segment + i - model->first_segment;
		const struct optim *optim = changed.at[model_group(model, index)];
		if (!commit_has(present, i) || optim == NULL ||
		    scalars_find(model, index, scalars, count) != NULL)
			continue;
		uint64_t t = model->updates[index] + 1;
		struct optim_carry carry = carry_of(model, index);
		scalars[count] = (struct commit_scalars){
		        .t = t, .group = model_group(model, index), .before = carry, .after = carry};
		optim_scalars(optim, t, &scalars[count].after, &scalars[count].scalars);
		count++;
	}
	return count;
}

static uint32_t segment_index(const struct model *model, uint32_t block, uint32_t i)
{
	return model_block(model, block)->first_segment + i - model->first_segment;
}

bool model_answers(const struct model *model, uint32_t block, uint32_t i)
{
	/* A change of settings leaves the rule as it is. */
	const struct optim *optim = model_optim_made(model, segment_index(model, block, i));

	return optim != NULL && optim_replies(optim);
}

void model_answer(const struct model *model, enum optim_isa isa, const struct changed *changed, uint32_t block,
                  uint32_t i, struct optim_gradient x, float *out)
{
	uint32_t index = segment_index(model, block, i);
	const struct layout_segment *s = layout_segment(model->layout, model->first_segment + index);
	const float *weights = model->weights + model_offset(model, block) + s->offset;
	struct optim_carry carry = carry_of(model, index);
	struct optim_scalars scalars;

	if (!model_answers(model, block, i))
		return;
	if (x.values == NULL) {
		memcpy(out, weights, s->count * sizeof(float));
		return;
	}
	const struct optim *optim = changed->at[model_group(model, index)];
	optim_scalars(optim, model->updates[index] + 1, &carry, &scalars);
	optim_reply(optim, isa, &scalars, weights, x, out, s->count);
}

static void apply_init(struct model *model, const struct commit *commit)
{
	uint32_t index = commit->block - model->owned.first;
	const struct layout_block *b = model_block(model, commit->block);

	memcpy(model->weights + model_offset(model, commit->block), commit->values,
	       b->count * sizeof(float));
	if (model->average != NULL)
		memcpy(model->average + model_offset(model, commit->block), commit->values,
		       b->count * sizeof(float));
	if (!model->ready[index])
		model->ready_count++;
	model->ready[index] = 1;
}

static float factor_of(const struct commit *commit, uint32_t i)
{
	return commit->factors != NULL ? commit->factors[i] : commit->factor;
}

/* Segments that follow one another, are both updated, and have group, scalars and factor in
 * common go through one kernel call: thousands of small tensors then cost no more than a
 * large one.  Elementwise rules cannot tell the difference. */
static uint32_t run_length(const struct model *model, const struct commit *commit,
                           const struct layout_block *b, uint32_t i)
{
	uint32_t first = b->first_segment - model->first_segment, end = i + 1;

	while (end < b->segment_count && commit_has(commit->present, end) &&
	       model_group(model, first + end) == model_group(model, first + i) &&
	       factor_of(commit, end) == factor_of(commit, i) &&
	       model->updates[first + end] == model->updates[first + i] &&
	       carry_equal(carry_of(model, first + end), carry_of(model, first + i)))
		end++;
	return end - i;
}

/* Updates segments [i, i + run) of the block, which have group, scalars and factor in common.
 * Frozen ones, without an optimizer, only let the values pass. */
static void apply_run(struct model *model, enum optim_isa isa, const struct commit *commit,
                      const struct changed *changed, uint32_t i, uint32_t run, uint32_t *packed)
{
	const struct layout_block *b = model_block(model, commit->block);
	uint32_t index = b->first_segment + i - model->first_segment;
	const struct layout_segment *first = layout_segment(model->layout, b->first_segment + i);
	const struct layout_segment *last = layout_segment(model->layout, b->first_segment + i + run - 1);
	uint32_t n = last->offset + last->count - first->offset;
	uint64_t base = model_offset(model, commit->block) + first->offset;
	struct optim_gradient g = {dtype_at(commit->values, commit->type, commit->packed ? *packed : first->offset),
	                           factor_of(commit, i), commit->type};
	const struct optim *optim = changed->at[model_group(model, index)];
	float *slots[OPTIM_SLOTS_MAX];

	*packed += n;
	if (optim == NULL)
		return;
	const struct commit_scalars *scalars =
	        scalars_find(model, index, commit->scalars, commit->scalars_count);
	assert(scalars != NULL);
	for (uint32_t s = 0; s < model->slot_count; s++)
		slots[s] = model->slots[s] + (model->slot_begins[s] != NULL ? model->slot_begins[s][index] : base);
	optim_step_from(optim, isa, &scalars->scalars, model->weights + base, slots, g, n);
	if (model->average != NULL) /* while they are in the cache */
		average_update(&model->settings.average, isa, scalars->t, model->average + base,
		               model->weights + base, n);
	for (uint32_t end = index + run; index < end; index++) {
		model->updates[index]++;
		if (model->carries != NULL)
			model->carries[index] = scalars->after;
	}
}

static void apply_step(struct model *model, enum optim_isa isa, const struct commit *commit)
{
	const struct layout_block *b = model_block(model, commit->block);
	struct changed changed;
	uint32_t packed = 0, run;

	model_changed(model, commit->block, &changed);
	for (uint32_t i = 0; i < b->segment_count; i += run) {
		run = 1;
		if (!commit_has(commit->present, i))
			continue;
		run = run_length(model, commit, b, i);
		apply_run(model, isa, commit, &changed, i, run, &packed);
	}
}

/* The first of a step's blocks counts for all of them here: a worker whose gradient is not
 * finite says so of each. */
void model_judge(struct model *model, const struct commit *commit)
{
	struct skips *skips = &model->skips;

	if (commit->skipped && commit->version > skips->version) {
		skips->count++;
		skips->version = commit->version;
		skips->rank = commit->skipped_rank;
		skips->tensor_plus_one = commit->skipped_tensor_plus_one;
	}
	if (model->settings.loss_scale.given && commit->version > model->scaler.steps)
		scaler_update(&model->scaler, &model->settings.loss_scale, commit->skipped);
}

void model_count(struct model *model, const struct commit *commit)
{
	for (uint32_t i = 0; i <= commit->more; i++) {
		uint32_t block = commit->block + i - model->owned.first;
		assert(commit->version == model->versions[block] + (commit->kind == COMMIT_STEP ? 1 : 0));
		model->versions[block] = commit->version;
		for (uint32_t j = 0; j < commit->contributor_count; j++) {
			const struct commit_contributor *from = &commit->contributors[j];
			if (from->rank < model->seats && model->seen[from->rank] != NULL)
				model->seen[from->rank][block] = from->step + 1;
		}
	}
}

void model_apply(struct model *model, enum optim_isa isa, const struct commit *commit)
{
	if (commit->kind == COMMIT_SETTINGS) {
		changes_add(&model->changes, commit->change, commit->passed);
		return;
	}
	assert(model_owns(model, commit->block));
	if (commit->kind == COMMIT_STEP && model_is_whole(model, commit->block)) {
		model_begin(model, isa, commit);
		while (!model_go_on(model, UINT64_MAX))
			continue;
		return;
	}
	if (commit->kind == COMMIT_INIT)
		apply_init(model, commit);
	else if (!commit->empty)
		apply_step(model, isa, commit);
	if (commit->kind == COMMIT_STEP)
		model_judge(model, commit);
	model_count(model, commit);
}

void model_begin_epoch(struct model *model, uint64_t epoch)
{
	const struct model_source *source = &model->source;

	if (!source->final || source->epoch + 1 != epoch)
		history_add(&model->history, epoch, source->version);
}

void model_set_ready(struct model *model)
{
	memset(model->ready, 1, model->owned.count);
	model->ready_count = model->owned.count;
}

uint64_t model_hash(const struct model *model)
{
	XXH3_state_t state;
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, model->weights, model->elements * sizeof(float));
	for (uint32_t i = 0; i < model->slot_count; i++)
		XXH3_64bits_update(&state, model->slots[i], model->slot_elements[i] * sizeof(float));
	if (model->average != NULL)
		XXH3_64bits_update(&state, model->average, model->elements * sizeof(float));
	XXH3_64bits_update(&state, model->versions, model->owned.count * sizeof(uint64_t));
	XXH3_64bits_update(&state, model->ready, model->owned.count);
	XXH3_64bits_update(&state, model->updates, model->segment_count * sizeof(uint64_t));
	if (model->carries != NULL)
		XXH3_64bits_update(&state, model->carries, model->segment_count * sizeof(*model->carries));
	XXH3_64bits_update(&state, &model->scaler, sizeof(model->scaler));
	XXH3_64bits_update(&state, &model->skips, sizeof(model->skips));
	XXH3_64bits_update(&state, model->changes.list, model->changes.count * sizeof(model->changes.list[0]));
	return XXH3_64bits_digest(&state);
}
