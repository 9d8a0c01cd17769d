/* Layouts in words: what differs between two, which name was meant. */
#include "proto/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/nearest.h"

/* "[" + 16 numbers of at most 13 digits with commas + "]" + NUL */
#define SHAPE_TEXT_BYTES (LIMIT_TENSOR_RANK * 14 + 3)

void layout_shape_text(const struct layout_tensor *tensor, char *text, size_t text_bytes)
{
	char all[SHAPE_TEXT_BYTES];
	size_t used = 0;

	all[used++] = '[';
	for (uint32_t i = 0; i < tensor->rank; i++)
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%" PRIu64, i ? "," : "",
		                         tensor->shape[i]);
	all[used++] = ']';
	all[used] = '\0';
	snprintf(text, text_bytes, "%s", all);
}

static int tensor_compare(const struct layout_tensor *a, const struct layout_tensor *b,
                          uint32_t index, char *why, size_t why_bytes)
{
	char here[SHAPE_TEXT_BYTES], there[SHAPE_TEXT_BYTES];

	layout_shape_text(a, here, sizeof(here));
	layout_shape_text(b, there, sizeof(there));
	if (strcmp(a->name, b->name) != 0) {
		snprintf(why, why_bytes, "tensor %" PRIu32 ": here '%s' %s, the model has '%s' %s", index,
		         a->name, here, b->name, there);
		return -1;
	}
	if (strcmp(here, there) != 0) {
		snprintf(why, why_bytes, "tensor '%s': here %s, the model has %s", a->name, here, there);
		return -1;
	}
	if (a->group != b->group) {
		snprintf(why, why_bytes,
		         "tensor '%s': here in group %" PRIu32 ", the model has it in group %" PRIu32,
		         a->name, a->group, b->group);
		return -1;
	}
	return 0;
}

/* One of the two has more tensors, the rest is equal. */
static int compare_rest(const struct layout *a, const struct layout *b, uint32_t common, char *why,
                        size_t why_bytes)
{
	uint32_t here = layout_tensor_count(a), there = layout_tensor_count(b);
	const struct layout_tensor *extra = layout_tensor(here > there ? a : b, common);
	char shape[SHAPE_TEXT_BYTES];

	layout_shape_text(extra, shape, sizeof(shape));
	snprintf(why, why_bytes,
	         "%" PRIu32 " tensors here, the model has %" PRIu32 ": tensor '%s' %s is only %s", here,
	         there, extra->name, shape, here > there ? "here" : "in the model");
	return -1;
}

int layout_compare(const struct layout *a, const struct layout *b, char *why, size_t why_bytes)
{
	uint32_t here = layout_tensor_count(a), there = layout_tensor_count(b);
	uint32_t common = here < there ? here : there;

	for (uint32_t i = 0; i < common; i++) {
		int rc = tensor_compare(layout_tensor(a, i), layout_tensor(b, i), i, why, why_bytes);
		if (rc < 0)
			return rc;
	}
	if (here != there)
		return compare_rest(a, b, common, why, why_bytes);
	if (layout_block_count(a) && layout_block_count(b) && layout_cut_id(a) != layout_cut_id(b)) {
		snprintf(why, why_bytes,
		         "the tensors are equal, but they are cut into %" PRIu32
		         " blocks here and into %" PRIu32 " in the model: the optimizers differ",
		         layout_block_count(a), layout_block_count(b));
		return -1;
	}
	return 0;
}

const char *layout_nearest(const struct layout *layout, const char *name)
{
	struct nearest nearest = nearest_of(name);

	for (uint32_t i = 0; i < layout_tensor_count(layout); i++)
		nearest_try(&nearest, layout_tensor(layout, i)->name);
	return nearest.best;
}
