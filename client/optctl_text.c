/*
 * Texts from elsewhere on a terminal: a model's name may have anything in it that
 * is UTF-8, and an argument anything at all.
 */
#include "client/optctl.h"

#include <string.h>

#include "proto/utf8.h"

/* Bytes of the character at text if it may be shown, else 0. */
static size_t shown(const char *text, size_t size)
{
	const unsigned char *byte = (const unsigned char *)text;
	size_t n = 1;
	if (*byte < 0x20 || *byte == 0x7f)
		return 0;
	while (n < size && (byte[n] & 0xc0) == 0x80)
		n++;
	/* U+0080 to U+009F are controls too: the terminal's ESC [ in one. */
	if (!utf8_valid(text, n) || (n == 2 && byte[0] == 0xc2 && byte[1] < 0xa0))
		return 0;
	return n;
}

void optctl_text(FILE *file, const char *text)
{
	size_t left = strlen(text);
	while (left > 0) {
		size_t n = shown(text, left);
		if (n > 0) {
			fwrite(text, 1, n, file);
		} else {
			fprintf(file, "\\x%02x", (unsigned)(unsigned char)*text);
			n = 1;
		}
		text += n;
		left -= n;
	}
}
