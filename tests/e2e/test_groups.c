/*
 * A model with parameter groups through the C library and a daemon: several rules, a
 * frozen part, a restart with other lanes, and the bits of plain arithmetic, tensor by
 * tensor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/optim.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

#define STEPS 4

static const optd_hyper rate[] = { { "lr", { 0.003 }, 1 } };
static const optd_hyper decay[] = { { "weight_decay", { 0.1 }, 1 } };
static const optd_schedule cosine[] = {
	{ "cosine", (const optd_schedule_param[]){ { "T_max", { 9 }, 1 } }, 1, 0 },
};
/* embed.weight is in none; embed.bias, fc.bias and norm.bias are in the first. */
static const optd_group groups[] = {
	{ .tensors = "*.bias", .hypers = decay, .hyper_count = 1, .lr_factor = 0.5 },
	{ .tensors = "fc.*", .optimizer = "nadam", .schedule = cosine, .schedule_count = 1 },
	{ .tensors = "scal?", .frozen = 1 },
	{ .tensors = "norm.[a-z]*", .optimizer = "average" },
};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))
#define CONFIG \
	"models:\n- name: m\n  optimizer:\n    name: adam\n    lr: 0.003\n    groups:\n" \
	"    - {tensors: \"*.bias\", weight_decay: 0.1, lr_factor: 0.5}\n" \
	"    - {tensors: \"fc.*\", name: nadam, schedule: {name: cosine, T_max: 9}}\n" \
	"    - {tensors: \"scal?\", frozen: true}\n" \
	"    - {tensors: \"norm.[a-z]*\", name: average}\n"

struct fixture {
	struct daemon_process daemon;
	optd_client *client;
	optd_model *model;
	float *weights, *gradient;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemon);
	fixture->weights = calloc(trainer_elements(), sizeof(float));
	fixture->gradient = calloc(trainer_elements(), sizeof(float));
	assert_true(fixture->weights != NULL && fixture->gradient != NULL);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	optd_close(&fixture->client);
	daemon_deinit(&fixture->daemon);
	free(fixture->weights);
	free(fixture->gradient);
	free(fixture);
	return 0;
}

static const optd_open_options all_given = {
	.optimizer = "adam", .hypers = rate, .hyper_count = 1, .groups = groups, .group_count = GROUPS,
};

static int open_as(struct fixture *fixture, int32_t rank, const optd_open_options *how)
{
	const optd_options options = { .rank = rank, .timeout_ms = DAEMON_DEADLINE_MS };
	optd_layout *layout = trainer_layout();

	optd_close(&fixture->client);
	assert_int_equal(optd_connect(fixture->daemon.endpoints[0], &options, &fixture->client), OPTD_OK);
	int rc = optd_open(fixture->client, "m", layout, how, &fixture->model);
	optd_layout_free(layout);
	return rc;
}

static void must_open(struct fixture *fixture, const optd_open_options *how)
{
	if (open_as(fixture, 0, how) < 0)
		fail_msg("%s", optd_error(fixture->client));
}

static void first_weights(float *weights)
{
	for (uint64_t i = 0; i < trainer_elements(); i++)
		weights[i] = 0.25f * (float)(i % 7) - 0.6f;
}

static void train(struct fixture *fixture, uint64_t from, uint64_t until)
{
	if (from == 0) {
		first_weights(fixture->weights);
		assert_int_equal(optd_init(fixture->model, fixture->weights), 1);
	}
	assert_int_equal(optd_pull(fixture->model, fixture->weights, from), OPTD_OK);
	for (uint64_t step = from; step < until; step++) {
		trainer_gradient(fixture->gradient, fixture->weights, step, 0);
		if (optd_push_pull(fixture->model, fixture->gradient, fixture->weights) < 0)
			fail_msg("step %llu: %s", (unsigned long long)step, optd_error(fixture->client));
	}
}

/* ---- plain arithmetic --------------------------------------------------- */

