/*
 * Config print: a config as YAML that reads back the same, and the memory its
 * models will take.
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "server/config.h"
#include "server/config_value.h"
#include "server/core/clipping.h"
#include "server/core/whole.h"

#define SECTION "models."
#define COMMENT_WIDTH 88u

static uint32_t read_u32(const void *field)
{
	uint32_t value;

	memcpy(&value, field, sizeof(value));
	return value;
}

static uint64_t read_u64(const void *field)
{
	uint64_t value;

	memcpy(&value, field, sizeof(value));
	return value;
}

static double read_real(const void *field)
{
	double value;

	memcpy(&value, field, sizeof(value));
	return value;
}

/* The character of two or three bytes that text begins with, if YAML reads it as
 * something else than itself: a line break (U+0085, U+2028, U+2029), a byte order
 * mark, or what may not stand in a file (U+0080 to U+009F, U+FFFE, U+FFFF).  Else 0. */
static unsigned awkward(const char *text, size_t *bytes)
{
	unsigned a = (unsigned char)text[0], b = a ? (unsigned char)text[1] : 0;
	unsigned c = b ? (unsigned char)text[2] : 0;
	unsigned two = (a & 0x1f) << 6 | (b & 0x3f), three = (a & 0x0f) << 12 | (b & 0x3f) << 6 | (c & 0x3f);

	if (a == 0xc2 && two < 0xa0) {
		*bytes = 2;
		return two;
	}
	*bytes = 3;
	if (a == 0xe2)
		return three == 0x2028 || three == 0x2029 ? three : 0;
	return a == 0xef && (three == 0xfeff || three >= 0xfffe) ? three : 0;
}

/* In double quotes, so that no text is taken for a number or for structure. */
static void print_string(FILE *out, const char *text)
{
	size_t bytes;

	putc('"', out);
	while (*text) {
		unsigned character = awkward(text, &bytes);
		if (character) {
			fprintf(out, "\\u%04X", character);
			text += bytes;
			continue;
		}
		if (*text == '"' || *text == '\\')
			putc('\\', out);
		putc(*text++, out);
	}
	putc('"', out);
}

static void print_endpoints(FILE *out, const struct config_endpoints *list)
{
	putc('[', out);
	for (uint32_t i = 0; i < list->count; i++) {
		fputs(i ? ", " : "", out);
		print_string(out, list->text[i]);
	}
	putc(']', out);
}

static void print_value(FILE *out, const struct config_knob *knob, const void *base)
{
	const void *field = (const char *)base + knob->offset;
	char text[VALUE_TEXT_BYTES];

	switch (knob->type) {
	case CONFIG_BOOL:
		fputs(*(const bool *)field ? "true" : "false", out);
		break;
	case CONFIG_INT:
		fprintf(out, "%" PRIu32, read_u32(field));
		break;
	case CONFIG_BYTES:
	case CONFIG_MEMORY:
		value_bytes_text(read_u64(field), text);
		fputs(text, out);
		break;
	case CONFIG_DURATION:
		value_duration_text(read_u32(field), text);
		fputs(read_u32(field) ? text : "off", out);
		break;
	case CONFIG_REAL:
		value_real_text(read_real(field), text);
		fputs(text, out);
		break;
	case CONFIG_STRING:
		print_string(out, field);
		break;
	case CONFIG_ENUM:
		fputs(knob->words[read_u32(field)], out);
		break;
	case CONFIG_ENDPOINTS:
		print_endpoints(out, field);
		break;
	case CONFIG_LOSS_SCALE:
		config_print_loss_scale(out, field);
		break;
	case CONFIG_OPTIMIZER:
	case CONFIG_AVERAGE:
		break;
	}
}

/* "# text", broken between words. */
static void print_comment(FILE *out, const char *indent, const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t word = strcspn(text, " ");

		if (column > 0 && column + 1 + word > COMMENT_WIDTH) {
			putc('\n', out);
			column = 0;
		}
		if (column == 0)
			fprintf(out, "%s# ", indent);
		else
			putc(' ', out);
		fwrite(text, 1, word, out);
		column += word + 1;
		text += word;
		text += strspn(text, " ");
	}
	putc('\n', out);
}

static void print_about(FILE *out, const struct config_knob *knob, const char *indent)
{
	char allowed[256], text[1024];

	config_knob_allowed(knob, allowed, sizeof(allowed));
	snprintf(text, sizeof(text), "%s%s%s; allowed: %s", knob->about,
	         knob->initial ? "; default: " : "", knob->initial ? knob->initial : "", allowed);
	print_comment(out, indent, text);
}

