/*
 * A worker's gradient is not finite.
 *
 * It counts as arrived, like any other, and with it the block's step will be skipped: what
 * the others bring for it is of no use, so their bytes are given back at once, whatever
 * their rank, and so are those that come later.
 */
#include "server/core/gate_parts.h"

void gate_poison(struct gate *gate, struct gate_block *b, const struct gate_push *push)
{
	if (b->poison_rank_plus_one == 0 || push->rank + 1 < b->poison_rank_plus_one) {
		b->poison_rank_plus_one = push->rank + 1;
		b->poison_tensor_plus_one = push->poison_tensor_plus_one;
	}
	while (b->waiting != NULL) {
		struct contribution *c = b->waiting;
		b->waiting = c->next;
		if (c->wait != NULL)
			gate_fold_told(gate, c->wait);
		gate_discard(gate, c);
	}
}
