/*
 * Config values: see config_value.h.
 *
 * Everything is read strictly: a value is all of its text or an error.  "1e-3x",
 * "08 s", "0x10" and "yes" are errors with the allowed form, because a guess
 * that is wrong costs more than a second look.
 */
#include "server/config_value.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *suffix;
	uint64_t factor;
};

/* Largest first: the order in which they are tried when printing. */
static const struct unit byte_units[] = { { "GiB", UINT64_C(1) << 30 },
	                                  { "MiB", UINT64_C(1) << 20 },
	                                  { "KiB", UINT64_C(1) << 10 },
	                                  { "", 1 } };
static const struct unit time_units[] = {
	{ "h", 3600 * 1000 }, { "min", 60 * 1000 }, { "s", 1000 }, { "ms", 1 }
};

#define UNIT_COUNT 4u

/* A longer number than any of these cannot be in range. */
#define NUMBER_BYTES 64u

static void units_text(const struct unit *units, uint64_t number, char out[VALUE_TEXT_BYTES])
{
	uint32_t i = 0;

	while (i + 1 < UNIT_COUNT && number % units[i].factor != 0)
		i++;
	if (number == 0)
		snprintf(out, VALUE_TEXT_BYTES, "0");
	else
		snprintf(out, VALUE_TEXT_BYTES, "%" PRIu64 "%s", number / units[i].factor,
		         units[i].suffix);
}

void value_bytes_text(uint64_t bytes, char out[VALUE_TEXT_BYTES])
{
	units_text(byte_units, bytes, out);
}

void value_duration_text(uint64_t ms, char out[VALUE_TEXT_BYTES])
{
	units_text(time_units, ms, out);
}

/* Whole numbers below this are written out: 9500, not 9.5e+03. */
#define WHOLE_TEXT_MAX 1e9

void value_real_text(double value, char out[VALUE_TEXT_BYTES])
{
	if (fabs(value) < WHOLE_TEXT_MAX && value == floor(value)) {
		snprintf(out, VALUE_TEXT_BYTES, "%.0f", value);
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(out, VALUE_TEXT_BYTES, "%.*g", digits, value);
		if (strtod(out, NULL) == value)
			return;
	}
}

static void words_text(const struct config_knob *knob, char *out, size_t out_bytes)
{
	size_t used = (size_t)snprintf(out, out_bytes, "one of");
	const char *separator = " ";

	for (uint32_t i = 0; i < knob->word_count; i++) {
		if (!knob->words[i] || used >= out_bytes)
			continue;
		used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", separator,
		                         knob->words[i]);
		separator = ", ";
	}
}

void config_knob_allowed(const struct config_knob *knob, char *out, size_t out_bytes)
{
	char min[VALUE_TEXT_BYTES], max[VALUE_TEXT_BYTES];

	if (knob->type == CONFIG_DURATION) {
		value_duration_text(knob->min, min);
		value_duration_text(knob->max, max);
	} else {
		value_bytes_text(knob->min, min);
		value_bytes_text(knob->max, max);
	}
	switch (knob->type) {
	case CONFIG_BOOL:
		snprintf(out, out_bytes, "true or false");
		break;
	case CONFIG_INT:
		snprintf(out, out_bytes, "a whole number from %" PRIu64 " to %" PRIu64, knob->min,
		         knob->max);
		break;
	case CONFIG_BYTES:
		snprintf(out, out_bytes, "a size from %s to %s (KiB, MiB or GiB)", min, max);
		break;
	case CONFIG_MEMORY:
		snprintf(out, out_bytes,
		         "a size from %s to %s (KiB, MiB or GiB), or 1%% to 100%% of memory", min,
		         max);
		break;
	case CONFIG_DURATION:
		snprintf(out, out_bytes, "a time from %s to %s (ms, s, min or h)%s", min, max,
		         knob->may_be_off ? ", or off" : "");
		break;
	case CONFIG_REAL:
		snprintf(out, out_bytes, "a number %s%s", knob->min > 0 ? "from 1 on" : "above 0",
		         knob->max == CONFIG_REAL_INF ? ", or inf" : "");
		break;
	case CONFIG_STRING:
		snprintf(out, out_bytes, "text of %" PRIu64 " to %" PRIu64 " bytes", knob->min,
		         knob->max);
		break;
	case CONFIG_ENUM:
		words_text(knob, out, out_bytes);
		break;
	case CONFIG_ENDPOINTS:
		snprintf(out, out_bytes,
		         "tcp://ADDRESS:PORT or ipc://PATH, or a list of up to %" PRIu64,
		         knob->max);
		break;
	case CONFIG_LOSS_SCALE:
		snprintf(out, out_bytes, "{init_scale: 65536, growth_factor: 2, backoff_factor: 0.5, growth_interval: 2000}");
		break;
	case CONFIG_OPTIMIZER:
		snprintf(out, out_bytes, "a name, or {name: adam, lr: 0.001, ...}");
		break;
	case CONFIG_AVERAGE:
		snprintf(out, out_bytes, "ema, swa, or {kind: ema, decay: 0.999, ...}");
		break;
	}
}

