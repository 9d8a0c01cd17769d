/*
 * A step that one of three workers poisons with NaN, under each policy: three real worker
 * processes, on one lane, on three, and on two daemons.  The model must be what plain
 * arithmetic makes it, every worker must be told, and nobody may wait.  And a loss scale
 * that the server keeps, over skipped steps and over a restart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "optim/optim.h"
#include "tests/e2e/speak.h"

#include "tests/e2e/crew.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define WORKERS 3
#define STEPS 8
#define BAD_STEP 3
#define BAD_RANK 1
/* In the first and the last blocks of the model, and several in one tensor. */
static const uint64_t bad_elements[] = { 5, 200000, 358420, 358421 };
#define BAD (sizeof(bad_elements) / sizeof(bad_elements[0]))
#define BAD_TENSOR "embed.weight"

static const optd_scaler scaler = { .init_scale = 1024, .growth_interval = 3 };

/* ---- the workers -------------------------------------------------------- */

struct task {
	char endpoints[300];
	struct plan plan;
	int32_t rank;
	uint64_t until;
	uint64_t bad_steps; /* a mask: BAD_RANK's gradient is not finite then */
	uint32_t shards; /* rows of status */
	int told[2]; /* a pipe: a byte for each of the others that has heard of it (reject) */
};

static bool is_bad(const struct task *task, uint64_t step)
{
	return task->bad_steps >> step & 1;
}

/* Why a worker gives up: its exit status. */
enum { AS_PROMISED = 0, NOT_OPENED = 10, FAILED, NOT_TOLD, TOLD_WRONG, CHANGED, NOT_REFUSED, WRONG_SCALE, WAITED };

/* Well below the 60 s of a step that lacks a worker. */
#define SOON_MS 10000

/* torch.amp.GradScaler, as one would write it down. */
struct expected {
	double scale;
	uint32_t good;
};

static void expect_next(struct expected *expected, bool skipped)
{
	expected->good = skipped ? 0 : expected->good + 1;
	if (skipped)
		expected->scale *= 0.5;
	if (expected->good < 3)
		return;
	expected->good = 0;
	expected->scale *= 2;
}

static int check_outcome(struct trainer *trainer, uint64_t step, int rc, bool skipped)
{
	optd_step_outcome outcome;

	if (optd_last_step(trainer->model, &outcome) != OPTD_OK || outcome.step != step)
		return TOLD_WRONG;
	if ((rc == OPTD_SKIPPED) != skipped || (outcome.skipped != 0) != skipped)
		return NOT_TOLD;
	if (skipped && (outcome.rank != BAD_RANK || strcmp(outcome.tensor, BAD_TENSOR) != 0))
		return TOLD_WRONG;
	bool zeroes = trainer->plan.nonfinite == OPTD_ZERO && trainer->rank == BAD_RANK;
	return outcome.zeroed == (zeroes && step == BAD_STEP ? BAD : 0) ? AS_PROMISED : TOLD_WRONG;
}

static void count_unchanged(void *user, const optd_status_row *row)
{
	uint32_t *rows = user;
	*rows += row->version == BAD_STEP && row->version_max == BAD_STEP;
}

/* Weights and versions, on all shards. */
static bool is_unchanged(struct trainer *trainer, const struct task *task)
{
	uint64_t bytes = trainer_elements() * sizeof(float);
	float *now = malloc(bytes);
	uint32_t unchanged = 0;

	bool same = now != NULL && optd_pull(trainer->model, now, 0) == OPTD_OK &&
	            memcmp(now, trainer->weights, bytes) == 0;
	free(now);
	return same && optd_get_status(trainer->client, count_unchanged, &unchanged) == OPTD_OK &&
	       unchanged == task->shards;
}

/* Under reject nothing is sent, and all others are told; nothing has changed when the worker
 * mends its gradient. */
