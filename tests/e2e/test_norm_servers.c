/*
 * Models that clip the norm of a step's gradient and are shared among servers: what one
 * server knows of a norm its workers carry to the others, whatever stops or dies meanwhile.
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

#include "tests/e2e/crew.h"
#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define SERVERS 3
#define STEPS 8
#define STEP_TIMEOUT_MS 1500

/* Both limits are met in every step, and of the tensors by some: two lie on two servers. */
static const struct plan whole = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC, .clip_norm = 0.5 };
static const struct plan each = { .optimizer = "sgd", .workers = 2, .mode = OPTD_SYNC,
	                          .clip_tensor_norm = 0.25, .clip_norm_type = 3 };
static const struct plan alone = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC, .clip_norm = 2,
	                           .clip_norm_type = 40 };

struct fixture {
	struct daemon_process daemons[SERVERS];
	uint32_t count;
	char endpoints[SERVERS * 128];
	struct team team;
	struct trainer trainer;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	trainer_close(&fixture->trainer);
	for (uint32_t i = 0; i < fixture->count; i++)
		daemon_deinit(&fixture->daemons[i]);
	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	free(fixture);
	return 0;
}

/* The first has most lanes: a server's lanes are its own affair. */
static void start(struct fixture *fixture, uint32_t servers)
{
	size_t size = 0;

	for (uint32_t i = 0; i < servers; i++) {
		daemon_init(&fixture->daemons[i]);
		fixture->count++;
		daemon_start_tcp(&fixture->daemons[i], i == 0 ? 2 : 1);
		size += (size_t)snprintf(fixture->endpoints + size, sizeof(fixture->endpoints) - size, "%s%s",
		                         i > 0 ? "," : "", fixture->daemons[i].endpoints[0]);
	}
}

static void pass_over(void *user, const optd_status_row *row)
{
	(void)user;
	(void)row;
}

static void wait_for_step(const struct fixture *fixture, uint64_t step)
{
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;
	optd_client *client;

	/* Status is an event to wait for. */
	assert_int_equal(optd_connect(fixture->daemons[0].endpoints[0], NULL, &client), OPTD_OK);
	while (atomic_load(&fixture->team.step) < step && daemon_now_ms() < deadline_ms)
		optd_get_status(client, pass_over, NULL);
	optd_close(&client);
	assert_true(atomic_load(&fixture->team.step) >= step);
}

/* ---- the bits ----------------------------------------------------------- */

static void exact(struct fixture *fixture, const struct plan *plan, uint32_t servers)
{
	start(fixture, servers);
	team_start(&fixture->team, fixture->endpoints, plan, STEPS);
	team_assert_exact(&fixture->team);
}

static void test_the_norm_of_all_is_exact_on_two_servers(void **state)
{
	exact(*state, &whole, 2);
}

static void test_the_norm_of_all_is_exact_on_three_servers(void **state)
{
	exact(*state, &whole, 3);
}

static void test_the_norm_of_a_tensor_on_two_servers_is_exact(void **state)
{
	exact(*state, &each, 2);
}

static void test_the_norm_of_each_tensor_is_exact_on_three_servers(void **state)
{
	exact(*state, &each, 3);
}

static void test_a_norm_that_is_not_finite_skips_the_step_on_all_servers(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	uint64_t elements = trainer_elements();
	float *before = malloc(elements * sizeof(float));
	optd_step_outcome outcome;

	assert_non_null(before);
	start(fixture, 2);
	assert_int_equal(trainer_open(trainer, fixture->endpoints, &alone, 0), OPTD_OK);
	memcpy(before, trainer->weights, elements * sizeof(float));
	memset(trainer->gradient, 0, elements * sizeof(float));
	trainer->gradient[elements - 1] = 3e38f; /* to the 40th: beyond a double; on the second */
	trainer->gradient[0] = 1;
	assert_int_equal(optd_push_pull(trainer->model, trainer->gradient, trainer->weights), OPTD_SKIPPED);
	assert_int_equal(optd_last_step(trainer->model, &outcome), 0);
	assert_true(outcome.skipped && outcome.rank == OPTD_NO_WORKER);
	assert_memory_equal(before, trainer->weights, elements * sizeof(float));
	trainer->gradient[elements - 1] = 4;
	assert_int_equal(optd_push_pull(trainer->model, trainer->gradient, trainer->weights), OPTD_OK);
	/* lr 0.1, and 2 / 4 of it: the large one is on the second, the small one on the first. */
	assert_true(trainer->weights[0] != before[0]);
	assert_true(trainer->weights[elements - 1] != before[elements - 1]);
	free(before);
}

/* ---- what stops and dies ------------------------------------------------ */

