/*
 * Settings, the parts: what a model's own optimizer and those of its groups have in
 * common on the wire.  For settings.c and settings_group.c.
 */
#ifndef OPTD_CORE_SETTINGS_PARTS_H
#define OPTD_CORE_SETTINGS_PARTS_H

#include "server/core/settings.h"

/* Enough of a text to be looked up: what is cut matches nothing. */
void settings_name(struct msg_text text, char *to, size_t room);

/* Reads what was given over what the optimizer has; a schedule of no parts leaves it as it
 * is.  OPTD_HYPER and a sentence in why. */
int settings_read_hypers(const struct msg_hyper *hypers, uint32_t count, struct optim *optim, char *why,
                         size_t why_bytes);
int settings_read_schedule(const struct msg_schedule_part *given, uint32_t count, struct schedule *schedule,
                           char *why, size_t why_bytes);

/* The same the other way, in constant texts. */
struct msg_text settings_text_of(const char *constant);
void settings_tell_hyper(const struct optim *optim, uint32_t index, struct msg_hyper *out);
uint32_t settings_tell_schedule(const struct schedule *schedule, struct msg_schedule_part *out);

/* settings_finite.c: nonfinite and loss_scale.  What the worker says over what the config
 * has left open, then the defaults.  OPTD_HYPER and why for what does not go together. */
int settings_make_finite(const struct msg_open *open, struct model_settings *settings, char *why,
                         size_t why_bytes);
/* Whether what a worker names of them is the model's: OPTD_CONFLICT with both. */
int settings_compare_finite(const struct msg_open *open, const struct model_settings *has, char *why,
                            size_t why_bytes);

/* OPTD_CONFLICT, and the sentence that says it of any setting. */
int settings_conflict(char *why, size_t why_bytes, const char *what, const char *given, const char *has);

/* A worker's groups, read over the model's own optimizer.  OPTD_HYPER and why. */
int settings_read_groups(const struct msg_open *open, const struct optim *own, struct groups *groups,
                         char *why, size_t why_bytes);
/* As those of a model that begins, see optim_settle.  OPTD_HYPER and why. */
int settings_settle_groups(struct groups *groups, char *why, size_t why_bytes);
/* Whether the groups that a worker names are the model's: OPTD_CONFLICT with both. */
int settings_compare_groups(const struct msg_open *open, const struct model_settings *has, char *why,
                            size_t why_bytes);

/* What a model that is about to be made clips, of what its config says and the worker;
 * the mode is known.  OPTD_HYPER and why. */
int settings_read_clip(const struct msg_open *open, struct model_settings *settings, char *why,
                       size_t why_bytes);
/* Whether what a worker names is what the model has: OPTD_CONFLICT with both. */
int settings_compare_clip(const struct msg_open *open, const struct model_settings *has, char *why,
                          size_t why_bytes);

/* A worker's average, or none where it names none.  OPTD_HYPER and why. */
int settings_read_average(const struct msg_open *open, struct average *average, char *why, size_t why_bytes);
/* Whether what the worker names of it is the model's: OPTD_CONFLICT with both. */
int settings_compare_average(const struct msg_open *open, const struct model_settings *has, char *why,
                             size_t why_bytes);
void settings_tell_average(const struct average *average, struct msg_average *out);

#endif
