/*
 * JSON: a scanner for texts whose grammar the caller knows.
 *
 * No tree and no memory of its own: the caller asks for the token that must
 * come next.  For bytes from outside; a string is checked to be UTF-8 without
 * NUL, a number is a whole one.
 */
#ifndef OPTD_PROTO_JSON_H
#define OPTD_PROTO_JSON_H

#include <stddef.h>
#include <stdint.h>

struct json {
	const unsigned char *begin, *at, *end;
	const char *expected; /* after a refusal: what should have been there */
};

/* Scans from the start of a text, which is borrowed. */
void json_init(struct json *json, const void *text, size_t size);

/* Bytes scanned so far. */
size_t json_offset(const struct json *json);
int json_at_end(const struct json *json);

/* Takes the very next character if it is c; the second one passes over white
 * space first.  Returns whether it did. */
int json_next(struct json *json, char c);
int json_take(struct json *json, char c);

/* Takes a string, decodes it to `out` and ends it with NUL; *size counts that.
 * It is never longer than its quoted form in the text, which bounds `out`.
 * OPTD_MALFORMED, and what was expected in json->expected. */
int json_read_string(struct json *json, char *out, size_t *size);

/* Takes digits without sign, fraction or exponent, below 2^63.  OPTD_MALFORMED
 * as above. */
int json_number(struct json *json, uint64_t *out);

#endif
