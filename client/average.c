/* An average of the weights: what the caller names, and what is said of a model's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "proto/utf8.h"

int average_check(optd_client *client, const char *model, const optd_open_options *options)
{
	uint32_t count = options->average_hyper_count;
	if (!options->average && count > 0)
		return client_fail(client, OPTD_INVALID,
		                   "model '%s': %u setting%s of an average, but average is NULL; name ema or swa",
		                   model, count, count == 1 ? "" : "s");
	if (!options->average)
		return 0;
	if (!*options->average || strlen(options->average) >= LIMIT_NAME_BYTES)
		return client_fail(client, OPTD_HYPER, "model '%s': no average '%.64s'; it may be ema or swa", model,
		                   options->average);
	if (count > LIMIT_AVERAGE_HYPERS)
		return client_fail(client, OPTD_TOO_LARGE, "model '%s': an average with %u settings, at most %u are allowed",
		                   model, count, LIMIT_AVERAGE_HYPERS);
	if (!utf8_valid(options->average, strlen(options->average)))
		return client_fail(client, OPTD_INVALID, "model '%s': average is not UTF-8", model);
	return check_hypers(client, model, options->average_hypers, count);
}

bool average_keep(struct keep *keep, const optd_open_options *options, struct msg_average *out)
{
	if (!options->average)
		return true;
	out->kind = text_of(options->average);
	out->hyper_count = options->average_hyper_count;
	for (uint32_t i = 0; i < out->hyper_count; i++) {
		const optd_hyper *given = &options->average_hypers[i];
		out->hypers[i].name = text_of(given->name);
		out->hypers[i].count = given->count;
		memcpy(out->hypers[i].values, given->values, given->count * sizeof(double));
	}
	return keep_average(keep, out);
}

/* The fewest digits that read back the same; whole numbers in full. */
static int digits_of(double value)
{
	char text[32];
	int digits = 1;
	if (value == floor(value) && fabs(value) <= 0x1p53)
		return 17;
	for (; digits < 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	return digits;
}

void average_describe(const struct msg_average *average, char *text, size_t text_bytes)
{
	size_t used = strlen(text_copy(average->kind, text, text_bytes));
	for (uint32_t i = 0; i < average->hyper_count && used < text_bytes; i++) {
		const struct msg_hyper *h = &average->hypers[i];
		used += (size_t)snprintf(text + used, text_bytes - used, " %.*s=%.*g", (int)h->name.size, h->name.bytes,
		                         digits_of(h->values[0]), h->values[0]);
	}
}