static int refused(struct trainer *trainer, const struct task *task, const float *good)
{
	uint64_t began_ms = daemon_now_ms();
	int rc = optd_push_pull(trainer->model, trainer->gradient, trainer->weights);
	char byte;

	if (rc != OPTD_NOT_FINITE || strstr(trainer_error(trainer), "'" BAD_TENSOR "' is nan at index 4") == NULL)
		return NOT_REFUSED;
	for (int others = 1; others < WORKERS; others++) {
		if (read(task->told[0], &byte, 1) != 1)
			return NOT_TOLD;
	}
	if (daemon_now_ms() - began_ms > SOON_MS)
		return WAITED;
	if (!is_unchanged(trainer, task))
		return CHANGED;
	memcpy(trainer->gradient, good, trainer_elements() * sizeof(float));
	return AS_PROMISED;
}

/* Of another's: the call ends, and the arrays are as they were, also where both are one. */
static int heard(struct trainer *trainer, const struct task *task, const float *gradient, const float *weights)
{
	uint64_t bytes = trainer_elements() * sizeof(float), began_ms = daemon_now_ms();
	const char *const words[] = { "rank 1 (", "whose gradient was not finite, first in tensor '" BAD_TENSOR "'",
		                      "make the same call again to go on waiting for rank 1's" };
	float *target = trainer->rank == 0 ? trainer->gradient : trainer->weights;

	if (optd_push_pull(trainer->model, trainer->gradient, target) != OPTD_NOT_FINITE)
		return NOT_TOLD;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strstr(trainer_error(trainer), words[i]) == NULL)
			return TOLD_WRONG;
	}
	if (daemon_now_ms() - began_ms > SOON_MS)
		return WAITED;
	if (memcmp(trainer->gradient, gradient, bytes) != 0 || memcmp(trainer->weights, weights, bytes) != 0)
		return CHANGED;
	return write(task->told[1], "", 1) == 1 ? AS_PROMISED : FAILED;
}

static int step(struct trainer *trainer, const struct task *task, float *before, struct expected *expected)
{
	uint64_t elements = trainer_elements(), at = trainer->step;
	bool bad = is_bad(task, at);
	double scale = optd_loss_scale(trainer->model);

	if (task->plan.loss_scale && scale != expected->scale)
		return WRONG_SCALE;
	trainer_gradient(trainer->gradient, trainer->weights, at, trainer->rank);
	for (uint64_t i = 0; i < elements; i++)
		trainer->gradient[i] *= (float)scale;
	memcpy(before, trainer->gradient, elements * sizeof(float));
	for (size_t i = 0; bad && trainer->rank == BAD_RANK && i < BAD; i++)
		trainer->gradient[bad_elements[i]] = i % 2 == 0 ? NAN : -INFINITY;
	if (bad && task->plan.nonfinite == OPTD_REJECT) {
		int rc = trainer->rank == BAD_RANK ? refused(trainer, task, before)
		                                   : heard(trainer, task, before, trainer->weights);
		if (rc != AS_PROMISED)
			return rc;
	}
	memcpy(before, trainer->weights, elements * sizeof(float));
	/* One array for both, where that is. */
	float *target = trainer->rank == 0 ? trainer->gradient : trainer->weights;
	int rc = optd_push_pull(trainer->model, trainer->gradient, target);
	memmove(trainer->weights, target, rc < 0 ? 0 : elements * sizeof(float));
	if (rc < 0)
		return FAILED;
	trainer->step++;
	bool skips = bad && task->plan.nonfinite == OPTD_SKIP_STEP;
	if (skips && memcmp(before, trainer->weights, elements * sizeof(float)) != 0)
		return CHANGED;
	expect_next(expected, skips);
	return check_outcome(trainer, at, rc, skips);
}

static int work(const void *argument, int steps)
{
	const struct task *task = argument;
	struct trainer trainer;
	float *before = malloc(trainer_elements() * sizeof(float));
	struct expected expected = { .scale = task->plan.loss_scale ? scaler.init_scale : 1 };

	int rc = trainer_open(&trainer, task->endpoints, &task->plan, task->rank) < 0 ? NOT_OPENED : AS_PROMISED;
	while (rc == AS_PROMISED && trainer.step < task->until) {
		rc = step(&trainer, task, before, &expected);
		if (rc == AS_PROMISED && write(steps, "", 1) != 1)
			rc = FAILED;
	}
	if (rc != AS_PROMISED)
		fprintf(stderr, "# rank %d, step %llu: %d: %s\n", task->rank, (unsigned long long)trainer.step, rc,
		        trainer_error(&trainer));
	trainer_close(&trainer);
	free(before);
	return rc;
}

