/* Manifest, the part about earlier restores. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/disk/manifest.h"

void manifest_history_write(const struct history *history, char text[static MANIFEST_VALUE_BYTES])
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < history->count; i++)
		used += (size_t)snprintf(text + used, MANIFEST_VALUE_BYTES - used, "%s%" PRIu64 ":%" PRIu64,
		                         i > 0 ? "," : "", history->marks[i].epoch, history->marks[i].version);
}

static uint64_t take_digits(const char **at)
{
	size_t digits = strspn(*at, "0123456789");
	uint64_t value = digits > 0 && digits <= 19 ? strtoull(*at, NULL, 10) : 0;

	*at += digits;
	return value;
}

bool manifest_history_read(const char *text, uint64_t epoch, struct history *history)
{
	for (const char *at = text; *at != '\0'; at += *at == ',') {
		const struct history_mark *last = history->count > 0 ? &history->marks[history->count - 1] : NULL;
		struct history_mark mark;

		mark.epoch = take_digits(&at);
		bool whole = *at == ':';
		at += whole;
		mark.version = take_digits(&at);
		if (!whole || mark.epoch == 0 || mark.epoch > epoch || (*at != '\0' && *at != ',') ||
		    history->count == HISTORY_MARKS ||
		    (last && (mark.epoch <= last->epoch || mark.version <= last->version)))
			return false;
		history->marks[history->count++] = mark;
	}
	return true;
}
