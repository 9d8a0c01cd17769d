/* A few marks in the order of epochs. */
#include "server/core/history.h"

#include <assert.h>
#include <string.h>

static void merge_oldest(struct history *history)
{
	history->marks[1].version = history->marks[0].version;
	memmove(&history->marks[0], &history->marks[1], (history->count - 1) * sizeof(history->marks[0]));
	history->count--;
}

void history_add(struct history *history, uint64_t epoch, uint64_t version)
{
	assert(history->count == 0 || history->marks[history->count - 1].epoch < epoch);
	while (history->count > 0 && history->marks[history->count - 1].version >= version)
		history->count--;
	if (history->count == HISTORY_MARKS)
		merge_oldest(history);
	history->marks[history->count++] = (struct history_mark){epoch, version};
}

bool history_lost(const struct history *history, uint64_t seen_epoch, uint64_t seen_version,
                  uint64_t *version)
{
	for (uint32_t i = 0; i < history->count; i++) {
		const struct history_mark *mark = &history->marks[i];
		if (mark->epoch <= seen_epoch || mark->version >= seen_version)
			continue;
		*version = mark->version;
		return true;
	}
	return false;
}
