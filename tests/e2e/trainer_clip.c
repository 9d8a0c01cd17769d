/* Clipping in plain loops over the model's segments. */
#include "tests/e2e/trainer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "optim/clip.h"
#include "proto/layout.h"

/* The trainer's own, as the server cuts it. */
static struct layout *cut_layout(void)
{
	static const struct {
		const char *name;
		uint64_t shape[3];
		uint32_t rank;
	} tensors[] = {
		{ "scale", { 0 }, 0 },          { "embed.weight", { 512, 700 }, 2 }, { "embed.bias", { 7 }, 1 },
		{ "none", { 0, 3 }, 2 },        { "fc.weight", { 3, 100, 257 }, 3 }, { "fc.bias", { 100 }, 1 },
		{ "norm.weight", { 257 }, 1 },  { "norm.bias", { 257 }, 1 },
	};
	struct layout *layout = layout_new();

	assert_non_null(layout);
	for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++)
		assert_int_equal(layout_add(layout, tensors[i].name, strlen(tensors[i].name), tensors[i].shape,
		                            tensors[i].rank, 0), 0);
	assert_int_equal(layout_cut(layout, NULL), 0);
	assert_true(layout_elements(layout) == trainer_elements());
	return layout;
}

/* Of segments [first, last), which follow one another: holds them to the limit. */
static void hold(float *gradient, const struct layout *layout, uint32_t first, uint32_t last, double type,
                 double limit)
{
	uint64_t n = 0;
	double parts = 0;

	for (uint32_t i = first; i < last; i++) {
		uint32_t count = layout_segment(layout, i)->count;
		parts = clip_join(parts, clip_part(OPTIM_ISA_BASE, gradient + n, count, type), type);
		n += count;
	}
	float factor = clip_factor(clip_norm(parts, type), limit);
	for (uint64_t i = 0; i < n; i++)
		gradient[i] = factor * gradient[i];
}

void trainer_clip(float *gradient, const struct plan *plan)
{
	double type = plan->clip_norm_type != 0 ? plan->clip_norm_type : 2;
	struct layout *layout = cut_layout();
	uint32_t count = layout_segment_count(layout);

	if (plan->clip_norm > 0)
		hold(gradient, layout, 0, count, type, plan->clip_norm);
	for (uint32_t i = 0, end; plan->clip_tensor_norm > 0 && i < count; i = end) {
		uint32_t tensor = layout_segment(layout, i)->tensor;
		for (end = i; end < count && layout_segment(layout, end)->tensor == tensor; end++)
			;
		hold(gradient + layout_tensor(layout, tensor)->offset, layout, i, end, type, plan->clip_tensor_norm);
	}
	layout_free(layout);
}
