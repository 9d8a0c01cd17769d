/*
 * Rates: the learning rates that a model's next update takes, for people who look.
 *
 * Each tensor's rate follows its own updates.  What is told of a group is that of its tensor
 * with the fewest, of this shard; of a group that has none here it is what the shard's other
 * tensors have come to, which in sync is the same.
 */
#ifndef OPTD_CORE_RATES_H
#define OPTD_CORE_RATES_H

#include <stdbool.h>

#include "server/core/model.h"

struct rates {
	bool has[1 + LIMIT_GROUPS]; /* by number of the group; not of one that is frozen, or has no lr */
	double lr[1 + LIMIT_GROUPS];
};

/* settings: what holds at the model's lowest version. */
void rates_of(const struct model *model, const struct model_settings *settings, struct rates *out);

#endif
