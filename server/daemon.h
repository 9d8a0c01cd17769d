/*
 * Daemon: the composition root.  Puts lanes, engines, checkpoints and signals
 * together, and takes them apart again in the right order.
 */
#ifndef OPTD_SERVER_DAEMON_H
#define OPTD_SERVER_DAEMON_H

#include "optim/optim.h"
#include "server/config.h"

/* Runs until a signal ends it; returns the exit code.  Prints what it is to
 * stdout, last a line "READY endpoint [endpoint ...]", then logs to stderr.  TERM and
 * INT let answers go out, write checkpoints and end with 0; a second one ends
 * at once.  USR1 writes checkpoints now. */
int daemon_run(const struct config *config, enum optim_isa isa);

#endif
