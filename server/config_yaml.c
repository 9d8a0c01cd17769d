/*
 * Config YAML: from the bytes of a file to the knobs.
 *
 * The file is read twice: config_check.c first refuses what a configuration has
 * no use for; what is left is small, and is loaded here as a tree whose nodes
 * know their lines.
 */
#include "server/config_yaml.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "proto/nearest.h"
#include "server/config_value.h"

int reader_refuse(struct reader *reader, uint32_t line, const char *format, ...)
{
	int used = snprintf(reader->why, reader->why_bytes, "%s:%u: ", reader->file, line);
	va_list arguments;

	va_start(arguments, format);
	if (used >= 0 && (size_t)used < reader->why_bytes)
		vsnprintf(reader->why + used, reader->why_bytes - (size_t)used, format, arguments);
	va_end(arguments);
	return OPTD_INVALID;
}

uint32_t reader_line(const yaml_node_t *node)
{
	return (uint32_t)node->start_mark.line + 1;
}

yaml_node_t *reader_node(struct reader *reader, int index)
{
	yaml_node_t *node = yaml_document_get_node(&reader->document, index);

	assert(node);
	return node;
}

const char *node_text(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

bool node_quoted(const yaml_node_t *node)
{
	return node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
}

bool node_null(const yaml_node_t *node)
{
	const char *text;

	if (node->type != YAML_SCALAR_NODE || node_quoted(node))
		return false;
	text = node_text(node);
	return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* A knob's last name: "memory" of "limits.memory". */
static const char *leaf(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot ? dot + 1 : path;
}

/* How far a key is from a knob: a name in the section where it stands, then any
 * other name or whole path, for keys that stand in the wrong section. */
static size_t knob_distance(const char *key, const char *path, const char *section)
{
	size_t name = nearest_distance(key, leaf(path)), whole = nearest_distance(key, path);
	size_t best = name < whole ? name : whole;
	bool here = strncmp(path, section, strlen(section)) == 0 &&
	            strchr(path + strlen(section), '.') == NULL;

	return 2 * best + !here;
}

int reader_unknown(struct reader *reader, const yaml_node_t *key, const char *section)
{
	const char *text = node_text(key), *nearest = NULL, *word;
	size_t least = SIZE_MAX;

	for (uint32_t i = 0; i < config_knob_count(); i++) {
		size_t here = knob_distance(text, config_knob(i)->path, section);

		if (here < least) {
			least = here;
			nearest = config_knob(i)->path;
		}
	}
	/* A misspelt section has no row of its own. */
	for (uint32_t i = 0; i < config_knob_count() && section[0] == '\0'; i++) {
		char name[32];

		if (!strchr(config_knob(i)->path, '.'))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(config_knob(i)->path, "."),
		         config_knob(i)->path);
		if (2 * nearest_distance(text, name) < least && nearest_close(text, name))
			return reader_refuse(reader, reader_line(key),
			                     "unknown key \"%.64s\"; the nearest is \"%s\"", text,
			                     name);
	}
	if (!nearest_close(text, leaf(nearest)) && !nearest_close(text, nearest))
		return reader_refuse(reader, reader_line(key),
		                     "unknown key \"%.64s\"; none is like it: optd.yaml(5) lists all", text);
	word = strncmp(nearest, "models.", 7) == 0 ? "an entry of" : "section";
	if (!strchr(nearest, '.'))
		return reader_refuse(reader, reader_line(key),
		                     "unknown key \"%.64s\"; the nearest is \"%s\"", text, nearest);
	return reader_refuse(reader, reader_line(key),
	                     "unknown key \"%.64s\"; the nearest is \"%s\", in %s %.*s", text,
	                     leaf(nearest), word, (int)strcspn(nearest, "."), nearest);
}

int reader_keys(struct reader *reader, const yaml_node_t *mapping)
{
	const yaml_node_pair_t *begin = mapping->data.mapping.pairs.start;
	const yaml_node_pair_t *end = mapping->data.mapping.pairs.top;

	for (const yaml_node_pair_t *pair = begin; pair < end; pair++) {
		const yaml_node_t *key = reader_node(reader, pair->key);

		if (key->type != YAML_SCALAR_NODE ||
		    strlen(node_text(key)) != key->data.scalar.length)
			return reader_refuse(reader, reader_line(key), "a key must be a word");
		/* Quadratic, in the few keys before the first unknown one. */
		for (const yaml_node_pair_t *other = begin; other < pair; other++) {
			const yaml_node_t *first = reader_node(reader, other->key);

			if (strcmp(node_text(first), node_text(key)) == 0)
				return reader_refuse(reader, reader_line(key),
				                     "\"%.64s\" is given twice; first on line %u",
				                     node_text(key), reader_line(first));
		}
		if (pair - begin > CONFIG_KNOBS)
			return reader_refuse(reader, reader_line(key), "more than %u keys",
			                     CONFIG_KNOBS);
	}
	return 0;
}

static int knob_scalar(struct reader *reader, const struct config_knob *knob, void *base,
                       const yaml_node_t *value)
{
	char reason[CONFIG_WHY_BYTES];
	int rc;

	if (value->type != YAML_SCALAR_NODE) {
		config_knob_allowed(knob, reason, sizeof(reason));
		return reader_refuse(reader, reader_line(value), "%s: is a %s; allowed: %s",
		                     knob->path,
		                     value->type == YAML_SEQUENCE_NODE ? "list" : "mapping",
		                     reason);
	}
	rc = value_set(knob, base, node_text(value), value->data.scalar.length, node_quoted(value),
	               reason, sizeof(reason));
	if (rc < 0)
		return reader_refuse(reader, reader_line(value), "%s", reason);
	return 0;
}

static int knob_list(struct reader *reader, const struct config_knob *knob, void *base,
                     const yaml_node_t *list)
{
	const yaml_node_item_t *begin = list->data.sequence.items.start;
	const yaml_node_item_t *end = list->data.sequence.items.top;

	if (begin == end && knob->min > 0)
		return reader_refuse(reader, reader_line(list), "%s: needs at least one endpoint",
		                     knob->path);
	for (const yaml_node_item_t *item = begin; item < end; item++) {
		int rc = knob_scalar(reader, knob, base, reader_node(reader, *item));
		if (rc < 0)
			return rc;
	}
	return 0;
}

int reader_knob(struct reader *reader, const struct config_knob *knob, void *base,
                const yaml_node_t *key, const yaml_node_t *value)
{
	char allowed[256];

	if (node_null(value)) {
		config_knob_allowed(knob, allowed, sizeof(allowed));
		return reader_refuse(
			reader, reader_line(key),
			"%s: has no value; leave the key out, or give one; allowed: %s", knob->path,
			allowed);
	}
	if (knob->type != CONFIG_ENDPOINTS)
		return knob_scalar(reader, knob, base, value);
	memset((char *)base + knob->offset, 0, sizeof(struct config_endpoints));
	if (value->type == YAML_SEQUENCE_NODE)
		return knob_list(reader, knob, base, value);
	return knob_scalar(reader, knob, base, value);
}

/* Whether any knob's path begins with "name.". */
static bool is_section(const char *name)
{
	size_t size = strlen(name);

	for (uint32_t i = 0; i < config_knob_count(); i++) {
		const char *path = config_knob(i)->path;

		if (strncmp(path, name, size) == 0 && path[size] == '.')
			return true;
	}
	return false;
}

static int read_mapping(struct reader *reader, const yaml_node_t *mapping, const char *section);

static int read_section(struct reader *reader, const yaml_node_t *key, const yaml_node_t *value)
{
	char section[32];

	/* A section whose lines are all commented out. */
	if (node_null(value))
		return 0;
	if (strcmp(node_text(key), "models") == 0)
		return reader_models(reader, value);
	snprintf(section, sizeof(section), "%s.", node_text(key));
	if (value->type != YAML_MAPPING_NODE)
		return reader_refuse(reader, reader_line(value),
		                     "%s: is a %s; it is a section: indented keys below it",
		                     node_text(key),
		                     value->type == YAML_SEQUENCE_NODE ? "list" : "single value");
	return read_mapping(reader, value, section);
}

static int read_key(struct reader *reader, const char *section, const yaml_node_t *key,
                    const yaml_node_t *value)
{
	const struct config_knob *knob;
	char path[96];
	int rc;

	if (section[0] == '\0' && is_section(node_text(key)))
		return read_section(reader, key, value);
	snprintf(path, sizeof(path), "%s%.64s", section, node_text(key));
	knob = config_knob_find(path);
	/* A path with its point is no key: the nearest is then where it belongs. */
	if (!knob || strchr(node_text(key), '.'))
		return reader_unknown(reader, key, section);
	rc = reader_knob(reader, knob, reader->config, key, value);
	if (rc == 0)
		reader->config->lines[knob - config_knob(0)] = reader_line(key);
	return rc;
}

static int read_mapping(struct reader *reader, const yaml_node_t *mapping, const char *section)
{
	int rc = reader_keys(reader, mapping);

	for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
	     rc == 0 && pair < mapping->data.mapping.pairs.top; pair++)
		rc = read_key(reader, section, reader_node(reader, pair->key),
		              reader_node(reader, pair->value));
	return rc;
}

