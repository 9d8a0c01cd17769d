/* Learning rates of the next update, by group. */
#include <math.h>
#include <string.h>

#include "server/core/rates.h"
#include "server/core/settings.h"
#include "tests/support/core_world.h"

/* t0 [4], t1 [3] and the scalar t2; the model's own rule is sgd with lr 1 that halves with
 * each update. */
struct fixture {
	struct core_world world;
	struct engine_preset preset;
};

static void halving(struct schedule *schedule)
{
	const double gamma = 0.5;
	char why[128];

	schedule->part_count = 1;
	schedule_part_init(&schedule->parts[0], SCHEDULE_EXPONENTIAL);
	assert_int_equal(schedule_set(&schedule->parts[0], "gamma", &gamma, 1, why, sizeof(why)), OPTD_OK);
}

static void begin(struct fixture *f)
{
	const double lr = 1;
	char why[128];

	memset(f, 0, sizeof(*f));
	core_world_init(&f->world);
	f->preset = (struct engine_preset){.model = "m", .optim_given = true};
	struct optim *optim = &f->preset.settings.optim;
	assert_int_equal(optim_init(optim, optim_find("sgd"), OPTIM_TORCH2, why, sizeof(why)), OPTD_OK);
	assert_int_equal(optim_set(optim, "lr", &lr, 1, why, sizeof(why)), OPTD_OK);
	halving(&optim->schedule);
	f->world.options.presets = &f->preset;
	f->world.options.preset_count = 1;
}

static struct group *add(struct fixture *f, const char *tensors, const char *name)
{
	struct groups *groups = &f->preset.settings.groups;
	char why[256];

	if (group_begin(&groups->list[groups->count], tensors, &f->preset.settings.optim, name, NULL, why,
	                sizeof(why)) < 0)
		fail_msg("%s", why);
	return &groups->list[groups->count++];
}

static struct rates rates(const struct fixture *f)
{
	const struct model *model = core_shard(&f->world)->model;
	struct model_settings settings;
	struct rates out;
	uint64_t lowest, highest;

	model_versions(model, &lowest, &highest);
	settings_at(&model->settings, &model->changes, NULL, lowest, &settings);
	rates_of(model, &settings, &out);
	return out;
}

static void test_each_group_has_the_rate_of_its_own_schedule_and_factor(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	assert_int_equal(group_scale(add(&f, "t0", NULL), 10, NULL, 0), OPTD_OK);
	add(&f, "t1", "adamw");
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	core_assert_ok(&f.world, core_push_all(&client, 0, 2));
	core_assert_ok(&f.world, core_push_all(&client, 1, 2));
	struct rates now = rates(&f);
	assert_true(now.has[0] && now.lr[0] == 0.25);
	assert_true(now.has[1] && now.lr[1] == 2.5);
	assert_true(now.has[2] && now.lr[2] == 1e-3);
	core_world_end(&f.world);
}

static void test_what_is_frozen_or_has_no_lr_has_no_rate(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	add(&f, "t0", NULL)->frozen = true;
	add(&f, "t1", "assign");
	add(&f, "t2", "adafactor_paper");
	core_world_start(&f.world);
	core_join(&f.world, 0, 0);
	struct rates now = rates(&f);
	assert_true(now.has[0] && now.lr[0] == 1);
	assert_false(now.has[1] || now.has[2] || now.has[3]);
	core_world_end(&f.world);
}

static void test_onecycle_says_the_rate_by_itself(void **state)
{
	(void)state;
	struct fixture f;
	const double max_lr = 0.5, total = 8, factor = 5;
	char why[128];
	begin(&f);
	struct schedule_part *part = &f.preset.settings.optim.schedule.parts[0];
	schedule_part_init(part, SCHEDULE_ONECYCLE);
	assert_int_equal(schedule_set(part, "max_lr", &max_lr, 1, why, sizeof(why)), OPTD_OK);
	assert_int_equal(schedule_set(part, "total_steps", &total, 1, why, sizeof(why)), OPTD_OK);
	assert_int_equal(schedule_set(part, "div_factor", &factor, 1, why, sizeof(why)), OPTD_OK);
	core_world_start(&f.world);
	core_join(&f.world, 0, 0);
	assert_true(fabs(rates(&f).lr[0] - 0.1) < 1e-15);
	core_world_end(&f.world);
}

/* A step that was left out moves the version on, and no rate. */
static void test_a_skipped_step_is_no_update(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	core_assert_ok(&f.world, core_push_all(&client, 0, 2));
	struct msg push = core_msg(&client, MSG_PUSH);
	push.step = 1;
	push.verdict = MSG_POISONED;
	push.part_count = 1;
	push.parts[0] = (struct msg_part){.first = 0, .count = 1};
	core_send(&client, &push, (const float[8]){NAN}, 8);
	assert_int_equal(model_version(core_shard(&f.world)->model, 0), 2);
	assert_true(rates(&f).lr[0] == 0.5);
	core_world_end(&f.world);
}

static void test_the_tensor_with_the_fewest_updates_tells(void **state)
{
	(void)state;
	struct fixture f;
	const float values[4] = {1, 1, 1, 1};
	const uint8_t mask = 0x1;
	begin(&f);
	add(&f, "t2", NULL);
	f.world.open.mode = MSG_ASYNC;
	core_world_start(&f.world);
	struct core_client client = core_join(&f.world, 0, 0);
	struct msg push = core_msg(&client, MSG_PUSH);
	push.part_count = 1;
	push.parts[0] = (struct msg_part){.first = 0, .count = 1, .mask = &mask, .mask_bytes = 1};
	core_assert_ok(&f.world, core_send(&client, &push, values, 4));
	struct rates now = rates(&f);
	assert_true(now.lr[0] == 1 && now.lr[1] == 1);
	core_assert_ok(&f.world, core_push_all(&client, 1, 2));
	now = rates(&f);
	assert_true(now.lr[0] == 0.5 && now.lr[1] == 0.5);
	core_world_end(&f.world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_each_group_has_the_rate_of_its_own_schedule_and_factor),
	        cmocka_unit_test(test_what_is_frozen_or_has_no_lr_has_no_rate),
	        cmocka_unit_test(test_onecycle_says_the_rate_by_itself),
	        cmocka_unit_test(test_a_skipped_step_is_no_update),
	        cmocka_unit_test(test_the_tensor_with_the_fewest_updates_tells),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