static int refuse(const struct config_knob *knob, const char *text, const char *what, char *why,
                  size_t why_bytes)
{
	char allowed[256];

	config_knob_allowed(knob, allowed, sizeof(allowed));
	snprintf(why, why_bytes, "%s: \"%.64s\" %s; allowed: %s", knob->path, text, what, allowed);
	return OPTD_INVALID;
}

/* Digits at *text, which is moved behind them.  False when there are none, or
 * when the number does not fit 64 bits. */
static bool read_digits(const char **text, uint64_t *out)
{
	const char *at = *text;
	uint64_t number = 0;

	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
			return false;
	}
	if (at == *text)
		return false;
	*text = at;
	*out = number;
	return true;
}

/* A whole number and its unit. */
static bool read_units(const struct unit *units, const char *text, uint64_t *out)
{
	uint64_t number;

	if (!read_digits(&text, &number))
		return false;
	for (uint32_t i = 0; i < UNIT_COUNT; i++) {
		if (strcmp(text, units[i].suffix) == 0)
			return !__builtin_mul_overflow(number, units[i].factor, out);
	}
	return false;
}

static bool read_percent(const char *text, uint64_t *out, const char **what)
{
	uint64_t percent;

	if (!read_digits(&text, &percent) || strcmp(text, "%") != 0)
		return false;
	if (percent < 1 || percent > 100) {
		*what = "is out of range";
		return false;
	}
	*out = host_memory_bytes() / 100 * percent;
	*out -= *out % byte_units[1].factor; /* whole MiB: easier to read */
	return true;
}

static bool is_off(const char *text)
{
	return strcmp(text, "off") == 0;
}

/* Reads any kind of number; what is the error's middle when it is none. */
static bool read_number(const struct config_knob *knob, const char *text, uint64_t *out,
                        const char **what)
{
	const char *end = text;

	if (knob->type == CONFIG_INT) {
		*what = "is not a whole number";
		return read_digits(&end, out) && *end == '\0';
	}
	if (knob->type == CONFIG_DURATION) {
		*what = "is not a time with its unit";
		return read_units(time_units, text, out);
	}
	*what = "is not a size";
	if (knob->type == CONFIG_MEMORY && strchr(text, '%'))
		return read_percent(text, out, what);
	return read_units(byte_units, text, out);
}

static int set_number(const struct config_knob *knob, void *field, const char *text, char *why,
                      size_t why_bytes)
{
	const char *what;
	uint64_t number = 0;

	if (!(knob->may_be_off && is_off(text))) {
		if (!read_number(knob, text, &number, &what))
			return refuse(knob, text, what, why, why_bytes);
		/* A share of the memory is what it is, also on a very small machine. */
		if (!strchr(text, '%') && (number < knob->min || number > knob->max))
			return refuse(knob, text, "is out of range", why, why_bytes);
	}
	if (knob->type == CONFIG_BYTES || knob->type == CONFIG_MEMORY) {
		memcpy(field, &number, sizeof(number));
	} else {
		uint32_t small = (uint32_t)number;

		assert(small == number);
		memcpy(field, &small, sizeof(small));
	}
	return 0;
}

static int set_real(const struct config_knob *knob, void *field, const char *text, size_t size, char *why,
                    size_t why_bytes)
{
	double number = INFINITY;

	if (!(knob->max == CONFIG_REAL_INF && strcmp(text, "inf") == 0) && !value_real(text, size, false, &number))
		return refuse(knob, text, "is not a number, such as 0.5 or 1e-3", why, why_bytes);
	if (!(number > 0) || number < (double)knob->min)
		return refuse(knob, text, "is out of range", why, why_bytes);
	memcpy(field, &number, sizeof(number));
	return 0;
}

