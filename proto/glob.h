/*
 * Glob: patterns over the names of tensors.
 *
 *     *       any characters, also none, dots among them
 *     ?       any one character
 *     [a-z]   one of these ASCII characters; [!a-z] one that is none of these
 *
 * All else stands for itself, and a pattern is about the whole name.  A literal
 * '*' is [*]; there is no escape.
 *
 * Patterns and names come from outside, so matching takes time linear in the name
 * whatever the pattern: all places that may be reached in the pattern are kept as a
 * set of bits and move on together with each byte.  fnmatch(3) would come back to each
 * '*', and patterns can be made for which that does not end.
 */
#ifndef OPTD_PROTO_GLOB_H
#define OPTD_PROTO_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define GLOB_WORDS (LIMIT_PATTERN_BYTES / 64u)

/* A pattern ready to be matched, 8 KiB of plain data.  An item is what takes one
 * character; place i is before the i-th. */
struct glob {
	uint64_t takes[256][GLOB_WORDS]; /* bit i: item i takes this byte */
	uint64_t stays[GLOB_WORDS];      /* bit i: a '*' at place i */
	uint64_t wide[GLOB_WORDS];       /* bit i: the item before takes characters of several bytes */
	uint32_t items;
};

/* OPTD_INVALID, and why as the end of a sentence, for what is empty, too long, or has a
 * '[' that does not end. */
int glob_parse(struct glob *glob, const char *pattern, char *why, size_t why_bytes);

/* Whether the whole of a UTF-8 text is as the pattern says. */
bool glob_match(const struct glob *glob, const char *text);

/* Letters to change in a text until the pattern matches: for naming what may have been
 * meant.  Looks at no more than the first 128 bytes of each. */
uint32_t glob_distance(const char *pattern, const char *text);

#endif
