/*
 * What settings_fit lets through fits the header of every OPENED that tells it, and of
 * every OPEN that says it again: the core counts bytes, the wire has the last word.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "server/core/settings.h"
#include "tests/support/rng_seed.h"

static char why[512], longest[LIMIT_TEXT_BYTES + 1];
static uint8_t header[LIMIT_HEADER_BYTES];

static void choose_schedule(struct rng *rng, struct schedule *schedule)
{
	const double steps = 1000003;

	schedule->part_count = rng_below(rng, SCHEDULE_PARTS_MAX + 1);
	for (uint32_t i = 0; i < schedule->part_count; i++) {
		schedule_part_init(&schedule->parts[i], rng_one_in(rng, 2) ? SCHEDULE_ONECYCLE : SCHEDULE_COSINE);
		schedule_set(&schedule->parts[i], "total_steps", &steps, 1, why, sizeof(why));
		schedule->ends[i] = UINT64_C(9007199254740000) + i;
	}
}

static void choose_group(struct rng *rng, struct group *group, const struct optim *own)
{
	static const char *const rules[] = {"adamw", "nadam", "asgd", "average", "ftrl"};
	char pattern[LIMIT_PATTERN_BYTES];
	uint32_t bytes = 1 + rng_below(rng, rng_one_in(rng, 4) ? LIMIT_PATTERN_BYTES - 1 : 20);

	memset(pattern, 'p', bytes);
	pattern[bytes] = '\0';
	assert_int_equal(group_begin(group, pattern, own, rules[rng_below(rng, 5)], NULL, why, sizeof(why)), 0);
	if (rng_one_in(rng, 3))
		choose_schedule(rng, &group->optim.schedule);
	group->frozen = rng_one_in(rng, 6);
}

static void choose_average(struct rng *rng, struct average *average)
{
	const double late = 9007199254740992.0;

	memset(average, 0, sizeof(*average));
	if (rng_one_in(rng, 2))
		return;
	assert_int_equal(average_begin(average, rng_one_in(rng, 3) ? "swa" : "ema", why, sizeof(why)), 0);
	assert_int_equal(average_set(average, "every", &late, 1, why, sizeof(why)), 0);
}

/* With all else as long as it can be. */
static int opened_bytes(const struct model_settings *settings, const struct settings_told *told)
{
	static struct msg msg;
	const struct msg_text text = {longest, 512}, name = {longest, LIMIT_TEXT_BYTES};

	memset(&msg, 0, sizeof(msg));
	msg.verb = MSG_OPEN;
	msg.reply = true;
	msg.request = msg.session = msg.epoch = msg.layout = msg.checksum = UINT64_MAX;
	msg.version = msg.version_max = msg.step = msg.incarnation = LIMIT_COUNTER;
	msg.payload_bytes = UINT32_MAX;
	msg.text = text;
	msg.opened = (struct msg_opened){.model = UINT32_MAX, .layout = UINT64_MAX, .run_id = UINT64_MAX,
	                                 .step = LIMIT_COUNTER, .incarnation = LIMIT_COUNTER, .token = LIMIT_COUNTER,
	                                 .lease_ms = UINT32_MAX, .state = MSG_MODEL_GRANTED, .created = true,
	                                 .restored = true, .age_s = UINT64_MAX, .mode = MSG_ASYNC,
	                                 .reduce = MSG_SUM, .workers = LIMIT_WORKERS, .step_timeout_ms = UINT32_MAX,
	                                 .optimizer = name, .elements = LIMIT_ELEMENTS, .tensors = LIMIT_TENSORS,
	                                 .nonfinite = MSG_SKIP_STEP, .loss_scale = {true, 1, 2, 0.5, UINT32_MAX},
	                                 .loss_scale_now = 1};
	settings_tell(settings, &msg.rule);
	msg.rule.groups = told->groups;
	msg.rule.group_count = settings->groups.count;
	return wire_encode(&msg, header, sizeof(header));
}