static void set(struct optim *optim, const char *rule, const char *hyper, double value)
{
	char why[256];

	if (rule != NULL)
		assert_int_equal(optim_init(optim, optim_find(rule), OPTIM_TORCH2, why, sizeof(why)), 0);
	if (hyper != NULL)
		assert_int_equal(optim_set(optim, hyper, &value, 1, why, sizeof(why)), 0);
}

/* What the groups above say of a tensor, written down again; false: it is frozen. */
static bool rule_of(const char *name, struct optim *optim)
{
	const double period = 9;
	char why[256];

	if (strcmp(name, "scale") == 0)
		return false;
	set(optim, "adam", "lr", 0.003);
	if (strstr(name, ".bias") != NULL) {
		set(optim, NULL, "weight_decay", 0.1);
		set(optim, NULL, "lr", 0.003 * 0.5);
	} else if (strcmp(name, "fc.weight") == 0) {
		set(optim, "nadam", NULL, 0);
		optim->schedule.part_count = 1;
		schedule_part_init(&optim->schedule.parts[0], SCHEDULE_COSINE);
		assert_int_equal(schedule_set(&optim->schedule.parts[0], "T_max", &period, 1, why, sizeof(why)), 0);
	} else if (strcmp(name, "norm.weight") == 0) {
		set(optim, "average", NULL, 0);
	}
	return true;
}

struct tensor_state {
	bool trained;
	struct optim optim;
	struct optim_carry carry;
	float *slots[OPTIM_SLOTS_MAX];
};

static void begin_tensor(struct tensor_state *tensor, const char *name, uint64_t count)
{
	memset(tensor, 0, sizeof(*tensor));
	tensor->trained = rule_of(name, &tensor->optim);
	if (!tensor->trained)
		return;
	optim_carry_initial(&tensor->optim, &tensor->carry);
	for (uint32_t i = 0; i < optim_slot_count(&tensor->optim); i++) {
		tensor->slots[i] = malloc((count + 1) * sizeof(float));
		assert_non_null(tensor->slots[i]);
		for (uint64_t j = 0; j < count; j++)
			tensor->slots[i][j] = optim_slot_initial(&tensor->optim, i);
	}
}

static void train_tensor(struct tensor_state *tensor, uint64_t step, float *weights, const float *gradient,
                         uint64_t count)
{
	struct optim_scalars scalars;

	if (!tensor->trained || count == 0)
		return;
	optim_scalars(&tensor->optim, step + 1, &tensor->carry, &scalars);
	optim_step(&tensor->optim, OPTIM_ISA_BASE, &scalars, weights, tensor->slots, gradient, count);
}

static void assert_exact(const struct fixture *fixture, uint64_t steps)
{
	struct tensor_state tensors[16];
	uint32_t count = optd_model_tensor_count(fixture->model);
	float *weights = calloc(trainer_elements(), sizeof(float)), *gradient = calloc(trainer_elements(), sizeof(float));
	uint64_t offset, elements;

	assert_true(weights != NULL && gradient != NULL && count <= 16);
	first_weights(weights);
	for (uint32_t i = 0; i < count; i++) {
		const char *name = optd_model_tensor(fixture->model, i, NULL, NULL, &offset, &elements);
		begin_tensor(&tensors[i], name, elements);
	}
	for (uint64_t step = 0; step < steps; step++) {
		trainer_gradient(gradient, weights, step, 0);
		for (uint32_t i = 0; i < count; i++) {
			optd_model_tensor(fixture->model, i, NULL, NULL, &offset, &elements);
			train_tensor(&tensors[i], step, weights + offset, gradient + offset, elements);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		const char *name = optd_model_tensor(fixture->model, i, NULL, NULL, &offset, &elements);
		if (memcmp(weights + offset, fixture->weights + offset, elements * sizeof(float)) != 0)
			fail_msg("%s differs after %llu steps", name, (unsigned long long)steps);
		for (uint32_t s = 0; s < OPTIM_SLOTS_MAX; s++)
			free(tensors[i].slots[s]);
	}
	free(weights);
	free(gradient);
}

/* ---- tests -------------------------------------------------------------- */

static void test_groups_of_a_worker_are_exact_over_a_restart_with_other_lanes(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->daemon, 2);
	must_open(fixture, &all_given);
	train(fixture, 0, STEPS);
	assert_exact(fixture, STEPS);
	optd_close(&fixture->client);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	daemon_start_tcp(&fixture->daemon, 3);
	must_open(fixture, &all_given);
	train(fixture, STEPS, 2 * STEPS);
	assert_exact(fixture, 2 * STEPS);
}

