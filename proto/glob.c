/* Places in a pattern as bits. */
#include "proto/glob.h"

#include <stdio.h>
#include <string.h>

#include "proto/status.h"

static void set_bit(uint64_t *words, uint32_t bit)
{
	words[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static bool goes_on(unsigned byte)
{
	return (byte & 0xc0) == 0x80; /* within a character of UTF-8 */
}

/* Item `items` takes any byte that a character begins with, but for what `set` has. */
static void add_wide(struct glob *glob, const bool set[128])
{
	for (unsigned byte = 0; byte < 256; byte++) {
		if (!goes_on(byte) && (byte >= 128 || !set[byte]))
			set_bit(glob->takes[byte], glob->items);
	}
	set_bit(glob->wide, ++glob->items);
}

/* From behind '[' to behind ']'; NULL and why. */
static const char *read_set(const char *at, bool set[128], char *why, size_t why_bytes)
{
	for (const char *begin = at; *at != '\0' && (*at != ']' || at == begin); at++) {
		unsigned first = (unsigned char)*at, last = first;
		if (at[1] == '-' && at[2] != ']' && at[2] != '\0') {
			last = (unsigned char)at[2];
			at += 2;
		}
		if (last >= 128 || first > last) {
			snprintf(why, why_bytes, "has a '[...]' of other than ASCII characters that ascend");
			return NULL;
		}
		memset(set + first, 1, last - first + 1);
	}
	if (*at == ']')
		return at + 1;
	snprintf(why, why_bytes, "has a '[' without its ']'; a literal one is [[]");
	return NULL;
}

static const char *add_set(struct glob *glob, const char *at, char *why, size_t why_bytes)
{
	bool set[128] = {false}, other = *at == '!';

	at = read_set(at + other, set, why, why_bytes);
	if (at == NULL)
		return NULL;
	if (other) {
		add_wide(glob, set);
		return at;
	}
	for (unsigned byte = 0; byte < 128; byte++) {
		if (set[byte])
			set_bit(glob->takes[byte], glob->items);
	}
	glob->items++;
	return at;
}

int glob_parse(struct glob *glob, const char *pattern, char *why, size_t why_bytes)
{
	static const bool none[128];
	const char *at = pattern;

	memset(glob, 0, sizeof(*glob));
	if (*pattern == '\0' || strnlen(pattern, LIMIT_PATTERN_BYTES) == LIMIT_PATTERN_BYTES) {
		snprintf(why, why_bytes, "has not 1 to %u bytes", LIMIT_PATTERN_BYTES - 1);
		return OPTD_INVALID;
	}
	while (at != NULL && *at != '\0') {
		char c = *at++;
		if (c == '*')
			set_bit(glob->stays, glob->items);
		else if (c == '?')
			add_wide(glob, none);
		else if (c == '[')
			at = add_set(glob, at, why, why_bytes);
		else
			set_bit(glob->takes[(unsigned char)c], glob->items++);
	}
	return at != NULL ? OPTD_OK : OPTD_INVALID;
}

bool glob_match(const struct glob *glob, const char *text)
{
	uint64_t places[GLOB_WORDS] = {1};
	uint32_t words = glob->items / 64 + 1;

	for (; *text != '\0'; text++) {
		const uint64_t *takes = glob->takes[(unsigned char)*text];
		uint64_t wide = goes_on((unsigned char)*text) ? UINT64_MAX : 0, carry = 0;
		for (uint32_t i = 0; i < words; i++) {
			uint64_t taken = places[i] & takes[i];
			uint64_t stays = places[i] & (glob->stays[i] | (glob->wide[i] & wide));
			places[i] = taken << 1 | carry | stays;
			carry = taken >> 63;
		}
	}
	return (places[glob->items / 64] >> (glob->items % 64) & 1) != 0;
}

/* ---- distance ----------------------------------------------------------- */

#define DISTANCE_BYTES 128

/* Behind the item that begins at `at`. */
static const char *item_end(const char *at, const char *end)
{
	const char *close = *at == '[' && end - at > 2 ? memchr(at + 2, ']', (size_t)(end - at - 2)) : NULL;

	return close != NULL ? close + 1 : at + 1;
}

uint32_t glob_distance(const char *pattern, const char *text)
{
	size_t bytes = strnlen(text, DISTANCE_BYTES);
	const char *end = pattern + strnlen(pattern, DISTANCE_BYTES);
	uint32_t row[DISTANCE_BYTES + 1]; /* from the pattern so far to the first j bytes */

	for (size_t j = 0; j <= bytes; j++)
		row[j] = (uint32_t)j;
	for (const char *at = pattern; at < end; at = item_end(at, end)) {
		bool star = *at == '*', any = *at == '?' || *at == '[';
		uint32_t diagonal = row[0];
		row[0] += star ? 0 : 1;
		for (size_t j = 1; j <= bytes; j++) {
			uint32_t changed = diagonal + (any || *at == text[j - 1] ? 0 : 1);
			uint32_t best = row[j] + (star ? 0 : 1), more = row[j - 1] + (star ? 0 : 1);
			diagonal = row[j];
			best = more < best ? more : best;
			row[j] = !star && changed < best ? changed : best;
		}
	}
	return row[bytes];
}