static void test_servers_that_stop_in_the_middle_of_steps_cost_no_bit(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, 2);
	team_start(&fixture->team, fixture->endpoints, &each, 10 * STEPS);
	for (uint32_t i = 0; i < 4; i++) {
		struct daemon_process *daemon = &fixture->daemons[i % 2];
		wait_for_step(fixture, (i + 1) * STEPS);
		assert_int_equal(daemon_stop(daemon), 0);
		daemon_restart(daemon, 1 + i % 2);
	}
	team_assert_exact(&fixture->team);
}

static void test_all_servers_may_stop_at_once(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, 2);
	team_start(&fixture->team, fixture->endpoints, &whole, 10 * STEPS);
	for (uint32_t i = 0; i < 4; i++) {
		wait_for_step(fixture, (i + 1) * STEPS);
		daemon_signal(&fixture->daemons[0], SIGTERM);
		daemon_signal(&fixture->daemons[1], SIGTERM);
		assert_int_equal(daemon_wait(&fixture->daemons[1]), 0);
		assert_int_equal(daemon_wait(&fixture->daemons[0]), 0);
		daemon_restart(&fixture->daemons[1], 2);
		daemon_restart(&fixture->daemons[0], 1);
	}
	team_assert_exact(&fixture->team);
}

static void test_a_worker_that_is_killed_is_followed_by_another(void **state)
{
	struct fixture *fixture = *state;
	struct crew other;

	start(fixture, 2);
	for (uint32_t i = 0; i < 3; i++) {
		crew_start(&other, fixture->endpoints, &whole, 1, 100 * STEPS);
		if (i == 0)
			assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &whole, 0), OPTD_OK);
		trainer_run(&fixture->trainer, (i + 1) * STEPS);
		crew_kill(&other);
	}
	/* The last one may have been killed in the middle of the step that is due. */
	crew_start(&other, fixture->endpoints, &whole, 1, 4 * STEPS);
	trainer_run(&fixture->trainer, 4 * STEPS);
	assert_int_equal(crew_wait(&other), 0);
	trainer_assert_exact(fixture->trainer.weights, &whole, 4 * STEPS);
}

/* Steps that one server repeats are not those of the other, as of any model of several
 * servers; but nobody is left waiting for parts of norms that are gone. */
static void test_a_server_that_is_killed_repeats_steps_and_training_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	struct plan plan = whole;
	optd_client *client;
	uint64_t step;

	plan.workers = 1;
	start(fixture, 2);
	assert_int_equal(trainer_open(trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(trainer, STEPS);
	assert_int_equal(optd_connect(fixture->endpoints, NULL, &client), OPTD_OK);
	assert_int_equal(optd_save(client, NULL), OPTD_OK);
	optd_close(&client);
	trainer_run(trainer, 2 * STEPS);
	daemon_kill(&fixture->daemons[1]);
	daemon_restart(&fixture->daemons[1], 1);
	assert_int_equal(trainer_step(trainer), OPTD_ROLLBACK);
	assert_int_equal(optd_resume_model(trainer->model, &step), OPTD_OK);
	assert_int_equal(step, STEPS);
	assert_int_equal(optd_pull(trainer->model, trainer->weights, 0), OPTD_OK);
	trainer->step = step;
	trainer_run(trainer, 3 * STEPS);
}

static void test_a_server_that_hangs_is_a_timeout_and_the_same_call_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	struct plan plan = whole;

	plan.workers = 1;
	plan.step_timeout_ms = STEP_TIMEOUT_MS;
	plan.timeout_ms = 2 * STEP_TIMEOUT_MS;
	start(fixture, 2);
	assert_int_equal(trainer_open(trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(trainer, STEPS);
	daemon_signal(&fixture->daemons[1], SIGSTOP);
	assert_true(trainer_step(trainer) == OPTD_STEP_TIMEOUT || trainer_step(trainer) == OPTD_TIMEOUT);
	daemon_signal(&fixture->daemons[1], SIGCONT);
	trainer_run(trainer, 2 * STEPS);
	trainer_assert_exact(trainer->weights, &plan, 2 * STEPS);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_norm_of_all_is_exact_on_two_servers),
		TEST(test_the_norm_of_all_is_exact_on_three_servers),
		TEST(test_the_norm_of_a_tensor_on_two_servers_is_exact),
		TEST(test_the_norm_of_each_tensor_is_exact_on_three_servers),
		TEST(test_a_norm_that_is_not_finite_skips_the_step_on_all_servers),
		TEST(test_servers_that_stop_in_the_middle_of_steps_cost_no_bit),
		TEST(test_all_servers_may_stop_at_once),
		TEST(test_a_worker_that_is_killed_is_followed_by_another),
		TEST(test_a_server_that_is_killed_repeats_steps_and_training_goes_on),
		TEST(test_a_server_that_hangs_is_a_timeout_and_the_same_call_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