/* ---- what must come out ------------------------------------------------- */

/* Rank 1's gradient of a bad step: as it is under reject, which has it mended; with zeros. */
static void gradient_of(const struct task *task, float *gradient, const float *weights, uint64_t at,
                        int32_t rank)
{
	trainer_gradient(gradient, weights, at, rank);
	for (size_t i = 0; i < BAD && is_bad(task, at) && rank == BAD_RANK; i++) {
		if (task->plan.nonfinite == OPTD_ZERO)
			gradient[bad_elements[i]] = 0;
	}
}

/* Trains weights from the first ones with plain sgd in this process. */
static void train(const struct task *task, float *weights)
{
	uint64_t elements = trainer_elements(), updates = 0;
	float *arrays[3];
	const double lr = 0.05, momentum = 0.9;
	struct optim_carry carry = { { 0 } };
	struct optim_scalars scalars;
	struct optim optim;
	char why[256];

	assert_int_equal(optim_init(&optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	optim_set(&optim, "lr", &lr, 1, why, sizeof(why));
	optim_set(&optim, "momentum", &momentum, 1, why, sizeof(why));
	for (int i = 0; i < 3; i++)
		arrays[i] = calloc(elements, sizeof(float));
	trainer_first_weights(weights);
	for (uint64_t at = 0; at < task->until; at++) {
		if (is_bad(task, at) && task->plan.nonfinite == OPTD_SKIP_STEP)
			continue;
		for (int32_t rank = 0; rank < WORKERS; rank++) {
			const struct optim_gradient mine = { arrays[0], (float)(1.0 / WORKERS), DTYPE_F32 };
			gradient_of(task, arrays[0], weights, at, rank);
			if (rank == 0)
				optim_scale(OPTIM_ISA_BASE, arrays[1], mine, elements);
			else
				optim_fold(OPTIM_ISA_BASE, arrays[1], mine, elements);
		}
		optim_scalars(&optim, ++updates, &carry, &scalars);
		optim_step(&optim, OPTIM_ISA_BASE, &scalars, weights, &arrays[2], arrays[1], elements);
	}
	for (int i = 0; i < 3; i++)
		free(arrays[i]);
}

struct seen {
	const struct task *task;
	uint32_t rows;
	uint64_t zeroed;
};

/* Of every lane. */
static void look(void *user, const optd_status_row *row)
{
	struct seen *seen = user;
	const struct task *task = seen->task;
	uint64_t skips = 0, last = 0;

	for (uint64_t at = 0; at < task->until; at++) {
		bool skipped = is_bad(task, at) && task->plan.nonfinite == OPTD_SKIP_STEP;
		skips += skipped;
		last = skipped ? at : last;
	}
	seen->rows++;
	seen->zeroed += row->zeroed;
	assert_int_equal(row->version, task->until);
	assert_int_equal(row->version_max, task->until);
	assert_int_equal(row->nonfinite, task->plan.nonfinite);
	assert_int_equal(row->skipped, skips);
	if (skips == 0)
		return;
	assert_int_equal(row->skipped_step, last);
	assert_int_equal(row->skipped_rank, BAD_RANK);
	assert_string_equal(row->skipped_tensor, BAD_TENSOR);
}

static void assert_model(const struct task *task, uint32_t lanes)
{
	uint64_t bytes = trainer_elements() * sizeof(float);
	float *wanted = malloc(bytes);
	struct seen seen = { .task = task };
	struct trainer reader;

	if (trainer_open(&reader, task->endpoints, &task->plan, -1) < 0)
		fail_msg("%s", trainer_error(&reader));
	train(task, wanted);
	assert_memory_equal(reader.weights, wanted, bytes);
	assert_int_equal(optd_get_status(reader.client, look, &seen), OPTD_OK);
	assert_int_equal(seen.rows, lanes);
	assert_int_equal(seen.zeroed, task->plan.nonfinite == OPTD_ZERO ? BAD : 0);
	trainer_close(&reader);
	free(wanted);
}

/* ---- the cluster -------------------------------------------------------- */

struct fixture {
	struct daemon_process all[2];
	struct crew crews[WORKERS];
	struct trainer trainer;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	for (int i = 0; i < 2; i++)
		daemon_init(&fixture->all[i]);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < WORKERS; i++) {
		if (fixture->crews[i].pid > 0)
			crew_kill(&fixture->crews[i]);
	}
	trainer_close(&fixture->trainer);
	for (int i = 0; i < 2; i++)
		daemon_deinit(&fixture->all[i]);
	free(fixture);
	return 0;
}

static struct task start(struct fixture *fixture, int daemons, uint32_t lanes)
{
	struct task task = { .plan = { .optimizer = "sgd", .workers = WORKERS, .mode = OPTD_SYNC }, .until = STEPS };
	size_t used = 0;

	for (int i = 0; i < daemons; i++) {
		daemon_start_tcp(&fixture->all[i], lanes);
		used += (size_t)snprintf(task.endpoints + used, sizeof(task.endpoints) - used, "%s%s", i > 0 ? "," : "",
		                         fixture->all[i].endpoints[0]);
	}
	return task;
}

/* Nobody waits: well below the time of a step that lacks a worker, which is 60 s. */
static void run(struct fixture *fixture, const struct task *task)
{
	uint64_t began_ms = daemon_now_ms();

	for (int32_t rank = 0; rank < WORKERS; rank++) {
		struct task own = *task;
		own.rank = rank;
		crew_fork(&fixture->crews[rank], work, &own);
	}
	for (int32_t rank = 0; rank < WORKERS; rank++)
		assert_int_equal(crew_wait(&fixture->crews[rank]), AS_PROMISED);
	assert_true(daemon_now_ms() - began_ms < DAEMON_DEADLINE_MS);
}

static struct task run_poisoned(struct fixture *fixture, int daemons, uint32_t lanes, optd_nonfinite policy,
                                double clip_norm)
{
	struct task task = start(fixture, daemons, lanes);

	task.plan.nonfinite = policy;
	task.plan.clip_norm = clip_norm;
	task.bad_steps = 1u << BAD_STEP;
	task.shards = (uint32_t)daemons * lanes;
	assert_int_equal(pipe(task.told), 0);
	run(fixture, &task);
	close(task.told[0]);
	close(task.told[1]);
	return task;
}

static void poison(struct fixture *fixture, int daemons, uint32_t lanes, optd_nonfinite policy)
{
	struct task task = run_poisoned(fixture, daemons, lanes, policy, 0);

	assert_model(&task, task.shards);
}

/* Once a minute and model: of steps 3 and 5 the second is counted in a later line, unless
 * one tick has met both. */
static void test_the_log_says_which_step_was_skipped_and_for_whom(void **state)
{
	struct fixture *fixture = *state;
	struct task task = start(fixture, 2, 3);

	task.plan.nonfinite = OPTD_SKIP_STEP;
	task.bad_steps = 1u << 3 | 1u << 5;
	run(fixture, &task);
	for (int i = 0; i < 2; i++) {
		assert_true(daemon_wait_log(&fixture->all[i], " warn event=skipped model=m step=", 1));
		assert_true(daemon_wait_log(&fixture->all[i], " rank=1 tensor=" BAD_TENSOR " steps=", 1));
		assert_int_equal(daemon_log_count(&fixture->all[i], "event=skipped"), 1);
	}
}

/* Each gradient is finite, and what the server makes of it is not. */
static void test_the_log_names_no_rank_where_a_sum_is_not_finite(void **state)
{
	struct fixture *fixture = *state;
	const struct plan plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC, .clip_norm = 1,
		                   .clip_norm_type = 40 };
	struct trainer *trainer = &fixture->trainer;

	daemon_start_tcp(&fixture->all[0], 2);
	assert_int_equal(trainer_open(trainer, fixture->all[0].endpoints[0], &plan, 0), OPTD_OK);
	memset(trainer->gradient, 0, trainer_elements() * sizeof(float));
	trainer->gradient[0] = 3e38f; /* to the 40th: beyond a double */
	assert_int_equal(optd_push_pull(trainer->model, trainer->gradient, trainer->weights), OPTD_SKIPPED);
	assert_true(daemon_wait_log(&fixture->all[0], "event=skipped model=m step=0 steps=1", 1));
}

