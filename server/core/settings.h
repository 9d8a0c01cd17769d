/*
 * Settings: what a worker asks of a model against what the config and the model
 * say.
 */
#ifndef OPTD_CORE_SETTINGS_H
#define OPTD_CORE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/core/engine.h"

/* The last stretch of a schedule that ends at %llu. */
#define SETTINGS_LAST_UNTIL \
	"schedule: the last stretch is until %llu, and nothing comes behind it; add a stretch that begins there, such as " \
	"constant, or leave its until out"

/* The settings of a model that is about to be made: the preset's (which may be
 * NULL), then the worker's, then the defaults; the worker must not contradict the
 * preset.  OPTD_HYPER, OPTD_CONFLICT or OPTD_TOO_LARGE, and a sentence in why. */
int settings_make(const struct engine_options *options, const struct engine_preset *preset,
                  const struct msg_open *open, struct model_settings *settings, char *why,
                  size_t why_bytes);

/* Whether they are collected in a step, where a rule answers each worker by itself: OPTD_HYPER
 * and a sentence. */
int settings_answers(const struct model_settings *settings, char *why, size_t why_bytes);

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

/* Whether it agrees with the model as it was made, as one of its changes has made it, or
 * as one that is being agreed on would (NULL: none is). */
int settings_compare_changed(const struct msg_open *open, const struct model *model,
                             const struct change *pending, char *why, size_t why_bytes);

/* The same of a config's settings, as far as it gives any, but for an average. */
int settings_compare_preset(const struct engine_preset *preset, const struct model *model, char *why,
                            size_t why_bytes);

/* The settings of an update of a block at this version: as they were made, with the changes
 * over them, and with one more as if it was made (or NULL). */
void settings_at(const struct model_settings *made, const struct changes *changes, const struct change *also,
                 uint64_t version, struct model_settings *out);

/* Whether a model could have come to these changes, one by one: OPTD_HYPER and a sentence. */
int settings_check_changes(const struct model_settings *made, const struct changes *changes, char *why,
                           size_t why_bytes);

/* What SET asks for, but for its version.  OPTD_HYPER and a sentence in why: the nearest
 * name or pattern, a range, a group that is frozen. */
int settings_read_change(const struct model_settings *has, const struct msg_set *set, struct change *change,
                         char *why, size_t why_bytes);
/* Whether the model can go on with it from change->from on, later changes over it:
 * OPTD_HYPER, or OPTD_TOO_LARGE where OPENED could not tell them. */
int settings_check_change(const struct model_settings *made, const struct changes *changes,
                          const struct change *change, char *why, size_t why_bytes);
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
