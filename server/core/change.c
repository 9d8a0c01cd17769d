/* A list in the order of versions, and what it comes to at one of them. */
#include "server/core/change.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

_Static_assert(OPTIM_HYPERS_MAX <= 32, "a bit for each hyper-parameter");

static void remove_at(struct changes *changes, uint32_t index)
{
	changes->count--;
	memmove(&changes->list[index], &changes->list[index + 1],
	        (changes->count - index) * sizeof(changes->list[0]));
}

/* The next change of the same group, or the count. */
static uint32_t next_of(const struct changes *changes, uint32_t index)
{
	uint32_t i = index + 1;

	while (i < changes->count && changes->list[i].group != changes->list[index].group)
		i++;
	return i;
}

/* The first pair whose later one is the lowest: its earlier one, or the count. */
static uint32_t find_pair(const struct changes *changes)
{
	uint32_t none = changes->count, best = none, later = none;

	for (uint32_t i = 0; i < changes->count; i++) {
		uint32_t next = next_of(changes, i);
		if (next >= later)
			continue;
		best = i;
		later = next;
	}
	return best;
}

static void copy_values(struct change *to, const struct change *from, uint32_t which)
{
	for (uint32_t i = 0; i < OPTIM_HYPERS_MAX; i++) {
		if (which >> i & 1)
			memcpy(to->values[i], from->values[i], sizeof(to->values[i]));
	}
	to->given |= which;
}

uint64_t changes_room(const struct changes *changes)
{
	if (changes->count < LIMIT_CHANGES)
		return 0;
	uint32_t first = find_pair(changes);
	return first == changes->count ? UINT64_MAX : changes->list[next_of(changes, first)].from;
}

static void join(struct changes *changes, uint64_t passed)
{
	uint32_t first = find_pair(changes);
	struct change *later = &changes->list[next_of(changes, first)];

	assert(first < changes->count && later->from <= passed);
	(void)passed;
	copy_values(later, &changes->list[first], changes->list[first].given & ~later->given);
	remove_at(changes, first);
}

void changes_add(struct changes *changes, const struct change *change, uint64_t passed)
{
	if (changes->count == LIMIT_CHANGES)
		join(changes, passed);
	uint32_t i = changes->count++;

	for (; i > 0 && changes->list[i - 1].from > change->from; i--)
		changes->list[i] = changes->list[i - 1];
	changes->list[i] = *change;
	changes->made++;
}

static void lay_over(const struct change *change, struct changed *out)
{
	struct optim *made = &out->made[change->group];

	assert(out->at[change->group] != NULL);
	if (out->at[change->group] != made)
		*made = *out->at[change->group];
	out->at[change->group] = made;
	for (uint32_t i = 0; i < OPTIM_HYPERS_MAX; i++) {
		if (change->given >> i & 1)
			memcpy(made->values[i], change->values[i], sizeof(made->values[i]));
	}
}

void changes_at(const struct changes *changes, const struct change *also, const struct groups *groups,
                const struct optim *own, uint64_t version, struct changed *out)
{
	bool due = also != NULL && also->from <= version;

	for (uint32_t i = 0; i <= groups->count; i++)
		out->at[i] = groups_optim(groups, own, i);
	for (uint32_t i = 0; i < changes->count && changes->list[i].from <= version; i++) {
		if (due && changes->list[i].from > also->from) {
			lay_over(also, out);
			due = false;
		}
		lay_over(&changes->list[i], out);
	}
	if (due)
		lay_over(also, out);
}

void change_text(const struct change *change, const struct optim_rule *rule, char *text, size_t text_bytes)
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < optim_hyper_count(rule) && used + 1 < text_bytes; i++) {
		if (!(change->given >> i & 1))
			continue;
		if (used > 0)
			text[used++] = ' ';
		optim_hyper_text(rule, i, change->values[i], text + used, text_bytes - used);
		used += strlen(text + used);
	}
}
