/*
 * Shapes: a layout as bytes of a checkpoint, one record per tensor:
 *
 *     <group> <shape> <name> NUL        0 128,784 fc1.weight
 *
 * with "-" for the shape of a scalar.  Text, so that people and scripts can read
 * it; a table rather than JSON, because names need no escaping and a reader
 * needs no tree.
 */
#ifndef OPTD_DISK_SHAPES_H
#define OPTD_DISK_SHAPES_H

#include <stddef.h>

struct layout;

/* The caller frees *out.  OPTD_NO_MEMORY. */
int shapes_encode(const struct layout *layout, char **out, size_t *size);

/* The layout, not cut yet.  OPTD_CORRUPT with the number of the bad record in
 * why, or OPTD_NO_MEMORY. */
int shapes_decode(const char *bytes, size_t size, struct layout **out, char *why, size_t why_bytes);

#endif
