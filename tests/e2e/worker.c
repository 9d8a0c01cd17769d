/* A thread that calls optd_push_pull. */
#include "tests/e2e/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/optd.h"
#include "tests/support/daemon_process.h"

/* What computing a gradient would take: the attacks shall find cores to run on. */
#define COMPUTE_NS 4000000

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void record(struct worker *worker, double took_ms, int rc, const char *error)
{
	pthread_mutex_lock(&worker->lock);
	if (rc < 0 && worker->errors++ == 0)
		snprintf(worker->error, sizeof(worker->error), "%s", error);
	if (worker->calls < WORKER_CALLS_MAX)
		worker->took_ms[worker->calls++] = (float)took_ms;
	worker->steps += rc >= OPTD_OK;
	pthread_cond_broadcast(&worker->progress);
	pthread_mutex_unlock(&worker->lock);
}

static void train(struct worker *worker, optd_client *client, optd_model *model, float *weights,
                  float *gradient)
{
	const struct timespec compute = { .tv_nsec = COMPUTE_NS };

	while (!atomic_load(&worker->stop)) {
		for (uint32_t i = 0; i < WORKER_ELEMENTS; i++)
			gradient[i] = 0.01f * weights[i] + 0.001f;
		double began_ms = now_ms();
		int rc = optd_push_pull(model, gradient, weights);
		record(worker, now_ms() - began_ms, rc, optd_error(client));
		if (rc < 0)
			return;
		nanosleep(&compute, NULL);
	}
}

static void *worker_main(void *argument)
{
	struct worker *worker = argument;
	float *weights = calloc(WORKER_ELEMENTS, sizeof(float));
	float *gradient = calloc(WORKER_ELEMENTS, sizeof(float));
	optd_client *client = NULL;
	optd_model *model;
	optd_layout *layout = optd_layout_new();

	optd_layout_add(layout, "steady.weight", (const uint64_t[]){ 200, 1023 }, 2);
	optd_layout_add(layout, "steady.bias", (const uint64_t[]){ 200 }, 1);
	int rc = optd_connect(worker->endpoint, &(optd_options){ .timeout_ms = 30000 }, &client);
	if (rc == OPTD_OK)
		rc = optd_open(client, "steady", layout, &(optd_open_options){ .optimizer = "adam" },
		               &model);
	if (rc == OPTD_OK)
		rc = optd_init(model, weights);
	if (rc >= 0)
		train(worker, client, model, weights, gradient);
	else
		record(worker, 0, rc, optd_error(client));
	optd_close(&client);
	optd_layout_free(layout);
	free(weights);
	free(gradient);
	return NULL;
}

void worker_start(struct worker *worker, const char *endpoint)
{
	memset(worker, 0, sizeof(*worker));
	snprintf(worker->endpoint, sizeof(worker->endpoint), "%s", endpoint);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->progress, NULL);
	assert_int_equal(pthread_create(&worker->thread, NULL, worker_main, worker), 0);
	worker_wait(worker, 1);
}

void worker_mark(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->calls = 0;
	pthread_mutex_unlock(&worker->lock);
}

void worker_wait(struct worker *worker, uint32_t calls)
{
	struct timespec deadline;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += DAEMON_DEADLINE_MS / 1000;
	pthread_mutex_lock(&worker->lock);
	uint64_t wanted = worker->steps + calls;
	while (worker->steps < wanted && worker->errors == 0 && rc == 0)
		rc = pthread_cond_timedwait(&worker->progress, &worker->lock, &deadline);
	pthread_mutex_unlock(&worker->lock);
	if (worker->errors > 0)
		fail_msg("the worker's call failed: %s", worker->error);
	assert_int_equal(rc, 0);
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

struct worker_report worker_get_report(struct worker *worker)
{
	struct worker_report report;

	pthread_mutex_lock(&worker->lock);
	report = (struct worker_report){ .calls = worker->calls, .errors = worker->errors };
	qsort(worker->took_ms, worker->calls, sizeof(float), compare);
	if (worker->calls > 0) {
		report.p99_ms = (double)worker->took_ms[(uint64_t)worker->calls * 99 / 100];
		report.worst_ms = (double)worker->took_ms[worker->calls - 1];
	}
	pthread_mutex_unlock(&worker->lock);
	return report;
}

uint64_t worker_stop(struct worker *worker)
{
	atomic_store(&worker->stop, true);
	pthread_join(worker->thread, NULL);
	pthread_mutex_destroy(&worker->lock);
	pthread_cond_destroy(&worker->progress);
	return worker->steps;
}
