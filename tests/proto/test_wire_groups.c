/* Wire: parameter groups of OPEN and OPENED, there and back, and what is refused of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/layout.h"
#include "proto/wire.h"
#include "tests/proto/raw.h"
#include "tests/proto/samples.h"

static struct wire_arena *arena;
static uint8_t header[LIMIT_HEADER_BYTES];
static char why[256];

static int set_up(void **state)
{
	(void)state;
	arena = wire_arena_new();
	return arena ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	wire_arena_free(arena);
	return 0;
}

static int decode(struct msg *msg, struct msg *out)
{
	msg->checksum = wire_checksum(msg->payload, msg->payload_bytes);
	int size = wire_encode(msg, header, sizeof(header));
	assert_true(size > 0);
	return wire_decode(arena, header, (size_t)size, msg->payload, msg->payload_bytes, true, out, why,
	                   sizeof(why));
}

static void same_text(struct msg_text a, struct msg_text b)
{
	assert_int_equal(a.size, b.size);
	if (a.size > 0)
		assert_memory_equal(a.bytes, b.bytes, a.size);
}

static void same_numbers(struct msg_text a, struct msg_text b, const double *x, const double *y, uint32_t n,
                         uint32_t m)
{
	same_text(a, b);
	assert_int_equal(n, m);
	assert_memory_equal(x, y, n * sizeof(double));
}

static void same_schedule(const struct msg_schedule_part *a, const struct msg_schedule_part *b)
{
	same_text(a->name, b->name);
	assert_int_equal(a->until, b->until);
	assert_int_equal(a->param_count, b->param_count);
	for (uint32_t i = 0; i < a->param_count; i++)
		same_numbers(a->params[i].name, b->params[i].name, a->params[i].values, b->params[i].values,
		             a->params[i].count, b->params[i].count);
}

static void same_groups(const struct msg_group *a, const struct msg_group *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++, a++, b++) {
		same_text(a->tensors, b->tensors);
		same_text(a->optimizer, b->optimizer);
		same_text(a->match, b->match);
		assert_int_equal(a->frozen, b->frozen);
		assert_int_equal(a->whole, b->whole);
		assert_true(a->lr_factor == b->lr_factor);
		assert_int_equal(a->hyper_count, b->hyper_count);
		for (uint32_t j = 0; j < a->hyper_count; j++)
			same_numbers(a->hypers[j].name, b->hypers[j].name, a->hypers[j].values,
			             b->hypers[j].values, a->hypers[j].count, b->hypers[j].count);
		assert_int_equal(a->schedule_count, b->schedule_count);
		for (uint32_t j = 0; j < a->schedule_count; j++)
			same_schedule(&a->schedule[j], &b->schedule[j]);
	}
}

static void test_groups_of_open_come_through(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;

	(void)state;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(out.open.group_count, 3);
	assert_true(out.open.whole_settings);
	same_groups(msg.open.groups, out.open.groups, 3);
}

static void test_groups_of_opened_come_through(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPENED), out;

	(void)state;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(out.rule.group_count, 2);
	same_groups(msg.rule.groups, out.rule.groups, 2);
}

static void test_no_groups_are_none(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;

	(void)state;
	msg.open.group_count = 0;
	msg.open.whole_settings = false;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(out.open.group_count, 0);
	assert_false(out.open.whole_settings);
}

/* They are behind the mark up to which the arena is kept. */
static void test_groups_stay_good_while_a_layout_is_decoded(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;
	struct layout *layout;

	(void)state;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(wire_layout_decode(arena, out.payload, out.payload_bytes, &layout, why, sizeof(why)), 0);
	same_groups(msg.open.groups, out.open.groups, 3);
	layout_free(layout);
}

static void test_groups_that_do_not_fit_a_header_are_too_large(void **state)
{
	static char pattern[LIMIT_PATTERN_BYTES - 1], name[LIMIT_NAME_BYTES - 1];
	struct msg msg = sample_make(SAMPLE_OPEN);
	struct msg_group groups[LIMIT_GROUPS];

	(void)state;
	memset(pattern, 'p', sizeof(pattern));
	memset(name, 'n', sizeof(name));
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++)
		groups[i] = (struct msg_group){.tensors = {pattern, sizeof(pattern)}, .match = {name, sizeof(name)}};
	msg.open.groups = groups;
	msg.open.group_count = LIMIT_GROUPS;
	assert_int_equal(wire_encode(&msg, header, sizeof(header)), OPTD_TOO_LARGE);
	msg.open.group_count = 3;
	assert_true(wire_encode(&msg, header, sizeof(header)) > 0);
}

