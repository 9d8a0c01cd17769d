/*
 * optctl rules: what optimizers and schedules there are, from the tables that the server
 * itself is built with: as a list, one with all its settings, or as the table of
 * optim/README.md.
 */
#include <ctype.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/optctl.h"
#include "optim/optim.h"
#include "optim/text.h"
#include "proto/nearest.h"

#define WHY_BYTES 256
#define STATE_BYTES 512
#define LINE 78

/* ---- state vectors ------------------------------------------------------- */

static int has_slot(const struct optim *optim, const char *name)
{
	for (uint32_t i = 0; i < optim_slot_count(optim); i++)
		if (strcmp(optim_slot_name(optim, i), name) == 0)
			return 1;
	return 0;
}

/* The defaults under the first match that the rule has. */
static void defaults(const struct optim_rule *rule, struct optim *optim)
{
	char why[WHY_BYTES];
	for (int match = 0; match < OPTIM_MATCH_COUNT; match++)
		if (optim_init(optim, rule, (enum optim_match)match, why, sizeof(why)) == 0)
			return;
}

/* A hyper-parameter the other way: on where its default is 0, else 0.  0 if that may not
 * be. */
static int turned(const struct optim *base, const struct optim_hyper *hyper, struct optim *out)
{
	static const double on[] = {1, 0.5};
	char why[WHY_BYTES];
	double off = 0;
	*out = *base;
	if (hyper->count != 1)
		return 0;
	if (hyper->initial[0] != 0)
		return optim_set(out, hyper->name, &off, 1, why, sizeof(why)) == 0;
	for (size_t i = 0; i < sizeof(on) / sizeof(*on); i++)
		if (optim_set(out, hyper->name, &on[i], 1, why, sizeof(why)) == 0)
			return 1;
	return 0;
}

/* The slots, those that hang on a hyper-parameter with the condition; the most there are. */
static uint32_t tell_slots(const struct optim_rule *rule, struct text *text)
{
	struct optim base, other;
	const char *between = "";
	defaults(rule, &base);
	uint32_t most = optim_slot_count(&base);
	for (uint32_t i = 0; i < optim_slot_count(&base); i++, between = ", ") {
		const char *name = optim_slot_name(&base, i);
		text_add(text, "%s%s", between, name);
		for (uint32_t h = 0; h < optim_hyper_count(rule); h++)
			if (turned(&base, optim_hyper(rule, h), &other) && !has_slot(&other, name))
				text_add(text, " unless %s is 0", optim_hyper(rule, h)->name);
	}
	for (uint32_t h = 0; h < optim_hyper_count(rule); h++) {
		if (!turned(&base, optim_hyper(rule, h), &other))
			continue;
		for (uint32_t i = 0; i < optim_slot_count(&other); i++) {
			if (has_slot(&base, optim_slot_name(&other, i)))
				continue;
			text_add(text, "%s%s if %s is not 0", between, optim_slot_name(&other, i),
			         optim_hyper(rule, h)->name);
			between = ", ";
			most++;
		}
	}
	for (uint32_t i = 0; i < optim_carry_count(&base); i++, between = ", ")
		text_add(text, "%s%s for each tensor", between, optim_carry_name(&base, i));
	if (*between == '\0')
		text_add(text, "none");
	return most;
}

static uint32_t least_slots(const struct optim_rule *rule)
{
	struct optim base, other;
	defaults(rule, &base);
	uint32_t least = optim_slot_count(&base);
	for (uint32_t h = 0; h < optim_hyper_count(rule); h++)
		if (turned(&base, optim_hyper(rule, h), &other) && optim_slot_count(&other) < least)
			least = optim_slot_count(&other);
	return least;
}

static const char *state_text(const struct optim_rule *rule, char *out)
{
	struct text text = text_open(out, STATE_BYTES);
	if (optim_rule_state(rule))
		return optim_rule_state(rule);
	tell_slots(rule, &text);
	return out;
}

