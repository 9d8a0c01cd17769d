/*
 * The table of rules: names, defaults, ranges, slots, and what is refused.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "optim/optim.h"
#include "proto/status.h"

static struct optim make(const char *rule, enum optim_match match)
{
	struct optim optim;
	char why[256];

	assert_int_equal(optim_init(&optim, optim_find(rule), match, why, sizeof(why)), 0);
	return optim;
}

static void set(struct optim *optim, const char *name, double value)
{
	char why[256];

	assert_int_equal(optim_set(optim, name, &value, 1, why, sizeof(why)), 0);
}

static void assert_refused(int rc, const char *why, const char *first, const char *second)
{
	assert_int_equal(rc, OPTD_HYPER);
	if (strstr(why, first) == NULL || strstr(why, second) == NULL)
		fail_msg("'%s' names not both '%s' and '%s'", why, first, second);
}

static void test_each_rule_is_found_by_its_name(void **state)
{
	static const char *const names[] = {
		"sgd",    "momentum", "adagrad",    "rmsprop",  "adam",    "adamw",  "nadam", "radam",
		"adamax", "adadelta", "asgd",       "rprop",    "lion",    "yogi",   "ftrl",  "fedavgm",
		"diloco", "easgd",    "fedadagrad", "fedadam",  "fedyogi", "assign", "average",
		"ema",    "swa",      "lamb",       "lars",     "muon",    "adafactor",        "adafactor_paper",
	};

	(void)state;
	assert_true(optim_rule_count() >= sizeof(names) / sizeof(names[0]));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_non_null(optim_find(names[i]));
		assert_string_equal(optim_rule_name(optim_find(names[i])), names[i]);
	}
	assert_null(optim_find("adamm"));
	assert_null(optim_find(""));
}

static void test_nearest_rule_forgives_a_typo(void **state)
{
	char long_name[300];

	(void)state;
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_string_equal(optim_nearest("adamm"), "adam");
	assert_string_equal(optim_nearest("SGD momentum"), "momentum");
	assert_string_equal(optim_nearest("rms_prop"), "rmsprop");
	assert_string_equal(optim_nearest("AdamW"), "adamw");
	assert_string_equal(optim_nearest("RMSProp"), "rmsprop");
	assert_null(optim_nearest(""));
	assert_null(optim_nearest(long_name));
	assert_null(optim_nearest("levenberg"));
}

static void test_match_names_read_back(void **state)
{
	(void)state;
	for (int i = 0; i < OPTIM_MATCH_COUNT; i++)
		assert_int_equal(optim_match_find(optim_match_name((enum optim_match)i)), i);
	assert_int_equal(optim_match_find("torch"), -1);
}

static void test_defaults_are_pytorchs(void **state)
{
	static const struct {
		const char *rule, *text;
	} expected[] = {
		{ "sgd",
		  "sgd match=torch2 lr=0.001 momentum=0 dampening=0 weight_decay=0 nesterov=0 "
		  "maximize=0" },
		{ "momentum", "momentum lr=0.001 momentum=0.9" },
		{ "adagrad", "adagrad match=torch2 lr=0.01 lr_decay=0 weight_decay=0 "
		             "initial_accumulator_value=0 eps=1e-10 maximize=0" },
		{ "rmsprop",
		  "rmsprop match=torch2 lr=0.01 alpha=0.99 eps=1e-08 weight_decay=0 momentum=0 "
		  "centered=0 maximize=0" },
		{ "adam",
		  "adam match=torch2 lr=0.001 betas=[0.9,0.999] eps=1e-08 weight_decay=0 amsgrad=0 "
		  "maximize=0 decoupled_weight_decay=0" },
		{ "adamw",
		  "adamw match=torch2 lr=0.001 betas=[0.9,0.999] eps=1e-08 weight_decay=0.01 amsgrad=0 "
		  "maximize=0" },
		{ "nadam", "nadam match=torch2 lr=0.002 betas=[0.9,0.999] eps=1e-08 weight_decay=0 "
		           "momentum_decay=0.004 maximize=0 decoupled_weight_decay=0" },
		{ "radam", "radam match=torch2 lr=0.001 betas=[0.9,0.999] eps=1e-08 weight_decay=0 "
		           "maximize=0 decoupled_weight_decay=0" },
		{ "adamax",
		  "adamax match=torch2 lr=0.002 betas=[0.9,0.999] eps=1e-08 weight_decay=0 maximize=0" },
		{ "adadelta", "adadelta match=torch2 lr=1 rho=0.9 eps=1e-06 weight_decay=0 maximize=0" },
		{ "asgd", "asgd match=torch2 lr=0.01 lambd=0.0001 alpha=0.75 t0=1e+06 weight_decay=0 "
		          "maximize=0" },
		{ "rprop", "rprop match=torch2 lr=0.01 etas=[0.5,1.2] step_sizes=[1e-06,50] maximize=0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		struct optim optim = make(expected[i].rule, OPTIM_TORCH2);
		char text[512];

		optim_text(&optim, text, sizeof(text));
		assert_string_equal(text, expected[i].text);
	}
}

/* Sets the hyper-parameter's last value, the others at their defaults. */
static int set_last(const struct optim_rule *rule, const struct optim_hyper *hyper, double value,
                    char *why, size_t why_bytes)
{
	struct optim optim;
	double values[OPTIM_VALUES_MAX];

	memcpy(values, hyper->initial, sizeof(values));
	assert_int_equal(optim_init(&optim, rule, OPTIM_TORCH2, why, why_bytes), 0);
	values[hyper->count - 1] = value;
	return optim_set(&optim, hyper->name, values, hyper->count, why, why_bytes);
}

