/* A change as a text of the manifest, and back. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"
#include "server/disk/file.h"
#include "server/disk/manifest.h"

void manifest_change_write(const struct checkpoint *about, const struct change *change,
                           char text[static MANIFEST_VALUE_BYTES])
{
	const struct optim_rule *rule = groups_optim(&about->groups, &about->optim, change->group)->rule;
	size_t room = MANIFEST_VALUE_BYTES;
	size_t used = (size_t)snprintf(text, room, "from=%" PRIu64 " group=%" PRIu32, change->from, change->group);

	for (uint32_t i = 0; i < optim_hyper_count(rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(rule, i);
		if (!(change->given >> i & 1))
			continue;
		used += (size_t)snprintf(text + used, room - used, " %s", hyper->name);
		for (uint32_t v = 0; v < hyper->count; v++)
			used += (size_t)snprintf(text + used, room - used, "%s%.17g", v == 0 ? "=" : ",",
			                         change->values[i][v]);
	}
}

/* What stands before the next '=' and behind it: a word, and the place of its value. */
static const char *take_word(const char **at, char *word, size_t room)
{
	size_t size = strcspn(*at, "=");

	if ((*at)[size] != '=' || size == 0 || size >= room)
		return NULL;
	memcpy(word, *at, size);
	word[size] = '\0';
	*at += size + 1;
	return *at;
}

/* Finite numbers with commas between them, up to a blank or the end; how many, or 0. */
static uint32_t take_numbers(const char **at, double values[OPTIM_VALUES_MAX])
{
	for (uint32_t count = 0; count < OPTIM_VALUES_MAX; count++) {
		char *end;
		values[count] = strtod(*at, &end);
		if (end == *at || !isfinite(values[count]))
			return 0;
		*at = end + (*end == ',' || *end == ' ');
		if (*end != ',')
			return *end == ' ' || *end == '\0' ? count + 1 : 0;
	}
	return 0;
}

static int take_place(const struct checkpoint *about, const char **at, struct change *change, char *why,
                      size_t why_bytes)
{
	int read = 0;

	if (sscanf(*at, "from=%19" SCNu64 " group=%9" SCNu32 " %n", &change->from, &change->group, &read) != 2 ||
	    read == 0 || change->from > LIMIT_COUNTER)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "it does not say from which version on it is, of which group");
	if (change->group > about->groups.count ||
	    groups_optim(&about->groups, &about->optim, change->group) == NULL)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "it is of group %" PRIu32 ", of %" PRIu32 ", or that is frozen",
		                 change->group, about->groups.count);
	*at += read;
	return OPTD_OK;
}

static void keep(struct change *change, const struct optim *optim, const char *name)
{
	uint32_t i = 0;

	while (strcmp(optim_hyper(optim->rule, i)->name, name) != 0)
		i++;
	change->given |= 1u << i;
	memcpy(change->values[i], optim->values[i], sizeof change->values[i]);
}

int manifest_change_read(const struct checkpoint *about, const char *text, struct change *change, char *why,
                         size_t why_bytes)
{
	const char *at = text;
	char name[64];
	struct optim optim;

	memset(change, 0, sizeof *change);
	if (take_place(about, &at, change, why, why_bytes) < 0)
		return OPTD_CORRUPT;
	optim = *groups_optim(&about->groups, &about->optim, change->group);
	do {
		double values[OPTIM_VALUES_MAX] = { 0 };
		uint32_t count = take_word(&at, name, sizeof name) ? take_numbers(&at, values) : 0;
		if (count == 0)
			return disk_fail(OPTD_CORRUPT, why, why_bytes, "it is not a list of names and numbers");
		if (optim_set(&optim, name, values, count, why, why_bytes) < 0)
			return OPTD_CORRUPT;
		keep(change, &optim, name);
	} while (*at);
	return OPTD_OK;
}
