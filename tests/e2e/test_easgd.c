/*
 * easgd through the C library and a daemon: each worker is answered weights of its own, exactly
 * those of the rule's formula, with the commits in some one order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/limits.h"
#include "tests/e2e/crew.h"
#include "tests/support/daemon_process.h"

/* "a" fills the first block and begins the second, where "b" is. */
#define A (LIMIT_BLOCK_ELEMENTS + 5000u)
#define B 300u
#define N (A + B)
#define STEPS 12
#define ALPHA 0.3f

/* What a worker has pushed and was answered, for its test to see. */
struct diary {
	char endpoint[128];
	int32_t rank;
	float pushed[STEPS][N], answered[STEPS][N];
};

struct fixture {
	struct daemon_process daemon;
	struct diary *diaries; /* [2] shared with the workers' processes */
	optd_client *clients[2];
	optd_model *models[2];
	float *weights[2]; /* of each worker */
	float *centre;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	fixture->diaries = mmap(NULL, 2 * sizeof(struct diary), PROT_READ | PROT_WRITE,
	                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(fixture->diaries != MAP_FAILED);
	fixture->centre = calloc(N, sizeof(float));
	for (int i = 0; i < 2; i++)
		fixture->weights[i] = calloc(N, sizeof(float));
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < 2; i++) {
		optd_close(&fixture->clients[i]);
		free(fixture->weights[i]);
	}
	daemon_deinit(&fixture->daemon);
	munmap(fixture->diaries, 2 * sizeof(struct diary));
	free(fixture->centre);
	free(fixture);
	return 0;
}

/* A number in (-1, 1) that looks random. */
static float noise(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t z = (a * 0x9e3779b97f4a7c15u) ^ (b * 0xbf58476d1ce4e5b9u) ^ (c * 0x94d049bb133111ebu);

	z = (z ^ (z >> 31)) * 0xd6e8feb86659fd93u;
	z ^= z >> 32;
	return (float)((int32_t)(z & 0xffffff) - 0x800000) / (float)0x800000;
}

/* Stands for training by oneself. */
static void train(float *x, int32_t rank, uint64_t step)
{
	for (uint64_t i = 0; i < N; i++)
		x[i] = 0.95f * x[i] + 0.05f * noise(i, step, (uint64_t)rank);
}

static float elastic(float x, float *centre)
{
	float e = ALPHA * (x - *centre);

	*centre = *centre + e;
	return x - e;
}

/* "b" is under sgd where groups are wanted. */
static int open_model(const char *endpoint, int32_t rank, bool groups, optd_client **client, optd_model **model)
{
	static const optd_hyper alpha[] = { { "alpha", { (double)ALPHA }, 1 } }, lr[] = { { "lr", { 0.5 }, 1 } };
	static const optd_group list[] = { { .tensors = "b", .optimizer = "sgd", .hypers = lr, .hyper_count = 1 } };
	const optd_options options = { .rank = rank, .timeout_ms = DAEMON_DEADLINE_MS };
	const optd_open_options how = { .optimizer = "easgd",
		                        .hypers = alpha,
		                        .hyper_count = 1,
		                        .groups = groups ? list : NULL,
		                        .group_count = groups ? 1 : 0,
		                        .mode = OPTD_ASYNC,
		                        .workers = 2 };
	optd_layout *layout = optd_layout_new();

	optd_layout_add(layout, "a", (const uint64_t[]){ A }, 1);
	optd_layout_add(layout, "b", (const uint64_t[]){ B }, 1);
	int rc = optd_connect(endpoint, &options, client);
	if (rc == OPTD_OK)
		rc = optd_open(*client, "m", layout, &how, model);
	optd_layout_free(layout);
	return rc;
}

/* ---- two processes ------------------------------------------------------ */

static int work(const void *argument, int steps)
{
	struct diary *diary = (struct diary *)(uintptr_t)argument;
	static float x[N];
	optd_client *client = NULL;
	optd_model *model;

	(void)steps;
	int rc = open_model(diary->endpoint, diary->rank, false, &client, &model);
	if (rc == OPTD_OK)
		rc = optd_init(model, x);
	for (uint64_t step = 0; rc >= 0 && step < STEPS; step++) {
		train(x, diary->rank, step);
		memcpy(diary->pushed[step], x, sizeof(x));
		rc = optd_push_pull(model, x, x);
		memcpy(diary->answered[step], x, sizeof(x));
	}
	if (rc < 0)
		fprintf(stderr, "# rank %d: %s\n", diary->rank, optd_error(client));
	optd_close(&client);
	return rc < 0;
}

/* Whether this push, committed next, gives the answer that came. */
static bool is_next(const struct diary *diary, uint64_t step, const float *centre, uint64_t begin, uint64_t end)
{
	for (uint64_t i = begin; i < end; i++) {
		float c = centre[i], answer = elastic(diary->pushed[step][i], &c);

		if (memcmp(&answer, &diary->answered[step][i], sizeof(answer)) != 0)
			return false;
	}
	return true;
}

