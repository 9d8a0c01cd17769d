/*
 * optctl: what its commands share.
 *
 * A command gets the options, the connected client and its own arguments, does
 * its work, prints to stdout what was asked for and to stderr what went wrong,
 * and returns the program's exit code.
 */
#ifndef OPTD_CLIENT_OPTCTL_H
#define OPTD_CLIENT_OPTCTL_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "client/optd.h"
#include "proto/limits.h"
#include "proto/nearest.h"

/* Exit codes; those of sysexits.h where it has them. */
enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_BAD_USAGE = 64,
	EXIT_NO_SERVER = 69,
};

/* As many as a message may have. */
#define OPTCTL_HYPERS 32

struct optctl {
	const char *server;
	uint32_t timeout_ms;
	int json; /* status */
	int yes;  /* drop: do not ask */
	int markdown; /* rules */
	int average;  /* export */
	const char *group; /* set; NULL: the model's own optimizer */
	int has_from;      /* set */
	uint64_t from;
	optd_hyper hypers[OPTCTL_HYPERS]; /* set */
	uint32_t hyper_count;
	optd_client *client;
};

/* Connects to these; where nobody listens it fails at once. */
int optctl_connect(struct optctl *ctl, const char *endpoints);

/* Of one model, or of all for NULL.  Of several servers of which one does not answer it tells
 * of the others, asked one by one. */
int optctl_status(struct optctl *ctl, const char *model);
/* The same when not all could be connected to. */
int optctl_status_apart(struct optctl *ctl, const char *model);
/* Without a server.  name may be NULL: all. */
int optctl_rules(const struct optctl *ctl, const char *name);
/* Before any server is asked: the model and NAME=VALUEs, which are cut up, into ctl. */
int optctl_set_parse(struct optctl *ctl, char **arguments);
/* What was parsed; failed says so of a model. */
int optctl_set(const struct optctl *ctl, const char *model,
               int (*failed)(const struct optctl *ctl, int status, const char *model));
/* The changes of a row, for programs; and printed for people. */
json_t *optctl_changes(const optd_status_row *row);
void optctl_print_changes(json_t *changes, uint32_t left_out);
/* Likewise the learning rates. */
json_t *optctl_rates(const optd_status_row *row);
void optctl_print_rates(json_t *rates);
int optctl_export(const struct optctl *ctl, const char *model, const char *path);

/* A name that no server knows, and the nearest of those tried; "" before there is one. */
struct optctl_likely {
	struct nearest nearest;
	char best[LIMIT_NAME_BYTES + 1];
};
void optctl_likely_try(struct optctl_likely *likely, const char *name);

/* Prints "optctl: TEXT" and returns the exit code for this status. */
int optctl_fail(int status, const char *text);

/* Prints a text that came from elsewhere: what would steer a terminal, and what is not
 * UTF-8, appears as \xNN for each byte. */
void optctl_text(FILE *file, const char *text);

/* "269,322" and "1.0 MiB" into text, which is returned. */
#define OPTCTL_NUMBER_BYTES 32
const char *optctl_count(uint64_t count, char *text);
const char *optctl_bytes(uint64_t bytes, char *text);

#endif
