/*
 * Text: settings as a line to read, and what differs between two of them.
 */
#include "optim/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/rule.h"
#include "proto/nearest.h"

struct text text_open(char *start, size_t bytes)
{
	if (bytes > 0)
		start[0] = '\0';
	return (struct text){ start, bytes, 0 };
}

void text_add(struct text *text, const char *format, ...)
{
	va_list args;
	int length;

	if (text->used >= text->bytes)
		return;
	va_start(args, format);
	length = vsnprintf(text->start + text->used, text->bytes - text->used, format, args);
	va_end(args);
	if (length > 0)
		text->used += (size_t)length;
}

void text_number(double value, char *out, size_t out_bytes)
{
	/* "50", where %g would have "5e+01". */
	if (value > -1e6 && value < 1e6 && value == (double)(long)value) {
		snprintf(out, out_bytes, "%ld", (long)value);
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(out, out_bytes, "%.*g", digits, value);
		if (strtod(out, NULL) == value)
			return;
	}
}

void text_values(const double *values, uint32_t count, char *out, size_t out_bytes)
{
	struct text text = text_open(out, out_bytes);

	for (uint32_t i = 0; i < count; i++) {
		char number[TEXT_NUMBER_BYTES];

		text_number(values[i], number, sizeof(number));
		text_add(&text, "%s%s", i > 0 ? "," : count > 1 ? "[" : "", number);
	}
	if (count > 1)
		text_add(&text, "]");
}

const char *optim_nearest(const char *name)
{
	struct nearest nearest = nearest_of(name);

	for (uint32_t i = 0; i < optim_rule_count(); i++)
		nearest_try(&nearest, optim_rule_name(optim_rule(i)));
	return nearest.best;
}

void optim_unknown(const char *name, char *why, size_t why_bytes)
{
	struct text text = text_open(why, why_bytes);
	const char *nearest = optim_nearest(name);

	text_add(&text, "no optimizer '%.64s'; ", name);
	if (nearest != NULL)
		text_add(&text, "the nearest is '%s'; ", nearest);
	text_add(&text, "optctl rules lists all");
}

static void add_hyper(struct text *line, const struct optim *optim, uint32_t index)
{
	const struct optim_hyper *hyper = optim_hyper(optim->rule, index);
	char values[TEXT_VALUES_BYTES];

	text_values(optim->values[index], hyper->count, values, sizeof(values));
	text_add(line, " %s=%s", hyper->name, values);
}

static void add_schedule(struct text *line, const struct schedule *schedule)
{
	char text[TEXT_SCHEDULE_BYTES];

	schedule_text(schedule, text, sizeof(text));
	bool cut = strlen(text) == sizeof(text) - 1;
	text_add(line, " schedule=%s%s", text[0] != '\0' ? text : "none", cut ? "..." : "");
}

static bool values_equal(const double *a, const double *b, uint32_t count)
{
	uint32_t i = 0;

	while (i < count && a[i] == b[i])
		i++;
	return i == count;
}

size_t optim_text(const struct optim *optim, char *text, size_t text_bytes)
{
	struct text line = text_open(text, text_bytes);

	text_add(&line, "%s", optim_rule_name(optim->rule));
	if (rule_row(optim->rule)->matches != 0)
		text_add(&line, " match=%s", optim_match_name(optim->match));
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		/* What is common to all rules is said where it is used. */
		if (i < rule_row(optim->rule)->hyper_count || optim->values[i][0] != 0)
			add_hyper(&line, optim, i);
	}
	if (optim->schedule.part_count > 0)
		add_schedule(&line, &optim->schedule);
	return line.used;
}

/* Of another rule, which does not follow the schedule beside which it stands. */
static bool goes_without(const struct optim *optim, const struct optim *own)
{
	double lr;

	return own->rule != optim->rule && own->schedule.part_count > 0 && optim->schedule.part_count == 0 &&
	       optim_lr(optim, 0, &lr);
}

size_t optim_text_over(const struct optim *optim, const struct optim *own, char *text, size_t text_bytes)
{
	struct text line = text_open(text, text_bytes);
	struct optim base = *own;

	if (own->rule != optim->rule) {
		/* That it has the match is known: it is there. */
		optim_init(&base, optim->rule, optim->match, NULL, 0);
		base.match = OPTIM_TORCH2;
	}
	text_add(&line, "%s", optim_rule_name(optim->rule));
	if (optim->match != base.match)
		text_add(&line, " match=%s", optim_match_name(optim->match));
	for (uint32_t i = 0; i < optim_hyper_count(optim->rule); i++) {
		if (!values_equal(optim->values[i], base.values[i], optim_hyper(optim->rule, i)->count))
			add_hyper(&line, optim, i);
	}
	if (!schedule_equal(&optim->schedule, &base.schedule) || goes_without(optim, own))
		add_schedule(&line, &optim->schedule);
	return line.used;
}

void optim_hyper_text(const struct optim_rule *rule, uint32_t index, const double *values, char *text,
                      size_t text_bytes)
{
	const struct optim_hyper *hyper = optim_hyper(rule, index);
	char numbers[TEXT_VALUES_BYTES];

	text_values(values, hyper->count, numbers, sizeof(numbers));
	snprintf(text, text_bytes, "%s=%s", hyper->name, numbers);
}

static int compare_schedules(const struct schedule *a, const struct schedule *b, char *why,
                             size_t why_bytes)
{
	char here[TEXT_SCHEDULE_BYTES], there[TEXT_SCHEDULE_BYTES];

	if (schedule_equal(a, b))
		return 0;
	schedule_text(a, here, sizeof(here));
	schedule_text(b, there, sizeof(there));
	snprintf(why, why_bytes, "schedule: here %s, the model has %s", here[0] != '\0' ? here : "none",
	         there[0] != '\0' ? there : "none");
	return -1;
}

/* Of the same rule and match. */
static int compare_values(const struct optim *a, const struct optim *b, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < optim_hyper_count(a->rule); i++) {
		const struct optim_hyper *hyper = optim_hyper(a->rule, i);
		char here[TEXT_VALUES_BYTES], there[TEXT_VALUES_BYTES];

		if (values_equal(a->values[i], b->values[i], hyper->count))
			continue;
		text_values(a->values[i], hyper->count, here, sizeof(here));
		text_values(b->values[i], hyper->count, there, sizeof(there));
		snprintf(why, why_bytes, "%s: here %s, the model has %s", hyper->name, here, there);
		return -1;
	}
	return compare_schedules(&a->schedule, &b->schedule, why, why_bytes);
}

int optim_compare(const struct optim *a, const struct optim *b, char *why, size_t why_bytes)
{
	struct optim settled_a = *a, settled_b = *b;

	if (a->rule != b->rule) {
		snprintf(why, why_bytes, "optimizer: here %s, the model has %s",
		         optim_rule_name(a->rule), optim_rule_name(b->rule));
		return -1;
	}
	if (a->match != b->match) {
		snprintf(why, why_bytes, "match: here %s, the model has %s",
		         optim_match_name(a->match), optim_match_name(b->match));
		return -1;
	}
	rule_settle_momentum(&settled_a);
	rule_settle_momentum(&settled_b);
	return compare_values(&settled_a, &settled_b, why, why_bytes);
}
