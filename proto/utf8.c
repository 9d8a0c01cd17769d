/* UTF-8, one character at a time: names are short and checked once. */
#include "proto/utf8.h"

#include <stdint.h>

/* Continuation bytes after this first byte, and the range of the first of
 * them, which is where overlong forms, surrogates and numbers beyond U+10FFFF
 * show; -1 for a byte that cannot begin a character. */
static int lead_byte(uint8_t byte, uint8_t *low, uint8_t *high)
{
	*low = 0x80;
	*high = 0xbf;
	if (byte < 0x80)
		return byte == 0 ? -1 : 0;
	if (byte < 0xc2)
		return -1;
	if (byte < 0xe0)
		return 1;
	if (byte < 0xf0) {
		if (byte == 0xe0)
			*low = 0xa0;
		if (byte == 0xed)
			*high = 0x9f;
		return 2;
	}
	if (byte == 0xf0)
		*low = 0x90;
	if (byte == 0xf4)
		*high = 0x8f;
	return byte < 0xf5 ? 3 : -1;
}

size_t utf8_prefix(const char *text, size_t size)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t at = 0;

	while (at < size) {
		uint8_t low, high;
		int more = lead_byte(bytes[at], &low, &high);
		if (more < 0 || (size_t)more > size - at - 1)
			return at;
		for (int i = 1; i <= more; i++) {
			if (bytes[at + (size_t)i] < low || bytes[at + (size_t)i] > high)
				return at;
			low = 0x80;
			high = 0xbf;
		}
		at += (size_t)more + 1;
	}
	return at;
}
