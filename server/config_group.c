/*
 * Config groups: tensors with an optimizer of their own.
 *
 *     groups:
 *     - {tensors: "*.bias", weight_decay: 0}
 *     - {tensors: "bn?.running_*", name: average}
 *     - {tensors: "embed.*", lr_factor: 0.1}
 *     - {tensors: "frozen.*", frozen: true}
 *
 * What a group means is known to server/core/group.  Which tensors there are is not
 * known here: a pattern that matches none is an error when a worker makes the model.
 */
#include <string.h>

#include "server/config_value.h"
#include "server/config_yaml.h"
#include "server/core/settings.h"

static int refuse(struct reader *reader, const yaml_node_t *node, const char *reason)
{
	return reader_refuse(reader, reader_line(node), "models.optimizer: groups: %s", reason);
}

static bool is_key(const yaml_node_t *key, const char *name)
{
	return strcmp(node_text(key), name) == 0;
}

/* A word that may be missing. */
static int read_word(struct reader *reader, const yaml_node_t *mapping, const char *name, const char **out)
{
	const yaml_node_t *node = reader_find(reader, mapping, name);

	*out = NULL;
	if (node == NULL)
		return 0;
	if (!node_word(node))
		return reader_refuse(reader, reader_line(node), "models.optimizer: groups: %s must be a word", name);
	*out = node_text(node);
	return 0;
}

static int read_frozen(struct reader *reader, const yaml_node_t *mapping, bool *frozen)
{
	const yaml_node_t *node = reader_find(reader, mapping, "frozen");
	double value = 0;

	if (node != NULL && !node_real(node, true, &value))
		return refuse(reader, node, "frozen is true or false");
	*frozen = value != 0;
	return 0;
}

static int read_factor(struct reader *reader, struct group *group, const yaml_node_t *node)
{
	char reason[CONFIG_WHY_BYTES];
	double factor;

	if (!node_real(node, false, &factor))
		return refuse(reader, node, "lr_factor is not a number, such as 0.1");
	if (group_scale(group, factor, reason, sizeof(reason)) < 0)
		return refuse(reader, node, reason);
	return 0;
}

/* All that a group names over what it began with; the factor last, on its own lr. */
static int read_settings(struct reader *reader, struct group *group, const yaml_node_t *mapping)
{
	const yaml_node_t *factor = reader_find(reader, mapping, "lr_factor");
	int rc = 0;

	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     rc == 0 && pair < mapping->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = reader_node(reader, pair->key);
		const yaml_node_t *value = reader_node(reader, pair->value);

		if (is_key(key, "schedule"))
			rc = reader_schedule(reader, value, &group->optim.schedule);
		else if (!is_key(key, "tensors") && !is_key(key, "frozen") && !is_key(key, "name") &&
		         !is_key(key, "match") && !is_key(key, "lr_factor"))
			rc = reader_hyper(reader, &group->optim, key, value);
	}
	return rc == 0 && factor != NULL ? read_factor(reader, group, factor) : rc;
}

static int check_frozen(struct reader *reader, const yaml_node_t *mapping)
{
	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     pair < mapping->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = reader_node(reader, pair->key);

		if (!is_key(key, "tensors") && !is_key(key, "frozen"))
			return reader_refuse(reader, reader_line(key),
			                     "models.optimizer: groups: a frozen group is not updated, so it has no "
			                     "\"%.64s\"", node_text(key));
	}
	return 0;
}

/* As of every other text: it could not be printed so that it reads back the same. */
static bool has_controls(const char *text)
{
	while (*text && (unsigned char)*text >= ' ' && *text != 0x7f)
		text++;
	return *text != '\0';
}

static int read_group(struct reader *reader, struct group *group, const struct optim *own,
                      const yaml_node_t *mapping)
{
	char reason[CONFIG_WHY_BYTES];
	const yaml_node_t *list;
	const char *tensors, *name, *match;
	bool frozen = false;

	if (mapping->type != YAML_MAPPING_NODE)
		return refuse(reader, mapping, "an entry is {tensors: \"*.bias\", ...}");
	int rc = reader_keys(reader, mapping);
	if (rc < 0)
		return rc;
	list = reader_find(reader, mapping, "tensors");
	if (list != NULL && list->type == YAML_SEQUENCE_NODE)
		return refuse(reader, list, "tensors is one pattern; write an entry for each");
	rc = read_word(reader, mapping, "tensors", &tensors);
	if (rc == 0)
		rc = read_word(reader, mapping, "name", &name);
	if (rc == 0)
		rc = read_word(reader, mapping, "match", &match);
	if (rc == 0)
		rc = read_frozen(reader, mapping, &frozen);
	if (rc < 0)
		return rc;
	if (tensors == NULL)
		return refuse(reader, mapping, "an entry has no tensors; write {tensors: \"*.bias\", ...}");
	if (has_controls(tensors))
		return refuse(reader, mapping, "tensors has a control character; a ? takes any");
	if (group_begin(group, tensors, own, name, match, reason, sizeof(reason)) < 0)
		return refuse(reader, mapping, reason);
	group->frozen = frozen;
	rc = frozen ? check_frozen(reader, mapping) : read_settings(reader, group, mapping);
	if (rc == 0 && !frozen && optim_settle(&group->optim, reason, sizeof(reason)) < 0)
		rc = refuse(reader, mapping, reason);
	return rc;
}

/* The second one could have no tensor in any model. */
static int check_again(struct reader *reader, const struct groups *groups, const yaml_node_t *list)
{
	const yaml_node_item_t *items = list->data.sequence.items.start;
	const char *last = groups->list[groups->count].tensors;

	for (uint32_t i = 0; i < groups->count; i++) {
		if (strcmp(groups->list[i].tensors, last) == 0)
			return reader_refuse(reader, reader_line(reader_node(reader, items[groups->count])),
			                     "models.optimizer: groups: \"%.64s\" is given twice; first on line %u",
			                     last, reader_line(reader_node(reader, items[i])));
	}
	return 0;
}

int reader_groups(struct reader *reader, const yaml_node_t *list, const struct optim *own,
                  struct groups *groups)
{
	if (list->type != YAML_SEQUENCE_NODE)
		return refuse(reader, list, "is a list; write \"- {tensors: ..., ...}\" for each");
	for (const yaml_node_item_t *item = list->data.sequence.items.start;
	     item < list->data.sequence.items.top; item++) {
		const yaml_node_t *entry = reader_node(reader, *item);

		if (groups->count == LIMIT_GROUPS)
			return reader_refuse(reader, reader_line(entry),
			                     "models.optimizer: groups: more than %u entries", LIMIT_GROUPS);
		int rc = read_group(reader, &groups->list[groups->count], own, entry);
		if (rc == 0)
			rc = check_again(reader, groups, list);
		if (rc < 0)
			return rc;
		groups->count++;
	}
	return 0;
}
