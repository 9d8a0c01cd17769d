/*
 * Crew: a worker in a process of its own, so that it can be killed.
 *
 * It trains until it is killed or has made its steps, and tells the test of each
 * step it has made through a pipe.  It dies with the test.
 */
#ifndef OPTD_TEST_CREW_H
#define OPTD_TEST_CREW_H

#include <stdint.h>
#include <sys/types.h>

#include "tests/e2e/trainer.h"

struct crew {
	pid_t pid;
	int steps; /* one byte a step */
};

/* Starts a process that does this: work(argument, pipe), its result the exit status. */
void crew_fork(struct crew *crew, int (*work)(const void *argument, int steps),
               const void *argument);
/* Starts a worker that trains on its own up to step `until`. */
void crew_start(struct crew *crew, const char *endpoints, const struct plan *plan, int32_t rank,
                uint64_t until);
/* Waits until it has made so many more steps; fails the test when it ends before. */
void crew_wait_steps(struct crew *crew, uint32_t steps);
void crew_signal(const struct crew *crew, int signal_number);
/* kill -9. */
void crew_kill(struct crew *crew);
/* Waits for its end; its exit status, 0 when all steps were made. */
int crew_wait(struct crew *crew);

#endif
