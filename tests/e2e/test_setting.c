/*
 * optctl set on models that are being trained: from one version on, everywhere, or not at
 * all; against plain arithmetic that changes at the same step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/optim.h"
#include "tests/e2e/speak.h"
#include "tests/e2e/team.h"
#include "tests/support/daemon_process.h"
#include "tests/support/optctl_process.h"

static const struct plan pair = { .optimizer = "adam", .workers = 2, .mode = OPTD_SYNC };
static const struct plan alone = { .optimizer = "sgd", .workers = 1, .mode = OPTD_SYNC };
static const struct plan async = { .optimizer = "adam", .workers = 1, .mode = OPTD_ASYNC };

struct fixture {
	struct daemon_process daemons[2];
	char endpoints[300];
	char out[16384];
	struct team team;
	struct trainer trainer;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	*state = fixture;
	daemon_init(&fixture->daemons[0]);
	daemon_init(&fixture->daemons[1]);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	team_join(&fixture->team);
	team_free_weights(&fixture->team);
	trainer_close(&fixture->trainer);
	daemon_deinit(&fixture->daemons[0]);
	daemon_deinit(&fixture->daemons[1]);
	free(fixture);
	return 0;
}

/* One daemon, or two with as many lanes each. */
static void serve(struct fixture *fixture, uint32_t daemons, uint32_t lanes)
{
	for (uint32_t i = 0; i < daemons; i++)
		daemon_start_tcp(&fixture->daemons[i], lanes);
	snprintf(fixture->endpoints, sizeof(fixture->endpoints), "%s%s%s", fixture->daemons[0].endpoints[0],
	         daemons > 1 ? "," : "", daemons > 1 ? fixture->daemons[1].endpoints[0] : "");
}

__attribute__((format(printf, 2, 3)))
static int optctl(struct fixture *fixture, const char *format, ...)
{
	char arguments[512];
	va_list args;

	va_start(args, format);
	vsnprintf(arguments, sizeof(arguments), format, args);
	va_end(args);
	return optctl_run(fixture->out, sizeof(fixture->out), "-s %s %s", fixture->endpoints, arguments);
}

static void assert_out_has(const struct fixture *fixture, const char *text)
{
	if (strstr(fixture->out, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, fixture->out);
}

/* Sets it, and returns the version from which on it holds. */
static uint64_t set(struct fixture *fixture, const char *arguments)
{
	uint64_t from;

	if (optctl(fixture, "set m %s", arguments) != 0)
		fail_msg("%s", fixture->out);
	const char *at = strstr(fixture->out, "from version ");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "from version %" SCNu64 " on", &from), 1);
	return from;
}

static void wait_step(struct fixture *fixture, uint64_t step)
{
	while (atomic_load(&fixture->team.step) < step)
		optctl(fixture, "status");
}

/* Two workers at full speed; the learning rate is lowered while they train. */
static void change_a_team(struct fixture *fixture, uint32_t daemons, uint32_t lanes)
{
	serve(fixture, daemons, lanes);
	team_start(&fixture->team, fixture->endpoints, &pair, 240);
	wait_step(fixture, 4);
	fixture->team.plan.changes[0] =
	        (struct plan_change){ set(fixture, "lr=0.0005"), "lr", 0.0005 };
	fixture->team.plan.changes[1] =
	        (struct plan_change){ set(fixture, "weight_decay=0.01 --from 220"), "weight_decay", 0.01 };
	assert_int_equal(fixture->team.plan.changes[1].from, 220);
	assert_in_range(fixture->team.plan.changes[0].from, 4, 220);
	fixture->team.plan.change_count = 2;
	team_assert_exact(&fixture->team);
}

static void test_two_workers_go_on_with_a_change_on_one_lane(void **state)
{
	change_a_team(*state, 1, 1);
}

static void test_two_workers_go_on_with_a_change_on_three_lanes(void **state)
{
	change_a_team(*state, 1, 3);
}

static void test_two_workers_go_on_with_a_change_on_two_daemons(void **state)
{
	change_a_team(*state, 2, 1);
}