static int read_root(struct reader *reader)
{
	const yaml_node_t *root = yaml_document_get_root_node(&reader->document);

	/* An empty file: all defaults. */
	if (!root || node_null(root))
		return 0;
	if (root->type != YAML_MAPPING_NODE)
		return reader_refuse(reader, reader_line(root),
		                     "is not a configuration; write \"key: value\" lines");
	return read_mapping(reader, root, "");
}

int config_parse(struct config *config, const char *file, const char *bytes, size_t size, char *why,
                 size_t why_bytes)
{
	struct reader reader = {
		.config = config, .file = file, .why = why, .why_bytes = why_bytes
	};
	yaml_parser_t parser;
	int rc;

	config->file = file;
	if (size > LIMIT_CONFIG_BYTES)
		return reader_refuse(&reader, text_line(bytes, size, LIMIT_CONFIG_BYTES),
		                     "the file is larger than %u bytes", LIMIT_CONFIG_BYTES);
	rc = reader_check(&reader, bytes, size);
	if (rc < 0)
		return rc;
	reader_open(&parser, bytes, size);
	if (!yaml_parser_load(&parser, &reader.document)) {
		rc = reader_broken(&reader, &parser, bytes, size);
	} else {
		rc = read_root(&reader);
		yaml_document_delete(&reader.document);
	}
	yaml_parser_delete(&parser);
	return rc;
}
