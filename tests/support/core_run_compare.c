/* What the engines of a run hold against what the reference holds. */
#include <stdio.h>
#include <string.h>

#include "server/core/whole.h"
#include "tests/support/core_run.h"
#include "tests/support/core_world.h"

static uint32_t bits_of(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static void compare_vector(const struct run *run, const char *what, const float *has,
                           const float *wants, uint64_t count, uint64_t begin)
{
	char text[800];

	if (memcmp(has, wants, count * sizeof(float)) == 0)
		return;
	uint64_t i = 0;
	while (bits_of(has[i]) == bits_of(wants[i]))
		i++;
	run_text(run, text, sizeof(text));
	fail_msg("%s[%llu] is %.9g (%a), the reference has %.9g (%a)\n%s", what,
	         (unsigned long long)(begin + i), (double)has[i], (double)has[i], (double)wants[i],
	         (double)wants[i], text);
}

/* Segment by segment: what has no slot takes no room. */
static void compare_packed(const struct run *run, const char *what, const struct model *model,
                           uint32_t slot)
{
	uint64_t begin = model->begin, elements = 0;

	for (uint32_t i = 0; i < model->segment_count; i++) {
		uint32_t segment = model->first_segment + i;
		uint64_t count = whole_slot(model_optim_made(model, i), model->layout, segment, slot);
		assert_int_equal(model->slot_begins[slot][i], elements);
		if (count > 0)
			compare_vector(run, what, model->slots[slot] + elements,
			               run->reference.slots[slot] + begin, count, begin);
		elements += count;
		begin += layout_segment(run->layout, segment)->count;
	}
	assert_int_equal(model->slot_elements[slot], elements);
}

static void compare_engine(const struct run *run, uint32_t index)
{
	const struct model *model = run_model(run, index);
	const struct reference *reference = &run->reference;
	char text[800], slot[24];

	if (model->elements > 0)
		compare_vector(run, "weight", model->weights, reference->weights + model->begin,
		               model->elements, model->begin);
	for (uint32_t i = 0; i < model->slot_count && model->elements > 0; i++) {
		snprintf(slot, sizeof(slot), "slot %u ", i);
		if (model->slot_begins[i] != NULL)
			compare_packed(run, slot, model, i);
		else
			compare_vector(run, slot, model->slots[i], reference->slots[i] + model->begin,
			               model->elements, model->begin);
	}
	assert_int_equal(model->average != NULL, average_is_kept(&run->settings.average) && model->elements > 0);
	if (model->average != NULL)
		compare_vector(run, "average", model->average, reference->averages + model->begin,
		               model->elements, model->begin);
	for (uint32_t i = 0; i < model->segment_count; i++) {
		const struct layout_segment *s = layout_segment(run->layout, model->first_segment + i);
		if (model->updates[i] == reference->updates[s->tensor])
			continue;
		run_text(run, text, sizeof(text));
		fail_msg("tensor %u has seen %llu updates, in the reference %llu\n%s", s->tensor,
		         (unsigned long long)model->updates[i],
		         (unsigned long long)reference->updates[s->tensor], text);
	}
	if (model->owned.count > 0 &&
	    (model->scaler.scale != reference->scale || model->scaler.tracker != reference->tracker))
		fail_msg("OPTD_SEED=%llu: the loss scale is %g after %u steps, in the reference %g after %u",
		         (unsigned long long)run->seed, (double)model->scaler.scale, model->scaler.tracker,
		         (double)reference->scale, reference->tracker);
	if (model->owned.count > 0)
		assert_int_equal(model->skips.count, run->skipped);
	uint64_t version = run->steps;
	if (run->settings.mode == MSG_ASYNC)
		version *= run->settings.workers;
	for (uint32_t i = 0; i < model->owned.count; i++)
		assert_int_equal(model->versions[i], version);
	const struct shard *shard = engine_find(run->engines[index], "m");
	/* One without blocks takes no part. */
	if (shard->lead == NULL || model->owned.count == 0)
		return;
	assert_int_equal(shard->counts.clipped, reference->clipped);
	assert_int_equal(shard->counts.overflowed, reference->overflowed);
}

void run_compare(const struct run *run)
{
	uint64_t zeroed = 0;

	for (uint32_t i = 0; i < run->daemons * run->lanes; i++) {
		compare_engine(run, i);
		zeroed += engine_find(run->engines[i], "m")->counts.zeroed;
	}
	assert_int_equal(zeroed, run->zeroed);
}