static void test_status_lists_the_changes(void **state)
{
	struct fixture *fixture = *state;

	serve(fixture, 1, 3);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &alone, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 2);
	set(fixture, "lr=0.001");
	set(fixture, "lr=0.0005 weight_decay=0.1 --from 7");
	assert_int_equal(optctl(fixture, "status"), 0);
	assert_out_has(fixture, "change      from step 2 on: lr=0.001\n");
	assert_out_has(fixture, "change      from step 7 on: lr=0.0005 weight_decay=0.1\n");
	assert_out_has(fixture, "sgd match=torch2 lr=0.001 momentum=0.9");
	if (strstr(fixture->out, "WARNING") != NULL)
		fail_msg("%s", fixture->out);
	assert_int_equal(optctl(fixture, "status --json"), 0);
	assert_out_has(fixture, "\"from\": 7");
	assert_out_has(fixture, "\"weight_decay\": 0.1");
}

static void test_a_refused_change_leaves_everything_as_it_was(void **state)
{
	struct fixture *fixture = *state;

	serve(fixture, 2, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &alone, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 3);
	assert_int_equal(optctl(fixture, "set m momentun=0.5"), 1);
	assert_out_has(fixture, "the nearest is 'momentum'");
	assert_int_equal(optctl(fixture, "set m lr=-1"), 1);
	assert_out_has(fixture, "lr=-1 is out of range");
	assert_int_equal(optctl(fixture, "set m momentum=0"), 1);
	assert_out_has(fixture, "(none) than the model has (momentum_buffer)");
	assert_int_equal(optctl(fixture, "set m lr=0.1 --from 2"), 1);
	assert_out_has(fixture, "a block is at version 3, so a change from version 2 on comes too late");
	assert_int_equal(optctl(fixture, "set m lr=0.1 --group '*.bias'"), 1);
	assert_out_has(fixture, "no group '*.bias'");
	assert_int_equal(optctl(fixture, "set mm lr=0.1"), 1);
	assert_out_has(fixture, "no model 'mm'");
	assert_out_has(fixture, "the nearest is 'm'");
	assert_int_equal(optctl(fixture, "set m lr"), 64);
	assert_int_equal(optctl(fixture, "set m lr=fast"), 64);
	assert_int_equal(optctl(fixture, "status"), 0);
	assert_null(strstr(fixture->out, "change"));
	trainer_run(&fixture->trainer, 6);
	trainer_assert_exact(fixture->trainer.weights, &alone, 6);
}

static void test_a_change_survives_a_restart_with_other_lanes(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = alone;

	serve(fixture, 1, 1);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 4);
	plan.changes[0] = (struct plan_change){ set(fixture, "lr=0.01"), "lr", 0.01 };
	plan.changes[1] = (struct plan_change){ set(fixture, "lr=0.002 --from 8"), "lr", 0.002 };
	plan.change_count = 2;
	trainer_run(&fixture->trainer, 6);
	assert_int_equal(optctl(fixture, "save m"), 0);
	daemon_kill(&fixture->daemons[0]);
	daemon_restart(&fixture->daemons[0], 3);
	trainer_run(&fixture->trainer, 12);
	trainer_assert_exact(fixture->trainer.weights, &plan, 12);
	assert_int_equal(optctl(fixture, "status"), 0);
	assert_out_has(fixture, "from step 8 on: lr=0.002");
}

/* Nothing else has happened since the last checkpoint. */
static void test_a_daemon_that_stops_keeps_a_change(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = alone;

	serve(fixture, 1, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 3);
	assert_int_equal(optctl(fixture, "save m"), 0);
	plan.changes[0] = (struct plan_change){ set(fixture, "lr=0.01"), "lr", 0.01 };
	plan.change_count = 1;
	assert_int_equal(daemon_stop(&fixture->daemons[0]), 0);
	daemon_restart(&fixture->daemons[0], 1);
	trainer_run(&fixture->trainer, 6);
	trainer_assert_exact(fixture->trainer.weights, &plan, 6);
}

static void test_workers_may_come_back_with_either_setting(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = alone;

	serve(fixture, 1, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 2);
	plan.changes[0] = (struct plan_change){ set(fixture, "lr=0.01"), "lr", 0.01 };
	plan.change_count = 1;
	trainer_close(&fixture->trainer);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 5);
	trainer_assert_exact(fixture->trainer.weights, &plan, 5);
}

/* It opened the model between two changes from the same version on: what it was told then the
 * model never has again. */