/* Without its braces. */
static void print_rule(FILE *out, const struct optim *optim)
{
	char text[VALUE_TEXT_BYTES];

	fprintf(out, "name: %s, match: %s", optim_rule_name(optim->rule),
	        optim_match_name(optim->match));
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(optim->rule, i);

		fprintf(out, ", %s: %s", hyper->name, hyper->count > 1 ? "[" : "");
		for (uint32_t j = 0; j < hyper->count; j++) {
			value_real_text(optim->values[i][j], text);
			if (hyper->kind == OPTIM_FLAG)
				fputs(optim->values[i][j] != 0 ? "true" : "false", out);
			else
				fprintf(out, "%s%s", j ? ", " : "", text);
		}
		fputs(hyper->count > 1 ? "]" : "", out);
	}
	if (optim->schedule.part_count > 0) {
		fputs(", schedule: ", out);
		config_print_schedule(out, &optim->schedule);
	}
}

/* Groups with all they have: so it does not matter what they began with. */
static void print_optimizer(FILE *out, const struct config_model *model)
{
	putc('{', out);
	print_rule(out, &model->optimizer);
	for (uint32_t i = 0; i < model->groups.count; i++) {
		const struct group *group = &model->groups.list[i];

		fputs(i == 0 ? ", groups: [{tensors: " : ", {tensors: ", out);
		print_string(out, group->tensors);
		fputs(group->frozen ? ", frozen: true" : ", ", out);
		if (!group->frozen)
			print_rule(out, &group->optim);
		putc('}', out);
	}
	fputs(model->groups.count > 0 ? "]}" : "}", out);
}

/* Numbers and enums of a model are 0 when they were not given. */
static bool model_gives(const struct config_model *model, const struct config_knob *knob)
{
	if (knob->type == CONFIG_OPTIMIZER)
		return model->optimizer_given;
	if (knob->type == CONFIG_LOSS_SCALE)
		return model->loss_scale.given;
	if (knob->type == CONFIG_AVERAGE)
		return average_is_kept(&model->average);
	if (knob->type == CONFIG_STRING)
		return true;
	if (knob->type == CONFIG_REAL)
		return read_real((const char *)model + knob->offset) != 0;
	return read_u32((const char *)model + knob->offset) != 0;
}

static void print_model(FILE *out, const struct config_model *model)
{
	const char *lead = "  - ";

	for (uint32_t i = 0; i < config_knob_count(); i++) {
		const struct config_knob *knob = config_knob(i);

		if (strncmp(knob->path, SECTION, strlen(SECTION)) != 0 || !model_gives(model, knob))
			continue;
		fprintf(out, "%s%s: ", lead, knob->path + strlen(SECTION));
		if (knob->type == CONFIG_OPTIMIZER)
			print_optimizer(out, model);
		else if (knob->type == CONFIG_AVERAGE)
			config_print_average(out, &model->average);
		else
			print_value(out, knob, model);
		putc('\n', out);
		lead = "    ";
	}
}

static void print_models(FILE *out, const struct config *config)
{
	fputs("\n# settings for models by name, used when a worker creates them:\n", out);
	for (uint32_t i = 0; i < config_knob_count(); i++) {
		const struct config_knob *knob = config_knob(i);
		char allowed[256], text[1024];

		if (strncmp(knob->path, SECTION, strlen(SECTION)) != 0)
			continue;
		config_knob_allowed(knob, allowed, sizeof(allowed));
		snprintf(text, sizeof(text), "%s: %s; allowed: %s", knob->path + strlen(SECTION),
		         knob->about, allowed);
		print_comment(out, "", text);
	}
	fputs(config->model_count ? "models:\n" : "models: []\n", out);
	for (uint32_t i = 0; i < config->model_count; i++)
		print_model(out, &config->models[i]);
}

void config_print(const struct config *config, FILE *out)
{
	const char *section = "";
	size_t section_bytes = 0;

	fputs("# optd: the configuration in effect\n", out);
	for (uint32_t i = 0; i < config_knob_count(); i++) {
		const struct config_knob *knob = config_knob(i);
		const char *dot = strchr(knob->path, '.');
		size_t size = dot ? (size_t)(dot - knob->path) : 0;

		if (strncmp(knob->path, SECTION, strlen(SECTION)) == 0)
			continue;
		putc('\n', out);
		if (size > 0 && (size != section_bytes || memcmp(section, knob->path, size) != 0))
			fprintf(out, "%.*s:\n", (int)size, knob->path);
		section = knob->path;
		section_bytes = size;
		print_about(out, knob, dot ? "  " : "");
		fprintf(out, "%s%s: ", dot ? "  " : "", dot ? dot + 1 : knob->path);
		print_value(out, knob, config);
		putc('\n', out);
	}
	print_models(out, config);
}

/* Weights and state; returns the bytes of each parameter, as far as they do not depend on
 * shapes. */