/* At a range's end, just inside, and just outside. */
static void check_end(const struct optim_rule *rule, const struct optim_hyper *hyper, double end,
                      bool open, double outwards)
{
	char why[256];

	assert_int_equal(set_last(rule, hyper, end, why, sizeof(why)), open ? OPTD_HYPER : 0);
	assert_int_equal(set_last(rule, hyper, nextafter(end, outwards), why, sizeof(why)),
	                 OPTD_HYPER);
	assert_non_null(strstr(why, hyper->name));
	if (hyper->kind == OPTIM_REAL)
		assert_int_equal(set_last(rule, hyper, nextafter(end, -outwards), why, sizeof(why)),
		                 0);
	else
		assert_int_equal(set_last(rule, hyper, 0.5, why, sizeof(why)), OPTD_HYPER);
}

static void test_each_range_holds_at_its_ends(void **state)
{
	(void)state;
	for (uint32_t r = 0; r < optim_rule_count(); r++) {
		const struct optim_rule *rule = optim_rule(r);

		assert_true(optim_hyper_count(rule) <= OPTIM_HYPERS_MAX);
		for (uint32_t i = 0; i < optim_hyper_count(rule); i++) {
			const struct optim_hyper *hyper = optim_hyper(rule, i);
			char why[256];

			check_end(rule, hyper, hyper->min, hyper->min_open, -INFINITY);
			check_end(rule, hyper, hyper->max, hyper->max_open, INFINITY);
			assert_int_equal(set_last(rule, hyper, hyper->initial[hyper->count - 1],
			                          why, sizeof(why)),
			                 0);
		}
	}
}

static void test_nothing_that_is_not_finite_is_taken(void **state)
{
	static const double bad[] = { NAN, -NAN, INFINITY, -INFINITY, DBL_MAX, -DBL_MAX };

	(void)state;
	for (uint32_t r = 0; r < optim_rule_count(); r++) {
		const struct optim_rule *rule = optim_rule(r);

		for (uint32_t i = 0; i < optim_hyper_count(rule); i++) {
			for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
				char why[256];

				assert_int_equal(set_last(rule, optim_hyper(rule, i), bad[j], why,
				                          sizeof(why)),
				                 OPTD_HYPER);
			}
		}
	}
}

