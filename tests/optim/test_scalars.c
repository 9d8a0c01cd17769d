/*
 * The scalars of an update, seen through one update of one element: computed in
 * double, rounded once, right for the first update and for very late ones.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"

static struct optim make(const char *rule, enum optim_match match)
{
	struct optim optim;
	char why[256];

	assert_int_equal(optim_init(&optim, optim_find(rule), match, why, sizeof(why)), 0);
	return optim;
}

static void set(struct optim *optim, const char *name, double first, double second)
{
	double values[2] = { first, second };
	char why[256];

	assert_int_equal(optim_set(optim, name, values, strcmp(name, "betas") == 0 ? 2 : 1, why,
	                           sizeof(why)),
	                 0);
}

/* Of a segment that has seen no update, or whose rule carries nothing. */
static struct optim_scalars scalars_of(const struct optim *optim, uint64_t t)
{
	struct optim_carry carry;
	struct optim_scalars scalars;

	memset(&scalars, 1, sizeof(scalars));
	optim_carry_initial(optim, &carry);
	optim_scalars(optim, t, &carry, &scalars);
	return scalars;
}

/* Update t of one element; state[] are its slots. */
static float update(const struct optim *optim, uint64_t t, float w, float *state, float g)
{
	struct optim_scalars scalars = scalars_of(optim, t);
	float *slots[OPTIM_SLOTS_MAX];

	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		slots[i] = &state[i];
	optim_step(optim, OPTIM_ISA_BASE, &scalars, &w, slots, &g, 1);
	return w;
}

static void test_equal_updates_have_equal_scalars(void **state)
{
	struct optim optim = make("adam", OPTIM_TORCH2);
	struct optim_scalars a = scalars_of(&optim, 7), b = scalars_of(&optim, 7);

	(void)state;
	assert_memory_equal(&a, &b, sizeof(a));
}

static void test_learning_rate_is_rounded_once(void **state)
{
	struct optim optim = make("sgd", OPTIM_TORCH2);
	double lr = 0.1;

	(void)state;
	set(&optim, "lr", lr, 0);
	assert_true(update(&optim, 1, 0, NULL, 1) == (float)-lr);
}

static void test_adagrad_lr_decay_counts_from_the_first_update(void **state)
{
	struct optim optim = make("adagrad", OPTIM_TORCH2);
	float fresh[OPTIM_SLOTS_MAX] = { 0 }, later[OPTIM_SLOTS_MAX] = { 0 };

	(void)state;
	set(&optim, "lr", 1, 0);
	set(&optim, "lr_decay", 0.5, 0);
	set(&optim, "eps", 0, 0);
	assert_true(update(&optim, 1, 0, fresh, 4) == -1);
	assert_true(update(&optim, 3, 0, later, 4) == -0.5f);
}

static void test_adam_first_update_moves_by_the_learning_rate(void **state)
{
	struct optim optim = make("adam", OPTIM_TORCH2);
	float slots[OPTIM_SLOTS_MAX] = { 0 };

	(void)state;
	set(&optim, "betas", 0.5, 0.75);
	set(&optim, "eps", 0, 0);
	set(&optim, "lr", 0.25, 0);
	assert_true(update(&optim, 1, 1, slots, 8) == 0.75f);
	assert_true(slots[0] == 4 && slots[1] == 16);
}

/* PyTorch's own counter is a float32 and sticks there. */
static void test_counter_goes_beyond_two_to_the_24(void **state)
{
	struct optim optim = make("adagrad", OPTIM_TORCH2);
	struct optim_scalars before, after;

	(void)state;
	set(&optim, "lr_decay", 1, 0);
	before = scalars_of(&optim, UINT64_C(1) << 24);
	after = scalars_of(&optim, (UINT64_C(1) << 24) * 3);
	assert_true(memcmp(&before, &after, sizeof(before)) != 0);
}

static void test_late_updates_are_uncorrected(void **state)
{
	static const enum optim_match matches[] = { OPTIM_TORCH2, OPTIM_TORCH1, OPTIM_NUMPY };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct optim optim = make("adam", matches[i]);
		struct optim_scalars late = scalars_of(&optim, 1000000);
		struct optim_scalars later = scalars_of(&optim, UINT64_MAX);

		for (size_t j = 0; j < OPTIM_SCALARS_MAX; j++)
			assert_true(isfinite(later.values[j]));
		assert_memory_equal(&late, &later, sizeof(late));
	}
}

static struct optim scheduled(struct optim optim, enum schedule_kind kind)
{
	static const struct {
		const char *name;
		double value;
	} params[] = { { "gamma", 0.5 }, { "max_lr", 0.25 }, { "total_steps", 20 } };
	char why[256];

