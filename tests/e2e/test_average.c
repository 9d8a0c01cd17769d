/*
 * An average of the weights through the C library, optctl and a daemon: two workers, a
 * reader, a restart with other lanes, and the bits of plain arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "optim/optim.h"
#include "proto/limits.h"
#include "proto/safetensors.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define WORKERS 2
#define STEPS 4
#define RATE 0.25
#define DECAY 0.75
/* Two of float's roundings a step, of weights below 4. */
#define TOLERANCE 1e-5

static const optd_hyper rate[] = { { "lr", { RATE }, 1 } };
static const optd_hyper decay[] = { { "decay", { DECAY }, 1 } };
static const optd_hyper warm[] = { { "decay", { DECAY }, 1 }, { "num_updates", { 1 }, 1 } };
static const optd_open_options plain = {
	.optimizer = "sgd", .hypers = rate, .hyper_count = 1, .workers = WORKERS,
};

struct fixture {
	struct daemon_process daemon;
	optd_client *clients[WORKERS], *reading;
	optd_model *models[WORKERS], *reader;
	float *weights[WORKERS], *gradients[WORKERS];
	float *average;           /* as it was pulled */
	float *wants, *wants_average; /* by plain arithmetic */
	double *doubles;          /* the average likewise, in doubles, of pulled weights */
	uint64_t step;
};

static float *floats(void)
{
	float *memory = calloc(trainer_elements(), sizeof(float));

	assert_non_null(memory);
	return memory;
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	for (int i = 0; i < WORKERS; i++) {
		fixture->weights[i] = floats();
		fixture->gradients[i] = floats();
	}
	fixture->average = floats();
	fixture->wants = floats();
	fixture->wants_average = floats();
	fixture->doubles = calloc(trainer_elements(), sizeof(double));
	assert_non_null(fixture->doubles);
	return 0;
}

static void leave(struct fixture *fixture)
{
	for (int i = 0; i < WORKERS; i++)
		optd_close(&fixture->clients[i]);
	optd_close(&fixture->reading);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	leave(fixture);
	daemon_deinit(&fixture->daemon);
	for (int i = 0; i < WORKERS; i++) {
		free(fixture->weights[i]);
		free(fixture->gradients[i]);
	}
	free(fixture->average);
	free(fixture->wants);
	free(fixture->wants_average);
	free(fixture->doubles);
	free(fixture);
	return 0;
}

static int open_as(struct fixture *fixture, int32_t rank, const optd_open_options *how, optd_client **client,
                   optd_model **model)
{
	const optd_options options = { .rank = rank, .timeout_ms = DAEMON_DEADLINE_MS };
	optd_layout *layout = trainer_layout();

	optd_close(client);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, client), OPTD_OK);
	int rc = optd_open(*client, "m", rank < 0 ? NULL : layout, how, model);
	optd_layout_free(layout);
	return rc;
}

/* Both workers and a reader. */
static void join(struct fixture *fixture, const optd_open_options *how)
{
	for (int i = 0; i < WORKERS; i++) {
		if (open_as(fixture, i, how, &fixture->clients[i], &fixture->models[i]) < 0)
			fail_msg("%s", optd_error(fixture->clients[i]));
	}
	if (open_as(fixture, -1, NULL, &fixture->reading, &fixture->reader) < 0)
		fail_msg("%s", optd_error(fixture->reading));
}

static void give_weights(struct fixture *fixture)
{
	for (uint64_t i = 0, n = trainer_elements(); i < n; i++) {
		fixture->wants[i] = 0.25f * (float)(i % 7) - 0.6f;
		fixture->wants_average[i] = fixture->wants[i];
		fixture->doubles[i] = (double)fixture->wants[i];
	}
	assert_int_equal(optd_init(fixture->models[0], fixture->wants), 1);
}

static void pull_weights(struct fixture *fixture)
{
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(optd_pull(fixture->models[i], fixture->weights[i], fixture->step), OPTD_OK);
}

