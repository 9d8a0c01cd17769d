/*
 * Arguments of the Fashion-MNIST example.
 */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/optd.h"

#define HYPERS_MAX 16

struct arguments {
	const char *server;
	const char *model;
	const char *data;
	int32_t rank;
	uint32_t workers;
	uint32_t epochs;
	uint32_t batch;
	uint32_t hidden;
	uint64_t seed;
	uint64_t steps; /* stop after so many; 0: after the epochs */
	uint32_t timeout_s; /* 0: the library's */
	bool quiet;
	optd_open_options open;
	optd_hyper hypers[HYPERS_MAX];
};

/* Reads the command line.  True: go on.  False: all has been said; end with
 * *exit_code. */
bool arguments_parse(int argc, char **argv, struct arguments *arguments, int *exit_code);

#endif
