/*
 * Scene: one daemon, one well-behaved worker, and what both must still look
 * like after an attack.
 *
 * The tests of a program share the scene, so what one leaves behind the next
 * one meets.  Bounds on time and memory are not claimed of sanitizers' builds.
 */
#ifndef OPTD_TEST_SCENE_H
#define OPTD_TEST_SCENE_H

#include <stdint.h>

#include "tests/e2e/worker.h"
#include "tests/support/daemon_process.h"

/* Answers to the worker: 99 of 100 within this. */
#define SCENE_P99_MS 1000.0
/* What an attack may add to the daemon's memory while it lasts, and what may be
 * left of it a little later. */
#define SCENE_FLOOD_BYTES (256ull << 20)
#define SCENE_LEFT_BYTES (64ull << 20)

struct scene {
	struct daemon_process daemon;
	struct worker worker;
	uint64_t calm_bytes; /* before any attack */
	uint64_t began_ms;   /* of the test */
};

/* For cmocka's group: starts and ends daemon and worker; the end is part of the
 * claim, TERM is answered by exit 0. */
int scene_open(void **state);
int scene_close(void **state);
/* For each test: marks the worker's calls and the daemon's memory; and makes the
 * claims above. */
int scene_begin(void **state);
int scene_end(void **state);

const char *scene_endpoint(const struct scene *scene);

#endif
