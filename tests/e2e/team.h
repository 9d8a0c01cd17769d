/*
 * Team: all workers of a plan, each a thread with a client of its own.
 */
#ifndef OPTD_TEST_TEAM_H
#define OPTD_TEST_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/e2e/trainer.h"

#define TEAM_MAX 4

struct team;

struct member {
	struct team *team;
	pthread_t thread;
	int32_t rank;
	int rc;
	char error[1024];
	float *weights; /* at the end */
};

struct team {
	char endpoints[512];
	struct plan plan;
	uint64_t until;
	bool joined;
	atomic_uint_least64_t step; /* of rank 0 */
	struct member members[TEAM_MAX];
};

/* Starts all workers; each trains up to step `until`, or its first error. */
void team_start(struct team *team, const char *endpoints, const struct plan *plan, uint64_t until);
/* Waits for all of them, once; results are then in members.  A zeroed team has none. */
void team_join(struct team *team);
/* team_join; fails the test unless all succeeded and have the reference's weights. */
void team_assert_exact(struct team *team);
void team_free_weights(struct team *team);

#endif