static void test_a_worker_goes_on_after_a_restart_whatever_it_was_told_when_it_opened(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = alone;

	serve(fixture, 1, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 2);
	trainer_close(&fixture->trainer);
	set(fixture, "lr=0.5");
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	plan.changes[0] = (struct plan_change){ set(fixture, "lr=0.01"), "lr", 0.01 };
	plan.change_count = 1;
	assert_int_equal(plan.changes[0].from, 2);
	trainer_run(&fixture->trainer, 4);
	assert_int_equal(daemon_stop(&fixture->daemons[0]), 0);
	daemon_restart(&fixture->daemons[0], 2);
	trainer_run(&fixture->trainer, 6);
	assert_int_equal(daemon_stop(&fixture->daemons[0]), 0);
	daemon_restart(&fixture->daemons[0], 3);
	trainer_run(&fixture->trainer, 8);
	trainer_assert_exact(fixture->trainer.weights, &plan, 8);
}

static void test_an_async_model_changes_too(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = async;

	serve(fixture, 2, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 3);
	plan.changes[0] = (struct plan_change){ set(fixture, "lr=0.0001"), "lr", 0.0001 };
	plan.change_count = 1;
	assert_int_equal(plan.changes[0].from, 3);
	trainer_run(&fixture->trainer, 7);
	trainer_assert_exact(fixture->trainer.weights, &plan, 7);
}

/* ---- a client that dies on the way -------------------------------------------- */

static const struct msg_hyper LR = { { "lr", 2 }, { 0.01 }, 1 };

static struct msg step_of(struct speaker *speaker, enum msg_act act)
{
	struct msg msg = speak_request(speaker, MSG_SET);

	msg.set = (struct msg_set){
		.model = { "m", 1 }, .id = 77, .act = act, .hyper_count = 1, .hypers = { LR }
	};
	if (act == MSG_SET_PROMISE) {
		msg.set.has_from = true;
		msg.set.from = 3;
	}
	return msg;
}

static void take_steps(struct fixture *fixture, enum msg_act last)
{
	struct speaker speaker;

	speak_hello(&speaker, fixture->endpoints);
	for (enum msg_act act = MSG_SET_PREPARE; act <= last; act++) {
		struct msg msg = step_of(&speaker, act);
		assert_int_equal(speak_ask(&speaker, &msg), OPTD_OK);
	}
	speak_close(&speaker);
}

static void test_who_dies_after_preparing_has_changed_nothing(void **state)
{
	struct fixture *fixture = *state;

	serve(fixture, 1, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &alone, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 3);
	take_steps(fixture, MSG_SET_PREPARE);
	uint64_t before_ms = daemon_now_ms();
	trainer_run(&fixture->trainer, 6);
	assert_in_range(daemon_now_ms() - before_ms, LIMIT_SET_HOLD_MS / 2, 6 * LIMIT_SET_HOLD_MS);
	trainer_assert_exact(fixture->trainer.weights, &alone, 6);
	assert_true(daemon_wait_log(&fixture->daemons[0], "it is withdrawn", 1));
}

static void test_who_dies_after_promising_has_changed_all(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = alone;

	serve(fixture, 1, 2);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 3);
	take_steps(fixture, MSG_SET_PROMISE);
	plan.changes[0] = (struct plan_change){ 3, "lr", 0.01 };
	plan.change_count = 1;
	trainer_run(&fixture->trainer, 6);
	trainer_assert_exact(fixture->trainer.weights, &plan, 6);
}

/* optctl itself, killed at a moment of chance: no hold stays, no half of a change. */
static void test_a_killed_optctl_leaves_no_half_of_a_change(void **state)
{
	struct fixture *fixture = *state;

	serve(fixture, 2, 1);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->endpoints, &alone, 0), OPTD_OK);
	trainer_run(&fixture->trainer, 2);
	for (uint32_t i = 0; i < 4; i++) {
		char before[80];
		snprintf(before, sizeof(before), "sh -c 'timeout -s KILL 0.0%u \"$@\"; true' - ", 1 + 2 * i);
		optctl_run_under(before, fixture->out, sizeof(fixture->out), "-s %s set m lr=0.0%u", fixture->endpoints,
		                 i + 1);
	}
	trainer_run(&fixture->trainer, 4);
	assert_int_equal(optctl(fixture, "set m lr=0.5"), 0);
	trainer_run(&fixture->trainer, 5);
	assert_int_equal(optctl(fixture, "status"), 0);
	if (strstr(fixture->out, "WARNING") != NULL)
		fail_msg("%s", fixture->out);
}

/* ---- two models --------------------------------------------------------------- */

static struct optim scheduled(enum schedule_kind kind, const char *name, double value, double lr)
{
	struct optim optim;
	char why[256];

