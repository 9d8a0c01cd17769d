/* The rules ema and swa, and when they are used. */
#include "server/core/average.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/status.h"

/* Up to here a double has every whole number. */
#define UPDATES_MAX 9007199254740992.0

static const char *const kinds[] = {"ema", "swa"};

/* Those that all kinds have, behind the rule's. */
enum { START, EVERY, OWN_COUNT };

static const struct optim_hyper own[] = {
	[START] = {"start", OPTIM_WHOLE, 1, {0}, 0, UPDATES_MAX, false, false},
	[EVERY] = {"every", OPTIM_WHOLE, 1, {1}, 1, UPDATES_MAX, false, false},
};

bool average_is_kept(const struct average *average)
{
	return average->optim.rule != NULL;
}

int average_begin(struct average *average, const char *kind, char *why, size_t why_bytes)
{
	memset(average, 0, sizeof(*average));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i], kind) != 0)
			continue;
		average->every = 1;
		return optim_init(&average->optim, optim_find(kind), OPTIM_TORCH2, why, why_bytes);
	}
	snprintf(why, why_bytes, "no average '%.64s'; it may be ema or swa", kind);
	return OPTD_HYPER;
}

const char *average_kind(const struct average *average)
{
	return optim_rule_name(average->optim.rule);
}

uint32_t average_setting_count(const struct average *average)
{
	return optim_hyper_count(average->optim.rule) + OWN_COUNT;
}

const struct optim_hyper *average_setting(const struct average *average, uint32_t index)
{
	uint32_t count = optim_hyper_count(average->optim.rule);

	assert(index < count + OWN_COUNT);
	return index < count ? optim_hyper(average->optim.rule, index) : &own[index - count];
}

double average_value(const struct average *average, uint32_t index)
{
	uint32_t count = optim_hyper_count(average->optim.rule);

	if (index < count)
		return average->optim.values[index][0];
	return (double)(index == count + START ? average->start : average->every);
}

static int refuse_name(const struct average *average, const char *name, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "the average %s has no setting '%.64s'; it has", average_kind(average), name);
	for (uint32_t i = 0; i < average_setting_count(average); i++) {
		size_t used = strlen(why);
		snprintf(why + used, why_bytes - used, " %s", average_setting(average, i)->name);
	}
	return OPTD_HYPER;
}

static int set_own(const struct average *average, const struct optim_hyper *hyper, const double *values,
                   uint32_t count, uint64_t *to, char *why, size_t why_bytes)
{
	/* Written so that NaN is outside. */
	if (count == 1 && values[0] >= hyper->min && values[0] <= hyper->max && values[0] == floor(values[0])) {
		*to = (uint64_t)values[0];
		return OPTD_OK;
	}
	if (count != 1)
		snprintf(why, why_bytes, "%s: %s takes 1 value, given %u", average_kind(average), hyper->name, count);
	else
		snprintf(why, why_bytes, "%s: %s=%.17g is out of range; allowed is a whole number in [%.0f, 2^53]",
		         average_kind(average), hyper->name, values[0], hyper->min);
	return OPTD_HYPER;
}

int average_set(struct average *average, const char *name, const double *values, uint32_t count, char *why,
                size_t why_bytes)
{
	if (strcmp(name, own[START].name) == 0)
		return set_own(average, &own[START], values, count, &average->start, why, why_bytes);
	if (strcmp(name, own[EVERY].name) == 0)
		return set_own(average, &own[EVERY], values, count, &average->every, why, why_bytes);
	for (uint32_t i = 0; i < optim_hyper_count(average->optim.rule); i++) {
		if (strcmp(average_setting(average, i)->name, name) == 0)
			return optim_set(&average->optim, name, values, count, why, why_bytes);
	}
	return refuse_name(average, name, why, why_bytes);
}

bool average_equal(const struct average *a, const struct average *b)
{
	if (a->optim.rule != b->optim.rule)
		return false;
	for (uint32_t i = 0; average_is_kept(a) && i < average_setting_count(a); i++) {
		if (average_value(a, i) != average_value(b, i))
			return false;
	}
	return true;
}

/* The fewest digits that read back the same. */
static int digits_of(double value)
{
	char text[32];
	int digits = 1;

	for (; digits < 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	return digits;
}

void average_text(const struct average *average, char *text, size_t text_bytes)
{
	snprintf(text, text_bytes, "%s", average_is_kept(average) ? average_kind(average) : "none");
	for (uint32_t i = 0; average_is_kept(average) && i < average_setting_count(average); i++) {
		const struct optim_hyper *setting = average_setting(average, i);
		double value = average_value(average, i);
		int digits = setting->kind == OPTIM_WHOLE ? 17 : digits_of(value);
		size_t used = strlen(text);
		snprintf(text + used, text_bytes - used, " %s=%.*g", setting->name, digits, value);
	}
}

void average_update(const struct average *average, enum optim_isa isa, uint64_t updates, float *to,
                    const float *weights, size_t n)
{
	struct optim_carry carry = {{0}};
	struct optim_scalars scalars;
	float *slots[OPTIM_SLOTS_MAX] = {NULL};

	if (updates <= average->start) {
		memcpy(to, weights, n * sizeof(*to));
		return;
	}
	if ((updates - average->start) % average->every != 0)
		return;
	optim_scalars(&average->optim, (updates - average->start) / average->every, &carry, &scalars);
	optim_step(&average->optim, isa, &scalars, to, slots, weights, n);
}