/* One step of both. */
static void step(struct fixture *fixture)
{
	optd_ticket ticket;

	for (int i = 0; i < WORKERS; i++) {
		trainer_gradient(fixture->gradients[i], fixture->weights[i], fixture->step, i);
		/* So large that weights of the step before would be told apart. */
		for (uint64_t j = 0, n = trainer_elements(); j < n; j++)
			fixture->gradients[i][j] += (float)(fixture->step + 1);
	}
	assert_int_equal(optd_start_push_pull(fixture->models[0], fixture->gradients[0], fixture->weights[0], &ticket),
	                 OPTD_OK);
	if (optd_push_pull(fixture->models[1], fixture->gradients[1], fixture->weights[1]) < 0)
		fail_msg("%s", optd_error(fixture->clients[1]));
	assert_int_equal(optd_wait(fixture->clients[0], ticket, 0), OPTD_OK);
	fixture->step++;
}

static void pull_average(struct fixture *fixture)
{
	if (optd_pull_average(fixture->reader, fixture->average, fixture->step) < 0)
		fail_msg("%s", optd_error(fixture->reading));
}

/* ---- plain arithmetic --------------------------------------------------- */

static void rule(struct optim *optim, const char *name, const char *hyper, double value)
{
	char why[256];

	assert_int_equal(optim_init(optim, optim_find(name), OPTIM_TORCH2, why, sizeof(why)), 0);
	if (hyper != NULL)
		assert_int_equal(optim_set(optim, hyper, &value, 1, why, sizeof(why)), 0);
}

static void update(const struct optim *optim, uint64_t t, float *to, const float *from)
{
	struct optim_carry carry = { { 0 } };
	struct optim_scalars scalars;
	float *slots[OPTIM_SLOTS_MAX] = { NULL };

	optim_scalars(optim, t, &carry, &scalars);
	optim_step(optim, optim_isa_best(), &scalars, to, slots, from, trainer_elements());
}

/* What the step just made of the weights, from the gradients that were pushed, and what the
 * t-th averaging makes of the average; 0: none. */
static void follow(struct fixture *fixture, const struct optim *averaging, uint64_t t)
{
	struct optim sgd;
	float *sum = floats();

	rule(&sgd, "sgd", "lr", RATE);
	optim_scale(optim_isa_best(), sum, (struct optim_gradient){ fixture->gradients[0], 0.5f, DTYPE_F32 },
	            trainer_elements());
	optim_fold(optim_isa_best(), sum, (struct optim_gradient){ fixture->gradients[1], 0.5f, DTYPE_F32 },
	           trainer_elements());
	update(&sgd, fixture->step, fixture->wants, sum);
	if (t > 0)
		update(averaging, t, fixture->wants_average, fixture->wants);
	free(sum);
}

static void assert_exact(struct fixture *fixture)
{
	size_t bytes = trainer_elements() * sizeof(float);

	pull_average(fixture);
	assert_memory_equal(fixture->weights[0], fixture->wants, bytes);
	assert_memory_equal(fixture->weights[1], fixture->wants, bytes);
	if (memcmp(fixture->average, fixture->wants_average, bytes) != 0)
		fail_msg("the average differs after %llu steps", (unsigned long long)fixture->step);
}

/* ---- tests -------------------------------------------------------------- */

static void test_ema_of_two_workers_is_exact_over_a_restart_with_other_lanes(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = plain;
	struct optim ema;

	how.average = "ema";
	how.average_hypers = decay;
	how.average_hyper_count = 1;
	rule(&ema, "ema", "decay", DECAY);
	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &how);
	give_weights(fixture);
	pull_weights(fixture);
	for (int i = 0; i < STEPS; i++) {
		step(fixture);
		follow(fixture, &ema, fixture->step);
		assert_exact(fixture);
	}
	leave(fixture);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	daemon_start_tcp(&fixture->daemon, 3);
	join(fixture, &how);
	assert_exact(fixture);
	pull_weights(fixture);
	for (int i = 0; i < STEPS; i++) {
		step(fixture);
		follow(fixture, &ema, fixture->step);
		assert_exact(fixture);
	}
}

/* From the weights that workers see: weights of the step before, or averaging twice, would
 * be far off. */
