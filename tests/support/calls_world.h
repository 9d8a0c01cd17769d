/*
 * Calls world: a client with one model of three tensors on a fake daemon, whose
 * update is w += g, as the tests of the library's calls want it.
 */
#ifndef OPTD_TEST_CALLS_WORLD_H
#define OPTD_TEST_CALLS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <poll.h>

#include "proto/status.h"

#include "client/optd.h"
#include "tests/support/fake_daemon.h"

/* Tensor a shares its block with the beginning of b; c has none of its own. */
#define A 1000u
#define B (2 * LIMIT_BLOCK_ELEMENTS)
#define C 17u
#define N (A + B + C)
#define BLOCKS 3

struct world {
	struct fake_daemon daemon;
	optd_client *client;
	optd_model *model;
	float *gradient, *weights;
	char noticed[2048];
};

/* The layout of these three. */
optd_layout *calls_layout(void);
/* For cmocka: a world in *state, its model opened and given weights 0, 1, 2 ...;
 * gradients are all 1. */
int calls_set_up(void **state);
/* The same on a daemon whose model has this policy for what is not finite, and keeps this loss
 * scale; 0: neither, as one that is older. */
int calls_set_up_policy(void **state, int nonfinite, int loss_scale);
int calls_tear_down(void **state);
/* Every weight is what it was at first plus `added`. */
void calls_expect_weights(const struct world *w, float added);
/* The step that is pushed next. */
uint64_t calls_step(const struct world *w);

#endif
