/*
 * Optimizers that look at whole tensors through the C library and daemons: several of them
 * in groups, beside elementwise ones, over a restart with other lanes, over two daemons,
 * and read by one who has no layout; the bits are those of plain arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/tensor.h"
#include "tests/e2e/team.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

/* The arithmetic of a matrix takes minutes under a sanitizer. */
#define STEPS (daemon_sanitized() ? UINT64_C(1) : UINT64_C(3))

/* muon takes matrices: embed.weight.  All else has another. */
static const optd_group beside[] = {
	{ .tensors = "*.bias", .optimizer = "adamw" },
	{ .tensors = "fc.*", .optimizer = "lamb" },
	{ .tensors = "[ns]*", .optimizer = "adafactor" },
};
#define CONFIG \
	"models:\n- name: m\n  optimizer:\n    name: muon\n    groups:\n" \
	"    - {tensors: \"*.bias\", name: adamw}\n" \
	"    - {tensors: \"fc.*\", name: lamb}\n" \
	"    - {tensors: \"[ns]*\", name: adafactor}\n"

static const optd_open_options all_given = { .optimizer = "muon", .groups = beside, .group_count = 3 };

struct fixture {
	struct daemon_process daemons[2];
	optd_client *client;
	optd_model *model;
	float *weights, *gradient;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemons[0]);
	daemon_init(&fixture->daemons[1]);
	fixture->weights = calloc(trainer_elements(), sizeof(float));
	fixture->gradient = calloc(trainer_elements(), sizeof(float));
	assert_true(fixture->weights != NULL && fixture->gradient != NULL);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	optd_close(&fixture->client);
	daemon_deinit(&fixture->daemons[0]);
	daemon_deinit(&fixture->daemons[1]);
	free(fixture->weights);
	free(fixture->gradient);
	free(fixture);
	return 0;
}

/* Rank 0 with its layout; a reader, rank -1, without. */
static int open_as(struct fixture *fixture, const char *endpoints, int32_t rank, const optd_open_options *how)
{
	const optd_options options = { .rank = rank, .timeout_ms = DAEMON_DEADLINE_MS };
	optd_layout *layout = rank >= 0 ? trainer_layout() : NULL;

	optd_close(&fixture->client);
	assert_int_equal(optd_connect(endpoints, &options, &fixture->client), OPTD_OK);
	int rc = optd_open(fixture->client, "m", layout, how, &fixture->model);
	optd_layout_free(layout);
	return rc;
}

static void must_open(struct fixture *fixture, const char *endpoints, int32_t rank, const optd_open_options *how)
{
	if (open_as(fixture, endpoints, rank, how) < 0)
		fail_msg("%s", optd_error(fixture->client));
}