static void test_ema_is_that_of_the_formula_in_doubles(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = plain;

	how.average = "ema";
	how.average_hypers = warm;
	how.average_hyper_count = 2;
	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &how);
	give_weights(fixture);
	pull_weights(fixture);
	for (int t = 1; t <= 2 * STEPS; t++) {
		double early = (1.0 + t) / (10.0 + t), d = early < DECAY ? early : DECAY, moved = 0;
		step(fixture);
		pull_average(fixture);
		for (uint64_t i = 0, n = trainer_elements(); i < n; i++) {
			double before = fixture->doubles[i];
			fixture->doubles[i] = d * before + (1 - d) * (double)fixture->weights[0][i];
			moved = fmax(moved, fabs(fixture->doubles[i] - before));
			if (!(fabs((double)fixture->average[i] - fixture->doubles[i]) <= TOLERANCE))
				fail_msg("element %llu after %d steps: %.9g, the formula has %.9g", (unsigned long long)i, t,
				         (double)fixture->average[i], fixture->doubles[i]);
		}
		assert_true(moved > 1000 * TOLERANCE);
	}
}

static void write_config(struct fixture *fixture, const char *text, char path[128])
{
	snprintf(path, 128, "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void start_with(struct fixture *fixture, const char *text)
{
	char path[128];

	write_config(fixture, text, path);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){
		"--config", path, "--listen", "tcp://127.0.0.1:0", "--lanes", "2", NULL }));
}

static void test_swa_of_the_config_is_the_mean_of_every_second_step_from_start_on(void **state)
{
	struct fixture *fixture = *state;
	optd_model_info info;
	uint64_t averaged = 0;

	start_with(fixture, "models:\n- name: m\n  average: {kind: swa, start: 2, every: 2}\n");
	join(fixture, &plain);
	optd_model_get_info(fixture->reader, &info);
	assert_string_equal(info.average, "swa start=2 every=2");
	give_weights(fixture);
	pull_weights(fixture);
	for (int t = 1; t <= 9; t++) {
		step(fixture);
		pull_average(fixture);
		for (uint64_t i = 0, n = trainer_elements(); i < n; i++) {
			double w = (double)fixture->weights[0][i];
			if (t <= 2)
				fixture->doubles[i] = w;
			else if (t % 2 == 0)
				fixture->doubles[i] += (w - fixture->doubles[i]) * (averaged == 0 ? 1 : 1.0 / (double)(averaged + 1));
			if (!(fabs((double)fixture->average[i] - fixture->doubles[i]) <= TOLERANCE))
				fail_msg("element %llu after %d steps: %.9g, the formula has %.9g", (unsigned long long)i, t,
				         (double)fixture->average[i], fixture->doubles[i]);
		}
		averaged += t > 2 && t % 2 == 0;
	}
	assert_int_equal(averaged, 3);
}

static void test_a_reader_waits_for_the_average_of_a_version(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = plain;
	struct optim ema;
	optd_ticket ticket;
	uint64_t lowest, highest;

	how.average = "ema";
	rule(&ema, "ema", NULL, 0);
	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &how);
	give_weights(fixture);
	pull_weights(fixture);
	float *late = floats();
	assert_int_equal(optd_start_pull_average(fixture->reader, late, 2, &ticket), OPTD_OK);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(optd_process(fixture->reading), 0);
		step(fixture);
		follow(fixture, &ema, fixture->step);
	}
	assert_int_equal(optd_wait(fixture->reading, ticket, 0), OPTD_OK);
	assert_memory_equal(late, fixture->wants_average, trainer_elements() * sizeof(float));
	optd_model_versions(fixture->reader, &lowest, &highest);
	assert_int_equal(lowest, 2);
	assert_int_equal(highest, 2);
	free(late);
}

