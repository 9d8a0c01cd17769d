/*
 * Worker: a well-behaved client in the background, through the C library.
 *
 * It trains a small model step by step for as long as a test does what it does
 * to the daemon, and remembers how long each call took and what went wrong.
 */
#ifndef OPTD_TEST_WORKER_H
#define OPTD_TEST_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define WORKER_CALLS_MAX 60000
#define WORKER_ELEMENTS (200u * 1024u) /* two blocks */

struct worker {
	char endpoint[128];
	pthread_t thread;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t progress;
	/* under the lock */
	uint32_t calls; /* since worker_mark */
	uint32_t errors;
	float took_ms[WORKER_CALLS_MAX];
	char error[2048]; /* the first */
	uint64_t steps;   /* of its whole life */
};

struct worker_report {
	uint32_t calls, errors;
	double p99_ms, worst_ms;
};

/* Opens model "steady" (adam, sync, one worker) and begins; returns when the first step
 * is done.  Fails the test otherwise. */
void worker_start(struct worker *worker, const char *endpoint);
/* Forgets the calls so far. */
void worker_mark(struct worker *worker);
/* Waits until `calls` more are done. */
void worker_wait(struct worker *worker, uint32_t calls);
/* About the calls since worker_mark. */
struct worker_report worker_get_report(struct worker *worker);
/* Ends it; the number of steps it made. */
uint64_t worker_stop(struct worker *worker);

#endif
