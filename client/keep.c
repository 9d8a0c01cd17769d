/* Pieces in a list, each an allocation of its own: a model has some dozens. */
#include "client/keep.h"

#include <stdlib.h>
#include <string.h>

struct keep_piece {
	struct keep_piece *next;
	_Alignas(16) char bytes[];
};

void *keep_room(struct keep *keep, size_t bytes)
{
	struct keep_piece *piece = calloc(1, sizeof(*piece) + bytes);
	if (!piece)
		return NULL;
	piece->next = keep->first;
	keep->first = piece;
	return piece->bytes;
}

void keep_free(struct keep *keep)
{
	while (keep->first) {
		struct keep_piece *piece = keep->first;
		keep->first = piece->next;
		free(piece);
	}
}

bool keep_text(struct keep *keep, struct msg_text *text)
{
	char *copy = keep_room(keep, text->size + 1u);
	if (!copy)
		return false;
	if (text->size > 0)
		memcpy(copy, text->bytes, text->size);
	text->bytes = copy;
	return true;
}

bool keep_hypers(struct keep *keep, struct msg_hyper *hypers, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!keep_text(keep, &hypers[i].name))
			return false;
	return true;
}

bool keep_schedule(struct keep *keep, struct msg_schedule_part *parts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!keep_text(keep, &parts[i].name))
			return false;
		for (uint32_t j = 0; j < parts[i].param_count; j++)
			if (!keep_text(keep, &parts[i].params[j].name))
				return false;
	}
	return true;
}

bool keep_average(struct keep *keep, struct msg_average *average)
{
	return keep_text(keep, &average->kind) && keep_hypers(keep, average->hypers, average->hyper_count);
}

static bool keep_group(struct keep *keep, struct msg_group *group)
{
	struct msg_hyper *hypers = keep_room(keep, group->hyper_count * sizeof(*hypers));
	struct msg_schedule_part *parts = keep_room(keep, group->schedule_count * sizeof(*parts));
	if (!hypers || !parts)
		return false;
	if (group->hyper_count > 0)
		memcpy(hypers, group->hypers, group->hyper_count * sizeof(*hypers));
	if (group->schedule_count > 0)
		memcpy(parts, group->schedule, group->schedule_count * sizeof(*parts));
	group->hypers = hypers;
	group->schedule = parts;
	return keep_text(keep, &group->tensors) && keep_text(keep, &group->optimizer) &&
	       keep_text(keep, &group->match) && keep_hypers(keep, hypers, group->hyper_count) &&
	       keep_schedule(keep, parts, group->schedule_count);
}

bool keep_groups(struct keep *keep, const struct msg_group **groups, uint32_t count)
{
	struct msg_group *copy = keep_room(keep, count * sizeof(*copy));
	bool kept = copy != NULL;
	for (uint32_t i = 0; kept && i < count; i++) {
		copy[i] = (*groups)[i];
		kept = keep_group(keep, &copy[i]);
	}
	if (kept)
		*groups = copy;
	return kept;
}
