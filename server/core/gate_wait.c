/* Who is told of what happens to a contribution. */
#include "server/core/gate_parts.h"

/* ---- that bytes are folded ---------------------------------------------- */

void gate_tell(struct gate *gate, struct wait *wait)
{
	if (!wait->folded_told && !wait->folded.in)
		heap_add(&gate->folded, &wait->folded, 0, wait->order);
}

void gate_fold_told(struct gate *gate, struct wait *wait)
{
	if (--wait->unfolded == 0)
		gate_tell(gate, wait);
}

struct wait *gate_folded(struct gate *gate)
{
	while (gate->folded.first != NULL) {
		struct wait *wait = heap_owner(gate->folded.first, struct wait, folded);
		heap_remove(&gate->folded, &wait->folded);
		/* It may have taken another's bytes over since. */
		if (wait->unfolded > 0)
			continue;
		wait->folded_told = true;
		return wait;
	}
	return NULL;
}

/* ---- that a step is complete -------------------------------------------- */

struct wait *gate_waiter(const struct gate *gate, uint32_t block, uint32_t rank)
{
	if (!gate->direct)
		return gate_seat(gate, block, rank)->wait;
	const struct contribution *c = gate_waiting(gate, block, rank);
	return c != NULL ? c->wait : NULL;
}

void gate_rejoin(struct gate *gate, uint32_t block, uint32_t rank, struct wait *wait)
{
	struct contribution *c = gate_waiting(gate, block, rank);

	if (!gate->direct)
		gate_seat(gate, block, rank)->wait = wait;
	if (c == NULL)
		return;
	if (c->wait != NULL)
		gate_fold_told(gate, c->wait);
	c->wait = wait;
	wait->unfolded++;
}

static void forget_block(struct gate *gate, uint32_t block, const struct wait *wait)
{
	struct contribution *c = wait->unfolded > 0 ? gate_block(gate, block)->waiting : NULL;

	for (; c != NULL; c = c->next) {
		if (c->wait == wait)
			c->wait = NULL;
	}
	if (!gate->direct && gate_seat(gate, block, (uint32_t)wait->rank)->wait == wait)
		gate_seat(gate, block, (uint32_t)wait->rank)->wait = NULL;
}

void gate_forget(struct gate *gate, struct wait *wait)
{
	if (wait->folded.in)
		heap_remove(&gate->folded, &wait->folded);
	if (wait->verb == MSG_PULL)
		return;
	for (uint32_t i = 0; i < wait->part_count; i++) {
		for (uint32_t j = 0; j < wait->parts[i].count; j++)
			forget_block(gate, wait->parts[i].first + j, wait);
	}
}
