/*
 * Text: numbers and names for the sentences that optim/ says, and optctl of it; otherwise
 * private.
 */
#ifndef OPTD_OPTIM_TEXT_H
#define OPTD_OPTIM_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "optim/optim.h"

/* Room for text_number, and for text_values. */
#define TEXT_NUMBER_BYTES 32
#define TEXT_VALUES_BYTES (OPTIM_VALUES_MAX * (TEXT_NUMBER_BYTES + 1) + 2)

/* Room for schedule_text of ordinary ones; longer ones are cut off in texts, with "..." at the end. */
#define TEXT_SCHEDULE_BYTES 400

/* A piece of text under construction: cut off at the end of its room, always
 * terminated. */
struct text {
	char *start;
	size_t bytes;
	size_t used;
};

struct text text_open(char *start, size_t bytes);
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The fewest digits that read back the same. */
void text_number(double value, char *out, size_t out_bytes);

/* "0.001", or "[0.9,0.999]" for a pair. */
void text_values(const double *values, uint32_t count, char *out, size_t out_bytes);

#endif
