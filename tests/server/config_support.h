/*
 * Config support: what every test of the configuration does, read a text as a
 * file and look at the outcome.
 */
#ifndef OPTD_TESTS_SERVER_CONFIG_SUPPORT_H
#define OPTD_TESTS_SERVER_CONFIG_SUPPORT_H

#include "server/config.h"

/* What was read last, and the sentence when it was refused. */
extern struct config config;
extern char why[CONFIG_WHY_BYTES];

/* Reads text as the file "c.yaml" over the defaults and completes it. */
int load(const char *text);

/* Fails the test unless text is read. */
void accepts(const char *text);

/* Fails the test unless text is refused with a sentence that begins with `place`
 * and holds `what`. */
void refuses(const char *text, const char *place, const char *what);

/* Fails the test unless what was read last, printed, is read as the same. */
void reads_back_the_same(void);

#endif