/* "4", "0 or 4", "8 to 12": beside the 4 of the weights. */
static const char *bytes_text(const struct optim_rule *rule, char *out)
{
	char names[STATE_BYTES];
	struct text text = text_open(names, sizeof(names));
	uint32_t least = 4 * least_slots(rule), most = 4 * tell_slots(rule, &text);
	if (optim_rule_state(rule))
		snprintf(out, OPTCTL_NUMBER_BYTES, "by shape");
	else if (least == most)
		snprintf(out, OPTCTL_NUMBER_BYTES, "%u", most);
	else
		snprintf(out, OPTCTL_NUMBER_BYTES, "%u %s %u", least, most - least == 4 ? "or" : "to", most);
	return out;
}

/* ---- settings ------------------------------------------------------------ */

static const char *pushed(const struct optim_rule *rule)
{
	switch (optim_rule_push(rule)) {
	case OPTIM_PSEUDO_GRADIENT:
		return "old weights - new weights";
	case OPTIM_DELTA:
		return "new weights - old weights";
	case OPTIM_WEIGHTS:
		return "values";
	case OPTIM_GRADIENT:
		break;
	}
	return "a gradient";
}

static const char *initial_text(const struct optim_hyper *hyper, char *out)
{
	text_values(hyper->initial, hyper->count, out, TEXT_VALUES_BYTES);
	return out;
}

static const char *range_text(const struct optim_hyper *hyper, char *out)
{
	char min[TEXT_NUMBER_BYTES], max[TEXT_NUMBER_BYTES];
	struct text text = text_open(out, TEXT_VALUES_BYTES);
	const char *whole = hyper->kind == OPTIM_WHOLE ? "whole, " : "";
	text_number(hyper->min, min, sizeof(min));
	text_number(hyper->max, max, sizeof(max));
	if (hyper->kind == OPTIM_FLAG)
		text_add(&text, "0 or 1");
	else if (hyper->max < (double)FLT_MAX)
		text_add(&text, "%s%s%s, %s%s", whole, hyper->min_open ? "(" : "[", min, max,
		         hyper->max_open ? ")" : "]");
	else if (hyper->min > -(double)FLT_MAX)
		text_add(&text, "%s%s %s", whole, hyper->min_open ? ">" : ">=", min);
	else
		text_add(&text, "%sany number", whole);
	return out;
}

static void print_match(const struct optim_rule *rule)
{
	struct optim optim;
	char why[WHY_BYTES];
	const char *between = "";
	for (int match = 0; match < OPTIM_MATCH_COUNT; match++) {
		if (optim_init(&optim, rule, (enum optim_match)match, why, sizeof(why)) < 0)
			continue;
		printf("%s%s", between, optim_match_name((enum optim_match)match));
		between = ", ";
	}
}

/* Whether it has references of more than one kind to choose from. */
static int has_matches(const struct optim_rule *rule)
{
	struct optim optim;
	char why[WHY_BYTES];
	return optim_init(&optim, rule, OPTIM_TORCH1, why, sizeof(why)) == 0;
}

/* ---- printing ------------------------------------------------------------ */

/* A paragraph behind a label, broken between words. */
static void print_wrapped(const char *label, const char *text)
{
	int column = printf("  %-10s", label), begin = column;
	while (*text) {
		int length = (int)strcspn(text, " ");
		if (column > begin && column + 1 + length > LINE)
			column = printf("\n%*s", begin, "") - 1;
		column += printf("%s%.*s", column > begin ? " " : "", length, text);
		text += length + (text[length] == ' ');
	}
	printf("\n");
}

/* A formula step by step, each on a line of its own. */
static void print_steps(const char *label, const char *formula)
{
	while (*formula) {
		char step[STATE_BYTES];
		const char *end = strstr(formula, "; ");
		int length = end ? (int)(end - formula) : (int)strlen(formula);
		snprintf(step, sizeof(step), "%.*s", length, formula);
		print_wrapped(label, step);
		formula += length + (end ? 2 : 0);
		label = "";
	}
}