/* All that groups can be, in the arena's room. */
static void test_eight_groups_with_the_longest_schedules_come_through(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;
	struct msg_schedule_part parts[LIMIT_SCHEDULE_PARTS];
	struct msg_hyper hypers[LIMIT_HYPERS];
	struct msg_group groups[LIMIT_GROUPS];

	(void)state;
	memset(parts, 0, sizeof(parts));
	for (uint32_t i = 0; i < LIMIT_SCHEDULE_PARTS; i++) {
		parts[i] = (struct msg_schedule_part){.name = {"a", 1}, .until = i, .param_count = 2};
		for (uint32_t j = 0; j < 2; j++)
			parts[i].params[j] = (struct msg_schedule_param){.name = {"b", 1}, .values = {1}, .count = 1};
	}
	for (uint32_t i = 0; i < LIMIT_HYPERS; i++)
		hypers[i] = (struct msg_hyper){.name = {"c", 1}, .values = {2}, .count = 1};
	for (uint32_t i = 0; i < LIMIT_GROUPS; i++)
		groups[i] = (struct msg_group){.tensors = {"d", 1}, .hyper_count = i == 0 ? LIMIT_HYPERS : 5, .hypers = hypers,
		                               .schedule_count = LIMIT_SCHEDULE_PARTS, .schedule = parts};
	msg.open.groups = groups;
	msg.open.group_count = LIMIT_GROUPS;
	if (decode(&msg, &out) < 0)
		fail_msg("%s", why);
	same_groups(groups, out.open.groups, LIMIT_GROUPS);
}

static void refuses(struct msg_group group, const char *words)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;
	struct msg told = sample_make(SAMPLE_OPENED);

	msg.open.groups = told.rule.groups = &group;
	msg.open.group_count = told.rule.group_count = 1;
	assert_int_equal(decode(&msg, &out), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
	assert_int_equal(out.open.group_count, 0);
	assert_int_equal(decode(&told, &out), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
}

static void test_groups_that_are_none_are_refused(void **state)
{
	struct msg_hyper nan = {.name = {"lr", 2}, .values = {(double)NAN}, .count = 1};
	struct msg_schedule_part unnamed = {.name = {NULL, 0}};

	(void)state;
	refuses((struct msg_group){.tensors = {"", 0}}, "a group without tensors");
	refuses((struct msg_group){.tensors = {"a", 1}, .lr_factor = (double)INFINITY}, "lr_factor is inf");
	refuses((struct msg_group){.tensors = {"a", 1}, .hyper_count = 1, .hypers = &nan}, "'lr' is");
	refuses((struct msg_group){.tensors = {"a", 1}, .schedule_count = 1, .schedule = &unnamed},
	        "a schedule without a name");
}

/* Appends a body of OPEN with what every one needs and these bytes. */
static int decode_with(const void *bytes, size_t size)
{
	static const char needed[] = "\x18\x03\x21\x01\0\0\0\0\0\0\0"; /* daemons and layout_hash */
	struct msg msg = sample_make(SAMPLE_OPEN), out;
	char body[1024];
	static struct raw raw;

	msg.open.group_count = 0;
	msg.checksum = wire_checksum(msg.payload, msg.payload_bytes);
	raw.size = (size_t)wire_encode(&msg, raw.bytes, LIMIT_HEADER_BYTES);
	memcpy(body, needed, sizeof(needed) - 1);
	memcpy(body + sizeof(needed) - 1, bytes, size);
	raw_bytes(&raw, FIELD_OPEN, body, sizeof(needed) - 1 + size);
	return wire_decode(arena, raw.bytes, raw.size, msg.payload, msg.payload_bytes, true, &out, why, sizeof(why));
}

/* So many groups of one letter each. */
static int decode_groups(uint32_t count)
{
	char bytes[6 * (LIMIT_GROUPS + 1)];

	for (uint32_t i = 0; i < count; i++)
		memcpy(bytes + 6 * i, "\xaa\x01\x03\x0a\x01" "a", 6);
	return decode_with(bytes, 6 * count);
}

static void test_bytes_that_are_no_group_are_refused(void **state)
{
	char long_pattern[7 + LIMIT_PATTERN_BYTES] = "\xaa\x01\x83\x02\x0a\x80\x02";

	(void)state;
	assert_int_equal(decode_groups(LIMIT_GROUPS), OPTD_OK);
	assert_int_equal(decode_groups(LIMIT_GROUPS + 1), OPTD_MALFORMED);
	assert_non_null(strstr(why, "9 groups, at most 8"));
	assert_int_equal(decode_with("\xaa\x01\x03\x0a\x01\0", 6), OPTD_MALFORMED);
	assert_non_null(strstr(why, "a group's pattern is not UTF-8"));
	assert_int_equal(decode_with("\xaa\x01\x05\x0a\x01" "a\x22\x80", 8), OPTD_MALFORMED);
	memset(long_pattern + 7, 'a', LIMIT_PATTERN_BYTES);
	assert_int_equal(decode_with(long_pattern, sizeof(long_pattern)), OPTD_MALFORMED);
	assert_non_null(strstr(why, "a group's pattern has 256 bytes, at most 255"));
}

#define TEST(test) cmocka_unit_test(test)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(test_groups_of_open_come_through),
	        TEST(test_groups_of_opened_come_through),
	        TEST(test_no_groups_are_none),
	        TEST(test_groups_stay_good_while_a_layout_is_decoded),
	        TEST(test_groups_that_do_not_fit_a_header_are_too_large),
	        TEST(test_eight_groups_with_the_longest_schedules_come_through),
	        TEST(test_groups_that_are_none_are_refused),
	        TEST(test_bytes_that_are_no_group_are_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
