/* Edit distance, row by row, left as soon as it cannot beat the best so far. */
#include "proto/nearest.h"

#include <stdint.h>
#include <string.h>

#include "proto/limits.h"

/* What a letter costs; one that differs only in case costs 1, so that all cases of a name
 * together are cheaper than one letter. */
enum { LETTER = LIMIT_NAME_BYTES + 1 };

/* Of letters only: beyond ASCII a case is another letter. */
static char lower(char letter)
{
	return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

static size_t change(char a, char b)
{
	return a == b ? 0 : lower(a) == lower(b) ? 1 : LETTER;
}

/* Edit distance of a and b, or `bound` once it cannot be less than that. */
static size_t edit_distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes,
                            size_t bound)
{
	size_t row[LIMIT_NAME_BYTES + 1];

	if ((a_bytes > b_bytes ? a_bytes - b_bytes : b_bytes - a_bytes) * LETTER >= bound)
		return bound;
	for (size_t j = 0; j <= b_bytes; j++)
		row[j] = j * LETTER;
	for (size_t i = 1; i <= a_bytes; i++) {
		size_t diagonal = row[0];
		size_t least = row[0] = i * LETTER;
		for (size_t j = 1; j <= b_bytes; j++) {
			size_t best = diagonal + change(a[i - 1], b[j - 1]);
			if (best > row[j] + LETTER)
				best = row[j] + LETTER;
			if (best > row[j - 1] + LETTER)
				best = row[j - 1] + LETTER;
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

/* Distances of names that are close are less: half of the longer's letters, and cases. */
static size_t close_bound(size_t a_bytes, size_t b_bytes)
{
	return ((a_bytes > b_bytes ? a_bytes : b_bytes) / 2 + 1) * LETTER;
}

struct nearest nearest_of(const char *name)
{
	return (struct nearest){.name = name, .distance = SIZE_MAX};
}

void nearest_try(struct nearest *nearest, const char *candidate)
{
	size_t bytes = strnlen(nearest->name, LIMIT_NAME_BYTES);
	size_t others = strnlen(candidate, LIMIT_NAME_BYTES);
	size_t bound = close_bound(bytes, others), distance;

	if (bound > nearest->distance)
		bound = nearest->distance;
	distance = edit_distance(nearest->name, bytes, candidate, others, bound);
	if (distance < bound) {
		nearest->distance = distance;
		nearest->best = candidate;
	}
}

size_t nearest_distance(const char *a, const char *b)
{
	return edit_distance(a, strnlen(a, LIMIT_NAME_BYTES), b, strnlen(b, LIMIT_NAME_BYTES), SIZE_MAX);
}

bool nearest_close(const char *a, const char *b)
{
	return nearest_distance(a, b) <
	       close_bound(strnlen(a, LIMIT_NAME_BYTES), strnlen(b, LIMIT_NAME_BYTES));
}