static void test_one_lane_skips_the_step_for_everyone(void **state)
{
	struct fixture *fixture = *state;
	char out[4096];

	poison(fixture, 1, 1, OPTD_SKIP_STEP);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->all[0].endpoints[0]), 0);
	if (strstr(out, "not finite  skip_step: 1 step skipped, the last was step 3, for rank 1, tensor " BAD_TENSOR) == NULL)
		fail_msg("%s", out);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status --json", fixture->all[0].endpoints[0]), 0);
	assert_non_null(strstr(out, "\"skipped_steps\": 1"));
	assert_non_null(strstr(out, "\"tensor\": \"" BAD_TENSOR "\""));
	assert_non_null(strstr(out, "\"loss_scale\": null"));
}

static void test_three_lanes_skip_the_step_alike(void **state)
{
	poison(*state, 1, 3, OPTD_SKIP_STEP);
}

static void test_two_daemons_skip_the_step_alike(void **state)
{
	poison(*state, 2, 2, OPTD_SKIP_STEP);
}

static void test_one_lane_rejects_until_the_gradient_is_mended(void **state)
{
	poison(*state, 1, 1, OPTD_REJECT);
}

static void test_three_lanes_reject_until_the_gradient_is_mended(void **state)
{
	poison(*state, 1, 3, OPTD_REJECT);
}