static void test_a_worker_that_names_nothing_goes_on_with_the_groups(void **state)
{
	struct fixture *fixture = *state;

	daemon_start_tcp(&fixture->daemon, 3);
	must_open(fixture, &all_given);
	train(fixture, 0, STEPS);
	must_open(fixture, NULL);
	train(fixture, STEPS, 2 * STEPS);
	assert_exact(fixture, 2 * STEPS);
}

static void test_groups_of_the_config_are_exact_and_told(void **state)
{
	struct fixture *fixture = *state;
	char path[128];
	optd_model_info info;

	snprintf(path, sizeof(path), "%s/optd.yaml", fixture->daemon.directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(CONFIG, file);
	fclose(file);
	assert_true(daemon_start_with(&fixture->daemon, (const char *[]){
		"--config", path, "--listen", "tcp://127.0.0.1:0", "--lanes", "2", NULL }));
	must_open(fixture, NULL);
	train(fixture, 0, STEPS);
	assert_exact(fixture, STEPS);
	optd_model_get_info(fixture->model, &info);
	assert_non_null(strstr(info.optimizer, "; 4 groups: '*.bias' adam lr=0.0015 weight_decay=0.1, 'fc.*' nadam "));
	/* What the file says, a worker may say. */
	must_open(fixture, &all_given);
}

static void test_setting_the_models_own_optimizer_tells_that_groups_keep_theirs(void **state)
{
	struct fixture *fixture = *state;
	const char *server;
	char out[4096];

	daemon_start_tcp(&fixture->daemon, 2);
	must_open(fixture, &all_given);
	train(fixture, 0, 1);
	server = fixture->daemon.endpoints[0];
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s set m lr=0.5", server), 0);
	assert_string_equal(out, "model 'm': set from version 1 on\nits 4 groups keep their settings: "
	                         "--group PATTERN changes one, optctl status shows them\n");
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s set m lr=0.5 --group '*.bias'", server), 0);
	assert_string_equal(out, "model 'm', group '*.bias': set from version 1 on\n");
}

static void test_a_pattern_without_a_tensor_makes_no_model(void **state)
{
	struct fixture *fixture = *state;
	const optd_group typo = { .tensors = "*.biass", .frozen = 1 };
	const optd_open_options how = { .groups = &typo, .group_count = 1 };

	daemon_start_tcp(&fixture->daemon, 1);
	assert_int_equal(open_as(fixture, 0, &how), OPTD_HYPER);
	const char *error = optd_error(fixture->client);
	assert_non_null(strstr(error, ": group 1: '*.biass' matches no tensor"));
	assert_non_null(strstr(error, "'embed.bias', 'fc.bias', 'norm.bias'"));
	assert_int_equal(open_as(fixture, -1, NULL), OPTD_NO_MODEL);
	must_open(fixture, &all_given);
}

static void test_other_groups_than_the_models_are_a_conflict(void **state)
{
	struct fixture *fixture = *state;
	optd_open_options how = all_given;
	optd_group other[GROUPS];

	daemon_start_tcp(&fixture->daemon, 1);
	must_open(fixture, &all_given);
	memcpy(other, groups, sizeof(groups));
	other[0].lr_factor = 0.25;
	how.groups = other;
	assert_int_equal(open_as(fixture, 0, &how), OPTD_CONFLICT);
	assert_non_null(strstr(optd_error(fixture->client), "group 1 ('*.bias')"));
	assert_non_null(strstr(optd_error(fixture->client), "lr"));
	assert_non_null(strstr(optd_error(fixture->client), "leave the groups out"));
	how.group_count = 3;
	assert_int_equal(open_as(fixture, 0, &how), OPTD_CONFLICT);
	assert_non_null(strstr(optd_error(fixture->client), "the model has 4 ('*.bias', "));
}

static void test_the_text_of_an_ordinary_optimizer_is_told_whole(void **state)
{
	struct fixture *fixture = *state;
	const optd_group two[] = {
		{ .tensors = "*.bias", .hypers = decay, .hyper_count = 1, .lr_factor = 0.5 },
		{ .tensors = "fc.*", .optimizer = "sgd", .schedule = trainer_schedule, .schedule_count = 2 },
	};
	const optd_open_options how = { .optimizer = "adamw", .schedule = trainer_schedule, .schedule_count = 2,
		                        .groups = two, .group_count = 2, .clip_norm = 1 };
	optd_model_info info;

	daemon_start_tcp(&fixture->daemon, 1);
	must_open(fixture, &how);
	optd_model_get_info(fixture->model, &info);
	assert_in_range(strlen(info.optimizer), 300, sizeof(info.optimizer) - 1);
	assert_non_null(strstr(info.optimizer, "; 2 groups: '*.bias' adamw lr=0.0005 weight_decay=0.1, 'fc.*' sgd "));
	if (strcmp(info.optimizer + strlen(info.optimizer) - 11, "clip_norm=1") != 0)
		fail_msg("%s", info.optimizer);
}

static void test_a_text_of_the_optimizer_that_does_not_fit_ends_with_dots(void **state)
{
	static const char *const ends[] = { "fc.*", "embed.*", "scal?", ".weight", ".bias" };
	struct fixture *fixture = *state;
	char patterns[5][256];
	optd_group wordy[5];
	const optd_open_options how = { .groups = wordy, .group_count = 5 };
	optd_model_info info;

	for (int i = 0; i < 5; i++) {
		memset(patterns[i], '*', sizeof(patterns[i]));
		snprintf(patterns[i] + 240, sizeof(patterns[i]) - 240, "%s", ends[i]);
		wordy[i] = (optd_group){ .tensors = patterns[i], .hypers = rate, .hyper_count = 1 };
	}
	daemon_start_tcp(&fixture->daemon, 1);
	must_open(fixture, &how);
	optd_model_get_info(fixture->model, &info);
	assert_int_equal(strlen(info.optimizer), sizeof(info.optimizer) - 1);
	assert_string_equal(info.optimizer + sizeof(info.optimizer) - 4, "...");
}

static void test_status_has_room_for_long_patterns(void **state)
{
	static const char *const ends[] = { ".bias", ".weight", "scal?" };
	struct fixture *fixture = *state;
	char patterns[3][256], out[4096];
	optd_group wordy[3];
	const optd_open_options how = { .groups = wordy, .group_count = 3 };

	for (int i = 0; i < 3; i++) {
		memset(patterns[i], '*', sizeof(patterns[i]));
		snprintf(patterns[i] + 200, sizeof(patterns[i]) - 200, "%s", ends[i]);
		wordy[i] = (optd_group){ .tensors = patterns[i], .hypers = rate, .hyper_count = 1 };
	}
	daemon_start_tcp(&fixture->daemon, 1);
	must_open(fixture, &how);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "*scal?' sgd lr=0.003\n"));
	assert_non_null(strstr(out, "***...' 0.003\n"));
}