static void test_parts_of_an_average_are_those_of_the_whole(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = plain;
	uint64_t offset, count;

	how.average = "ema";
	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &how);
	give_weights(fixture);
	pull_weights(fixture);
	step(fixture);
	pull_average(fixture);
	int64_t tensor = optd_model_find(fixture->reader, "fc.weight");
	assert_true(tensor >= 0);
	optd_model_tensor(fixture->reader, (uint32_t)tensor, NULL, NULL, &offset, &count);
	float *some = floats();
	const optd_part part = { .tensor = (uint32_t)tensor, .weights = some };
	assert_int_equal(optd_pull_average_parts(fixture->reader, &part, 1, 1), OPTD_OK);
	assert_memory_equal(some, fixture->average + offset, count * sizeof(float));
	assert_memory_not_equal(some, fixture->weights[0] + offset, count * sizeof(float));
	free(some);
}

static void test_a_model_that_keeps_none_says_so(void **state)
{
	struct fixture *fixture = *state;
	char out[2048];

	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &plain);
	give_weights(fixture);
	assert_int_equal(optd_pull_average(fixture->reader, fixture->average, 0), OPTD_INVALID);
	assert_non_null(strstr(optd_error(fixture->reading), "model 'm' keeps no average of its weights"));
	assert_int_equal(optd_pull(fixture->reader, fixture->average, 0), OPTD_OK);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s export --average m %s/m.safetensors",
	                            fixture->daemon.endpoints[0], fixture->daemon.directory), 1);
	assert_non_null(strstr(out, "keeps no average of its weights"));
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	assert_null(strstr(out, "average"));
}

static void conflicts(struct fixture *fixture, const char *average, const optd_hyper *hypers, uint32_t count,
                      const char *mine, const char *theirs)
{
	optd_open_options how = plain;

	how.average = average;
	how.average_hypers = hypers;
	how.average_hyper_count = count;
	assert_int_equal(open_as(fixture, 0, &how, &fixture->clients[0], &fixture->models[0]), OPTD_CONFLICT);
	assert_non_null(strstr(optd_error(fixture->clients[0]), mine));
	assert_non_null(strstr(optd_error(fixture->clients[0]), theirs));
}

static void test_another_average_than_the_models_is_a_conflict(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = plain;

	how.average = "ema";
	how.average_hypers = decay;
	how.average_hyper_count = 1;
	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &how);
	conflicts(fixture, "swa", NULL, 0, "swa start=0 every=1 is asked for", "the model has ema decay=0.75");
	conflicts(fixture, "ema", (const optd_hyper[]){ { "decay", { 0.5 }, 1 } }, 1, "ema decay=0.5", "decay=0.75");
	/* Who names none goes on with the model's. */
	if (open_as(fixture, 0, &plain, &fixture->clients[0], &fixture->models[0]) < 0)
		fail_msg("%s", optd_error(fixture->clients[0]));
}

static void test_averages_that_are_none_are_refused(void **state)
{
	struct fixture *fixture = *state;
	static const optd_hyper many[9] = { { "start", { 0 }, 1 } }, nan[] = { { "decay", { (double)NAN }, 1 } };
	static const struct {
		const char *average;
		const optd_hyper *hypers;
		uint32_t count;
		int status;
		const char *words;
	} bad[] = {
		{ "mean", NULL, 0, OPTD_HYPER, "no average 'mean'; it may be ema or swa" },
		{ "", NULL, 0, OPTD_HYPER, "no average ''" },
		{ "\xff", NULL, 0, OPTD_INVALID, "average is not UTF-8" },
		{ "swa", decay, 1, OPTD_HYPER, "swa has no setting 'decay'; it has start every" },
		{ NULL, decay, 1, OPTD_INVALID, "average is NULL" },
		{ "ema", NULL, 1, OPTD_INVALID, "hypers is NULL" },
		{ "ema", many, 9, OPTD_TOO_LARGE, "9 settings, at most 8" },
		{ "ema", nan, 1, OPTD_HYPER, "'decay' is nan" },
	};

	daemon_start_tcp(&fixture->daemon, 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		optd_open_options how = plain;
		how.average = bad[i].average;
		how.average_hypers = bad[i].hypers;
		how.average_hyper_count = bad[i].count;
		int rc = open_as(fixture, 0, &how, &fixture->clients[0], &fixture->models[0]);
		if (rc != bad[i].status || !strstr(optd_error(fixture->clients[0]), bad[i].words))
			fail_msg("case %zu: %s", i, optd_error(fixture->clients[0]));
	}
}

