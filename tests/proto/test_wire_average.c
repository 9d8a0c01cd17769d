/* Wire: the average of OPEN and OPENED and the source of PULL, there and back, and what is
 * refused of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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
	msg->checksum = msg->payload_bytes > 0 ? wire_checksum(msg->payload, msg->payload_bytes) : 0;
	int size = wire_encode(msg, header, sizeof(header));
	assert_true(size > 0);
	return wire_decode(arena, header, (size_t)size, msg->payload, msg->payload_bytes, true, out, why,
	                   sizeof(why));
}

static void same(const struct msg_average *a, const struct msg_average *b)
{
	assert_int_equal(a->kind.size, b->kind.size);
	assert_memory_equal(a->kind.bytes, b->kind.bytes, a->kind.size);
	assert_int_equal(a->hyper_count, b->hyper_count);
	for (uint32_t i = 0; i < a->hyper_count; i++) {
		const struct msg_hyper *x = &a->hypers[i], *y = &b->hypers[i];
		assert_int_equal(x->name.size, y->name.size);
		assert_memory_equal(x->name.bytes, y->name.bytes, x->name.size);
		assert_int_equal(x->count, y->count);
		assert_memory_equal(x->values, y->values, x->count * sizeof(double));
	}
}

static void test_average_of_open_and_opened_comes_through(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), told = sample_make(SAMPLE_OPENED), out;

	(void)state;
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(out.open.average.hyper_count, 2);
	same(&msg.open.average, &out.open.average);
	assert_int_equal(decode(&told, &out), OPTD_OK);
	assert_int_equal(out.rule.average.hyper_count, 1);
	same(&told.rule.average, &out.rule.average);
}

static void test_no_average_is_none(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;

	(void)state;
	memset(&msg.open.average, 0, sizeof(msg.open.average));
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	assert_int_equal(out.open.average.kind.size, 0);
	assert_int_equal(out.open.average.hyper_count, 0);
}

static void test_longest_average_comes_through(void **state)
{
	struct msg msg = sample_make(SAMPLE_OPEN), out;

	(void)state;
	msg.open.average.hyper_count = LIMIT_AVERAGE_HYPERS;
	for (uint32_t i = 0; i < LIMIT_AVERAGE_HYPERS; i++)
		msg.open.average.hypers[i] = (struct msg_hyper){
		        .name = {"a", 1}, .values = {1, 2, 3}, .count = LIMIT_HYPER_VALUES};
	assert_int_equal(decode(&msg, &out), OPTD_OK);
	same(&msg.open.average, &out.open.average);
}

static void refuses(struct msg_average average, const char *words)
{
	struct msg msg = sample_make(SAMPLE_OPEN), told = sample_make(SAMPLE_OPENED), out;

	msg.open.average = told.rule.average = average;
	assert_int_equal(decode(&msg, &out), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
	assert_int_equal(out.open.average.kind.size, 0);
	assert_int_equal(decode(&told, &out), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
}

static void test_averages_with_settings_that_are_none_are_refused(void **state)
{
	(void)state;
	refuses((struct msg_average){.kind = {"ema", 3},
	                             .hyper_count = 1,
	                             .hypers = {{.name = {"decay", 5}, .values = {(double)NAN}, .count = 1}}},
	        "'decay' is");
	refuses((struct msg_average){.kind = {"ema", 3},
	                             .hyper_count = 1,
	                             .hypers = {{.name = {"", 0}, .values = {1}, .count = 1}}},
	        "without a name or value");
	refuses((struct msg_average){
	                .kind = {"ema", 3}, .hyper_count = 1, .hypers = {{.name = {"decay", 5}, .count = 0}}},
	        "without a name or value");
}

/* A body of OPEN or OPENED with what every one needs and an average of these bytes. */
static int decode_with(enum sample which, const void *bytes, size_t size)
{
	static const char open[] = "\x18\x03\x21\x01\0\0\0\0\0\0\0", opened[] = "\x40\x01";
	struct msg msg = sample_make(which), out;
	static struct raw body, raw;
	bool reply = which == SAMPLE_OPENED;

	body.size = (reply ? sizeof(opened) : sizeof(open)) - 1;
	memcpy(body.bytes, reply ? opened : open, body.size);
	raw_bytes(&body, reply ? 26 : 25, bytes, size);
	memset(reply ? &msg.rule.average : &msg.open.average, 0, sizeof(msg.open.average));
	if (reply) /* half of it would be left when the body comes again */
		msg.opened.loss_scale = (struct msg_loss_scale){.given = false};
	msg.checksum = msg.payload_bytes > 0 ? wire_checksum(msg.payload, msg.payload_bytes) : 0;
	raw.size = (size_t)wire_encode(&msg, raw.bytes, LIMIT_HEADER_BYTES);
	raw_bytes(&raw, reply ? FIELD_OPENED : FIELD_OPEN, body.bytes, body.size);
	return wire_decode(arena, raw.bytes, raw.size, msg.payload, msg.payload_bytes, true, &out, why, sizeof(why));
}

