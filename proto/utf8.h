/*
 * UTF-8: the one check that every text from a peer, a file or a caller passes.
 *
 * Strict as RFC 3629 has it (no overlong forms, no surrogates, nothing beyond
 * U+10FFFF), and without NUL, so that what passes may become a C string.
 */
#ifndef OPTD_PROTO_UTF8_H
#define OPTD_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the longest prefix made of whole characters other than NUL; `size`
 * if all of it is good.  `text` may be NULL when size is 0. */
size_t utf8_prefix(const char *text, size_t size);

static inline bool utf8_valid(const char *text, size_t size)
{
	return utf8_prefix(text, size) == size;
}

#endif
