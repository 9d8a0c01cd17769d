/*
 * Models that clip the norm of a step's gradient: real lanes that decide together,
 * restarts with other lanes, and the bits of plain arithmetic.  ThreadSanitizer looks at
 * this program's daemon in `make check`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/kept.h"
#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define STEPS 6

/* Both limits are met in every step, and of the tensors by some. */
static const struct plan whole = { .optimizer = "sgd", .workers = 2, .mode = OPTD_SYNC, .clip_norm = 0.5 };
static const struct plan each = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC,
	                          .clip_tensor_norm = 0.25, .clip_norm_type = 3 };
static const struct plan alone = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC, .clip_norm = 2,
	                           .clip_norm_type = 40 };

struct fixture {
	struct daemon_process daemon;
	struct team team;
	struct trainer trainer;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	daemon_deinit(&fixture->daemon);
	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	free(fixture);
	return 0;
}

static void train(struct fixture *fixture, const struct plan *plan, uint64_t until)
{
	team_start(&fixture->team, fixture->daemon.endpoints[0], plan, until);
	team_assert_exact(&fixture->team);
}

struct counts {
	uint32_t lanes;
	uint64_t clipped, overflowed;
	double norm, factor;
};

static void count(void *user, const optd_status_row *row)
{
	struct counts *counts = user;

	counts->lanes++;
	counts->clipped += row->clipped;
	counts->overflowed += row->overflowed;
	counts->norm = row->last_norm;
	counts->factor = row->last_factor;
}

static struct counts ask(const struct fixture *fixture)
{
	struct counts counts = { 0 };
	optd_client *client;

	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], NULL, &client), OPTD_OK);
	assert_int_equal(optd_get_status(client, count, &counts), OPTD_OK);
	optd_close(&client);
	return counts;
}

/* Asks until the team has made so many steps: status is an event to wait for, too. */
static void wait_for_step(const struct fixture *fixture, uint64_t step)
{
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;

	while (atomic_load(&fixture->team.step) < step && daemon_now_ms() < deadline_ms)
		ask(fixture);
	assert_true(atomic_load(&fixture->team.step) >= step);
}

/* ---- the bits ----------------------------------------------------------- */

static void exact_over_restarts(struct fixture *fixture, const struct plan *plan)
{
	for (uint32_t lanes = 1; lanes <= 3; lanes++) {
		daemon_start_tcp(&fixture->daemon, lanes);
		train(fixture, plan, lanes * STEPS);
		struct counts counts = ask(fixture);
		assert_int_equal(counts.lanes, lanes);
		assert_int_equal(counts.clipped, lanes * STEPS);
		assert_int_equal(counts.overflowed, 0);
		assert_int_equal(daemon_stop(&fixture->daemon), 0);
	}
}

static void test_the_norm_of_all_is_exact_over_restarts_with_other_lanes(void **state)
{
	exact_over_restarts(*state, &whole);
}

static void test_the_norm_of_each_tensor_is_exact_over_restarts_with_other_lanes(void **state)
{
	exact_over_restarts(*state, &each);
}

static void test_the_step_of_one_worker_is_clipped_too(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = whole;

	plan.workers = 1;
	daemon_start_tcp(&fixture->daemon, 3);
	train(fixture, &plan, STEPS);
}

static void test_saving_again_and_again_leaves_one_version_and_the_bits(void **state)
{
	struct fixture *fixture = *state;
	char path[128];
	optd_client *client;

	daemon_start_tcp(&fixture->daemon, 3);
	team_start(&fixture->team, fixture->daemon.endpoints[0], &whole, 5 * STEPS);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], NULL, &client), OPTD_OK);
	snprintf(path, sizeof(path), "%s/models/m.safetensors", fixture->daemon.data);
	while (atomic_load(&fixture->team.step) < 5 * STEPS) {
		if (optd_save(client, NULL) < 0 || atomic_load(&fixture->team.step) == 0)
			continue;
		struct kept kept = kept_versions(path);
		assert_int_equal(kept.lowest, kept.highest);
	}
	optd_close(&client);
	team_assert_exact(&fixture->team);
}

/* Whatever step is under way, and wherever its decision is. */
static void test_stopping_in_the_middle_leaves_one_version_and_the_bits(void **state)
{
	struct fixture *fixture = *state;
	const uint64_t until = 12 * STEPS;
	char path[128];

	snprintf(path, sizeof(path), "%s/models/m.safetensors", fixture->daemon.data);
	daemon_start_tcp(&fixture->daemon, 3);
	team_start(&fixture->team, fixture->daemon.endpoints[0], &each, until);
	for (uint32_t lanes = 1; lanes <= 3; lanes++) {
		wait_for_step(fixture, lanes * 2 * STEPS);
		assert_int_equal(daemon_stop(&fixture->daemon), 0);
		struct kept kept = kept_versions(path);
		assert_int_equal(kept.lowest, kept.highest);
		assert_in_range(kept.lowest, lanes * 2 * STEPS, until);
		daemon_restart(&fixture->daemon, lanes);
	}
	team_assert_exact(&fixture->team);
}