static void test_refused_value_leaves_settings_alone(void **state)
{
	struct optim optim = make("adam", OPTIM_TORCH2), before = optim;
	double betas[2] = { 0.5, 1 };
	char why[256];

	(void)state;
	assert_int_equal(optim_set(&optim, "betas", betas, 2, why, sizeof(why)), OPTD_HYPER);
	assert_memory_equal(&optim, &before, sizeof(optim));
}

static void test_refusal_names_value_and_range(void **state)
{
	struct optim adam = make("adam", OPTIM_TORCH2);
	double betas[2] = { 0.9, 1 }, lr = -1, flag = 0.5;
	char why[256];

	(void)state;
	assert_refused(optim_set(&adam, "betas", betas, 2, why, sizeof(why)), why, "betas=[0.9,1]",
	               "[0, 1)");
	assert_refused(optim_set(&adam, "lr", &lr, 1, why, sizeof(why)), why, "lr=-1",
	               "[0, 3.4e+38]");
	assert_refused(optim_set(&adam, "amsgrad", &flag, 1, why, sizeof(why)), why, "amsgrad=0.5",
	               "0 and 1");
}

static void test_refusal_of_a_name_tells_the_nearest(void **state)
{
	struct optim adam = make("adam", OPTIM_TORCH2);
	double value = 0.1;
	char why[256];

	(void)state;
	assert_refused(optim_set(&adam, "learning_rate", &value, 1, why, sizeof(why)), why,
	               "'learning_rate'", "it is called 'lr'");
	assert_refused(optim_set(&adam, "beta", &value, 1, why, sizeof(why)), why, "'beta'",
	               "'betas'");
	assert_refused(optim_set(&adam, "momentum", &value, 1, why, sizeof(why)), why, "adam",
	               "'momentum'");
}

static void test_refusal_of_what_stands_elsewhere_tells_where(void **state)
{
	static const struct {
		const char *given, *what;
	} rows[] = {
		{ "clip_norm", "; 'clip_norm' is a setting of the model: it belongs beside optimizer, not in it, and "
		  "cannot be changed in a run" },
		{ "clip_nrom", "; the nearest is 'clip_norm', a setting of the model" },
		{ "max_grad_norm", "; it is called 'clip_norm', a setting of the model" },
		{ "loss_scale", "; 'loss_scale' is a setting of the model" },
		{ "param_groups", "; it is called 'groups', an entry of optimizer beside the hyper-parameters, and "
		  "cannot be changed in a run" },
		{ "T_max", "; 'T_max' is a parameter of schedule 'cosine'" },
		{ "milestones", "; 'milestones' is a parameter of schedule 'multistep'" },
		{ "wd", "; it is called 'weight_decay'; it has lr" },
	};
	struct optim adam = make("adam", OPTIM_TORCH2);
	double value = 1;
	char why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_refused(optim_set(&adam, rows[i].given, &value, 1, why, sizeof(why)), why, rows[i].given,
		               rows[i].what);
}

static void test_another_name_is_not_offered_for_what_a_rule_lacks(void **state)
{
	struct optim average = make("average", OPTIM_TORCH2), sgd = make("sgd", OPTIM_TORCH2);
	double value = 1;
	char why[256];

	(void)state;
	assert_refused(optim_set(&average, "learning_rate", &value, 1, why, sizeof(why)), why, "average", "rate");
	assert_null(strstr(why, "'lr'"));
	assert_refused(optim_set(&sgd, "epsilon", &value, 1, why, sizeof(why)), why, "'epsilon'; it has", "lr");
}

static void test_refusal_of_a_count_tells_both(void **state)
{
	struct optim adam = make("adam", OPTIM_TORCH2);
	double values[2] = { 0.1, 0.2 };
	char why[256];

	(void)state;
	assert_refused(optim_set(&adam, "betas", values, 1, why, sizeof(why)), why, "takes 2",
	               "given 1");
	assert_refused(optim_set(&adam, "lr", values, 2, why, sizeof(why)), why, "takes 1",
	               "given 2");
	assert_refused(optim_set(&adam, "lr", values, 0, why, sizeof(why)), why, "takes 1",
	               "given 0");
}

