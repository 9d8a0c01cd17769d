/*
 * Group: tensors of a model that have an optimizer of their own, or none.
 *
 * A group is a pattern over names (proto/glob) and settings that are whole: what a
 * user leaves out is filled in when the group is read, from the model's own optimizer or
 * from another rule's defaults.  The first group whose pattern matches has the tensor;
 * what no group has is under the model's own optimizer.  Groups are numbered from 1, and
 * 0 is that rest.
 */
#ifndef OPTD_CORE_GROUP_H
#define OPTD_CORE_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "optim/optim.h"
#include "proto/glob.h"
#include "proto/layout.h"

/* Plain data: copy it freely. */
struct group {
	char tensors[LIMIT_PATTERN_BYTES]; /* a pattern; zeros behind it */
	bool frozen;                       /* pushes change nothing; optim is not looked at */
	struct optim optim;                /* complete and checked */
};

struct groups {
	uint32_t count;
	struct group list[LIMIT_GROUPS];
};

/* ---- making one ---- */

/* A group with the model's own optimizer, or, of another name, with that rule's
 * defaults; name and match may be NULL.  OPTD_HYPER and a sentence in why. */
int group_begin(struct group *group, const char *tensors, const struct optim *own, const char *name,
                const char *match, char *why, size_t why_bytes);
/* Multiplies the learning rate.  OPTD_HYPER where that would be without effect, or out
 * of range. */
int group_scale(struct group *group, double factor, char *why, size_t why_bytes);

/* ---- looking ---- */

/* What tensors of group `number` are updated by; NULL: they are frozen. */
const struct optim *groups_optim(const struct groups *groups, const struct optim *own, uint32_t number);
/* The most state vectors, and numbers of a segment, that any of them needs. */
uint32_t groups_slot_count(const struct groups *groups, const struct optim *own);
uint32_t groups_carry_count(const struct groups *groups, const struct optim *own);

/* Whether a loss scale is in what such an optimizer takes: in gradients of the loss, and
 * neither in weights nor in differences of them.  NULL, frozen: as in a gradient. */
bool groups_scaled(const struct optim *optim);
/* Whether it is in what some of them take, and not in what others do. */
bool groups_mixed(const struct groups *groups, const struct optim *own);

/* The first of them that answers each worker by itself, or NULL. */
const struct optim *groups_answering(const struct groups *groups, const struct optim *own);

/* Whether each group has a tensor of the layout.  OPTD_HYPER, and in why the first that
 * has none, with the names nearest to its pattern. */
int groups_fit(const struct groups *groups, const struct layout *layout, char *why, size_t why_bytes);

/* "adamw match=torch2 lr=0.001 ...; 2 groups: '*.bias' adamw lr=0.01, 'frozen.*' frozen",
 * of each group what optim_text_over says: for people.  Cut with "..." where it does not fit. */
void groups_text(const struct groups *groups, const struct optim *own, char *text, size_t text_bytes);

/* ---- which tensor has which ---- */

/* The patterns, ready: some 64 KiB, of which only those of `count` are touched. */
struct group_finder {
	uint32_t count;
	struct glob globs[LIMIT_GROUPS];
};

void group_finder_init(struct group_finder *finder, const struct groups *groups);
/* The number of the group that has a tensor of this name. */
uint32_t group_find(const struct group_finder *finder, const char *name);

#endif