/* Fails the test unless the file holds just these elements and says so. */
static void assert_exported(const char *path, const float *wants, const char *average)
{
	FILE *file = fopen(path, "r");
	struct safetensors *head;
	uint64_t text;
	struct stat about;
	char why[256];

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &about), 0);
	size_t size = (size_t)about.st_size;
	char *bytes = malloc(size);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, size, file), size);
	fclose(file);
	assert_int_equal(safetensors_text_bytes(bytes, size, LIMIT_SAFETENSORS_HEADER, &text, why, sizeof(why)), 0);
	assert_int_equal(safetensors_decode(bytes + 8, text, size - 8 - text, 64, 64, &head, why, sizeof(why)), 0);
	assert_int_equal(size - 8 - text, trainer_elements() * sizeof(float));
	assert_memory_equal(bytes + 8 + text, wants, trainer_elements() * sizeof(float));
	assert_string_equal(safetensors_metadata(head, "optd.step"), "1");
	if (average != NULL)
		assert_string_equal(safetensors_metadata(head, "optd.average"), average);
	else
		assert_null(safetensors_metadata(head, "optd.average"));
	safetensors_free(head);
	free(bytes);
}

static void test_an_average_is_exported_and_the_file_says_which(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = plain;
	char out[4096], path[128];

	how.average = "ema";
	daemon_start_tcp(&fixture->daemon, 2);
	join(fixture, &how);
	give_weights(fixture);
	pull_weights(fixture);
	step(fixture);
	pull_average(fixture);
	snprintf(path, sizeof(path), "%s/m.safetensors", fixture->daemon.directory);
	if (optctl_run(out, sizeof(out), "-s %s export m %s --average", fixture->daemon.endpoints[0], path) != 0)
		fail_msg("%s", out);
	assert_non_null(strstr(out, "ema decay=0.999 num_updates=0 start=0 every=1"));
	assert_exported(path, fixture->average, "ema decay=0.999 num_updates=0 start=0 every=1");
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s export m %s", fixture->daemon.endpoints[0], path), 0);
	assert_exported(path, fixture->weights[0], NULL);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "  average     ema decay=0.999 num_updates=0 start=0 every=1\n"));
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status --json", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "\"average\": \"ema decay=0.999 num_updates=0 start=0 every=1\""));
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s save --average m", fixture->daemon.endpoints[0]), 64);
}

static void test_a_model_from_a_checkpoint_keeps_the_average_it_was_made_with(void **state)
{
	struct fixture *fixture = *state;

	start_with(fixture, "models: []\n");
	join(fixture, &plain);
	give_weights(fixture);
	leave(fixture);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	start_with(fixture, "models:\n- name: m\n  average: ema\n");
	join(fixture, &plain);
	assert_int_equal(optd_pull_average(fixture->reader, fixture->average, 0), OPTD_INVALID);
	assert_true(daemon_wait_log(&fixture->daemon, "event=average", 1));
	char *log = daemon_log_text(&fixture->daemon);
	assert_non_null(strstr(log, "model=m has=none config=\"ema decay=0.999 num_updates=0 start=0 every=1\""));
	assert_null(strstr(log, "event=settings"));
	free(log);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ema_of_two_workers_is_exact_over_a_restart_with_other_lanes),
		TEST(test_ema_is_that_of_the_formula_in_doubles),
		TEST(test_swa_of_the_config_is_the_mean_of_every_second_step_from_start_on),
		TEST(test_a_reader_waits_for_the_average_of_a_version),
		TEST(test_parts_of_an_average_are_those_of_the_whole),
		TEST(test_a_model_that_keeps_none_says_so),
		TEST(test_another_average_than_the_models_is_a_conflict),
		TEST(test_averages_that_are_none_are_refused),
		TEST(test_an_average_is_exported_and_the_file_says_which),
		TEST(test_a_model_from_a_checkpoint_keeps_the_average_it_was_made_with),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