static void first_weights(float *weights)
{
	for (uint64_t i = 0, n = trainer_elements(); i < n; i++)
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

struct tensor_state {
	struct optim optim;
	struct tensor_shape shape;
	float *slots[OPTIM_SLOTS_MAX], *scratch;
};

/* What the groups above say of a tensor, written down again. */
static const char *rule_of(const char *name)
{
	if (strstr(name, ".bias") != NULL)
		return "adamw";
	if (strcmp(name, "embed.weight") == 0)
		return "muon";
	return strcmp(name, "fc.weight") == 0 ? "lamb" : "adafactor";
}

static float *zeros(uint64_t count)
{
	float *memory = calloc(count + 1, sizeof(float));
	assert_non_null(memory);
	return memory;
}

static void begin_tensor(struct tensor_state *tensor, const char *name, const uint64_t *shape, uint32_t rank)
{
	struct tensor_slot slots[OPTIM_SLOTS_MAX];
	char why[256];

	memset(tensor, 0, sizeof(*tensor));
	assert_int_equal(optim_init(&tensor->optim, optim_find(rule_of(name)), OPTIM_TORCH2, why, sizeof(why)), 0);
	tensor->shape = tensor_shape_of(shape, rank);
	uint32_t count = tensor_slots(&tensor->optim, &tensor->shape, slots);
	for (uint32_t i = 0; i < count; i++)
		tensor->slots[i] = zeros(slots[i].elements);
	tensor->scratch = zeros(tensor_scratch(&tensor->optim, &tensor->shape));
}

static void train_tensor(struct tensor_state *tensor, uint64_t step, float *weights, const float *gradient)
{
	struct optim_scalars scalars;
	struct optim_carry carry;

	optim_scalars(&tensor->optim, step + 1, &carry, &scalars);
	if (optim_rule_class(tensor->optim.rule) == OPTIM_ELEMENTWISE) {
		optim_step(&tensor->optim, optim_isa_best(), &scalars, weights, tensor->slots, gradient,
		           tensor_elements(&tensor->shape));
		return;
	}
	struct tensor_update update = { .optim = &tensor->optim, .isa = optim_isa_best(), .scalars = &scalars,
		                        .shape = tensor->shape, .w = weights, .slots = tensor->slots,
		                        .g = { gradient, 1.0f, DTYPE_F32 }, .scratch = tensor->scratch };
	tensor_begin(&update);
	while (!tensor_run(&update, UINT64_MAX))
		continue;
}

static void end_tensor(struct tensor_state *tensor)
{
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		free(tensor->slots[i]);
	free(tensor->scratch);
}

static void assert_exact(const struct fixture *fixture, uint64_t steps)
{
	struct tensor_state tensors[16];
	uint32_t count = optd_model_tensor_count(fixture->model), rank;
	float *weights = zeros(trainer_elements()), *gradient = zeros(trainer_elements());
	uint64_t offset, elements;
	const uint64_t *shape;

	assert_true(count <= 16);
	first_weights(weights);
	for (uint32_t i = 0; i < count; i++) {
		const char *name = optd_model_tensor(fixture->model, i, &shape, &rank, &offset, &elements);
		begin_tensor(&tensors[i], name, shape, rank);
	}
	for (uint64_t step = 0; step < steps; step++) {
		trainer_gradient(gradient, weights, step, 0);
		for (uint32_t i = 0; i < count; i++) {
			optd_model_tensor(fixture->model, i, NULL, NULL, &offset, &elements);
			if (elements > 0)
				train_tensor(&tensors[i], step, weights + offset, gradient + offset);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		const char *name = optd_model_tensor(fixture->model, i, NULL, NULL, &offset, &elements);
		if (memcmp(weights + offset, fixture->weights + offset, elements * sizeof(float)) != 0)
			fail_msg("%s differs after %llu steps", name, (unsigned long long)steps);
		end_tensor(&tensors[i]);
	}
	free(weights);
	free(gradient);
}

/* ---- tests -------------------------------------------------------------- */

static void test_muon_with_groups_is_exact_over_a_restart_with_other_lanes(void **state)
{
	struct fixture *fixture = *state;
	struct daemon_process *daemon = &fixture->daemons[0];

	daemon_start_tcp(daemon, 3);
	must_open(fixture, daemon->endpoints[0], 0, &all_given);
	train(fixture, 0, STEPS);
	assert_exact(fixture, STEPS);
	optd_close(&fixture->client);
	assert_int_equal(daemon_stop(daemon), 0);
	daemon_start_tcp(daemon, 2);
	must_open(fixture, daemon->endpoints[0], 0, NULL);
	train(fixture, STEPS, 2 * STEPS);
	assert_exact(fixture, 2 * STEPS);
}

static void test_a_reader_without_a_layout_has_the_same_weights(void **state)
{
	struct fixture *fixture = *state;
	struct daemon_process *daemon = &fixture->daemons[0];

	daemon_start_tcp(daemon, 2);
	must_open(fixture, daemon->endpoints[0], 0, &all_given);
	train(fixture, 0, STEPS);
	must_open(fixture, daemon->endpoints[0], -1, NULL);
	memset(fixture->weights, 0, trainer_elements() * sizeof(float));
	assert_int_equal(optd_pull(fixture->model, fixture->weights, STEPS), OPTD_OK);
	assert_exact(fixture, STEPS);
}

static void test_muon_of_the_config_is_exact(void **state)
{
	struct fixture *fixture = *state;
	struct daemon_process *daemon = &fixture->daemons[0];
	char path[128];

	snprintf(path, sizeof(path), "%s/optd.yaml", daemon->directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(CONFIG, file);
	fclose(file);
	assert_true(daemon_start_with(daemon, (const char *[]){ "--config", path, "--listen", "tcp://127.0.0.1:0",
	                                                        "--lanes", "2", NULL }));
	must_open(fixture, daemon->endpoints[0], 0, NULL);
	train(fixture, 0, STEPS);
	assert_exact(fixture, STEPS);
}

static void two_daemons(struct fixture *fixture, char endpoints[512])
{
	daemon_start_tcp(&fixture->daemons[0], 2);
	daemon_start_tcp(&fixture->daemons[1], 1);
	snprintf(endpoints, 512, "%s,%s", fixture->daemons[0].endpoints[0], fixture->daemons[1].endpoints[0]);
}

static void test_two_daemons_share_the_tensors_and_are_exact(void **state)
{
	struct fixture *fixture = *state;
	char endpoints[512];

	two_daemons(fixture, endpoints);
	must_open(fixture, endpoints, 0, &all_given);
	train(fixture, 0, STEPS);
	assert_exact(fixture, STEPS);
	must_open(fixture, endpoints, -1, NULL);
	assert_int_equal(optd_pull(fixture->model, fixture->weights, STEPS), OPTD_OK);
	assert_exact(fixture, STEPS);
}

static void two_workers(struct fixture *fixture, const char *optimizer)
{
	const struct plan plan = { .optimizer = optimizer, .workers = 2, .mode = OPTD_SYNC };
	struct team team = { .joined = false };
	char endpoints[512];

	two_daemons(fixture, endpoints);
	team_start(&team, endpoints, &plan, STEPS);
	team_assert_exact(&team);
	team_free_weights(&team);
}

static void test_two_workers_of_two_daemons_train_lamb_exactly(void **state)
{
	two_workers(*state, "lamb");
}

static void test_two_workers_of_two_daemons_train_lars_exactly(void **state)
{
	two_workers(*state, "lars");
}

static void test_two_workers_of_two_daemons_train_adafactor_exactly(void **state)
{
	two_workers(*state, "adafactor");
}

static void test_a_tensor_that_muon_does_not_take_makes_no_model(void **state)
{
	struct fixture *fixture = *state;
	const optd_open_options alone = { .optimizer = "muon" };

	daemon_start_tcp(&fixture->daemons[0], 1);
	assert_int_equal(open_as(fixture, fixture->daemons[0].endpoints[0], 0, &alone), OPTD_HYPER);
	const char *error = optd_error(fixture->client);
	assert_non_null(strstr(error, "tensor 'scale' has the shape []"));
	assert_non_null(strstr(error, "parameter group"));
	must_open(fixture, fixture->daemons[0].endpoints[0], 0, &all_given);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_muon_with_groups_is_exact_over_a_restart_with_other_lanes),
		TEST(test_a_reader_without_a_layout_has_the_same_weights),
		TEST(test_muon_of_the_config_is_exact),
		TEST(test_two_daemons_share_the_tensors_and_are_exact),
		TEST(test_two_workers_of_two_daemons_train_lamb_exactly),
		TEST(test_two_workers_of_two_daemons_train_lars_exactly),
		TEST(test_two_workers_of_two_daemons_train_adafactor_exactly),
		TEST(test_a_tensor_that_muon_does_not_take_makes_no_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