static void test_two_daemons_reject_until_the_gradient_is_mended(void **state)
{
	poison(*state, 2, 2, OPTD_REJECT);
}

/* What one server tells another of a norm waits for the mended gradient, too. */
static void test_two_daemons_that_clip_a_norm_reject_as_well(void **state)
{
	struct fixture *fixture = *state;
	struct task task = run_poisoned(fixture, 2, 2, OPTD_REJECT, 0.5);

	assert_int_equal(trainer_open(&fixture->trainer, task.endpoints, &task.plan, -1), OPTD_OK);
	trainer_assert_exact(fixture->trainer.weights, &task.plan, STEPS);
}

static void test_one_lane_zeroes_what_is_not_finite(void **state)
{
	struct fixture *fixture = *state;
	char out[4096];

	poison(fixture, 1, 1, OPTD_ZERO);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->all[0].endpoints[0]), 0);
	if (strstr(out, "not finite  zero: 4 elements counted as 0") == NULL)
		fail_msg("%s", out);
}

static void test_three_lanes_zero_what_is_not_finite(void **state)
{
	poison(*state, 1, 3, OPTD_ZERO);
}

static void test_two_daemons_zero_what_is_not_finite(void **state)
{
	poison(*state, 2, 2, OPTD_ZERO);
}

/* ---- loss scales -------------------------------------------------------- */

/* A power of two, so that what is multiplied and divided again is the same gradient. */
static void test_three_workers_follow_the_servers_loss_scale(void **state)
{
	struct fixture *fixture = *state;
	struct task task = start(fixture, 2, 2);

	task.plan.nonfinite = OPTD_SKIP_STEP;
	task.plan.loss_scale = &scaler;
	task.until = 14;
	task.bad_steps = 1u << 2 | 1u << 6 | 1u << 7;
	run(fixture, &task);
	assert_model(&task, 4);
}

