/*
 * Every optimizer through a daemon: trained, stopped, and trained on by
 * another daemon with other lanes from what the first one has left, it gives the bits
 * of plain arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "optim/optim.h"
#include "tests/e2e/trainer.h"
#include "tests/support/daemon_process.h"

#define STEPS 4

struct fixture {
	struct daemon_process daemon;
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
	free(fixture);
	return 0;
}

static void train(struct fixture *fixture, const struct plan *plan, uint32_t lanes, uint64_t until)
{
	daemon_start_tcp(&fixture->daemon, lanes);
	assert_int_equal(trainer_open(&fixture->trainer, fixture->daemon.endpoints[0], plan, 0), OPTD_OK);
	trainer_run(&fixture->trainer, until);
}

static void train_twice(struct fixture *fixture, const struct plan *plan)
{
	train(fixture, plan, 1, STEPS);
	trainer_close(&fixture->trainer);
	assert_int_equal(daemon_stop(&fixture->daemon), 0);
	train(fixture, plan, 3, 2 * STEPS);
	trainer_assert_exact(fixture->trainer.weights, plan, 2 * STEPS);
}

static void go_on_after_a_restart(struct fixture *fixture, const char *optimizer)
{
	const struct plan plan = { .optimizer = optimizer, .workers = 1, .mode = OPTD_SYNC };

	train_twice(fixture, &plan);
}

#define TEST(name) \
	static void test_##name##_goes_on_after_a_restart(void **state) \
	{ \
		go_on_after_a_restart(*state, #name); \
	}
#define ENTRY(name) \
	cmocka_unit_test_setup_teardown(test_##name##_goes_on_after_a_restart, set_up, tear_down),
#define ALL(DO) \
	DO(momentum) DO(adagrad) DO(rmsprop) DO(adamw) DO(nadam) DO(radam) DO(adamax) DO(adadelta) \
	DO(asgd) DO(rprop) DO(lion) DO(yogi) DO(ftrl) DO(fedavgm) DO(fedadagrad) DO(fedadam) \
	DO(fedyogi) DO(diloco) DO(assign) DO(average) DO(ema) DO(swa) \
	DO(lars) DO(lamb) DO(adafactor) DO(adafactor_paper)

ALL(TEST)

static void test_schedule_that_a_worker_gives_is_followed_over_a_restart(void **state)
{
	struct fixture *fixture = *state;
	const struct plan plan = { .optimizer = "adam", .workers = 1, .mode = OPTD_SYNC, .cosine = true };

	train_twice(fixture, &plan);
	optd_model_info info;
	optd_model_get_info(fixture->trainer.model, &info);
	assert_non_null(strstr(info.optimizer, "linear_warmup("));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALL(ENTRY)
		cmocka_unit_test_setup_teardown(
		        test_schedule_that_a_worker_gives_is_followed_over_a_restart, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
