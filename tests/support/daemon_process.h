/*
 * Daemon process: a real optd (environment OPTD_BIN) as a child of a test.
 *
 * Each has a temporary directory of its own, with its data directory, its
 * standard error, and sockets; the directory outlives the process, so a test
 * can kill a daemon and start its successor.  Nothing waits by sleeping: the
 * READY line, the end of the process and lines of the log are waited for with a
 * deadline.  A child dies with its test, whatever ends it.
 *
 * Functions that return bool say false for what a test may want to look at (an
 * exit before READY); all else that fails, fails the test.
 */
#ifndef OPTD_TEST_DAEMON_PROCESS_H
#define OPTD_TEST_DAEMON_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DAEMON_LANES 4
#define DAEMON_TEXT_BYTES 16384
/* Longer than anything a daemon does, sanitizers and a busy machine included. */
#define DAEMON_DEADLINE_MS 30000

struct daemon_process {
	char directory[64];
	char data[80], log[80]; /* paths below it */
	pid_t pid;              /* 0: not running */
	int output;             /* standard output */
	bool plain;             /* root's right to pass over permissions is left behind */
	uint32_t soft_descriptors, hard_descriptors; /* its RLIMIT_NOFILE; 0: the test's */
	int exit_code;          /* of the last one that ended; 128 + signal */
	char said[DAEMON_TEXT_BYTES]; /* standard output up to READY, or all of it */
	uint32_t endpoint_count;
	char endpoints[DAEMON_LANES][128];
};

/* Makes the directory; no process yet. */
void daemon_init(struct daemon_process *daemon);
/* Kills what still runs and removes the directory. */
void daemon_deinit(struct daemon_process *daemon);

/* Starts optd with these arguments (NULL-terminated) and --data-dir in front,
 * unless they name one.  True once it is READY; false when it has ended before,
 * with exit_code and said filled in. */
bool daemon_start_with(struct daemon_process *daemon, const char *const *arguments);
/* Starts it with this many lanes on free ports, or on sockets of the
 * directory.  It must become ready. */
void daemon_start_tcp(struct daemon_process *daemon, uint32_t lanes);
void daemon_start_ipc(struct daemon_process *daemon, uint32_t lanes);
/* Starts it with lanes, the first of which listens where the last one's did. */
void daemon_restart(struct daemon_process *daemon, uint32_t lanes);

void daemon_signal(const struct daemon_process *daemon, int signal_number);
/* Waits for its end and returns the exit code. */
int daemon_wait(struct daemon_process *daemon);
/* TERM, and the exit code; kill -9. */
int daemon_stop(struct daemon_process *daemon);
void daemon_kill(struct daemon_process *daemon);

/* Resident memory now, and the highest since daemon_reset_peak. */
uint64_t daemon_rss(const struct daemon_process *daemon);
uint64_t daemon_peak_rss(const struct daemon_process *daemon);
void daemon_reset_peak(const struct daemon_process *daemon);

/* All of the log, allocated; lines in it that hold a text; and waiting for so
 * many of them (false after the deadline). */
char *daemon_log_text(const struct daemon_process *daemon);
uint32_t daemon_log_count(const struct daemon_process *daemon, const char *text);
bool daemon_wait_log(const struct daemon_process *daemon, const char *text, uint32_t count);

/* Milliseconds of a clock that only goes forward. */
uint64_t daemon_now_ms(void);

/* Whether the programs are built with a sanitizer: figures about memory and
 * time then mean nothing. */
bool daemon_sanitized(void);

#endif