/* ---- what is not finite ------------------------------------------------- */

static void test_a_norm_that_is_not_finite_updates_nothing_and_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	uint64_t elements = trainer_elements();
	float *before = malloc(elements * sizeof(float));
	optd_step_outcome outcome;
	char out[8192];

	assert_non_null(before);
	daemon_start_tcp(&fixture->daemon, 2);
	assert_int_equal(trainer_open(trainer, fixture->daemon.endpoints[0], &alone, 0), OPTD_OK);
	memcpy(before, trainer->weights, elements * sizeof(float));
	memset(trainer->gradient, 0, elements * sizeof(float));
	trainer->gradient[elements - 1] = 3e38f; /* to the 40th: beyond a double */
	assert_int_equal(optd_push_pull(trainer->model, trainer->gradient, trainer->weights), OPTD_SKIPPED);
	assert_int_equal(optd_last_step(trainer->model, &outcome), 0);
	assert_true(outcome.skipped && outcome.rank == OPTD_NO_WORKER && outcome.tensor[0] == '\0');
	assert_memory_equal(before, trainer->weights, elements * sizeof(float));
	struct counts counts = ask(fixture);
	assert_int_equal(counts.overflowed, 2); /* on both lanes */
	assert_true(isinf(counts.norm) && counts.factor == 0);
	trainer->gradient[elements - 1] = 4;
	assert_int_equal(optd_push_pull(trainer->model, trainer->gradient, trainer->weights), OPTD_OK);
	assert_true(trainer->weights[elements - 1] != before[elements - 1]);
	free(before);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "step        2\n"));
	assert_non_null(strstr(out, "last norm 4, times 0.5; 1 step clipped, 1 not finite and skipped"));
	assert_non_null(strstr(out, "1 step skipped, the last was step 0, whose norm was not finite"));
	assert_non_null(strstr(out, "; clip_norm=2 clip_norm_type=40"));
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status --json", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "\"last_norm\": 4.0"));
	assert_non_null(strstr(out, "\"overflowed\": 1"));
	assert_non_null(strstr(out, "\"rank\": null"));
}

/* ---- settings ----------------------------------------------------------- */

static void refused(struct fixture *fixture, const struct plan *plan, const char *endpoints, int status,
                    const char *words)
{
	trainer_close(&fixture->trainer);
	assert_int_equal(trainer_open(&fixture->trainer, endpoints, plan, 0), status);
	if (strstr(trainer_error(&fixture->trainer), words) == NULL)
		fail_msg("'%s' is not in: %s", words, trainer_error(&fixture->trainer));
}

static void test_what_cannot_be_clipped_is_refused_in_a_sentence(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = whole;

	daemon_start_tcp(&fixture->daemon, 1);
	plan.mode = OPTD_ASYNC;
	refused(fixture, &plan, fixture->daemon.endpoints[0], OPTD_HYPER, "the mode is async");
	plan = whole;
	plan.clip_tensor_norm = 1;
	refused(fixture, &plan, fixture->daemon.endpoints[0], OPTD_HYPER, "a model has one of them");
	plan = whole;
	plan.clip_norm = -3;
	refused(fixture, &plan, fixture->daemon.endpoints[0], OPTD_HYPER, "clip_norm is -3");
	plan.clip_norm = 1;
	plan.clip_norm_type = NAN;
	refused(fixture, &plan, fixture->daemon.endpoints[0], OPTD_HYPER, "clip_norm_type is nan");
}

static void test_the_configs_limit_holds_for_a_worker_that_names_none(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = whole;
	char path[128];

	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("models: [{name: m, clip_norm: 0.5}]\n", file);
	fclose(file);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){
		"--config", path, "--listen", "tcp://127.0.0.1:0", "--lanes", "3", NULL }));
	plan.workers = 1;
	plan.clip_norm = 0;
	assert_int_equal(trainer_open(&fixture->trainer, fixture->daemon.endpoints[0], &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, STEPS);
	plan.clip_norm = 0.5;
	trainer_assert_exact(fixture->trainer.weights, &plan, STEPS);
	plan.clip_norm = 0.75;
	refused(fixture, &plan, fixture->daemon.endpoints[0], OPTD_CONFLICT,
	        "clip_norm: 0.75 is asked for, the model has 0.5");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_norm_of_all_is_exact_over_restarts_with_other_lanes),
		TEST(test_the_norm_of_each_tensor_is_exact_over_restarts_with_other_lanes),
		TEST(test_the_step_of_one_worker_is_clipped_too),
		TEST(test_saving_again_and_again_leaves_one_version_and_the_bits),
		TEST(test_stopping_in_the_middle_leaves_one_version_and_the_bits),
		TEST(test_a_norm_that_is_not_finite_updates_nothing_and_is_told),
		TEST(test_what_cannot_be_clipped_is_refused_in_a_sentence),
		TEST(test_the_configs_limit_holds_for_a_worker_that_names_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
