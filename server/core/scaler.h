/*
 * Scaler: a loss scale that follows the steps of a model, bit for bit as
 * torch.amp.GradScaler's.
 *
 * After a step that was skipped it is multiplied with backoff_factor, after
 * growth_interval steps in a row that were not, with growth_factor.  It is a float32, as
 * there.  It never grows beyond what a float32 holds, as there; and it never falls below
 * the smallest normal one, where GradScaler would go on to 0, of which no gradient can be
 * divided.
 */
#ifndef OPTD_CORE_SCALER_H
#define OPTD_CORE_SCALER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/msg.h"

struct scaler {
	float scale;      /* of the step that is due; 0: the model has none */
	uint32_t tracker; /* steps since the scale last changed, none of them skipped */
	uint64_t steps;   /* that it has seen, of all */
};

/* Puts PyTorch's defaults where settings have 0.  OPTD_HYPER and a sentence in why for what
 * is out of range. */
int scaler_settings(struct msg_loss_scale *settings, char *why, size_t why_bytes);
/* "init_scale=65536 growth_factor=2 backoff_factor=0.5 growth_interval=2000", or "none". */
void scaler_text(const struct msg_loss_scale *settings, char *text, size_t text_bytes);

/* Before the first step; with settings that are not given, none. */
void scaler_begin(struct scaler *scaler, const struct msg_loss_scale *settings);
/* A step is complete. */
void scaler_update(struct scaler *scaler, const struct msg_loss_scale *settings, bool skipped);

#endif
