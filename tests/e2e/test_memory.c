/*
 * A daemon's resident memory keeps to the formula: parameters x (1 + state
 * vectors) x 4; in sync an accumulator and a window for each rank where there
 * are several; and a window of replies in flight for each rank.  Ten percent and
 * 32 MiB on top of it are for the program itself.  With many tensors, and where
 * ranks come as they like, the formula is what STATUS says that the models take.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/optd.h"
#include "tests/e2e/crew.h"
#include "tests/support/daemon_process.h"

#define PARAMETERS (UINT64_C(16) << 20)
#define MODEL_BYTES (PARAMETERS * 4)
#define WINDOW_BYTES (UINT64_C(16) << 20)
#define STEPS 8
#define STEP_TIMEOUT_MS 2000

struct giant {
	const char *endpoint;
	int32_t rank;
	uint32_t workers;
	optd_mode mode; /* sync if not set */
	optd_client *client;
	optd_model *model;
	float *weights, *gradient;
};

static int giant_open(struct giant *giant)
{
	optd_options options = { .rank = giant->rank, .timeout_ms = 30000 };
	optd_open_options open = { .optimizer = "adam", .workers = giant->workers,
		                   .mode = giant->mode ? giant->mode : OPTD_SYNC,
		                   .step_timeout_ms = STEP_TIMEOUT_MS };
	optd_layout *layout = optd_layout_new();

	giant->weights = malloc(MODEL_BYTES);
	giant->gradient = malloc(MODEL_BYTES);
	for (uint64_t i = 0; i < PARAMETERS; i++)
		giant->weights[i] = giant->gradient[i] = (float)(i % 1000) * 0.001f;
	optd_layout_add(layout, "giant", (const uint64_t[]){ 4096, PARAMETERS / 4096 }, 2);
	int rc = optd_connect(giant->endpoint, &options, &giant->client);
	if (rc == OPTD_OK)
		rc = optd_open(giant->client, "giant", layout, &open, &giant->model);
	if (rc == OPTD_OK)
		rc = optd_init(giant->model, giant->weights);
	optd_layout_free(layout);
	return rc < 0 ? rc : OPTD_OK;
}

static void giant_close(struct giant *giant)
{
	optd_close(&giant->client);
	free(giant->weights);
	free(giant->gradient);
}

static int giant_step(struct giant *giant)
{
	return optd_push_pull(giant->model, giant->gradient, giant->weights);
}

/* In a process of its own. */
static int train(const void *argument, int steps)
{
	struct giant giant = *(const struct giant *)argument;

	int rc = giant_open(&giant);
	while (rc == OPTD_OK) {
		rc = giant_step(&giant);
		if (rc == OPTD_OK && write(steps, "", 1) != 1)
			break;
	}
	fprintf(stderr, "# rank %d: %s\n", giant.rank, optd_error(giant.client));
	return 1;
}

/* ---- the claim ---------------------------------------------------------- */

static uint64_t formula(uint32_t workers, uint32_t lanes)
{
	uint64_t bytes = 3 * MODEL_BYTES;
	uint64_t windows = workers * lanes * WINDOW_BYTES;

	if (workers > 1)
		bytes += MODEL_BYTES + windows;
	return bytes + windows;
}

static void assert_within(const struct daemon_process *daemon, uint32_t workers, uint32_t lanes,
                          const char *when)
{
	uint64_t allowed = formula(workers, lanes);
	uint64_t peak = daemon_peak_rss(daemon);

	allowed += allowed / 10 + (32u << 20);
	print_message("# %s: at most %.1f MiB resident, now %.1f, allowed %.1f\n", when,
	              (double)peak / 1048576.0, (double)daemon_rss(daemon) / 1048576.0,
	              (double)allowed / 1048576.0);
	if (!daemon_sanitized())
		assert_true(peak <= allowed);
}

static int set_up(void **state)
{
	struct daemon_process *daemon = calloc(1, sizeof(*daemon));

	assert_non_null(daemon);
	*state = daemon;
	daemon_init(daemon);
	return 0;
}

static int tear_down(void **state)
{
	daemon_deinit(*state);
	free(*state);
	return 0;
}

static void check_one_worker(struct daemon_process *daemon, uint32_t lanes)
{
	struct giant giant = { .endpoint = daemon->endpoints[0], .workers = 1 };

	assert_int_equal(giant_open(&giant), OPTD_OK);
	for (int i = 0; i < STEPS; i++)
		assert_int_equal(giant_step(&giant), OPTD_OK);
	assert_within(daemon, 1, lanes, "one worker");
	giant_close(&giant);
}

static void test_one_worker_keeps_to_the_formula(void **state)
{
	daemon_start_tcp(*state, 1);
	check_one_worker(*state, 1);
}

static void test_one_worker_on_two_lanes_keeps_to_the_formula(void **state)
{
	daemon_start_ipc(*state, 2);
	check_one_worker(*state, 2);
}

static void test_a_restart_keeps_to_the_formula(void **state)
{
	daemon_start_tcp(*state, 1);
	check_one_worker(*state, 1);
	assert_int_equal(daemon_stop(*state), 0);
	daemon_restart(*state, 1);
	assert_within(*state, 1, 1, "restored");
}