static uint32_t print_vectors(const struct config_model *model, FILE *out)
{
	/* Then each tensor has what its own rule needs, and no more. */
	bool whole = whole_any(&model->groups, &model->optimizer);
	bool packed = whole && (model->groups.count > 0 || tensor_slots_vary(&model->optimizer));
	uint32_t slots = packed ? 0 : groups_slot_count(&model->groups, &model->optimizer);
	const char *of_all = model->groups.count > 0 ? " and its groups: of all, the most" : "";

	if (packed)
		fputs("  parameters x 4 bytes: weights; and the state that each tensor's own optimizer has\n"
		      "  (optctl rules: muon 4 bytes a parameter, adafactor 4 a row and a column, ...)\n", out);
	else
		fprintf(out, "  parameters x %u bytes: weights and %u state vector%s (%s%s)\n", 4 * (1 + slots),
		        slots, slots == 1 ? "" : "s", optim_rule_name(model->optimizer.rule), of_all);
	return 4 * (1 + slots);
}

/* Working memory of updates that look at whole tensors, where it is worth a line. */
static void print_scratch(const struct config_model *model, FILE *out)
{
	const uint64_t shape[2] = {4096, 4096};
	const struct tensor_shape square = tensor_shape_of(shape, 2);

	for (uint32_t i = 0; i <= model->groups.count; i++) {
		const struct optim *optim = groups_optim(&model->groups, &model->optimizer, i);
		uint64_t times = optim ? tensor_scratch(optim, &square) / tensor_elements(&square) : 0;
		if (times == 0)
			continue;
		fprintf(out, "  parameters of the largest matrix of a lane x %u bytes: its update (%s)\n",
		        (unsigned)times * 4, optim_rule_name(optim->rule));
		return;
	}
}

/* What one model takes, by the promise in deploy/OPERATIONS.md.  Everything that
 * the worker will decide is said as a word instead of a number. */
static void print_model_memory(const struct config *config, const struct config_model *model,
                               FILE *out)
{
	/* A single worker's pushes are applied as they come: nothing is collected, but for whole
	 * tensors, or where a norm is clipped. */
	bool whole = model->optimizer_given && whole_any(&model->groups, &model->optimizer);
	bool sync = model->mode != MSG_ASYNC &&
	            (model->workers != 1 || whole || clipping_on(&model->clip));
	uint32_t vectors = 0, averages = average_is_kept(&model->average);
	char window[VALUE_TEXT_BYTES], total[VALUE_TEXT_BYTES];
	uint64_t lane_window = config->window_bytes * config->lanes;

	value_bytes_text(lane_window, window);
	fprintf(out, "\nmodel %s:\n", model->name);
	if (model->optimizer_given)
		vectors = print_vectors(model, out);
	else
		fputs("  parameters x (1 + state vectors) x 4 bytes: the worker names the optimizer\n",
		      out);
	if (averages > 0)
		fprintf(out, "  parameters x 4 bytes: the average of the weights (%s)\n",
		        average_kind(&model->average));
	if (sync)
		fprintf(out, "  parameters x 4 bytes: the step being collected (%s)\n",
		        model->mode == MSG_SYNC ? "sync"
		                                : "in sync, unless the worker asks for async");
	if (whole)
		print_scratch(model, out);
	if (model->workers) {
		value_bytes_text(lane_window * model->workers, total);
		fprintf(out, "  at most %s under way: %u worker%s x the window of %s, or x parameters x 4\n",
		        total, model->workers, model->workers == 1 ? "" : "s", window);
	} else {
		fprintf(out, "  under way: workers x the window of %s, or x parameters x 4\n", window);
	}
	bool own = model->optimizer_given && groups_answering(&model->groups, &model->optimizer) != NULL;
	fprintf(out, "  replies in flight: at most %s\n",
	        own ? "twice as much, since each worker has replies of its own" : "as much again");
	if (model->optimizer_given && model->mode != MSG_MODE_UNSET && !whole)
		fprintf(out, "  so 1,000,000 parameters take %u,000,000 bytes, and what is under way\n",
		        vectors + 4 * (averages + (sync ? 1 : 0)));
}

void config_print_memory(const struct config *config, FILE *out)
{
	char memory[VALUE_TEXT_BYTES], window[VALUE_TEXT_BYTES];

	value_bytes_text(config->memory_bytes, memory);
	value_bytes_text(config->window_bytes, window);
	fprintf(out, "\nmemory for all models: at most %s, about %.1f GiB (limits.memory)\n",
	        memory, (double)config->memory_bytes / (double)(UINT64_C(1) << 30));
	if (config->lanes > 1)
		fprintf(out, "a worker's window: %s (limits.window) for each of %u lanes\n", window,
		        config->lanes);
	if (config->model_count == 0)
		fputs("a model takes parameters x (1 + state vectors) x 4 bytes; in sync with several workers "
		      "also\nparameters x 4; and what is under way: for each worker the window, or parameters x "
		      "4 if that\nis less, and as much again in replies\n",
		      out);
	for (uint32_t i = 0; i < config->model_count; i++)
		print_model_memory(config, &config->models[i], out);
	value_bytes_text(LIMIT_ANSWER_WINDOWS * config->window_bytes * config->lanes, window);
	fprintf(out, "\nanswers that readers have not read: what the models leave, at least %s\n", window);
}