static void test_nesterov_needs_momentum_without_dampening(void **state)
{
	struct optim optim = make("sgd", OPTIM_TORCH2);
	char why[256];

	(void)state;
	set(&optim, "nesterov", 1);
	assert_refused(optim_check(&optim, why, sizeof(why)), why, "nesterov", "momentum=0");
	set(&optim, "momentum", 0.9);
	assert_int_equal(optim_check(&optim, why, sizeof(why)), 0);
	set(&optim, "dampening", 0.5);
	assert_refused(optim_check(&optim, why, sizeof(why)), why, "nesterov", "dampening=0.5");
}

static void test_numpy_refuses_what_its_formulas_lack(void **state)
{
	static const struct {
		const char *rule, *hyper;
	} lacking[] = {
		{ "sgd", "momentum" },         { "sgd", "dampening" },
		{ "sgd", "weight_decay" },     { "sgd", "nesterov" },
		{ "sgd", "maximize" },         { "adagrad", "lr_decay" },
		{ "adagrad", "weight_decay" }, { "adagrad", "initial_accumulator_value" },
		{ "adagrad", "maximize" },     { "rmsprop", "weight_decay" },
		{ "rmsprop", "momentum" },     { "rmsprop", "centered" },
		{ "rmsprop", "maximize" },     { "adam", "weight_decay" },
		{ "adam", "amsgrad" },         { "adam", "maximize" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++) {
		struct optim optim = make(lacking[i].rule, OPTIM_NUMPY);
		char why[256];

		assert_int_equal(optim_check(&optim, why, sizeof(why)), 0);
		set(&optim, lacking[i].hyper, 1);
		assert_refused(optim_check(&optim, why, sizeof(why)), why, lacking[i].hyper,
		               "match=numpy");
	}
}

static void test_momentum_has_no_match(void **state)
{
	struct optim optim;
	char why[256];

	(void)state;
	assert_int_equal(optim_init(&optim, optim_find("momentum"), OPTIM_TORCH2, why, sizeof(why)),
	                 0);
	assert_refused(optim_init(&optim, optim_find("momentum"), OPTIM_NUMPY, why, sizeof(why)),
	               why, "momentum", "match=numpy");
	assert_refused(optim_init(&optim, optim_find("momentum"), OPTIM_TORCH1, why, sizeof(why)),
	               why, "momentum", "match=torch1");
}

static void test_unknown_match_is_refused(void **state)
{
	struct optim optim;
	char why[256];

	(void)state;
	assert_refused(optim_init(&optim, optim_find("adam"), (enum optim_match)7, why,
	                          sizeof(why)),
	               why, "adam", "torch2 torch1 numpy");
}

/* The names of all slots, in order, joined by spaces. */
static void assert_slots(const struct optim *optim, const char *names)
{
	char joined[256] = "";

	assert_true(optim_slot_count(optim) <= OPTIM_SLOTS_MAX);
	for (uint32_t i = 0; i < optim_slot_count(optim); i++) {
		strcat(joined, i > 0 ? " " : "");
		strcat(joined, optim_slot_name(optim, i));
	}
	assert_string_equal(joined, names);
}

static void test_only_needed_slots_exist(void **state)
{
	struct optim sgd = make("sgd", OPTIM_TORCH2), rmsprop = make("rmsprop", OPTIM_TORCH2);
	struct optim adam = make("adam", OPTIM_TORCH2), momentum = make("momentum", OPTIM_TORCH2);
	struct optim adagrad = make("adagrad", OPTIM_TORCH2);

	(void)state;
	assert_slots(&sgd, "");
	set(&sgd, "momentum", 0.9);
	assert_slots(&sgd, "momentum_buffer");
	assert_slots(&momentum, "momentum_buffer");
	assert_slots(&adagrad, "sum");
	assert_slots(&rmsprop, "square_avg");
	set(&rmsprop, "centered", 1);
	assert_slots(&rmsprop, "square_avg grad_avg");
	set(&rmsprop, "momentum", 0.9);
	assert_slots(&rmsprop, "square_avg momentum_buffer grad_avg");
	assert_slots(&adam, "exp_avg exp_avg_sq");
	set(&adam, "amsgrad", 1);
	assert_slots(&adam, "exp_avg exp_avg_sq max_exp_avg_sq");
}

static void test_adagrad_starts_at_its_initial_value(void **state)
{
	struct optim optim = make("adagrad", OPTIM_TORCH2);

	(void)state;
	assert_true(optim_slot_initial(&optim, 0) == 0);
	set(&optim, "initial_accumulator_value", 0.1);
	assert_true(optim_slot_initial(&optim, 0) == 0.1f);
}

static void test_isa_names_read_back(void **state)
{
	(void)state;
	for (int i = 0; i < OPTIM_ISA_COUNT; i++)
		assert_int_equal(optim_isa_find(optim_isa_name((enum optim_isa)i)), i);
	assert_int_equal(optim_isa_find("sse9"), -1);
	assert_true(optim_isa_usable(OPTIM_ISA_BASE));
	assert_true(optim_isa_usable(optim_isa_best()));
	assert_false(optim_isa_usable(OPTIM_ISA_COUNT));
}

static void schedule_of(struct optim *optim, enum schedule_kind kind)
{
	const double one = 1;
	char why[256];

	optim->schedule.part_count = 1;
	schedule_part_init(&optim->schedule.parts[0], kind);
	if (kind != SCHEDULE_ONECYCLE)
		return;
	schedule_set(&optim->schedule.parts[0], "max_lr", &one, 1, why, sizeof(why));
	schedule_set(&optim->schedule.parts[0], "total_steps", &one, 1, why, sizeof(why));
}

/* As PyTorch: of every rule with momentum or betas; of others it raises. */
static void test_onecycle_needs_a_momentum_to_move(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < optim_rule_count(); i++) {
		struct optim optim;
		char why[256];
		double value;
		bool has = false;

		if (optim_init(&optim, optim_rule(i), OPTIM_TORCH2, why, sizeof(why)) < 0)
			continue;
		schedule_of(&optim, SCHEDULE_ONECYCLE);
		if (optim_check(&optim, why, sizeof(why)) < 0 || strcmp(optim_rule_name(optim.rule), "rprop") == 0 ||
		    strcmp(optim_rule_name(optim.rule), "adafactor_paper") == 0)
			continue;
		for (uint32_t j = 0; j < optim_hyper_count(optim.rule); j++)
			has |= strcmp(optim_hyper(optim.rule, j)->name, "momentum") == 0 ||
			       strcmp(optim_hyper(optim.rule, j)->name, "betas") == 0;
		if (has) {
			assert_int_equal(optim_settle(&optim, why, sizeof(why)), 0);
			continue;
		}
		assert_refused(optim_settle(&optim, why, sizeof(why)), why, optim_rule_name(optim.rule),
		               "neither momentum nor betas; give cycle_momentum: 0");
		value = 0;
		schedule_set(&optim.schedule.parts[0], "cycle_momentum", &value, 1, why, sizeof(why));
		assert_int_equal(optim_settle(&optim, why, sizeof(why)), 0);
	}
}

