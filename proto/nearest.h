/*
 * Nearest: which name was meant, for errors about names that are not known.  Letters of
 * the other case are nearer than any others: who writes AdamW means adamw, not adam.
 * Pure and bounded: no allocation, names beyond LIMIT_NAME_BYTES are cut.
 */
#ifndef OPTD_PROTO_NEAREST_H
#define OPTD_PROTO_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

/* The candidate seen so far with the smallest distance; the first of equals. */
struct nearest {
	const char *name; /* what was asked for; borrowed */
	size_t distance;
	const char *best; /* NULL: none was close; borrowed */
};

struct nearest nearest_of(const char *name);
/* Takes one more candidate into account, a terminated text. */
void nearest_try(struct nearest *nearest, const char *candidate);

/* Letters to change, add or drop to make b of a; then letters to write in the other case.
 * A number to compare, 0 for the same name. */
size_t nearest_distance(const char *a, const char *b);
/* Whether one may have been meant by the other: at most half of the longer differs. */
bool nearest_close(const char *a, const char *b);

#endif