	assert_int_equal(optim_init(&optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), 0);
	optim.schedule.part_count = 1;
	schedule_part_init(&optim.schedule.parts[0], kind);
	assert_int_equal(schedule_set(&optim.schedule.parts[0], name, &value, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&optim, "lr", &lr, 1, why, sizeof(why)), 0);
	return optim;
}

/* The rate of a step as the table has it in closed form. */
static double rate(int model, double lr, double step)
{
	return model == 0 ? lr * pow(0.9, step) : lr * (1 + cos(acos(-1.0) * step / 20)) / 2;
}

static optd_model *open_scheduled(optd_client *client, const optd_layout *layout, int model, double lr)
{
	const optd_schedule_param params[] = { { "gamma", { 0.9 }, 1 }, { "T_max", { 20 }, 1 } };
	const optd_schedule schedules[] = { { "exponential", &params[0], 1, 0 }, { "cosine", &params[1], 1, 0 } };
	const optd_hyper hyper = { "lr", { lr }, 1 };
	const optd_open_options options = {
		.hypers = &hyper, .hyper_count = 1, .schedule = &schedules[model], .schedule_count = 1
	};
	const float zero = 0;
	optd_model *opened;

	assert_int_equal(optd_open(client, model == 0 ? "a" : "b", layout, &options, &opened), OPTD_OK);
	assert_int_equal(optd_init(opened, &zero), 1);
	return opened;
}

static void test_a_change_is_of_one_model_of_two_with_schedules(void **state)
{
	struct fixture *fixture = *state;
	struct optim optims[2] = { scheduled(SCHEDULE_EXPONENTIAL, "gamma", 0.9, 0.1),
		                   scheduled(SCHEDULE_COSINE, "T_max", 20, 0.2) };
	double lr[2] = { 0.1, 0.2 };
	float weights[2] = { 0 }, wants[2] = { 0 };
	const float gradient = 1;
	optd_client *client;
	optd_model *models[2];

	serve(fixture, 1, 1);
	assert_int_equal(optd_connect(fixture->endpoints, &(optd_options){ .rank = 0 }, &client), OPTD_OK);
	optd_layout *layout = optd_layout_new();
	assert_int_equal(optd_layout_add(layout, "w", NULL, 0), 0);
	for (int i = 0; i < 2; i++)
		models[i] = open_scheduled(client, layout, i, lr[i]);
	for (uint64_t step = 0; step < 16; step++) {
		if (step == 3 && optctl(fixture, "set a lr=0.7 --from 5") != 0)
			fail_msg("%s", fixture->out);
		if (step == 5)
			lr[0] = optims[0].values[0][0] = 0.7;
		for (int i = 0; i < 2; i++) {
			struct optim_carry carry = { { 0 } };
			struct optim_scalars scalars;
			double table = rate(i, lr[i], (double)step);
			double difference = schedule_lr(&optims[i].schedule, optims[i].values[0][0], step) - table;
			assert_true(fabs(difference) <= 1e-12 * fabs(table));
			optim_scalars(&optims[i], step + 1, &carry, &scalars);
			optim_step(&optims[i], OPTIM_ISA_BASE, &scalars, &wants[i], NULL, &gradient, 1);
			assert_int_equal(optd_push_pull(models[i], &gradient, &weights[i]), OPTD_OK);
			assert_memory_equal(&weights[i], &wants[i], sizeof(float));
		}
	}
	optd_layout_free(layout);
	optd_close(&client);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_two_workers_go_on_with_a_change_on_one_lane),
		TEST(test_two_workers_go_on_with_a_change_on_three_lanes),
		TEST(test_two_workers_go_on_with_a_change_on_two_daemons),
		TEST(test_status_lists_the_changes),
		TEST(test_a_refused_change_leaves_everything_as_it_was),
		TEST(test_a_change_survives_a_restart_with_other_lanes),
		TEST(test_a_daemon_that_stops_keeps_a_change),
		TEST(test_workers_may_come_back_with_either_setting),
		TEST(test_a_worker_goes_on_after_a_restart_whatever_it_was_told_when_it_opened),
		TEST(test_an_async_model_changes_too),
		TEST(test_who_dies_after_preparing_has_changed_nothing),
		TEST(test_who_dies_after_promising_has_changed_all),
		TEST(test_a_killed_optctl_leaves_no_half_of_a_change),
		TEST(test_a_change_is_of_one_model_of_two_with_schedules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
