/* Shapes: a layout to records and back. */
#include "server/disk/shapes.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/layout.h"
#include "proto/status.h"
#include "server/disk/file.h"

/* Group, sixteen numbers of at most 13 digits, and what stands between. */
#define RECORD_HEAD_BYTES (11 + (int)LIMIT_TENSOR_RANK * 21 + 3)

static size_t record_head(const struct layout_tensor *tensor, char text[RECORD_HEAD_BYTES])
{
	int n = snprintf(text, RECORD_HEAD_BYTES, "%" PRIu32 " ", tensor->group);

	if (tensor->rank == 0)
		text[n++] = '-';
	for (uint32_t d = 0; d < tensor->rank; d++)
		n += snprintf(text + n, (size_t)(RECORD_HEAD_BYTES - n), "%s%" PRIu64, d ? "," : "", tensor->shape[d]);
	text[n++] = ' ';
	return (size_t)n;
}

int shapes_encode(const struct layout *layout, char **out, size_t *size)
{
	char head[RECORD_HEAD_BYTES], *bytes;
	size_t used = 0;

	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		const struct layout_tensor *tensor = layout_tensor(layout, i);
		used += record_head(tensor, head) + strlen(tensor->name) + 1;
	}
	bytes = malloc(used + !used);
	if (!bytes)
		return OPTD_NO_MEMORY;
	*out = bytes;
	*size = used;
	for (uint32_t i = 0; i < layout_tensor_count(layout); i++) {
		const struct layout_tensor *tensor = layout_tensor(layout, i);
		size_t n = record_head(tensor, head), name_bytes = strlen(tensor->name) + 1;
		memcpy(bytes, head, n);
		memcpy(bytes + n, tensor->name, name_bytes);
		bytes += n + name_bytes;
	}
	return OPTD_OK;
}

/* A decimal number up to max that ends in `stop` or `other`; moves *at behind
 * that character and says which it was. */
static bool read_number(const char **at, uint64_t max, char stop, char other, uint64_t *out, char *stopped)
{
	const char *c = *at;
	uint64_t value = 0;

	for (; *c >= '0' && *c <= '9'; c++) {
		value = value * 10 + (uint64_t)(*c - '0');
		if (value > max) /* max * 10 + 9 fits 64 bits, see the callers */
			return false;
	}
	if (c == *at || (*c != stop && *c != other))
		return false;
	*stopped = *c;
	*at = c + 1;
	*out = value;
	return true;
}

/* One record, which ends in NUL. */
static int record_decode(const char *at, struct layout *layout)
{
	uint64_t group, shape[LIMIT_TENSOR_RANK];
	uint32_t rank = 0;
	char stopped;

	if (!read_number(&at, UINT32_MAX, ' ', ' ', &group, &stopped))
		return OPTD_CORRUPT;
	if (at[0] == '-' && at[1] == ' ') {
		at += 2;
		return layout_add(layout, at, strlen(at), shape, 0, (uint32_t)group);
	}
	do {
		if (rank == LIMIT_TENSOR_RANK || !read_number(&at, LIMIT_ELEMENTS, ',', ' ', &shape[rank++], &stopped))
			return OPTD_CORRUPT;
	} while (stopped == ',');
	return layout_add(layout, at, strlen(at), shape, rank, (uint32_t)group);
}

int shapes_decode(const char *bytes, size_t size, struct layout **out, char *why, size_t why_bytes)
{
	struct layout *layout = layout_new();
	const char *at = bytes, *end = bytes + size;
	int rc = layout ? OPTD_OK : OPTD_NO_MEMORY;

	if (size > 0 && end[-1] != '\0')
		rc = OPTD_CORRUPT;
	for (; rc == OPTD_OK && at < end; at += strlen(at) + 1)
		rc = record_decode(at, layout);
	if (rc == OPTD_OK) {
		*out = layout;
		return OPTD_OK;
	}
	disk_fail(rc, why, why_bytes, "optd.layout: tensor %" PRIu32 " of the table cannot be read: %s",
	          layout ? layout_tensor_count(layout) : 0, status_text(rc));
	layout_free(layout);
	return rc == OPTD_NO_MEMORY ? rc : OPTD_CORRUPT;
}