static void test_onecycle_has_no_momentum_to_move_in_numpys_sgd(void **state)
{
	struct optim optim = make("sgd", OPTIM_NUMPY);
	char why[256];

	(void)state;
	schedule_of(&optim, SCHEDULE_ONECYCLE);
	assert_refused(optim_settle(&optim, why, sizeof(why)), why, "sgd with this match", "cycle_momentum: 0");
}

static void test_onecycle_makes_a_momentum_of_0_the_first_it_moves_it_to(void **state)
{
	struct optim given = make("sgd", OPTIM_TORCH2), optim = given, other = given;
	const double half = 0.5;
	char why[256];

	(void)state;
	schedule_of(&given, SCHEDULE_ONECYCLE);
	optim = given;
	assert_int_equal(optim_settle(&optim, why, sizeof(why)), 0);
	assert_true(optim.values[1][0] == 0.95);
	assert_int_equal(optim_slot_count(&optim), 1);
	/* Who says 0 again says the same. */
	assert_int_equal(optim_compare(&given, &optim, why, sizeof(why)), 0);
	other = given;
	assert_int_equal(optim_set(&other, "momentum", &half, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_settle(&other, why, sizeof(why)), 0);
	assert_true(other.values[1][0] == 0.5);
	assert_int_equal(optim_compare(&given, &other, why, sizeof(why)), -1);
}

static void test_nesterov_needs_its_momentum_also_under_onecycle(void **state)
{
	struct optim optim = make("sgd", OPTIM_TORCH2);
	const double yes = 1;
	char why[256];

	(void)state;
	schedule_of(&optim, SCHEDULE_ONECYCLE);
	assert_int_equal(optim_set(&optim, "nesterov", &yes, 1, why, sizeof(why)), 0);
	assert_refused(optim_settle(&optim, why, sizeof(why)), why, "nesterov=1 needs", "momentum=0");
}

static void test_an_lr_or_schedule_without_effect_is_refused_at_the_beginning(void **state)
{
	struct optim rprop = make("rprop", OPTIM_TORCH2), paper = make("adafactor_paper", OPTIM_TORCH2), plain = paper;
	const double half = 0.5, no = 0;
	char why[256];

	(void)state;
	assert_int_equal(optim_set(&rprop, "lr", &half, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_settle(&rprop, why, sizeof(why)), 0);
	schedule_of(&rprop, SCHEDULE_CONSTANT);
	assert_refused(optim_settle(&rprop, why, sizeof(why)), why, "rprop: a schedule", "first step size");
	assert_int_equal(optim_check(&rprop, why, sizeof(why)), 0);
	schedule_of(&plain, SCHEDULE_CONSTANT);
	assert_refused(optim_settle(&plain, why, sizeof(why)), why, "a schedule is without effect", "relative_step=0");
	assert_int_equal(optim_settle(&paper, why, sizeof(why)), 0);
	assert_int_equal(optim_set(&paper, "lr", &half, 1, why, sizeof(why)), 0);
	assert_refused(optim_settle(&paper, why, sizeof(why)), why, "lr=0.5 is without effect", "relative_step=0");
	assert_int_equal(optim_set(&paper, "relative_step", &no, 1, why, sizeof(why)), 0);
	assert_int_equal(optim_settle(&paper, why, sizeof(why)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_rule_is_found_by_its_name),
		cmocka_unit_test(test_nearest_rule_forgives_a_typo),
		cmocka_unit_test(test_match_names_read_back),
		cmocka_unit_test(test_defaults_are_pytorchs),
		cmocka_unit_test(test_each_range_holds_at_its_ends),
		cmocka_unit_test(test_nothing_that_is_not_finite_is_taken),
		cmocka_unit_test(test_refused_value_leaves_settings_alone),
		cmocka_unit_test(test_refusal_names_value_and_range),
		cmocka_unit_test(test_refusal_of_a_name_tells_the_nearest),
		cmocka_unit_test(test_refusal_of_what_stands_elsewhere_tells_where),
		cmocka_unit_test(test_another_name_is_not_offered_for_what_a_rule_lacks),
		cmocka_unit_test(test_refusal_of_a_count_tells_both),
		cmocka_unit_test(test_nesterov_needs_momentum_without_dampening),
		cmocka_unit_test(test_numpy_refuses_what_its_formulas_lack),
		cmocka_unit_test(test_momentum_has_no_match),
		cmocka_unit_test(test_unknown_match_is_refused),
		cmocka_unit_test(test_only_needed_slots_exist),
		cmocka_unit_test(test_adagrad_starts_at_its_initial_value),
		cmocka_unit_test(test_isa_names_read_back),
		cmocka_unit_test(test_onecycle_needs_a_momentum_to_move),
		cmocka_unit_test(test_onecycle_has_no_momentum_to_move_in_numpys_sgd),
		cmocka_unit_test(test_onecycle_makes_a_momentum_of_0_the_first_it_moves_it_to),
		cmocka_unit_test(test_nesterov_needs_its_momentum_also_under_onecycle),
		cmocka_unit_test(test_an_lr_or_schedule_without_effect_is_refused_at_the_beginning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
