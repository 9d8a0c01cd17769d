/* Edit distance, row by row, left as soon as it cannot beat the best so far. */
#include "proto/nearest.h"

#include <stdint.h>
#include <string.h>

#include "proto/limits.h"

/* Edit distance of a and b, or `bound` once it cannot be less than that. */
static size_t edit_distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes,
                            size_t bound)
{
	size_t row[LIMIT_NAME_BYTES + 1];

	if ((a_bytes > b_bytes ? a_bytes - b_bytes : b_bytes - a_bytes) >= bound)
		return bound;
	for (size_t j = 0; j <= b_bytes; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_bytes; i++) {
		size_t diagonal = row[0];
		size_t least = row[0] = i;
		for (size_t j = 1; j <= b_bytes; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			if (best > row[j] + 1)
				best = row[j] + 1;
			if (best > row[j - 1] + 1)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
			if (best < least)
				least = best;
		}
		if (least >= bound)
			return bound;
	}
	return row[b_bytes] < bound ? row[b_bytes] : bound;
}

struct nearest nearest_of(const char *name)
{
	return (struct nearest){.name = name, .distance = SIZE_MAX};
}

void nearest_try(struct nearest *nearest, const char *candidate)
{
	size_t bytes = strnlen(nearest->name, LIMIT_NAME_BYTES);
	size_t others = strnlen(candidate, LIMIT_NAME_BYTES);
	size_t distance = edit_distance(nearest->name, bytes, candidate, others, nearest->distance);

	if (distance < nearest->distance) {
		nearest->distance = distance;
		nearest->best = candidate;
	}
}