static int open_bytes(const struct model_settings *settings, const struct settings_told *told)
{
	static struct msg msg;
	struct msg_rule rule = {.group_count = 0};
	const struct msg_text name = {longest, LIMIT_NAME_BYTES - 1};

	settings_tell(settings, &rule);
	memset(&msg, 0, sizeof(msg));
	msg.verb = MSG_OPEN;
	msg.request = msg.session = msg.epoch = msg.checksum = UINT64_MAX;
	msg.payload_bytes = UINT32_MAX;
	msg.rank = LIMIT_WORKERS - 1;
	msg.open = (struct msg_open){.model = name, .run = name, .optimizer = rule.name, .match = rule.match,
	                             .daemon = 254, .daemons = 255, .layout_hash = UINT64_MAX, .client = UINT64_MAX,
	                             .expect_run = UINT64_MAX, .seen_step = LIMIT_COUNTER, .seen_version = LIMIT_COUNTER,
	                             .seen_epoch = UINT64_MAX, .mode = MSG_ASYNC, .reduce = MSG_SUM,
	                             .workers = LIMIT_WORKERS, .step_timeout_ms = UINT32_MAX, .wants_init = true,
	                             .hyper_count = rule.hyper_count, .schedule_count = rule.schedule_count,
	                             .group_count = settings->groups.count, .groups = told->groups,
	                             .clip = rule.clip, .whole_settings = true, .nonfinite = MSG_SKIP_STEP,
	                             .average = rule.average, .loss_scale = {true, 1, 2, 0.5, UINT32_MAX}};
	memcpy(msg.open.hypers, rule.hypers, sizeof(rule.hypers));
	memcpy(msg.open.schedule, rule.schedule, sizeof(rule.schedule));
	return wire_encode(&msg, header, sizeof(header));
}

static void test_groups_that_fit_are_told_whole(void **state)
{
	uint64_t seed = rng_seed();
	struct rng rng = rng_new(seed);
	uint32_t fit = 0, close = 0;

	(void)state;
	memset(longest, 'x', sizeof(longest));
	for (uint32_t round = 0; round < 20000; round++) {
		static struct model_settings settings;
		static struct settings_told told;
		memset(&settings, 0, sizeof(settings));
		assert_int_equal(optim_init(&settings.optim, optim_find("adam"), OPTIM_TORCH2, why, sizeof(why)), 0);
		choose_schedule(&rng, &settings.optim.schedule);
		settings.clip = (struct msg_clip){0.1, 3, 0.1}; /* more than a model has */
		choose_average(&rng, &settings.average);
		settings.groups.count = 1 + rng_below(&rng, LIMIT_GROUPS);
		for (uint32_t i = 0; i < settings.groups.count; i++)
			choose_group(&rng, &settings.groups.list[i], &settings.optim);
		if (settings_fit(&settings, why, sizeof(why)) < 0)
			continue;
		settings_tell_groups(&settings, &told);
		int opened = opened_bytes(&settings, &told), open = open_bytes(&settings, &told);
		if (opened < 0 || open < 0)
			fail_msg("seed %llu: OPENED %d, OPEN %d", (unsigned long long)seed, opened, open);
		fit++;
		close += opened > (int)LIMIT_HEADER_BYTES - 600;
	}
	/* Not because next to none come near the limit. */
	assert_in_range(fit, 5000, 19000);
	assert_in_range(close, 50, 20000);
}

/* settings_fit does not even count those: every rule, with the longest schedule and average. */
static void test_a_model_without_groups_is_told_whole_whatever_it_has(void **state)
{
	static struct model_settings settings;
	static struct settings_told told;
	const double steps = 1000003;

	(void)state;
	memset(longest, 'x', sizeof(longest));
	for (uint32_t i = 0; i < optim_rule_count(); i++) {
		memset(&settings, 0, sizeof(settings));
		assert_int_equal(optim_init(&settings.optim, optim_rule(i), OPTIM_TORCH2, why, sizeof(why)), 0);
		settings.optim.schedule.part_count = SCHEDULE_PARTS_MAX;
		for (uint32_t j = 0; j < SCHEDULE_PARTS_MAX; j++) {
			schedule_part_init(&settings.optim.schedule.parts[j], SCHEDULE_ONECYCLE);
			schedule_set(&settings.optim.schedule.parts[j], "total_steps", &steps, 1, why, sizeof(why));
			settings.optim.schedule.ends[j] = UINT64_C(9007199254740000) + j;
		}
		settings.clip = (struct msg_clip){0.1, 3, 0.1};
		assert_int_equal(average_begin(&settings.average, "ema", why, sizeof(why)), 0);
		if (opened_bytes(&settings, &told) < 0 || open_bytes(&settings, &told) < 0)
			fail_msg("%s", optim_rule_name(settings.optim.rule));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_groups_that_fit_are_told_whole),
	        cmocka_unit_test(test_a_model_without_groups_is_told_whole_whatever_it_has),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
