/*
 * Config check: the first pass over a file.
 *
 * It only looks at libyaml's events, which take no memory, and refuses what a
 * configuration has no use for and could be abused with: anchors and aliases,
 * tags, deep nesting, endless values, further documents.
 */
#include <string.h>

#include "server/config_yaml.h"

static uint32_t mark_line(const yaml_mark_t *mark)
{
	return (uint32_t)mark->line + 1;
}

uint32_t text_line(const char *bytes, size_t size, size_t offset)
{
	uint32_t line = 1;

	for (size_t i = 0; i < size && i < offset; i++)
		line += bytes[i] == '\n';
	return line;
}

/* Whether a line is indented with a tab, the usual reason for what libyaml then
 * calls a character that cannot start any token. */
static bool tab_indents(const char *bytes, size_t size, uint32_t line)
{
	size_t at = 0;

	for (; line > 1 && at < size; at++)
		line -= bytes[at] == '\n';
	while (at < size && bytes[at] == ' ')
		at++;
	return at < size && bytes[at] == '\t';
}

int reader_broken(struct reader *reader, const yaml_parser_t *parser, const char *bytes,
                  size_t size)
{
	uint32_t line = mark_line(&parser->problem_mark);
	const char *problem = parser->problem ? parser->problem : "cannot be read";

	if (parser->error == YAML_MEMORY_ERROR)
		return reader_refuse(reader, line, "no memory to read it");
	if (parser->error == YAML_READER_ERROR)
		return reader_refuse(reader, text_line(bytes, size, parser->problem_offset),
		                     "not UTF-8 text: %s", problem);
	if (tab_indents(bytes, size, line))
		return reader_refuse(reader, line, "indented with a tab; YAML allows spaces only");
	/* What a pattern is that begins with a star and has no quotes. */
	if (parser->context && strstr(parser->context, "alias"))
		return reader_refuse(reader, line, "not YAML: a pattern such as \"*.bias\" needs quotes: %s, %s",
		                     problem, parser->context);
	if (parser->context)
		return reader_refuse(reader, line, "not YAML: %s, %s", problem, parser->context);
	return reader_refuse(reader, line, "not YAML: %s", problem);
}

static const yaml_char_t *event_anchor(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_ALIAS_EVENT:
		return event->data.alias.anchor;
	case YAML_SCALAR_EVENT:
		return event->data.scalar.anchor;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.anchor;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.anchor;
	default:
		return NULL;
	}
}

static const yaml_char_t *event_tag(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return event->data.scalar.tag;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.tag;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.tag;
	default:
		return NULL;
	}
}

/* What has been seen of the file so far. */
struct tally {
	uint32_t documents, depth, nodes;
};

static int check_event(struct reader *reader, const yaml_event_t *event, struct tally *tally)
{
	uint32_t line = mark_line(&event->start_mark);

	if (event_anchor(event))
		return reader_refuse(reader, line,
		                     "anchors and aliases (&%.32s, *%.32s) are not used here; "
		                     "write the value out, a pattern such as \"*.bias\" in quotes",
		                     (const char *)event_anchor(event),
		                     (const char *)event_anchor(event));
	if (event_tag(event))
		return reader_refuse(reader, line, "tags (%.32s) are not used here",
		                     (const char *)event_tag(event));
	if (event->type == YAML_DOCUMENT_START_EVENT && ++tally->documents > 1)
		return reader_refuse(reader, line,
		                     "a second document begins; a configuration is one");
	if (event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT) {
		if (++tally->depth > CONFIG_DEPTH)
			return reader_refuse(reader, line, "nested deeper than %u levels",
			                     CONFIG_DEPTH);
	} else if (event->type == YAML_SEQUENCE_END_EVENT ||
	           event->type == YAML_MAPPING_END_EVENT) {
		tally->depth--;
	}
	if (++tally->nodes > CONFIG_NODES)
		return reader_refuse(reader, line, "more than %u values", CONFIG_NODES);
	return 0;
}

void reader_open(yaml_parser_t *parser, const char *bytes, size_t size)
{
	/* Fails only without memory, which the first parse then reports. */
	if (!yaml_parser_initialize(parser))
		memset(parser, 0, sizeof(*parser));
	yaml_parser_set_input_string(parser, (const unsigned char *)bytes, size);
	yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
}

int reader_check(struct reader *reader, const char *bytes, size_t size)
{
	struct tally tally = { 0 };
	yaml_parser_t parser;
	yaml_event_t event;
	bool end = false;
	int rc = 0;

	reader_open(&parser, bytes, size);
	while (rc == 0 && !end) {
		if (!yaml_parser_parse(&parser, &event)) {
			rc = reader_broken(reader, &parser, bytes, size);
			break;
		}
		end = event.type == YAML_STREAM_END_EVENT;
		rc = check_event(reader, &event, &tally);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return rc;
}