static void test_a_stopped_worker_keeps_to_the_formula(void **state)
{
	struct daemon_process *daemon = *state;
	struct giant mine = { .rank = 0, .workers = 2 }, other = { .rank = 1, .workers = 2 };
	struct crew crew;

	daemon_start_tcp(daemon, 1);
	mine.endpoint = other.endpoint = daemon->endpoints[0];
	crew_fork(&crew, train, &other);
	assert_int_equal(giant_open(&mine), OPTD_OK);
	for (int i = 0; i < STEPS; i++)
		assert_int_equal(giant_step(&mine), OPTD_OK);
	assert_within(daemon, 2, 1, "two workers");
	crew_signal(&crew, SIGSTOP);
	int rc = OPTD_OK;
	for (int i = 0; i < 3 && rc == OPTD_OK; i++)
		rc = giant_step(&mine);
	assert_int_equal(rc, OPTD_STEP_TIMEOUT);
	assert_within(daemon, 2, 1, "one of two stopped");
	crew_signal(&crew, SIGCONT);
	for (int i = 0; i < STEPS; i++)
		assert_int_equal(giant_step(&mine), OPTD_OK);
	assert_within(daemon, 2, 1, "gone on");
	crew_kill(&crew);
	giant_close(&mine);
}

/* ---- what STATUS says --------------------------------------------------- */

#define SCALARS 100000u
#define MODELS 6

static void add_bytes(void *sum, const optd_status_row *row)
{
	*(uint64_t *)sum += row->bytes;
}

static uint64_t said_bytes(optd_client *client)
{
	uint64_t sum = 0;

	assert_int_equal(optd_get_status(client, add_bytes, &sum), OPTD_OK);
	return sum;
}

static void assert_said(const struct daemon_process *daemon, optd_client *client)
{
	uint64_t said = said_bytes(client), peak = daemon_peak_rss(daemon);

	print_message("# at most %.1f MiB resident, %.1f said\n", (double)peak / 1048576.0,
	              (double)said / 1048576.0);
	if (!daemon_sanitized())
		assert_true(peak <= said + said / 10 + (32u << 20));
}

static optd_model *open_scalars(optd_client *client, int number)
{
	optd_layout *layout = optd_layout_new();
	optd_open_options open = { .optimizer = "sgd", .mode = OPTD_SYNC, .workers = 1 };
	optd_model *model = NULL;
	char name[16];

	for (uint32_t i = 0; i < SCALARS; i++) {
		snprintf(name, sizeof(name), "%x", i);
		assert_true(optd_layout_add(layout, name, NULL, 0) >= 0);
	}
	snprintf(name, sizeof(name), "m%d", number);
	assert_int_equal(optd_open(client, name, layout, &open, &model), OPTD_OK);
	optd_layout_free(layout);
	return model;
}

static void test_many_tensors_take_what_the_daemon_says(void **state)
{
	struct daemon_process *daemon = *state;
	optd_options options = { .rank = 0, .timeout_ms = 30000 };
	float *weights = calloc(SCALARS, sizeof(float));
	optd_client *client = NULL;

	daemon_start_tcp(daemon, 1);
	assert_int_equal(optd_connect(daemon->endpoints[0], &options, &client), OPTD_OK);
	for (int i = 0; i < MODELS; i++) {
		optd_model *model = open_scalars(client, i);
		assert_true(optd_init(model, weights) >= 0);
		assert_int_equal(optd_push_pull(model, weights, weights), OPTD_OK);
	}
	assert_said(daemon, client);
	optd_close(&client);
	free(weights);
}

static void test_ranks_of_an_async_model_take_what_the_daemon_says(void **state)
{
	struct daemon_process *daemon = *state;
	struct giant giants[4] = { { 0 } };
	uint64_t one = 0;

	daemon_start_tcp(daemon, 1);
	for (int i = 0; i < 4; i++) {
		giants[i] = (struct giant){ .endpoint = daemon->endpoints[0], .rank = i,
			                    .mode = OPTD_ASYNC };
		assert_int_equal(giant_open(&giants[i]), OPTD_OK);
		if (i == 0)
			one = said_bytes(giants[i].client);
	}
	/* Two windows each. */
	uint64_t more = said_bytes(giants[0].client) - one;
	assert_in_range(more, 3 * 2 * WINDOW_BYTES, 3 * 2 * WINDOW_BYTES + 1000000);
	for (int i = 0; i < STEPS; i++)
		assert_int_equal(giant_step(&giants[i % 4]), OPTD_OK);
	assert_said(daemon, giants[0].client);
	for (int i = 0; i < 4; i++)
		giant_close(&giants[i]);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_worker_keeps_to_the_formula),
		TEST(test_one_worker_on_two_lanes_keeps_to_the_formula),
		TEST(test_a_restart_keeps_to_the_formula),
		TEST(test_a_stopped_worker_keeps_to_the_formula),
		TEST(test_many_tensors_take_what_the_daemon_says),
		TEST(test_ranks_of_an_async_model_take_what_the_daemon_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
