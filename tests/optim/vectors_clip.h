/* Replays the recorded cases of clipping. */
#ifndef OPTD_TESTS_VECTORS_CLIP_H
#define OPTD_TESTS_VECTORS_CLIP_H

#include <stddef.h>
#include <stdint.h>

#include "tests/support/vectors_set.h"

/* On each instruction set of the mask: 0, or -1 and what differs. */
int vectors_run_clip(const struct vectors *set, const struct vectors_case *row, uint32_t isas,
                     char *why, size_t why_bytes);

#endif
