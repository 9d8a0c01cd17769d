/*
 * Nearest: which name was meant, for errors about names that are not known.
 * Pure and bounded: no allocation, names beyond LIMIT_NAME_BYTES are cut.
 */
#ifndef OPTD_PROTO_NEAREST_H
#define OPTD_PROTO_NEAREST_H

#include <stddef.h>

/* The candidate seen so far with the smallest edit distance; the first of equals. */
struct nearest {
	const char *name; /* what was asked for; borrowed */
	size_t distance;
	const char *best; /* NULL: no candidate yet; borrowed */
};

struct nearest nearest_of(const char *name);
/* Takes one more candidate into account, a terminated text. */
void nearest_try(struct nearest *nearest, const char *candidate);

#endif