static void test_a_loss_scale_is_in_the_checkpoint(void **state)
{
	struct fixture *fixture = *state;
	struct trainer *trainer = &fixture->trainer;
	const struct plan plan = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC, .loss_scale = &scaler };
	const struct plan any = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC };
	char out[4096];

	daemon_start_tcp(&fixture->all[0], 1);
	assert_int_equal(trainer_open(trainer, fixture->all[0].endpoints[0], &plan, 0), OPTD_OK);
	assert_true(optd_loss_scale(trainer->model) == 1024);
	trainer->gradient[9] = NAN;
	assert_int_equal(optd_push(trainer->model, trainer->gradient), OPTD_SKIPPED);
	trainer->gradient[9] = 0;
	assert_int_equal(optd_push(trainer->model, trainer->gradient), OPTD_OK);
	assert_int_equal(optd_push(trainer->model, trainer->gradient), OPTD_OK);
	assert_true(optd_loss_scale(trainer->model) == 512);
	assert_int_equal(daemon_stop(&fixture->all[0]), 0);
	daemon_restart(&fixture->all[0], 3);
	/* The same worker goes on, and the third good step makes it grow. */
	assert_int_equal(optd_push(trainer->model, trainer->gradient), OPTD_OK);
	assert_true(optd_loss_scale(trainer->model) == 1024);
	trainer_close(trainer);
	/* Another that names none takes the model's. */
	assert_int_equal(trainer_open(trainer, fixture->all[0].endpoints[0], &any, 0), OPTD_OK);
	assert_true(optd_loss_scale(trainer->model) == 1024);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->all[0].endpoints[0]), 0);
	if (strstr(out, "loss scale  1024, for 0 steps (grows by 2 after 3, falls to 0.5 of it)") == NULL)
		fail_msg("%s", out);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status --json", fixture->all[0].endpoints[0]), 0);
	assert_non_null(strstr(out, "\"growth_interval\": 3"));
}

/* A worker whose answer was lost with the daemon learns it from the next one. */
static void test_a_push_of_a_skipped_step_that_comes_again_is_told_over_a_restart(void **state)
{
	struct fixture *fixture = *state;
	struct daemon_process *daemon = &fixture->all[0];
	const uint64_t shape[] = { 4 };
	const float gradient[4] = { 1, NAN, 1, 1 };
	struct speaker speaker;

	daemon_start_tcp(daemon, 1);
	for (int life = 0; life < 2; life++) {
		speak_hello(&speaker, daemon->endpoints[0]);
		assert_int_equal(speak_open(&speaker, "m", shape, 1, 0, 1), OPTD_OK);
		if (life == 0)
			assert_int_equal(speak_init(&speaker, sizeof(gradient)), OPTD_OK);
		struct msg push = speak_push(&speaker, gradient, sizeof(gradient));
		push.verdict = MSG_POISONED;
		push.poison_tensor_plus_one = 1;
		assert_int_equal(speak_ask(&speaker, &push), OPTD_OK);
		assert_int_equal(speaker.skipped_rank_plus_one, 1);
		assert_int_equal(speaker.skipped_tensor_plus_one, 1);
		speak_close(&speaker);
		if (life > 0)
			break;
		assert_int_equal(daemon_stop(daemon), 0);
		daemon_restart(daemon, 1);
	}
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_log_says_which_step_was_skipped_and_for_whom),
		TEST(test_the_log_names_no_rank_where_a_sum_is_not_finite),
		TEST(test_one_lane_skips_the_step_for_everyone),
		TEST(test_three_lanes_skip_the_step_alike),
		TEST(test_two_daemons_skip_the_step_alike),
		TEST(test_one_lane_rejects_until_the_gradient_is_mended),
		TEST(test_three_lanes_reject_until_the_gradient_is_mended),
		TEST(test_two_daemons_reject_until_the_gradient_is_mended),
		TEST(test_two_daemons_that_clip_a_norm_reject_as_well),
		TEST(test_one_lane_zeroes_what_is_not_finite),
		TEST(test_three_lanes_zero_what_is_not_finite),
		TEST(test_two_daemons_zero_what_is_not_finite),
		TEST(test_three_workers_follow_the_servers_loss_scale),
		TEST(test_a_loss_scale_is_in_the_checkpoint),
		TEST(test_a_push_of_a_skipped_step_that_comes_again_is_told_over_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