static int set_bool(const struct config_knob *knob, void *field, const char *text, char *why,
                    size_t why_bytes)
{
	bool flag = strcmp(text, "true") == 0;

	if (!flag && strcmp(text, "false") != 0)
		return refuse(knob, text, "is neither true nor false", why, why_bytes);
	memcpy(field, &flag, sizeof(flag));
	return 0;
}

static int set_enum(const struct config_knob *knob, void *field, const char *text, char *why,
                    size_t why_bytes)
{
	for (uint32_t i = 0; i < knob->word_count; i++) {
		if (!knob->words[i] || strcmp(knob->words[i], text) != 0)
			continue;
		memcpy(field, &i, sizeof(i));
		return 0;
	}
	return refuse(knob, text, "is not known", why, why_bytes);
}

static int set_endpoint(const struct config_knob *knob, struct config_endpoints *list,
                        const char *text, char *why, size_t why_bytes)
{
	char reason[256];
	/* What is told to clients may be missing, but must be somewhere to connect to. */
	bool to_connect = knob->min == 0;

	if (list->count == knob->max)
		return refuse(knob, text, "is one endpoint too many", why, why_bytes);
	if (endpoint_check(text, to_connect, reason, sizeof(reason)) < 0) {
		snprintf(why, why_bytes, "%s: %s", knob->path, reason);
		return OPTD_INVALID;
	}
	snprintf(list->text[list->count++], sizeof(list->text[0]), "%s", text);
	return 0;
}

int value_set(const struct config_knob *knob, void *base, const char *text, size_t size,
              bool quoted, char *why, size_t why_bytes)
{
	void *field = (char *)base + knob->offset;

	for (size_t i = 0; i < size; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
			snprintf(why, why_bytes, "%s: has a control character (byte %zu)",
			         knob->path, i + 1);
			return OPTD_INVALID;
		}
	}
	if (quoted && (knob->type == CONFIG_BOOL || knob->type == CONFIG_INT || knob->type == CONFIG_REAL))
		return refuse(knob, text, "stands in quotes", why, why_bytes);
	switch (knob->type) {
	case CONFIG_BOOL:
		return set_bool(knob, field, text, why, why_bytes);
	case CONFIG_INT:
	case CONFIG_BYTES:
	case CONFIG_MEMORY:
	case CONFIG_DURATION:
		return set_number(knob, field, text, why, why_bytes);
	case CONFIG_REAL:
		return set_real(knob, field, text, size, why, why_bytes);
	case CONFIG_ENUM:
		return set_enum(knob, field, text, why, why_bytes);
	case CONFIG_ENDPOINTS:
		return set_endpoint(knob, field, text, why, why_bytes);
	case CONFIG_STRING:
		if (size < knob->min || size > knob->max)
			return refuse(knob, text, size ? "is too long" : "is empty", why,
			              why_bytes);
		memcpy(field, text, size + 1);
		return 0;
	case CONFIG_LOSS_SCALE:
	case CONFIG_OPTIMIZER:
	case CONFIG_AVERAGE:
		break;
	}
	assert(knob->type < CONFIG_LOSS_SCALE); /* config_model.c reads these */
	return OPTD_INTERNAL;
}

/* Moves over digits; false when there are none. */
static bool skip_digits(const char **at)
{
	const char *start = *at;

	while (**at >= '0' && **at <= '9')
		(*at)++;
	return *at != start;
}

bool value_real(const char *text, size_t size, bool flag, double *out)
{
	const char *at = text;
	double value;

	if (strlen(text) != size || size > NUMBER_BYTES)
		return false;
	if (flag) {
		*out = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
		return *out != 0 || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
	}
	/* strtod takes more than a decimal number (hex, nan, spaces): look first. */
	at += *at == '-' || *at == '+';
	if (!skip_digits(&at))
		return false;
	if (*at == '.') {
		at++;
		if (!skip_digits(&at))
			return false;
	}
	if (*at == 'e' || *at == 'E') {
		at++;
		at += *at == '-' || *at == '+';
		if (!skip_digits(&at))
			return false;
	}
	value = strtod(text, NULL);
	if (*at != '\0' || !isfinite(value))
		return false;
	*out = value;
	return true;
}
