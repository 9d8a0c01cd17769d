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
	wait->since_ms = now_ms;
	wait->told_ms = now_ms;
	copy_parts(wait, request);
	return wait;
}

void wait_free(struct wait *wait)
{
	free(wait);
}

static void append_push(struct wait_list *list, struct wait *wait)
{
	wait->next_push = NULL;
	wait->previous_push = list->last_push;
	if (list->last_push != NULL)
		list->last_push->next_push = wait;
	else
		list->first_push = wait;
	list->last_push = wait;
}

static void remove_push(struct wait_list *list, struct wait *wait)
{
	if (wait->previous_push != NULL)
		wait->previous_push->next_push = wait->next_push;
	else
		list->first_push = wait->next_push;
	if (wait->next_push != NULL)
		wait->next_push->previous_push = wait->previous_push;
	else
		list->last_push = wait->previous_push;
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
	if (wait->verb != MSG_PULL)
		append_push(list, wait);
}

void wait_remove(struct wait_list *list, struct wait *wait)
{
	if (list->at == wait)
		list->at = wait->next;
	if (wait->previous != NULL)
		wait->previous->next = wait->next;
	else
		list->first = wait->next;
	if (wait->next != NULL)
		wait->next->previous = wait->previous;
	else
		list->last = wait->previous;
	list->count--;
	if (wait->verb != MSG_PULL)
		remove_push(list, wait);
}

static bool same_part(const struct msg_part *a, const struct msg_part *b)
{
	return a->first == b->first && a->count == b->count && a->mask_bytes == b->mask_bytes &&
	       (a->mask_bytes == 0 || memcmp(a->mask, b->mask, a->mask_bytes) == 0);
}

bool wait_repeats(const struct wait *wait, uint32_t peer, const struct msg *request)
{
	if (wait->verb == MSG_PULL || wait->peer != peer || wait->session != request->session ||
	    wait->rank != request->rank || wait->step != request->step ||
	    wait->part_count != request->part_count)
		return false;
	for (uint32_t i = 0; i < wait->part_count; i++) {
		if (!same_part(&wait->parts[i], &request->parts[i]))
			return false;
	}
	return true;
}