struct told_rates {
	uint32_t rows, count;
	double lr[4];
};

static void keep_rates(void *user, const optd_status_row *row)
{
	struct told_rates *told = user;

	told->rows++;
	told->count = row->rate_count;
	for (uint32_t i = 0; i < row->rate_count && i < 4; i++)
		told->lr[i] = row->rates[i].lr;
}

static void test_status_tells_the_learning_rate_of_the_next_update(void **state)
{
	struct fixture *fixture = *state;
	const char *const line = "\n  learning rate 0.003; '*.bias' 0.0015; 'fc.*' 0.00117365\n";
	struct told_rates told = { 0 };
	char out[16384];

	daemon_start_tcp(&fixture->daemon, 2);
	must_open(fixture, &all_given);
	train(fixture, 0, STEPS);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	if (strstr(out, line) == NULL)
		fail_msg("%s", out);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status --json", fixture->daemon.endpoints[0]), 0);
	json_t *json = json_loads(out, 0, NULL);
	json_t *rates = json_object_get(json_array_get(json_object_get(json, "models"), 0), "learning_rates");
	assert_int_equal(json_array_size(rates), 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(rates, 0), "group")), "");
	assert_true(json_real_value(json_object_get(json_array_get(rates, 0), "lr")) == 0.003);
	assert_string_equal(json_string_value(json_object_get(json_array_get(rates, 1), "group")), "*.bias");
	assert_true(json_real_value(json_object_get(json_array_get(rates, 1), "lr")) == 0.0015);
	json_decref(json);
	/* Each lane tells all of them. */
	assert_int_equal(optd_get_status(fixture->client, keep_rates, &told), OPTD_OK);
	assert_int_equal(told.rows, 2);
	assert_int_equal(told.count, 3);
	assert_true(told.lr[1] == 0.0015 && told.lr[2] < 0.0012);
}

