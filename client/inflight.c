/*
 * Two lists per lane: queued, in the order of numbers, and sent, in the order
 * of sending; and what is held, which is looked at only when the session is lost.  Both are short where they are searched: answers come nearly in
 * order, and what is sent is bounded by the window.
 */
#include "client/inflight.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void inflight_init(struct inflight *inflight)
{
	memset(inflight, 0, sizeof(*inflight));
	inflight->next_number = 1;
}

static void free_all(struct inflight_request *r)
{
	while (r) {
		struct inflight_request *next = r->next;
		free(r);
		r = next;
	}
}

void inflight_deinit(struct inflight *inflight)
{
	free_all(inflight->queued.first);
	free_all(inflight->sent.first);
	free_all(inflight->held.first);
	free_all(inflight->spare);
	memset(inflight, 0, sizeof(*inflight));
}

static void unlink_request(struct inflight_list *list, struct inflight_request *r)
{
	if (r->prev)
		r->prev->next = r->next;
	else
		list->first = r->next;
	if (r->next)
		r->next->prev = r->prev;
	else
		list->last = r->prev;
	r->next = r->prev = NULL;
}

static void append(struct inflight_list *list, struct inflight_request *r)
{
	r->prev = list->last;
	r->next = NULL;
	if (list->last)
		list->last->next = r;
	else
		list->first = r;
	list->last = r;
}

/* Puts a request back in the order of numbers.  Scans from the front: what
 * was sent is older than most of what was not. */
static void insert(struct inflight_list *list, struct inflight_request *r)
{
	struct inflight_request *next = list->first;
	while (next && next->number < r->number)
		next = next->next;
	if (!next) {
		append(list, r);
		return;
	}
	r->next = next;
	r->prev = next->prev;
	if (next->prev)
		next->prev->next = r;
	else
		list->first = r;
	next->prev = r;
}

static void recycle(struct inflight *inflight, struct inflight_request *r)
{
	r->next = inflight->spare;
	inflight->spare = r;
}

uint64_t inflight_number(struct inflight *inflight)
{
	return inflight->next_number++;
}

uint64_t inflight_add(struct inflight *inflight, enum msg_verb verb, uint32_t slot, uint64_t bytes,
                      void *owner, uint32_t index)
{
	struct inflight_request *r = inflight->spare;
	assert(owner != NULL);
	if (r)
		inflight->spare = r->next;
	else
		r = malloc(sizeof(*r));
	if (!r)
		return 0;
	*r = (struct inflight_request){
		.number = inflight_number(inflight),
		.bytes = bytes,
		.slot = slot,
		.verb = verb,
		.owner = owner,
		.index = index,
	};
	append(&inflight->queued, r);
	return r->number;
}

struct inflight_request *inflight_next(const struct inflight *inflight, uint64_t open_slots)
{
	struct inflight_request *r = inflight->queued.first;
	while (r && r->slot != INFLIGHT_NO_SLOT && !(open_slots >> r->slot & 1))
		r = r->next;
	if (!r || inflight->used == 0 || inflight->used + r->bytes <= inflight->window)
		return r;
	return NULL;
}

void inflight_sent(struct inflight *inflight, struct inflight_request *request)
{
	unlink_request(&inflight->queued, request);
	append(&inflight->sent, request);
	request->folded = false;
	inflight->used += request->bytes;
}

static struct inflight_request *find_sent(struct inflight *inflight, uint64_t number)
{
	struct inflight_request *r = inflight->sent.first;
	while (r && r->number != number)
		r = r->next;
	return r;
}

/* Gives the request's bytes back to the window, once. */
static void release(struct inflight *inflight, struct inflight_request *r)
{
	if (r->folded)
		return;
	r->folded = true;
	assert(inflight->used >= r->bytes);
	inflight->used -= r->bytes;
}

enum inflight_outcome inflight_reply(struct inflight *inflight, uint64_t number, int status,
                                     struct inflight_request *out)
{
	struct inflight_request *r = find_sent(inflight, number);
	if (!r)
		return INFLIGHT_IGNORED;
	if (status == OPTD_FOLDED || status <= 0)
		release(inflight, r);
	*out = *r;
	out->next = out->prev = NULL;
	if (status <= 0) {
		unlink_request(&inflight->sent, r);
		recycle(inflight, r);
	}
	if (!out->owner)
		return INFLIGHT_IGNORED;
	return status > 0 ? INFLIGHT_NOTICE : INFLIGHT_FINAL;
}

enum inflight_outcome inflight_hold(struct inflight *inflight, uint64_t number,
                                    struct inflight_request *out)
{
	struct inflight_request *r = find_sent(inflight, number);
	if (!r)
		return INFLIGHT_IGNORED;
	release(inflight, r);
	unlink_request(&inflight->sent, r);
	if (!r->owner) {
		recycle(inflight, r);
		return INFLIGHT_IGNORED;
	}
	append(&inflight->held, r);
	*out = *r;
	out->next = out->prev = NULL;
	return INFLIGHT_NOTICE;
}

static void send_again(struct inflight *inflight, struct inflight_list *list)
{
	struct inflight_request *r;
	while ((r = list->last)) {
		unlink_request(list, r);
		r->folded = false;
		if (r->owner)
			insert(&inflight->queued, r);
		else
			recycle(inflight, r);
	}
}

void inflight_reset(struct inflight *inflight)
{
	send_again(inflight, &inflight->sent);
	send_again(inflight, &inflight->held);
	inflight->used = 0;
}

bool inflight_again(struct inflight *inflight, uint64_t number)
{
	struct inflight_request *r = find_sent(inflight, number);
	if (!r)
		return false;
	release(inflight, r);
	r->folded = false;
	unlink_request(&inflight->sent, r);
	if (r->owner)
		insert(&inflight->queued, r);
	else
		recycle(inflight, r);
	return true;
}

/* Nothing of these is under way. */
static void forget(struct inflight *inflight, struct inflight_list *list, const void *owner)
{
	struct inflight_request *next;
	for (struct inflight_request *r = list->first; r; r = next) {
		next = r->next;
		if (r->owner != owner)
			continue;
		unlink_request(list, r);
		recycle(inflight, r);
	}
}

void inflight_cancel(struct inflight *inflight, const void *owner)
{
	forget(inflight, &inflight->queued, owner);
	forget(inflight, &inflight->held, owner);
	for (struct inflight_request *r = inflight->sent.first; r; r = r->next)
		if (r->owner == owner)
			r->owner = NULL;
}

bool inflight_waiting(const struct inflight *inflight)
{
	const struct inflight_request *r = inflight->sent.first;
	if (inflight->held.first || (r && inflight->queued.first))
		return true;
	while (r && !r->owner)
		r = r->next;
	return r != NULL;
}

bool inflight_queued(const struct inflight *inflight)
{
	return inflight->queued.first != NULL;
}