static void refuses_bytes(const void *bytes, size_t size, const char *words)
{
	assert_int_equal(decode_with(SAMPLE_OPEN, bytes, size), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
	assert_int_equal(decode_with(SAMPLE_OPENED, bytes, size), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
}

static void test_bytes_that_are_no_average_are_refused(void **state)
{
	/* A setting: its name "a" and the number 0. */
	static const char one[] = "\x12\x0d\x0a\x01" "a\x12\x08\0\0\0\0\0\0\0\0", kind[] = "\x0a\x03" "ema";
	char many[sizeof(kind) + (LIMIT_AVERAGE_HYPERS + 1) * sizeof(one)], long_kind[3 + LIMIT_NAME_BYTES + 1];
	size_t used = sizeof(kind) - 1;

	(void)state;
	memcpy(many, kind, used);
	for (uint32_t i = 0; i <= LIMIT_AVERAGE_HYPERS; i++, used += sizeof(one) - 1)
		memcpy(many + used, one, sizeof(one) - 1);
	assert_int_equal(decode_with(SAMPLE_OPEN, many, used - (sizeof(one) - 1)), OPTD_OK);
	assert_int_equal(decode_with(SAMPLE_OPENED, many, used - (sizeof(one) - 1)), OPTD_OK);
	refuses_bytes(many, used, "9 settings, at most 8");
	refuses_bytes(one, sizeof(one) - 1, "without a kind");
	refuses_bytes("\x0a\x02" "e\0", 4, "kind is not UTF-8");
	refuses_bytes("\x0a\x05" "ema", 5, "cannot be unpacked");
	memcpy(long_kind, "\x0a\x81\x04", 3);
	memset(long_kind + 3, 'e', LIMIT_NAME_BYTES + 1);
	refuses_bytes(long_kind, sizeof(long_kind), "kind has 513 bytes, at most 512");
}

/* A pull, or a push_pull, whose source is this number. */
static int decode_source(enum sample which, uint64_t source)
{
	struct msg msg = sample_make(which), out;
	static struct raw raw;

	msg.source = MSG_WEIGHTS;
	msg.checksum = msg.payload_bytes > 0 ? wire_checksum(msg.payload, msg.payload_bytes) : 0;
	raw.size = (size_t)wire_encode(&msg, raw.bytes, LIMIT_HEADER_BYTES);
	raw_number(&raw, FIELD_SOURCE, source);
	return wire_decode(arena, raw.bytes, raw.size, msg.payload, msg.payload_bytes, true, &out, why, sizeof(why));
}

static void test_source_of_a_later_version_is_unsupported(void **state)
{
	(void)state;
	assert_int_equal(decode_source(SAMPLE_PULL, MSG_AVERAGE), OPTD_OK);
	assert_int_equal(decode_source(SAMPLE_PULL_OK, MSG_AVERAGE), OPTD_OK);
	assert_int_equal(decode_source(SAMPLE_PULL, 2), OPTD_UNSUPPORTED);
	assert_non_null(strstr(why, "source 2"));
	assert_int_equal(decode_source(SAMPLE_PULL, UINT64_MAX), OPTD_UNSUPPORTED);
	assert_int_equal(decode_source(SAMPLE_PULL_OK, 2), OPTD_UNSUPPORTED);
}

static void test_push_pull_of_an_average_is_refused(void **state)
{
	(void)state;
	assert_int_equal(decode_source(SAMPLE_PUSH_PULL, MSG_WEIGHTS), OPTD_OK);
	assert_int_equal(decode_source(SAMPLE_PUSH_PULL, MSG_AVERAGE), OPTD_UNSUPPORTED);
	assert_non_null(strstr(why, "PUSH_PULL of an average"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_average_of_open_and_opened_comes_through),
	        cmocka_unit_test(test_no_average_is_none),
	        cmocka_unit_test(test_longest_average_comes_through),
	        cmocka_unit_test(test_averages_with_settings_that_are_none_are_refused),
	        cmocka_unit_test(test_bytes_that_are_no_average_are_refused),
	        cmocka_unit_test(test_source_of_a_later_version_is_unsupported),
	        cmocka_unit_test(test_push_pull_of_an_average_is_refused),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
