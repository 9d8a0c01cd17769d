/*
 * Clipping: what a model holds the norm of a step's gradient to.
 *
 *     clip_norm         the norm of all tensors together, as PyTorch's clip_grad_norm_
 *     clip_tensor_norm  each tensor's own, as Keras' clipnorm
 *     clip_norm_type    which norm; 2 unless given
 *
 * A model has one of the two or none.  The arithmetic is optim/clip.h's.
 */
#ifndef OPTD_CORE_CLIPPING_H
#define OPTD_CORE_CLIPPING_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/msg.h"

/* Whether there is anything to hold a norm to. */
bool clipping_on(const struct msg_clip *clip);

/* Which norm, also where none was named. */
double clipping_type(const struct msg_clip *clip);

/* Whether a model may have these, given its mode (MSG_MODE_UNSET: not known yet).
 * OPTD_HYPER and a sentence in why. */
int clipping_check(const struct msg_clip *clip, enum msg_mode mode, char *why, size_t why_bytes);

/* Whether this client can push to it: of a model that is shared among daemons it has to carry
 * the parts of norms between them.  OPTD_UNSUPPORTED and a sentence in why. */
int clipping_check_client(const struct msg_clip *clip, const struct msg_open *open, char *why,
                          size_t why_bytes);

/* A number with the fewest digits that read back the same; whole ones in full. */
#define CLIPPING_NUMBER_BYTES 32
void clipping_number(double value, char text[CLIPPING_NUMBER_BYTES]);

/* "; clip_norm=1 clip_norm_type=inf", or "". */
#define CLIPPING_TEXT_BYTES 128
void clipping_text(const struct msg_clip *clip, char text[CLIPPING_TEXT_BYTES]);

#endif