static void assert_one_order(const struct fixture *fixture, uint64_t begin, uint64_t end)
{
	uint64_t done[2] = { 0, 0 };

	while (done[0] + done[1] < 2 * STEPS) {
		int next = 0;
		while (next < 2 && (done[next] == STEPS || !is_next(&fixture->diaries[next], done[next],
		                                                    fixture->centre, begin, end)))
			next++;
		if (next == 2)
			fail_msg("after %llu and %llu pushes, neither worker's next answer follows",
			         (unsigned long long)done[0], (unsigned long long)done[1]);
		for (uint64_t i = begin; i < end; i++)
			elastic(fixture->diaries[next].pushed[done[next]][i], &fixture->centre[i]);
		done[next]++;
	}
}

static void test_answers_of_two_processes_are_those_of_one_order_of_commits(void **state)
{
	struct fixture *fixture = *state;
	struct crew crew[2];

	daemon_start_tcp(&fixture->daemon, 2);
	for (int i = 0; i < 2; i++) {
		struct diary *diary = &fixture->diaries[i];
		strcpy(diary->endpoint, fixture->daemon.endpoints[0]);
		diary->rank = i;
		crew_fork(&crew[i], work, diary);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(crew_wait(&crew[i]), 0);
	assert_one_order(fixture, 0, LIMIT_BLOCK_ELEMENTS);
	assert_one_order(fixture, LIMIT_BLOCK_ELEMENTS, N);
	/* A reader gets the centre that they have left. */
	assert_int_equal(open_model(fixture->daemon.endpoints[0], -1, false, &fixture->clients[0],
	                            &fixture->models[0]), OPTD_OK);
	assert_int_equal(optd_pull(fixture->models[0], fixture->weights[0], 0), OPTD_OK);
	assert_memory_equal(fixture->weights[0], fixture->centre, N * sizeof(float));
}

/* ---- turn by turn ------------------------------------------------------- */

static void open_both(struct fixture *fixture)
{
	for (int i = 0; i < 2; i++) {
		optd_close(&fixture->clients[i]);
		if (open_model(fixture->daemon.endpoints[0], i, true, &fixture->clients[i], &fixture->models[i]) < 0)
			fail_msg("%s", optd_error(fixture->clients[i]));
		assert_int_equal(optd_init(fixture->models[i], fixture->centre) >= 0, 1);
	}
}

/* One push of a worker, and its answer. */
static void take_turn(struct fixture *fixture, int rank, uint64_t step)
{
	float *x = fixture->weights[rank], *want = fixture->diaries[0].answered[0];

	train(x, rank, step);
	for (uint64_t i = 0; i < N; i++) {
		if (i < A)
			want[i] = elastic(x[i], &fixture->centre[i]);
		else
			want[i] = fixture->centre[i] = fixture->centre[i] - 0.5f * x[i];
	}
	if (optd_push_pull(fixture->models[rank], x, x) < 0)
		fail_msg("%s", optd_error(fixture->clients[rank]));
	assert_memory_equal(x, want, N * sizeof(float));
}

static void test_answers_go_on_after_restarts_with_other_lanes(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->daemon, 1);
	open_both(fixture);
	for (uint64_t step = 0; step < 3; step++)
		for (int i = 0; i < 2; i++)
			take_turn(fixture, i, step);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	daemon_start_tcp(&fixture->daemon, 2);
	open_both(fixture);
	for (uint64_t step = 3; step < 6; step++)
		for (int i = 1; i >= 0; i--)
			take_turn(fixture, i, step);
	assert_int_equal(optd_save(fixture->clients[0], "m"), OPTD_OK);
	daemon_kill(&fixture->daemon);
	daemon_restart(&fixture->daemon, 1);
	open_both(fixture);
	take_turn(fixture, 0, 6);
	assert_int_equal(optd_pull(fixture->models[1], fixture->weights[1], 0), OPTD_OK);
	assert_memory_equal(fixture->weights[1], fixture->centre, N * sizeof(float));
}

static void test_step_of_several_workers_is_refused(void **state)
{
	struct fixture *fixture = *state;
	optd_layout *layout = optd_layout_new();
	optd_open_options how = { .optimizer = "easgd", .mode = OPTD_SYNC, .workers = 2 };

	daemon_start_tcp(&fixture->daemon, 1);
	optd_layout_add(layout, "a", (const uint64_t[]){ 3 }, 1);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &(optd_options){ .rank = 0 },
	                              &fixture->clients[0]), OPTD_OK);
	assert_int_equal(optd_open(fixture->clients[0], "n", layout, &how, &fixture->models[0]), OPTD_HYPER);
	assert_non_null(strstr(optd_error(fixture->clients[0]), "answers each worker by itself: use mode async"));
	optd_layout_free(layout);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_answers_of_two_processes_are_those_of_one_order_of_commits),
		CASE(test_answers_go_on_after_restarts_with_other_lanes),
		CASE(test_step_of_several_workers_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
