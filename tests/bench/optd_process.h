/*
 * An optd daemon as a process of its own, with a directory that goes with it.
 */
#ifndef OPTD_BENCH_OPTD_PROCESS_H
#define OPTD_BENCH_OPTD_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

#include "proto/limits.h"

struct optd_process {
	pid_t pid;
	char endpoint[LIMIT_ENDPOINT_BYTES];
	char directory[256]; /* config, log, data */
};

/* Starts $OPTD_BIN, or the daemon built beside this program, listening on
 * `listen` with a window of window_bytes and without checkpoints, its directory
 * in `parent`, and waits until it is ready.  It ends with the program.  Dies if
 * it does not start. */
void optd_process_start(struct optd_process *process, const char *listen, const char *parent,
                        size_t window_bytes);

/* TERM; dies if the daemon then ends with an error.  Its directory stays. */
void optd_process_stop(struct optd_process *process);

#endif