static void test_a_rate_set_by_hand_is_told_from_its_version_on(void **state)
{
	struct fixture *fixture = *state;
	uint64_t from = STEPS + 1;
	char out[4096];

	daemon_start_tcp(&fixture->daemon, 1);
	must_open(fixture, &all_given);
	train(fixture, 0, STEPS);
	assert_int_equal(optd_set_hypers(fixture->client, "m", "fc.*", rate, 1, &from), OPTD_OK);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "; 'fc.*' 0.00117365\n"));
	train(fixture, STEPS, STEPS + 1);
	assert_int_equal(optctl_run(out, sizeof(out), "-s %s status", fixture->daemon.endpoints[0]), 0);
	assert_non_null(strstr(out, "; 'fc.*' 0.00123953\n")); /* 0.003, half a wave of 9 later by 5 */
}

static void test_the_log_says_which_groups_settings_were_changed(void **state)
{
	struct fixture *fixture = *state;
	uint64_t from = OPTD_FROM_NOW;

	daemon_start_tcp(&fixture->daemon, 2);
	must_open(fixture, &all_given);
	train(fixture, 0, 1);
	assert_int_equal(optd_set_hypers(fixture->client, "m", "*.bias", rate, 1, &from), OPTD_OK);
	assert_true(daemon_wait_log(&fixture->daemon, "from=1 group=*.bias settings=", 1));
	assert_int_equal(optd_set_hypers(fixture->client, "m", NULL, rate, 1, &from), OPTD_OK);
	assert_true(daemon_wait_log(&fixture->daemon, "from=1 group=\"\" settings=", 1));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_groups_of_a_worker_are_exact_over_a_restart_with_other_lanes),
		TEST(test_a_worker_that_names_nothing_goes_on_with_the_groups),
		TEST(test_groups_of_the_config_are_exact_and_told),
		TEST(test_setting_the_models_own_optimizer_tells_that_groups_keep_theirs),
		TEST(test_a_pattern_without_a_tensor_makes_no_model),
		TEST(test_other_groups_than_the_models_are_a_conflict),
		TEST(test_the_text_of_an_ordinary_optimizer_is_told_whole),
		TEST(test_a_text_of_the_optimizer_that_does_not_fit_ends_with_dots),
		TEST(test_status_has_room_for_long_patterns),
		TEST(test_status_tells_the_learning_rate_of_the_next_update),
		TEST(test_a_rate_set_by_hand_is_told_from_its_version_on),
		TEST(test_the_log_says_which_groups_settings_were_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