	optim.schedule.part_count = 1;
	schedule_part_init(&optim.schedule.parts[0], kind);
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++)
		schedule_set(&optim.schedule.parts[0], params[i].name, &params[i].value, 1, why, sizeof(why));
	assert_int_equal(optim_check(&optim, why, sizeof(why)), 0);
	return optim;
}

static void test_schedule_sets_the_rate_of_updates_done(void **state)
{
	struct optim plain = make("adam", OPTIM_TORCH2);
	struct optim optim;

	(void)state;
	set(&plain, "lr", 0.5, 0);
	optim = scheduled(plain, SCHEDULE_EXPONENTIAL);
	for (uint64_t t = 1; t <= 4; t++) {
		struct optim_scalars got = scalars_of(&optim, t), want = scalars_of(&plain, t);

		assert_memory_equal(&got, &want, sizeof(got));
		set(&plain, "lr", ldexp(0.5, -(int)t), 0);
	}
}

/* Also where the form of the mean follows from beta: 0.4 takes another one than 0.95. */
static void test_onecycle_moves_the_first_beta(void **state)
{
	struct optim plain = make("adam", OPTIM_TORCH2), optim;
	float state_a[OPTIM_SLOTS_MAX] = { 0.5f, 0.25f }, state_b[OPTIM_SLOTS_MAX] = { 0.5f, 0.25f };
	double momentum;

	(void)state;
	set(&plain, "betas", 0.4, 0.999);
	optim = scheduled(plain, SCHEDULE_ONECYCLE);
	assert_true(schedule_momentum(&optim.schedule, 0, &momentum) && momentum == 0.95);
	set(&plain, "betas", 0.95, 0.999);
	set(&plain, "lr", schedule_lr(&optim.schedule, 0, 0), 0);
	assert_true(update(&optim, 1, 2, state_a, 0.75f) == update(&plain, 1, 2, state_b, 0.75f));
	assert_memory_equal(state_a, state_b, sizeof(state_a));
}

/* PyTorch 1.13.1, w = 1, these gradients, OneCycleLR(max_lr=.1, total_steps=6) and a step of it
 * after each of the optimizer's: w.item().hex() after each. */
static const float onecycle_gradients[6] = { 1, -0.5f, 0.25f, 1.5f, -1, 0.75f };

static const struct {
	const char *rule;
	struct {
		const char *name;
		double value;
	} hypers[2];
	float weights[6];
} onecycles[] = {
	{ "sgd", { { NULL, 0 } },
	  { 0x1.fdf3b6p-1f, 0x1.ec1a88p-1f, 0x1.d50e06p-1f, 0x1.a5a710p-1f, 0x1.9fad40p-1f, 0x1.9fad2ap-1f } },
	{ "sgd", { { "dampening", 0.5 }, { "weight_decay", 0.1 } },
	  { 0x1.fdbf48p-1f, 0x1.d84e26p-1f, 0x1.b6a36ap-1f, 0x1.92848cp-1f, 0x1.8be7aep-1f, 0x1.8be79cp-1f } },
	{ "sgd", { { "momentum", 0.5 }, { "nesterov", 1 } },
	  { 0x1.fc01a4p-1f, 0x1.032424p+0f, 0x1.e7ddd6p-1f, 0x1.997f36p-1f, 0x1.9abbd4p-1f, 0x1.9abbb6p-1f } },
	{ "rmsprop", { { NULL, 0 } },
	  { 0x1.eb851ep-1f, 0x1.1f13b8p-1f, 0x1.94d1b2p-4f, -0x1.0461e8p-1f, -0x1.382d6ap-1f, -0x1.382df8p-1f } },
	{ "rmsprop", { { "centered", 1 } },
	  { 0x1.eb6ab6p-1f, 0x1.1d038ap-1f, 0x1.77a7c6p-4f, -0x1.0a3026p-1f, -0x1.3e83b6p-1f, -0x1.3e8444p-1f } },
	{ "adam", { { NULL, 0 } },
	  { 0x1.fdf3b6p-1f, 0x1.02b99cp+0f, 0x1.0248d8p+0f, 0x1.f95b8cp-1f, 0x1.f768fep-1f, 0x1.f768f8p-1f } },
	{ "adamw", { { NULL, 0 } },
	  { 0x1.fdee78p-1f, 0x1.027614p+0f, 0x1.01cf9ap+0f, 0x1.f82c00p-1f, 0x1.f62838p-1f, 0x1.f62832p-1f } },
};

