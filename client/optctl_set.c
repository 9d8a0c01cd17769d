/*
 * optctl set: NAME=VALUE arguments to a change of hyper-parameters; and the changes that a
 * model has, for optctl status.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/optctl.h"

/* ---- set ------------------------------------------------------------------- */

static int parse_value(const char *text, size_t size, double *out)
{
	char copy[64];
	char *end;
	if (size == 0 || size >= sizeof(copy))
		return -1;
	memcpy(copy, text, size);
	copy[size] = '\0';
	if (strcmp(copy, "true") == 0 || strcmp(copy, "false") == 0) {
		*out = copy[0] == 't';
		return 0;
	}
	*out = strtod(copy, &end);
	return *end == '\0' ? 0 : -1;
}

/* "betas=0.9,0.99" or "betas=[0.9,0.99]"; cuts the name off. */
static int parse_hyper(char *argument, optd_hyper *out)
{
	char *at = strchr(argument, '=');
	if (!at || at == argument)
		return -1;
	*at++ = '\0';
	size_t left = strlen(at);
	if (left > 1 && at[0] == '[' && at[left - 1] == ']') {
		at++;
		left -= 2;
	}
	*out = (optd_hyper){.name = argument};
	for (;;) {
		const char *comma = memchr(at, ',', left);
		size_t size = comma ? (size_t)(comma - at) : left;
		if (out->count == 3 || parse_value(at, size, &out->values[out->count]) < 0)
			return -1;
		out->count++;
		if (!comma)
			return 0;
		at += size + 1;
		left -= size + 1;
	}
}

static void print_made(const char *model, const char *tensors, uint64_t from)
{
	printf("model '");
	optctl_text(stdout, model);
	if (tensors) {
		printf("', group '");
		optctl_text(stdout, tensors);
	}
	printf("': set from version %" PRIu64 " on\n", from);
}

int optctl_set_parse(struct optctl *ctl, char **arguments)
{
	for (char **argument = &arguments[1]; *argument; argument++) {
		char given[80];
		snprintf(given, sizeof(given), "%s", *argument);
		if (ctl->hyper_count < OPTCTL_HYPERS && parse_hyper(*argument, &ctl->hypers[ctl->hyper_count++]) == 0)
			continue;
		fprintf(stderr, "optctl: set takes NAME=VALUE, with 1 to 3 numbers and commas between them, not '");
		optctl_text(stderr, given);
		fprintf(stderr, "'; try optctl --help\n");
		return EXIT_BAD_USAGE;
	}
	return EXIT_DONE;
}

/* How many groups a model has. */
struct groups_of {
	const char *model;
	unsigned count;
};

/* "adamw lr=0.001 ...; 2 groups: ...": no pattern stands before that. */
static void find_groups(void *user, const optd_status_row *row)
{
	struct groups_of *of = user;
	if (strcmp(row->model, of->model) != 0)
		return;
	for (const char *at = row->optimizer; of->count == 0 && (at = strstr(at, "; ")) != NULL; at += 2) {
		int end = 0;
		if (sscanf(at, "; %u group%n", &of->count, &end) != 1 || end == 0)
			of->count = 0;
	}
}

/* Who set the model's own lr may have meant all of it. */
static void print_groups(const struct optctl *ctl, const char *model)
{
	struct groups_of of = {.model = model};
	if (optd_get_status(ctl->client, find_groups, &of) < 0 || of.count == 0)
		return;
	printf("its %u group%s settings: --group PATTERN changes one, optctl status shows them\n", of.count,
	       of.count == 1 ? " keeps its" : "s keep their");
}

int optctl_set(const struct optctl *ctl, const char *model, int (*failed)(const struct optctl *, int, const char *))
{
	uint64_t from = ctl->has_from ? ctl->from : OPTD_FROM_NOW;
	int rc = optd_set_hypers(ctl->client, model, ctl->group, ctl->hypers, ctl->hyper_count, &from);
	if (rc < 0)
		return failed(ctl, rc, model);
	print_made(model, ctl->group, from);
	if (!ctl->group)
		print_groups(ctl, model);
	return EXIT_DONE;
}

/* ---- status ---------------------------------------------------------------- */

static json_t *hyper_json(const optd_hyper *hyper)
{
	json_t *list = json_array();
	if (hyper->count == 1) {
		json_decref(list);
		return json_real(hyper->values[0]);
	}
	for (uint32_t i = 0; i < hyper->count; i++)
		json_array_append_new(list, json_real(hyper->values[i]));
	return list;
}

static json_t *change_json(const optd_change *change)
{
	json_t *object = json_object(), *hypers = json_object();
	for (uint32_t i = 0; i < change->hyper_count; i++)
		json_object_set_new(hypers, change->hypers[i].name, hyper_json(&change->hypers[i]));
	json_object_set_new(object, "from", json_integer((json_int_t)change->from));
	json_object_set_new(object, "group", json_string(change->tensors));
	json_object_set_new(object, "hypers", hypers);
	return object;
}

json_t *optctl_changes(const optd_status_row *row)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < row->change_count; i++)
		json_array_append_new(list, change_json(&row->changes[i]));
	return list;
}

/* With the fewest digits that read back the same. */
static void print_number(double value)
{
	char text[32];
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	printf("%s", text);
}

static void print_values(json_t *value)
{
	if (!json_is_array(value)) {
		print_number(json_real_value(value));
		return;
	}
	for (size_t i = 0; i < json_array_size(value); i++) {
		printf(i == 0 ? "[" : ",");
		print_number(json_real_value(json_array_get(value, i)));
	}
	printf("]");
}

void optctl_print_changes(json_t *changes, uint32_t left_out)
{
	const char *name;
	json_t *value;
	for (size_t i = 0; i < json_array_size(changes); i++) {
		json_t *change = json_array_get(changes, i);
		const char *group = json_string_value(json_object_get(change, "group"));
		printf("  change      from step %" JSON_INTEGER_FORMAT " on",
		       json_integer_value(json_object_get(change, "from")));
		if (group && *group) {
			printf(", group '");
			optctl_text(stdout, group);
			printf("'");
		}
		printf(":");
		json_object_foreach(json_object_get(change, "hypers"), name, value) {
			printf(" ");
			optctl_text(stdout, name);
			printf("=");
			print_values(value);
		}
		printf("\n");
	}
	if (left_out > 0)
		printf("  changes     %" PRIu32 " before these\n", left_out);
}
