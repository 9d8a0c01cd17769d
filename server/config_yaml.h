/*
 * Config YAML: walking a parsed file and blaming its lines.  Private to config.
 */
#ifndef OPTD_SERVER_CONFIG_YAML_H
#define OPTD_SERVER_CONFIG_YAML_H

#include <yaml.h>

#include "server/config.h"

struct reader {
	yaml_document_t document;
	struct config *config;
	const char *file;
	char *why;
	size_t why_bytes;
};

/* Opens a parser over bytes that stay. */
void reader_open(yaml_parser_t *parser, const char *bytes, size_t size);

/* Looks through the whole file without keeping anything.  0 or OPTD_INVALID. */
int reader_check(struct reader *reader, const char *bytes, size_t size);

/* The error for what libyaml could not read; always OPTD_INVALID. */
int reader_broken(struct reader *reader, const yaml_parser_t *parser, const char *bytes,
                  size_t size);

/* Line of the byte at offset, counted from 1. */
uint32_t text_line(const char *bytes, size_t size, size_t offset);

/* Line of a node, counted from 1. */
uint32_t reader_line(const yaml_node_t *node);

/* Writes "FILE:LINE: " and the sentence into why; always OPTD_INVALID. */
int reader_refuse(struct reader *reader, uint32_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

yaml_node_t *reader_node(struct reader *reader, int index);

/* A scalar's text, which YAML ends with NUL. */
const char *node_text(const yaml_node_t *node);
bool node_quoted(const yaml_node_t *node);
/* Nothing after the colon, or null: "no value". */
bool node_null(const yaml_node_t *node);
/* A scalar that is not null. */
bool node_word(const yaml_node_t *node);
/* A number as value_real takes it, without quotes; false for anything else. */
bool node_real(const yaml_node_t *node, bool flag, double *out);

/* Checks that a mapping's keys are scalars without NUL, each given once. */
int reader_keys(struct reader *reader, const yaml_node_t *mapping);

/* The value of a key of a mapping, or NULL. */
const yaml_node_t *reader_find(struct reader *reader, const yaml_node_t *mapping, const char *name);

/* Sets the field of base that the knob is about from its node. */
int reader_knob(struct reader *reader, const struct config_knob *knob, void *base,
                const yaml_node_t *key, const yaml_node_t *value);

/* The error for a key that is not in the table: names the nearest one of the
 * knobs whose path begins with section ("", "limits." or "models."). */
int reader_unknown(struct reader *reader, const yaml_node_t *key, const char *section);

/* Reads an optimizer's schedule, whose parts are not checked together yet
 * (config_schedule.c). */
int reader_schedule(struct reader *reader, const yaml_node_t *value, struct schedule *schedule);

/* Sets a hyper-parameter: one number, or a list for a pair such as betas
 * (config_model.c). */
int reader_hyper(struct reader *reader, struct optim *optim, const yaml_node_t *key,
                 const yaml_node_t *value);

/* Reads a model's loss scale, complete with defaults (config_loss_scale.c). */
int reader_loss_scale(struct reader *reader, const yaml_node_t *key, const yaml_node_t *value,
                      struct msg_loss_scale *out);

/* Reads an optimizer's list of groups into *groups, which is empty; own is the model's
 * optimizer, complete (config_group.c). */
int reader_groups(struct reader *reader, const yaml_node_t *list, const struct optim *own,
                  struct groups *groups);

/* Reads a model's average (config_average.c). */
int reader_average(struct reader *reader, struct average *average, const yaml_node_t *key,
                   const yaml_node_t *value);

/* Reads the list of models into the config (config_model.c). */
int reader_models(struct reader *reader, const yaml_node_t *list);

#endif
