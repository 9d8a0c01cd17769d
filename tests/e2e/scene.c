/* Set-up, tear-down and the claims in between. */
#include "tests/e2e/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Steps the worker must still make after an attack. */
#define STEPS_AFTER 20
#define CALM_MS 3000

static void allow_descriptors(void)
{
	struct rlimit limit;

	/* Both ends of a thousand connections: the daemon inherits it. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max < 16384 ? limit.rlim_max : 16384;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int scene_open(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	allow_descriptors();
	daemon_init(&scene->daemon);
	*state = scene;
	daemon_start_tcp(&scene->daemon, 1);
	worker_start(&scene->worker, scene_endpoint(scene));
	worker_wait(&scene->worker, STEPS_AFTER);
	scene->calm_bytes = daemon_rss(&scene->daemon);
	return 0;
}

int scene_close(void **state)
{
	struct scene *scene = *state;

	uint64_t steps = worker_stop(&scene->worker);
	uint64_t left = daemon_rss(&scene->daemon) - scene->calm_bytes;
	uint32_t warnings = daemon_log_count(&scene->daemon, " warn ");
	int exit_code = daemon_stop(&scene->daemon);
	print_message("# %llu steps, %.1f MiB left over, %u warnings\n", (unsigned long long)steps,
	              (double)left / 1048576.0, warnings);
	daemon_deinit(&scene->daemon);
	free(scene);
	return exit_code;
}

int scene_begin(void **state)
{
	struct scene *scene = *state;

	scene->began_ms = daemon_now_ms();
	daemon_reset_peak(&scene->daemon);
	worker_mark(&scene->worker);
	return 0;
}

/* Memory is given back within a second or so: steps pass meanwhile. */
static int64_t wait_for_calm(struct scene *scene)
{
	uint64_t deadline_ms = daemon_now_ms() + CALM_MS;
	int64_t left;

	while ((left = (int64_t)daemon_rss(&scene->daemon) - (int64_t)scene->calm_bytes) >=
	               (int64_t)SCENE_LEFT_BYTES &&
	       daemon_now_ms() < deadline_ms)
		worker_wait(&scene->worker, STEPS_AFTER);
	return left;
}

int scene_end(void **state)
{
	struct scene *scene = *state;

	worker_wait(&scene->worker, STEPS_AFTER);
	struct worker_report report = worker_get_report(&scene->worker);
	int64_t peak = (int64_t)daemon_peak_rss(&scene->daemon) - (int64_t)scene->calm_bytes;
	int64_t left = daemon_sanitized() ? 0 : wait_for_calm(scene);
	print_message("# %.1f s, memory %+.1f MiB at most, %+.1f MiB after; worker: %u calls, p99 %.1f ms, "
	              "worst %.1f ms\n",
	              (double)(daemon_now_ms() - scene->began_ms) / 1e3, (double)peak / 1048576.0,
	              (double)left / 1048576.0, report.calls, report.p99_ms, report.worst_ms);
	assert_int_equal(report.errors, 0);
	if (daemon_sanitized())
		return 0;
	assert_true(report.p99_ms < SCENE_P99_MS);
	assert_true(peak < (int64_t)SCENE_FLOOD_BYTES);
	assert_true(left < (int64_t)SCENE_LEFT_BYTES);
	return 0;
}

const char *scene_endpoint(const struct scene *scene)
{
	return scene->daemon.endpoints[0];
}
