/*
 * Change: hyper-parameters of a running model that are others from a version on.
 *
 * A change holds for updates that take a block of its group from version v to v + 1 with
 * v >= from.  What a model was made with stays as it is, and the changes lie over it in
 * the order of their versions, so that a block finds the settings for its next update
 * whatever other blocks have come to.
 */
#ifndef OPTD_CORE_CHANGE_H
#define OPTD_CORE_CHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "optim/optim.h"
#include "server/core/group.h"

/* Plain data: copy it freely. */
struct change {
	uint64_t from;
	uint32_t group; /* server/core/group.h; not a frozen one */
	uint32_t given; /* bit i: the rule's hyper-parameter i, which has values[i] */
	double values[OPTIM_HYPERS_MAX][OPTIM_VALUES_MAX];
};

struct changes {
	uint32_t count;
	uint64_t made; /* since the model is here: tells whether there was another */
	struct change list[LIMIT_CHANGES]; /* by from; of the same, as they came */
};

/* Puts one in.  Of a full list, first joins two changes of a group whose later one every
 * block has passed: the later has the values of both.  There must be room. */
void changes_add(struct changes *changes, const struct change *change, uint64_t passed);
/* The lowest version that all blocks must have for one more to have room: 0 while the
 * list is not full, UINT64_MAX where nothing can be joined. */
uint64_t changes_room(const struct changes *changes);

/* What the groups are updated by from a version on. */
struct changed {
	const struct optim *at[1 + LIMIT_GROUPS]; /* by number; NULL: frozen */
	struct optim made[1 + LIMIT_GROUPS];      /* of groups that have changed; others are not touched */
};

/* Fills *out, which points to groups, own and itself.  also: a change as if it was in the
 * list, or NULL. */
void changes_at(const struct changes *changes, const struct change *also, const struct groups *groups,
                const struct optim *own, uint64_t version, struct changed *out);

/* "lr=0.01 betas=[0.9,0.99]" of a change of this rule's settings, for people. */
void change_text(const struct change *change, const struct optim_rule *rule, char *text, size_t text_bytes);

#endif
