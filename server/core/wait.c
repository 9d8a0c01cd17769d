/* Requests that wait, in the order in which they came. */
#include "server/core/wait.h"

#include <stdlib.h>
#include <string.h>

#include "server/base/mem.h"

static size_t mask_bytes(const struct msg *request)
{
	size_t bytes = 0;
	for (uint32_t i = 0; i < request->part_count; i++)
		bytes += request->parts[i].mask_bytes;
	return bytes;
}

static void copy_parts(struct wait *wait, const struct msg *request)
{
	uint8_t *masks = (uint8_t *)(wait->parts + request->part_count);

	for (uint32_t i = 0; i < request->part_count; i++) {
		const struct msg_part *part = &request->parts[i];
		wait->parts[i] = *part;
		if (part->mask == NULL)
			continue;
		memcpy(masks, part->mask, part->mask_bytes);
		wait->parts[i].mask = masks;
		masks += part->mask_bytes;
	}
	wait->part_count = request->part_count;
}

struct wait *wait_new(uint32_t peer, const struct msg *request, uint64_t now_ms)
{
	size_t parts = request->part_count * sizeof(struct msg_part);
	size_t bytes = sizeof(struct wait) + parts + mask_bytes(request);
	struct wait *wait = calloc(1, bytes);
	if (wait == NULL)
		return NULL;
	wait->bytes = (uint32_t)bytes + MALLOC_BYTES;
	wait->peer = peer;
	wait->session = request->session;
	wait->request = request->request;
	wait->verb = request->verb;
	wait->rank = request->rank;
	wait->step = request->step;
	wait->min_version = request->min_version;
	wait->source = request->verb == MSG_PULL ? request->source : MSG_WEIGHTS;
	wait->since_ms = now_ms;
	wait->told_ms = now_ms;
	copy_parts(wait, request);
	return wait;
}

void wait_free(struct wait *wait)
{
	buf_drop(wait->own);
	free(wait);
}

void wait_append(struct wait_list *list, struct wait *wait)
{
	wait->order = ++list->added;
	wait->next = NULL;
	wait->previous = list->last;
	if (list->last != NULL)
		list->last->next = wait;
	else
		list->first = wait;
	list->last = wait;
	list->count++;
}

void wait_remove(struct wait_list *list, struct wait *wait)
{
	if (list->at == wait)
		list->at = wait->next;
	if (list->telling == wait)
		list->telling = wait->next;
	if (wait->previous != NULL)
		wait->previous->next = wait->next;
	else
		list->first = wait->next;
	if (wait->next != NULL)
		wait->next->previous = wait->previous;
	else
		list->last = wait->previous;
	list->count--;
}
