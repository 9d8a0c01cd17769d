/*
 * Gradients that are rejected while steps are decided as a whole, through windows that a push
 * does not fit: whoever hears of it makes the call again, and nobody waits for what was
 * taken back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define WORKERS 3
#define STEPS 15

static const struct plan plan = { .optimizer = "sgd", .workers = WORKERS, .mode = OPTD_SYNC,
	                          .nonfinite = OPTD_REJECT, .clip_norm = 0.5, .step_timeout_ms = 10000 };

struct worker {
	pthread_t thread;
	const char *endpoint;
	int32_t rank;
	struct trainer trainer;
	int rc;
	char error[1024];
};

/* In turn each worker's gradient is not finite at first, of every step. */
static int step(struct trainer *trainer)
{
	uint64_t elements = trainer_elements(), at = (trainer->step * 7919) % elements;
	int rc = OPTD_NOT_FINITE;

	trainer_gradient(trainer->gradient, trainer->weights, trainer->step, trainer->rank);
	if (trainer->step % WORKERS == (uint64_t)trainer->rank) {
		float was = trainer->gradient[at];
		trainer->gradient[at] = NAN;
		if (optd_push_pull(trainer->model, trainer->gradient, trainer->weights) != OPTD_NOT_FINITE)
			return OPTD_INTERNAL;
		trainer->gradient[at] = was;
	}
	while (rc == OPTD_NOT_FINITE)
		rc = optd_push_pull(trainer->model, trainer->gradient, trainer->weights);
	trainer->step++;
	return rc;
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	worker->rc = trainer_open(&worker->trainer, worker->endpoint, &plan, worker->rank);
	while (worker->rc == OPTD_OK && worker->trainer.step < STEPS)
		worker->rc = step(&worker->trainer);
	if (worker->rc != OPTD_OK)
		snprintf(worker->error, sizeof(worker->error), "%s", trainer_error(&worker->trainer));
	return NULL;
}

static void train(uint32_t lanes)
{
	static struct worker workers[WORKERS];
	struct daemon_process daemon;
	char path[128], count[16];

	daemon_init(&daemon);
	snprintf(path, sizeof(path), "%s/optd.yaml", daemon.directory);
	snprintf(count, sizeof(count), "%u", lanes);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("limits: {window: 1MiB, message: 512KiB}\n", file);
	fclose(file);
	assert_true(daemon_start_with(&daemon, (const char *[]){ "--config", path, "--listen",
		"tcp://127.0.0.1:0", "--lanes", count, NULL }));
	for (int32_t i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .endpoint = daemon.endpoints[0], .rank = i };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (int32_t i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int32_t i = 0; i < WORKERS; i++) {
		if (workers[i].rc != OPTD_OK)
			fail_msg("rank %d: %s", (int)i, workers[i].error);
		trainer_assert_exact(workers[i].trainer.weights, &plan, STEPS);
		trainer_close(&workers[i].trainer);
	}
	daemon_deinit(&daemon);
}

static void test_no_clipped_step_waits_for_what_was_taken_back(void **state)
{
	(void)state;
	train(1);
}

static void test_nor_does_one_of_two_lanes(void **state)
{
	(void)state;
	train(2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_clipped_step_waits_for_what_was_taken_back),
		cmocka_unit_test(test_nor_does_one_of_two_lanes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
