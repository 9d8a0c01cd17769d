/*
 * Average: a mean of a model's weights over its updates, kept beside them.
 *
 * It is a vector as long as the weights that is pulled and exported in their place.
 * The arithmetic is that of the rules ema and swa of optim/: to them the weights that an
 * update has made are what is pushed, and the average is what they update.
 *
 * Each segment has its own count, as it has of updates.  Up to update `start` the average
 * is the weights; of those after it one in `every` is averaged: start + every, start + 2 *
 * every and so on.  So how many have been averaged follows from the segment's updates
 * and is not kept.  What is never updated has its weights as average.
 */
#ifndef OPTD_CORE_AVERAGE_H
#define OPTD_CORE_AVERAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "optim/optim.h"

/* Plain data: copy it freely.  All zero: there is no average. */
struct average {
	struct optim optim; /* the rule ema or swa, with its hyper-parameters */
	uint64_t start, every;
};

/* Room for the text of one, and its settings: the rule's, start and every. */
#define AVERAGE_TEXT_BYTES 160u
#define AVERAGE_SETTINGS_MAX LIMIT_AVERAGE_HYPERS

bool average_is_kept(const struct average *average);

/* One of this kind ("ema", "swa") with all defaults.  OPTD_HYPER, and in why the kinds
 * there are. */
int average_begin(struct average *average, const char *kind, char *why, size_t why_bytes);
/* Sets one of its settings.  OPTD_HYPER with name, value and range, or the names there
 * are, in why; *average is then as before. */
int average_set(struct average *average, const char *name, const double *values, uint32_t count, char *why,
                size_t why_bytes);

const char *average_kind(const struct average *average);
/* Its settings: 0 to average_setting_count-1, each a name with one value. */
uint32_t average_setting_count(const struct average *average);
const struct optim_hyper *average_setting(const struct average *average, uint32_t index);
double average_value(const struct average *average, uint32_t index);

/* Of the same kind with the same settings; of two that are none, too. */
bool average_equal(const struct average *a, const struct average *b);
/* "ema decay=0.999 num_updates=0 start=0 every=1", or "none". */
void average_text(const struct average *average, char *text, size_t text_bytes);

/* A segment has been updated for the `updates`-th time, from 1, which made these weights of
 * it: moves its average on.  Several segments that stand at the same count go together. */
void average_update(const struct average *average, enum optim_isa isa, uint64_t updates, float *to,
                    const float *weights, size_t n);

#endif
