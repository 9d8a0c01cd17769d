/*
 * The public face of layouts.
 */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

optd_layout *optd_layout_new(void)
{
	optd_layout *layout = calloc(1, sizeof(*layout));
	if (layout && !(layout->layout = layout_new())) {
		free(layout);
		return NULL;
	}
	return layout;
}

void optd_layout_free(optd_layout *layout)
{
	if (!layout)
		return;
	layout_free(layout->layout);
	free(layout);
}

int optd_layout_add(optd_layout *layout, const char *name, const uint64_t *shape, uint32_t rank)
{
	if (!layout || !name || (rank > 0 && !shape))
		return OPTD_INVALID;
	uint32_t index = layout_tensor_count(layout->layout);
	int rc = layout_add(layout->layout, name, strlen(name), shape, rank, 0);
	return rc < 0 ? rc : (int)index;
}

uint64_t optd_layout_elements(const optd_layout *layout)
{
	return layout ? layout_elements(layout->layout) : 0;
}