/* Whether a step hangs on a setting: "maximize: g = -g". */
static int has_condition(const char *formula)
{
	for (const char *at = formula; (at = strstr(at, ": ")) != NULL; at++)
		if (at > formula && isalnum((unsigned char)at[-1]))
			return 1;
	return 0;
}

static int has_hyper(const struct optim_rule *rule, const char *name)
{
	for (uint32_t i = 0; i < optim_hyper_count(rule); i++)
		if (strcmp(optim_hyper(rule, i)->name, name) == 0)
			return 1;
	return 0;
}

/* What a formula has that it does not tell itself. */
static void print_signs(const struct optim_rule *rule)
{
	const char *formula = optim_rule_formula(rule);
	char line[STATE_BYTES];
	struct text text = text_open(line, sizeof(line));
	text_add(&text, "w are weights, %s what is pushed, t counts updates from 1",
	         optim_rule_push(rule) == OPTIM_WEIGHTS ? "x" : "g");
	if (has_hyper(rule, "betas"))
		text_add(&text, "; beta1 and beta2 are betas");
	if (has_condition(formula))
		text_add(&text, "; NAME: is a step only if NAME is not 0");
	if (strstr(formula, "fma("))
		text_add(&text, "; fma(a, b, c) = a*b + c, rounded once");
	if (strstr(formula, "lerp("))
		text_add(&text, "; lerp(a, b, c) = a + c*(b-a)");
	if (has_hyper(rule, "clip_value"))
		text_add(&text, "; g is first held within [-clip_value, clip_value] if that is not 0");
	print_wrapped("where", line);
}

