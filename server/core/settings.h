/*
 * Settings: what a worker asks of a model against what the config and the model
 * say.
 */
#ifndef OPTD_CORE_SETTINGS_H
#define OPTD_CORE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/core/engine.h"

/* The settings of a model that is about to be made: the preset's (which may be
 * NULL), then the worker's, then the defaults; the worker must not contradict the
 * preset.  OPTD_HYPER, OPTD_CONFLICT or OPTD_TOO_LARGE, and a sentence in why. */
int settings_make(const struct engine_options *options, const struct engine_preset *preset,
                  const struct msg_open *open, struct model_settings *settings, char *why,
                  size_t why_bytes);

/* Whether models may be made with this optimizer here: OPTD_HYPER and a sentence for
 * one that optim/ has and the engine does not serve yet. */
int settings_served(const struct optim *optim, char *why, size_t why_bytes);

/* What a model of this mode does about gradients that are not finite if nobody says. */
enum msg_nonfinite settings_nonfinite_of(enum msg_mode mode);

/* Whether these two go with the mode, as far as each is given: skip_step and a loss scale
 * are for sync, and a loss scale for skip_step.  OPTD_HYPER and a sentence. */
int settings_check_finite(enum msg_mode mode, enum msg_nonfinite nonfinite, bool loss_scale, char *why,
                          size_t why_bytes);

/* Whether what the worker named agrees with what the model has: OPTD_CONFLICT
 * with both values in why, OPTD_HYPER for names and values no model could have. */
int settings_compare(const struct msg_open *open, const struct model_settings *has, char *why,
                     size_t why_bytes);

/* Whether all of the optimizer and its groups can be told in one header: OPTD_TOO_LARGE and
 * what to do.  Without groups it can. */
int settings_fit(const struct model_settings *settings, char *why, size_t why_bytes);

/* All settings of a model's arithmetic in words, for people: groups_text and clipping. */
void settings_describe(const struct model_settings *settings, char *text, size_t bytes);

/* Copies a text with a NUL behind it; false, and nothing copied, if it does not fit. */
bool settings_text(struct msg_text text, char *to, size_t room);

/* The optimizer as OPEN takes it, in constant texts: with mode to step_timeout_ms a client
 * makes the other lanes' parts of it, where this daemon's config, or who came first, must
 * not choose again. */
void settings_tell(const struct model_settings *settings, struct msg_rule *out);

/* The groups likewise, settings->groups.count of them: their patterns point into settings,
 * all else is here. */
struct settings_told {
	struct msg_group groups[LIMIT_GROUPS];
	struct msg_hyper hypers[LIMIT_GROUPS][OPTIM_HYPERS_MAX];
	struct msg_schedule_part schedules[LIMIT_GROUPS][SCHEDULE_PARTS_MAX];
};
void settings_tell_groups(const struct model_settings *settings, struct settings_told *told);

#endif
