/*
 * Config schedule: an optimizer's learning-rate schedule.
 *
 *     schedule: {name: cosine, T_max: 5000}
 *     schedule: [{name: linear_warmup, total_iters: 500, until: 500}, {name: cosine, T_max: 4500}]
 *
 * Which keys a stretch has is known to the table of schedules in optim/.
 */
#include <string.h>

#include "server/config_value.h"
#include "server/config_yaml.h"
#include "server/core/settings.h"

static bool number(const yaml_node_t *node, bool flag, double *out)
{
	return node->type == YAML_SCALAR_NODE && !node_quoted(node) &&
	       value_real(node_text(node), node->data.scalar.length, flag, out);
}

/* The parameter of this name, or NULL; milestones are none of them. */
static const struct schedule_param *find_param(const struct schedule_part *part, const char *name)
{
	uint32_t count;
	const struct schedule_param *params = schedule_params(part->kind, &count);

	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(params[i].name, name) == 0)
			return &params[i];
	}
	return NULL;
}

static bool is_flag(const struct schedule_param *param)
{
	return param != NULL && param->whole && param->min == 0 && param->max == 1;
}

/* Of a name that is not known the value says nothing: it may be a word of PyTorch's. */
static bool is_known(const struct schedule_part *part, const char *name)
{
	return find_param(part, name) != NULL ||
	       (part->kind == SCHEDULE_MULTISTEP && strcmp(name, "milestones") == 0);
}

/* One number, or a list of them. */
static int read_param(struct reader *reader, struct schedule_part *part, const yaml_node_t *key,
                      const yaml_node_t *value)
{
	double values[SCHEDULE_MILESTONES_MAX + 1] = { 0 };
	char reason[CONFIG_WHY_BYTES];
	const char *name = node_text(key);
	uint32_t count = 1;
	bool valid;

	if (value->type == YAML_SEQUENCE_NODE) {
		const yaml_node_item_t *items = value->data.sequence.items.start;

		count = (uint32_t)(value->data.sequence.items.top - items);
		valid = count > 0;
		for (uint32_t i = 0; i < count && i <= SCHEDULE_MILESTONES_MAX; i++)
			valid = valid && number(reader_node(reader, items[i]), false, &values[i]);
	} else {
		valid = number(value, is_flag(find_param(part, name)), &values[0]);
	}
	if (!valid && is_known(part, name))
		return reader_refuse(reader, reader_line(key),
		                     "models.optimizer: schedule: %.64s is not a number, or a list of them", name);
	if (schedule_set(part, name, values, count, reason, sizeof(reason)) < 0)
		return reader_refuse(reader, reader_line(key), "models.optimizer: %s", reason);
	return 0;
}

static int read_until(struct reader *reader, const yaml_node_t *key, const yaml_node_t *value,
                      uint64_t *until)
{
	double updates;

	if (!number(value, false, &updates) || !(updates >= 1 && updates <= 9007199254740992.0) ||
	    updates != (double)(uint64_t)updates)
		return reader_refuse(reader, reader_line(key),
		                     "models.optimizer: schedule: until is a whole number of updates, at least 1");
	*until = (uint64_t)updates;
	return 0;
}

static int begin_part(struct reader *reader, const yaml_node_t *node, const yaml_node_t *name,
                      struct schedule_part *part)
{
	const char *nearest;
	int kind;

	if (name == NULL || name->type != YAML_SCALAR_NODE)
		return reader_refuse(reader, reader_line(node),
		                     "models.optimizer: schedule: needs a name; allowed: one of " SCHEDULE_NAMES);
	kind = schedule_find(node_text(name));
	nearest = kind < 0 ? schedule_nearest(node_text(name)) : NULL;
	if (kind < 0)
		return reader_refuse(reader, reader_line(name),
		                     "models.optimizer: schedule: \"%.64s\" is not known; %s%s%s"
		                     "allowed: one of " SCHEDULE_NAMES,
		                     node_text(name), nearest ? "the nearest is \"" : "", nearest ? nearest : "",
		                     nearest ? "\"; " : "");
	schedule_part_init(part, (enum schedule_kind)kind);
	return 0;
}

static const yaml_node_t *value_of(struct reader *reader, const yaml_node_t *mapping, const char *name)
{
	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     pair < mapping->data.mapping.pairs.top; pair++) {
		if (strcmp(node_text(reader_node(reader, pair->key)), name) == 0)
			return reader_node(reader, pair->value);
	}
	return NULL;
}