static void print_one(const struct optim_rule *rule)
{
	char text[STATE_BYTES], number[OPTCTL_NUMBER_BYTES], initial[TEXT_VALUES_BYTES],
	        range[TEXT_VALUES_BYTES];
	printf("%s\n", optim_rule_name(rule));
	print_steps("update", optim_rule_formula(rule));
	print_signs(rule);
	print_wrapped("pushed", pushed(rule));
	print_wrapped("looks at", optim_rule_class(rule) == OPTIM_TENSOR ? "a whole tensor"
	                                                                  : "each element by itself");
	print_wrapped("state", state_text(rule, text));
	printf("  %-10s%s beside the weights' 4\n", "bytes", bytes_text(rule, number));
	if (has_matches(rule)) {
		printf("  %-10s", "match");
		print_match(rule);
		printf("\n");
	}
	print_wrapped("source", optim_rule_source(rule));
	if (optim_hyper_count(rule) > 0)
		printf("\n  %-26s  %-22s  %s\n", "setting", "default", "allowed");
	for (uint32_t i = 0; i < optim_hyper_count(rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(rule, i);
		printf("  %-26s  %-22s  %s\n", hyper->name, initial_text(hyper, initial),
		       range_text(hyper, range));
	}
}

/* For its range only: the least double and the greatest count are no ends for a reader. */
static struct optim_hyper as_hyper(const struct schedule_param *param)
{
	int tiny = param->min > 0 && param->min < (double)FLT_MIN;
	return (struct optim_hyper){
		.kind = !param->whole ? OPTIM_REAL : param->max == 1 ? OPTIM_FLAG : OPTIM_WHOLE,
		.min = tiny ? 0 : param->min,
		.min_open = tiny,
		.max = param->whole && param->max > UINT32_MAX ? (double)FLT_MAX : param->max};
}

static void print_schedule(enum schedule_kind kind)
{
	char initial[TEXT_NUMBER_BYTES], range[TEXT_VALUES_BYTES];
	uint32_t count;
	const struct schedule_param *params = schedule_params(kind, &count);
	printf("%s, a schedule\n", schedule_name(kind));
	print_steps("rate", schedule_formula(kind));
	print_wrapped("where", "lr is the optimizer's, t counts the updates done before");
	if (count > 0 || kind == SCHEDULE_MULTISTEP)
		printf("\n  %-26s  %-22s  %s\n", "setting", "default", "allowed");
	for (uint32_t i = 0; i < count; i++) {
		const struct schedule_param *param = &params[i];
		const struct optim_hyper as = as_hyper(param);
		text_number(param->initial, initial, sizeof(initial));
		printf("  %-26s  %-22s  %s\n", param->name, param->required ? "none, is needed" : initial,
		       range_text(&as, range));
	}
	if (kind == SCHEDULE_MULTISTEP)
		printf("  %-26s  %-22s  %s\n", "milestones", "none, is needed", "a list of whole numbers, ascending");
}

static void print_list(void)
{
	char text[STATE_BYTES], number[OPTCTL_NUMBER_BYTES];
	printf("%-16s %-26s %-9s %s\n", "OPTIMIZER", "PUSHED", "BYTES", "STATE");
	for (uint32_t i = 0; i < optim_rule_count(); i++) {
		const struct optim_rule *rule = optim_rule(i);
		printf("%-16s %-26s %-9s %s\n", optim_rule_name(rule), pushed(rule),
		       bytes_text(rule, number), state_text(rule, text));
	}
	printf("\nBytes are those of the state for each parameter, beside the weights' 4.\n"
	       "optctl rules NAME has the update and the settings.\n"
	       "Schedules: " SCHEDULE_NAMES "\n");
}

static void print_markdown(void)
{
	char text[STATE_BYTES], number[OPTCTL_NUMBER_BYTES], initial[TEXT_VALUES_BYTES],
	        range[TEXT_VALUES_BYTES];
	printf("| rule | hyper-parameters: default; allowed | state | bytes | pushed | update | source |\n"
	       "|---|---|---|---|---|---|---|\n");
	for (uint32_t i = 0; i < optim_rule_count(); i++) {
		const struct optim_rule *rule = optim_rule(i);
		printf("| `%s` | ", optim_rule_name(rule));
		for (uint32_t k = 0; k < optim_hyper_count(rule); k++)
			printf("%s%s: %s; %s", k > 0 ? "<br>" : "", optim_hyper(rule, k)->name,
			       initial_text(optim_hyper(rule, k), initial), range_text(optim_hyper(rule, k), range));
		printf("%s | %s | %s | %s | `%s` | %s |\n", optim_hyper_count(rule) == 0 ? "none" : "",
		       state_text(rule, text), bytes_text(rule, number), pushed(rule),
		       optim_rule_formula(rule), optim_rule_source(rule));
	}
}

static int refuse_name(const char *name)
{
	struct nearest nearest = nearest_of(name);
	for (uint32_t i = 0; i < optim_rule_count(); i++)
		nearest_try(&nearest, optim_rule_name(optim_rule(i)));
	for (int kind = 0; kind < SCHEDULE_KIND_COUNT; kind++)
		nearest_try(&nearest, schedule_name((enum schedule_kind)kind));
	fprintf(stderr, "optctl: there is no optimizer or schedule '");
	optctl_text(stderr, name);
	fprintf(stderr, "'; ");
	if (nearest.best)
		fprintf(stderr, "the nearest is '%s'; ", nearest.best);
	fprintf(stderr, "optctl rules lists all\n");
	return EXIT_FAILED;
}

int optctl_rules(const struct optctl *ctl, const char *name)
{
	const struct optim_rule *rule = name ? optim_find(name) : NULL;
	int kind = name ? schedule_find(name) : -1;
	if (name && !rule && kind < 0)
		return refuse_name(name);
	if (rule)
		print_one(rule);
	else if (kind >= 0)
		print_schedule((enum schedule_kind)kind);
	else if (ctl->markdown)
		print_markdown();
	else
		print_list();
	return EXIT_DONE;
}
