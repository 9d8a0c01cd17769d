/*
 * Optctl process: a real optctl (environment OPTCTL_BIN) run by a test.
 */
#ifndef OPTD_TEST_OPTCTL_PROCESS_H
#define OPTD_TEST_OPTCTL_PROCESS_H

#include <stddef.h>

/* Runs it through a shell with these arguments, without a terminal, both outputs in
 * `out` (cut to fit), and returns its exit code. */
int optctl_run(char *out, size_t out_bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with shell commands in front: "ulimit -f 1; ". */
int optctl_run_under(const char *before, char *out, size_t out_bytes, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
