/*
 * Config average: a mean of a model's weights that the server keeps beside them.
 *
 *     average: swa
 *     average: {kind: ema, decay: 0.999, num_updates: true}
 *     average: {kind: swa, start: 1000, every: 10}
 *
 * What the kinds and settings are is known to server/core/average.
 */
#include <string.h>

#include "server/config_value.h"
#include "server/config_yaml.h"

static int refuse(struct reader *reader, const yaml_node_t *node, const char *reason)
{
	return reader_refuse(reader, reader_line(node), "models.average: %s", reason);
}

static int begin(struct reader *reader, struct average *average, const yaml_node_t *kind)
{
	char reason[CONFIG_WHY_BYTES];

	if (!node_word(kind))
		return refuse(reader, kind, "the kind must be a word: ema or swa");
	/* Taken, it would read as if a worker could not ask for one. */
	if (strcmp(node_text(kind), "none") == 0)
		return refuse(reader, kind, "none is no kind: leave average out, and there is none unless a worker asks for one");
	if (average_begin(average, node_text(kind), reason, sizeof(reason)) < 0)
		return refuse(reader, kind, reason);
	return 0;
}

/* Whether true and false are what this setting takes. */
static bool is_flag(const struct average *average, const char *name)
{
	for (uint32_t i = 0; i < average_setting_count(average); i++) {
		const struct optim_hyper *setting = average_setting(average, i);
		if (strcmp(setting->name, name) == 0)
			return setting->kind == OPTIM_FLAG;
	}
	return false;
}

static int read_setting(struct reader *reader, struct average *average, const yaml_node_t *key,
                        const yaml_node_t *value)
{
	bool flag = is_flag(average, node_text(key));
	char reason[CONFIG_WHY_BYTES];
	double number = 0;

	if (!node_real(value, flag, &number))
		return reader_refuse(reader, reader_line(key), "models.average: %.64s: \"%.64s\" is not %s",
		                     node_text(key), value->type == YAML_SCALAR_NODE ? node_text(value) : "[...]",
		                     flag ? "true or false (or 1 or 0)" : "a number");
	/* An unknown name gets its error, with those there are, here too. */
	if (average_set(average, node_text(key), &number, 1, reason, sizeof(reason)) < 0)
		return refuse(reader, key, reason);
	return 0;
}

int reader_average(struct reader *reader, struct average *average, const yaml_node_t *key,
                   const yaml_node_t *value)
{
	if (value->type == YAML_SCALAR_NODE && !node_null(value))
		return begin(reader, average, value);
	if (value->type != YAML_MAPPING_NODE)
		return refuse(reader, key, "must be ema or swa, or {kind: ema, decay: 0.999, ...}");
	int rc = reader_keys(reader, value);
	if (rc < 0)
		return rc;
	const yaml_node_t *kind = reader_find(reader, value, "kind");
	if (kind == NULL)
		return refuse(reader, value, "has no kind; write {kind: ema, ...} or {kind: swa, ...}");
	rc = begin(reader, average, kind);
	for (const yaml_node_pair_t *pair = value->data.mapping.pairs.start;
	     rc == 0 && pair < value->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name = reader_node(reader, pair->key);
		if (strcmp(node_text(name), "kind") != 0)
			rc = read_setting(reader, average, name, reader_node(reader, pair->value));
	}
	return rc;
}

void config_print_average(FILE *out, const struct average *average)
{
	char text[VALUE_TEXT_BYTES];

	fprintf(out, "{kind: %s", average_kind(average));
	for (uint32_t i = 0; i < average_setting_count(average); i++) {
		const struct optim_hyper *setting = average_setting(average, i);
		double value = average_value(average, i);

		value_real_text(value, text);
		if (setting->kind == OPTIM_FLAG)
			snprintf(text, sizeof(text), "%s", value != 0 ? "true" : "false");
		fprintf(out, ", %s: %s", setting->name, text);
	}
	putc('}', out);
}
