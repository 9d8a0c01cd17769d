/* Wire: SET and the changes of a STATUS, there and back, and what is refused of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "tests/proto/raw.h"
#include "tests/proto/samples.h"

enum { FIELD_SET = 38, SET_HYPERS = 3, SET_FROM = 5, SET_ACT = 7, STATUS_CHANGES = 26, CHANGE_FROM = 1 };

static struct wire_arena *arena;
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

static struct msg_text text(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

static bool same_text(struct msg_text a, struct msg_text b)
{
	return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

static int decode(const struct msg *msg, struct msg *out)
{
	static uint8_t header[LIMIT_HEADER_BYTES];
	int size = wire_encode(msg, header, sizeof(header));
	assert_true(size > 0);
	return wire_decode(arena, header, (size_t)size, NULL, 0, true, out, why, sizeof(why));
}

static void same_hypers(const struct msg_hyper *a, const struct msg_hyper *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_true(same_text(a[i].name, b[i].name));
		assert_int_equal(a[i].count, b[i].count);
		assert_memory_equal(a[i].values, b[i].values, a[i].count * sizeof(double));
	}
}

static void test_a_set_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_SET), out;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_true(same_text(out.set.model, msg.set.model));
	assert_true(same_text(out.set.tensors, msg.set.tensors));
	assert_true(out.set.id == msg.set.id);
	assert_int_equal(out.set.act, MSG_SET_PROMISE);
	assert_true(out.set.has_from);
	assert_int_equal(out.set.from, 9400);
	assert_int_equal(out.set.hyper_count, 2);
	same_hypers(out.set.hypers, msg.set.hypers, 2);
}

static void test_version_zero_is_a_version(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_SET), out;
	msg.set.from = 0;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_true(out.set.has_from);
	assert_int_equal(out.set.from, 0);
}

static void test_a_reply_needs_no_body(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_SET_OK), out;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(out.version, 9381);
}

static void refused(struct msg msg, int status, const char *words)
{
	struct msg out;
	assert_int_equal(decode(&msg, &out), status);
	if (!strstr(why, words))
		fail_msg("'%s' without '%s'", why, words);
}

static void test_a_set_that_says_too_little_or_too_much_is_refused(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_SET);
	msg.set.model.size = 0;
	refused(msg, OPTD_MALFORMED, "name of a model");
	msg = sample_make(SAMPLE_SET);
	msg.set.has_from = false;
	refused(msg, OPTD_MALFORMED, "without a version");
	msg = sample_make(SAMPLE_SET);
	msg.set.act = MSG_SET_NOW;
	msg.set.hyper_count = 0;
	refused(msg, OPTD_MALFORMED, "without a hyper-parameter");
	msg = sample_make(SAMPLE_SET);
	msg.set.act = MSG_SET_WITHDRAW + 1;
	refused(msg, OPTD_UNSUPPORTED, "act 5");
	msg = sample_make(SAMPLE_SET);
	msg.set.from = LIMIT_COUNTER + 1;
	refused(msg, OPTD_MALFORMED, "from");
	msg = sample_make(SAMPLE_SET);
	msg.set.hypers[1].values[1] = INFINITY;
	refused(msg, OPTD_MALFORMED, "'betas' is inf");
	msg = sample_make(SAMPLE_SET);
	msg.set.hypers[0].count = 0;
	refused(msg, OPTD_MALFORMED, "without a name or value");
}

/* Bodies that no encoder of ours writes. */
static void refused_body(const struct raw *body, const char *words)
{
	static uint8_t header[LIMIT_HEADER_BYTES];
	struct msg msg = {.verb = MSG_SAVE, .rank = MSG_NO_RANK}, out;
	struct raw raw = {0};
	int size = wire_encode(&msg, header, sizeof(header));
	memcpy(raw.bytes, header, (size_t)size);
	raw.size = (size_t)size;
	raw_number(&raw, FIELD_VERB, MSG_SET);
	if (body)
		raw_bytes(&raw, FIELD_SET, body->bytes, body->size);
	assert_int_equal(wire_decode(arena, raw.bytes, raw.size, NULL, 0, true, &out, why, sizeof(why)),
	                 OPTD_MALFORMED);
	if (!strstr(why, words))
		fail_msg("'%s' without '%s'", why, words);
}

static void test_hostile_bodies_are_refused(void **state)
{
	(void)state;
	struct raw body = {0}, hyper = {0};
	refused_body(NULL, "without its body");
	raw_bytes(&body, 1, "m", 1);
	raw_bytes(&body, 2, "\xff", 1);
	refused_body(&body, "pattern");
	body.size = 0;
	raw_bytes(&body, 1, "m", 1);
	raw_bytes(&hyper, 1, "lr", 2);
	for (uint32_t i = 0; i <= LIMIT_HYPERS; i++)
		raw_bytes(&body, SET_HYPERS, hyper.bytes, hyper.size);
	refused_body(&body, "33 hyper-parameters");
	body.size = 0;
	raw_bytes(&body, 1, "m\0m", 3);
	refused_body(&body, "name");
}