static void add_onecycle(struct optim *optim, double total_steps)
{
	struct schedule_part *part = &optim->schedule.parts[optim->schedule.part_count++];
	const double max_lr = 0.1;
	char why[256];

	schedule_part_init(part, SCHEDULE_ONECYCLE);
	assert_int_equal(schedule_set(part, "max_lr", &max_lr, 1, why, sizeof(why)), 0);
	assert_int_equal(schedule_set(part, "total_steps", &total_steps, 1, why, sizeof(why)), 0);
}

static void follows(const struct optim *optim, const float *weights)
{
	float slots[OPTIM_SLOTS_MAX], w = 1;

	for (uint32_t i = 0; i < optim_slot_count(optim); i++)
		slots[i] = optim_slot_initial(optim, i);
	for (uint64_t t = 1; t <= 6; t++) {
		w = update(optim, t, w, slots, onecycle_gradients[t - 1]);
		if (w != weights[t - 1])
			fail_msg("%s, update %d: %a, PyTorch has %a", optim_rule_name(optim->rule), (int)t, (double)w,
			         (double)weights[t - 1]);
	}
}

static void test_onecycle_gives_pytorchs_bits_also_where_momentum_is_0(void **state)
{
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(onecycles) / sizeof(onecycles[0]); i++) {
		struct optim optim = make(onecycles[i].rule, OPTIM_TORCH1);

		for (int j = 0; j < 2 && onecycles[i].hypers[j].name != NULL; j++)
			set(&optim, onecycles[i].hypers[j].name, onecycles[i].hypers[j].value, 0);
		add_onecycle(&optim, 6);
		assert_int_equal(optim_settle(&optim, why, sizeof(why)), 0);
		follows(&optim, onecycles[i].weights);
	}
}

/* Recorded likewise: SequentialLR of ConstantLR(factor=1), until 2, and OneCycleLR(max_lr=.1,
 * total_steps=4).  PyTorch's first stretch has the lr max_lr/25, which OneCycleLR made it. */
static void test_onecycle_in_a_sequence_has_its_momentum_from_the_first_update(void **state)
{
	static const float weights[6] = { 0x1.fdf3b6p-1f, 0x1.fd07c8p-1f, 0x1.fba494p-1f,
		                          0x1.a4d62ap-1f, 0x1.976e00p-1f, 0x1.976deap-1f };
	struct optim optim = make("sgd", OPTIM_TORCH1);
	char why[256];

	(void)state;
	set(&optim, "lr", 0.1 / 25, 0);
	optim.schedule.part_count = 1;
	schedule_part_init(&optim.schedule.parts[0], SCHEDULE_CONSTANT);
	optim.schedule.ends[0] = 2;
	add_onecycle(&optim, 4);
	assert_int_equal(optim_settle(&optim, why, sizeof(why)), 0);
	follows(&optim, weights);
}

/* A model that began before such a momentum was cycled has no state for it. */
static void test_onecycle_leaves_a_momentum_of_0_that_was_not_settled(void **state)
{
	struct optim plain = make("sgd", OPTIM_TORCH2), optim = plain;

	(void)state;
	add_onecycle(&optim, 6);
	set(&plain, "lr", schedule_lr(&optim.schedule, 0, 0), 0);
	assert_int_equal(optim_slot_count(&optim), 0);
	assert_true(update(&optim, 1, 1, NULL, 1) == update(&plain, 1, 1, NULL, 1));
}

static void test_maximize_turns_before_weight_decay(void **state)
{
	struct optim optim = make("sgd", OPTIM_TORCH2);

	(void)state;
	set(&optim, "lr", 1, 0);
	set(&optim, "maximize", 1, 0);
	set(&optim, "weight_decay", 0.5, 0);
	/* g = -2 + 0.5 * 8 = 2 */
	assert_true(update(&optim, 1, 8, NULL, 2) == 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_updates_have_equal_scalars),
		cmocka_unit_test(test_learning_rate_is_rounded_once),
		cmocka_unit_test(test_adagrad_lr_decay_counts_from_the_first_update),
		cmocka_unit_test(test_adam_first_update_moves_by_the_learning_rate),
		cmocka_unit_test(test_counter_goes_beyond_two_to_the_24),
		cmocka_unit_test(test_late_updates_are_uncorrected),
		cmocka_unit_test(test_schedule_sets_the_rate_of_updates_done),
		cmocka_unit_test(test_onecycle_moves_the_first_beta),
		cmocka_unit_test(test_onecycle_gives_pytorchs_bits_also_where_momentum_is_0),
		cmocka_unit_test(test_onecycle_in_a_sequence_has_its_momentum_from_the_first_update),
		cmocka_unit_test(test_onecycle_leaves_a_momentum_of_0_that_was_not_settled),
		cmocka_unit_test(test_maximize_turns_before_weight_decay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
