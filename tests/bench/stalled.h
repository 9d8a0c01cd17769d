/*
 * Stalled: a second worker, in a process of its own, that can be stopped in the
 * middle of its work.  For the daemon this is the worst case in memory: the
 * other's gradients wait for a rank that is held, connected and silent.
 */
#ifndef OPTD_BENCH_STALLED_H
#define OPTD_BENCH_STALLED_H

#include <stddef.h>
#include <sys/types.h>

struct stalled {
	pid_t pid;
	int endpoint; /* write end: it waits to be told where the daemon is */
};

/* Forked: call it while the program has one thread. */
void stalled_start(struct stalled *stalled, size_t elements);

/* Trains the model with the other worker for `steps` steps, stops it, and goes on
 * alone until the daemon or the clock gives up.  gradient and weights are this
 * worker's.  The daemon then holds all it will ever hold for the two. */
void stalled_run(struct stalled *stalled, const char *endpoint, size_t elements,
                 const float *gradient, float *weights, int steps);

void stalled_end(struct stalled *stalled);

#endif
