/*
 * Options: the daemon's command line.
 *
 *	struct options options; (static: it is large)
 *	int code;
 *
 *	if (!options_parse(argc, argv, stdout, stderr, &options, &code))
 *		return code;
 *	return daemon_run(&options.config, options.isa);
 */
#ifndef OPTD_SERVER_OPTIONS_H
#define OPTD_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "optim/optim.h"
#include "server/config.h"

/* Of this daemon; the same as the client library's (a test compares). */
#define OPTIONS_VERSION "0.1.0"

/* How the daemon ends: sysexits.h where it has a fitting word. */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_USAGE = 64,       /* the command line */
	EXIT_INTERNAL = 70,    /* a bug */
	EXIT_SYSTEM = 71,      /* no memory, thread, socket */
	EXIT_DATA_DIR = 73,    /* another daemon holds the data directory */
	EXIT_STORAGE = 74,     /* reading or writing failed */
	EXIT_PERMISSIONS = 77, /* the system does not allow it */
	EXIT_BAD_CONFIG = 78,
};

struct options {
	struct config config; /* finished */
	enum optim_isa isa;   /* the best one, unless forced */
	bool isa_forced;
};

/* Reads the command line and the file it names.  True: run with *options.
 * False: all has been said, on out or err; end with *exit_code.  Uses getopt,
 * so one thread at a time.  *options keeps pointers into argv. */
bool options_parse(int argc, char **argv, FILE *out, FILE *err, struct options *options,
                   int *exit_code);

#endif
