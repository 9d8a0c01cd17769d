/*
 * Replays the cases of a set of vectors through optim_scalars and optim_step,
 * the entry that the server calls.
 */
#ifndef OPTD_TESTS_VECTORS_REPLAY_H
#define OPTD_TESTS_VECTORS_REPLAY_H

#include "optim/optim.h"
#include "tests/support/vectors_set.h"

/* A bit for each instruction set of this machine, or for the named one only;
 * 0 when it has no such one. */
uint32_t vectors_isas(const char *name);

/* Why a case cannot be replayed, or NULL. */
const char *vectors_skip_reason(const struct vectors_case *row);

/* All replays of a case: each match value it stands for, each instruction set of
 * the mask, with the elements in one piece and in irregular pieces.  0 when all
 * gave the recorded numbers, else -1 and what differs. */
int vectors_run_case(const struct vectors *set, const struct vectors_case *row, uint32_t isas,
                     char *why, size_t why_bytes);

#endif