/* ---- changes ---- */

static const struct msg_hyper HYPERS[] = {{{"lr", 2}, {0.01}, 1}, {{"betas", 5}, {0.9, 0.99}, 2}};

static struct wire_model_status status_of(const struct wire_change *changes, uint32_t count)
{
	return (struct wire_model_status){.model = text("m"),
	                                  .state = MSG_MODEL_READY,
	                                  .mode = MSG_SYNC,
	                                  .reduce = MSG_MEAN,
	                                  .change_count = count,
	                                  .changes = changes};
}

static void test_changes_of_a_status_come_through(void **state)
{
	(void)state;
	const struct wire_change changes[] = {{.from = 7, .hyper_count = 1, .hypers = HYPERS},
	                                      {.from = 9, .tensors = text("*.bias"), .hyper_count = 2, .hypers = HYPERS}};
	struct wire_model_status status = status_of(changes, 2), out;
	uint8_t bytes[512];
	size_t at = 0, size = wire_status_encode(&status, bytes, sizeof(bytes));
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &out), 1);
	assert_int_equal(out.change_count, 2);
	assert_int_equal(out.changes[0].from, 7);
	assert_int_equal(out.changes[0].earlier, 0);
	assert_int_equal(out.changes[1].from, 9);
	assert_true(same_text(out.changes[1].tensors, changes[1].tensors));
	assert_int_equal(out.changes[1].hyper_count, 2);
	same_hypers(out.changes[1].hypers, HYPERS, 2);
}

static void test_of_more_changes_than_fit_the_last_are_told(void **state)
{
	(void)state;
	static char pattern[LIMIT_PATTERN_BYTES];
	struct wire_change changes[LIMIT_CHANGES];
	memset(pattern, 'x', sizeof(pattern) - 1);
	for (uint32_t i = 0; i < LIMIT_CHANGES; i++)
		changes[i] = (struct wire_change){
		        .from = i, .tensors = text(pattern), .hyper_count = 2, .hypers = HYPERS};
	struct wire_model_status status = status_of(changes, LIMIT_CHANGES), out;
	uint8_t bytes[LIMIT_HEADER_BYTES + 2];
	size_t at = 0, size = wire_status_encode(&status, bytes, sizeof(bytes));
	assert_in_range(size, LIMIT_HEADER_BYTES - 400, LIMIT_HEADER_BYTES + 2);
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &out), 1);
	assert_in_range(out.change_count, 10, 20);
	assert_int_equal(out.changes[0].earlier, LIMIT_CHANGES - out.change_count);
	assert_int_equal(out.changes[out.change_count - 1].from, LIMIT_CHANGES - 1);
}

static int decode_with_change(const struct raw *change, uint32_t times)
{
	struct wire_model_status status = status_of(NULL, 0), out;
	uint8_t valid[512];
	struct raw record = {0}, stream = {0};
	size_t at = 0, size = wire_status_encode(&status, valid, sizeof(valid));
	memcpy(record.bytes, valid + 1, size - 1);
	record.size = size - 1;
	for (uint32_t i = 0; i < times; i++)
		raw_bytes(&record, STATUS_CHANGES, change->bytes, change->size);
	raw_varint(&stream, record.size);
	memcpy(stream.bytes + stream.size, record.bytes, record.size);
	stream.size += record.size;
	return wire_status_decode(arena, stream.bytes, stream.size, &at, &out);
}

static void test_hostile_changes_are_refused(void **state)
{
	(void)state;
	struct raw change = {0};
	assert_int_equal(decode_with_change(&change, LIMIT_CHANGES), 1);
	assert_int_equal(decode_with_change(&change, LIMIT_CHANGES + 1), OPTD_MALFORMED);
	assert_int_equal(decode_with_change(&change, 1300), OPTD_MALFORMED);
	raw_number(&change, CHANGE_FROM, LIMIT_COUNTER + 1);
	assert_int_equal(decode_with_change(&change, 1), OPTD_MALFORMED);
	change.size = 0;
	raw_bytes(&change, 2, "\xff", 1);
	assert_int_equal(decode_with_change(&change, 1), OPTD_MALFORMED);
	change.size = 0;
	raw_bytes(&change, 3, "", 0);
	assert_int_equal(decode_with_change(&change, 1), OPTD_MALFORMED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_set_comes_through),
	        cmocka_unit_test(test_version_zero_is_a_version),
	        cmocka_unit_test(test_a_reply_needs_no_body),
	        cmocka_unit_test(test_a_set_that_says_too_little_or_too_much_is_refused),
	        cmocka_unit_test(test_hostile_bodies_are_refused),
	        cmocka_unit_test(test_changes_of_a_status_come_through),
	        cmocka_unit_test(test_of_more_changes_than_fit_the_last_are_told),
	        cmocka_unit_test(test_hostile_changes_are_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