/* A mapping, or a word for one with its defaults. */
static int read_part(struct reader *reader, const yaml_node_t *node, struct schedule_part *part,
                     uint64_t *until)
{
	int rc;

	if (node->type != YAML_MAPPING_NODE)
		return begin_part(reader, node, node, part);
	rc = reader_keys(reader, node);
	if (rc == 0)
		rc = begin_part(reader, node, value_of(reader, node, "name"), part);
	for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     rc == 0 && pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = reader_node(reader, pair->key);
		const yaml_node_t *value = reader_node(reader, pair->value);

		if (strcmp(node_text(key), "until") == 0)
			rc = read_until(reader, key, value, until);
		else if (strcmp(node_text(key), "name") != 0)
			rc = read_param(reader, part, key, value);
	}
	return rc;
}

/* Here, where the line is known. */
static int check(struct reader *reader, const yaml_node_t *node, const struct schedule *schedule)
{
	char reason[CONFIG_WHY_BYTES];

	if (schedule_check(schedule, reason, sizeof(reason)) == 0)
		return 0;
	return reader_refuse(reader, reader_line(node), "models.optimizer: %s", reason);
}

static int check_part(struct reader *reader, const yaml_node_t *node, const struct schedule_part *part)
{
	const struct schedule alone = { .parts = { *part }, .part_count = 1 };

	return check(reader, node, &alone);
}

static int check_last(struct reader *reader, const yaml_node_t *node, uint64_t until)
{
	if (until == 0)
		return 0;
	return reader_refuse(reader, reader_line(node), "models.optimizer: " SETTINGS_LAST_UNTIL,
	                     (unsigned long long)until);
}

static int read_parts(struct reader *reader, const yaml_node_t *list, struct schedule *schedule)
{
	const yaml_node_item_t *items = list->data.sequence.items.start;
	size_t count = (size_t)(list->data.sequence.items.top - items);

	if (count == 0 || count > SCHEDULE_PARTS_MAX)
		return reader_refuse(reader, reader_line(list),
		                     "models.optimizer: schedule: a list has 1 to %u stretches, not %zu",
		                     SCHEDULE_PARTS_MAX, count);
	schedule->part_count = (uint32_t)count;
	for (uint32_t i = 0; i < count; i++) {
		const yaml_node_t *node = reader_node(reader, items[i]);
		int rc = read_part(reader, node, &schedule->parts[i], &schedule->ends[i]);

		if (rc == 0)
			rc = check_part(reader, node, &schedule->parts[i]);
		if (rc < 0)
			return rc;
		if (i + 1 < count && schedule->ends[i] == 0)
			return reader_refuse(reader, reader_line(node),
			                     "models.optimizer: schedule: all stretches but the last need until");
	}
	int rc = check_last(reader, list, schedule->ends[count - 1]);
	return rc == 0 ? check(reader, list, schedule) : rc;
}

int reader_schedule(struct reader *reader, const yaml_node_t *value, struct schedule *schedule)
{
	uint64_t until = 0;
	int rc;

	memset(schedule, 0, sizeof(*schedule));
	if (value->type == YAML_SEQUENCE_NODE)
		return read_parts(reader, value, schedule);
	schedule->part_count = 1;
	rc = read_part(reader, value, &schedule->parts[0], &until);
	if (rc == 0)
		rc = check_last(reader, value, until);
	return rc == 0 ? check(reader, value, schedule) : rc;
}

static void print_part(FILE *out, const struct schedule_part *part, uint64_t until)
{
	char text[VALUE_TEXT_BYTES];
	uint32_t count;
	const struct schedule_param *params = schedule_params(part->kind, &count);

	fprintf(out, "{name: %s", schedule_name(part->kind));
	for (uint32_t i = 0; i < part->milestone_count; i++) {
		value_real_text(part->milestones[i], text);
		fprintf(out, "%s%s", i > 0 ? ", " : ", milestones: [", text);
	}
	if (part->milestone_count > 0)
		putc(']', out);
	for (uint32_t i = 0; i < count; i++) {
		value_real_text(part->values[i], text);
		fprintf(out, ", %s: %s", params[i].name, text);
	}
	if (until > 0)
		fprintf(out, ", until: %llu", (unsigned long long)until);
	putc('}', out);
}

void config_print_schedule(FILE *out, const struct schedule *schedule)
{
	putc('[', out);
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		fputs(i > 0 ? ", " : "", out);
		print_part(out, &schedule->parts[i], schedule->ends[i]);
	}
	putc(']', out);
}
