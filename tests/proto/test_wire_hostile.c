/*
 * Wire against bytes that nobody honest sends: cut, repeated, unknown, nested,
 * random.  None may read beyond its bytes, take more than the arena, or take
 * long; the sanitizers watch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "tests/proto/raw.h"
#include "tests/proto/samples.h"

static struct wire_arena *arena;
static char why[256];
static struct msg out;

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

static struct raw encoded(struct msg *msg)
{
	struct raw raw;

	msg->checksum = wire_checksum(msg->payload, msg->payload_bytes);
	int size = wire_encode(msg, raw.bytes, LIMIT_HEADER_BYTES);
	assert_true(size > 0);
	raw.size = (size_t)size;
	return raw;
}

static int decode(const struct raw *raw, const struct msg *msg)
{
	return wire_decode(arena, raw->bytes, raw->size, msg->payload, msg->payload_bytes, true, &out,
	                   why, sizeof(why));
}

/* A copy in memory of its own, so that one byte too far is noticed. */
static int decode_alone(const uint8_t *bytes, size_t size, const struct msg *msg)
{
	uint8_t *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	int rc = wire_decode(arena, copy, size, msg->payload, msg->payload_bytes, true, &out, why,
	                     sizeof(why));
	free(copy);
	return rc;
}

static void test_a_header_cut_anywhere_does_no_harm(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLE_COUNT; i++) {
		struct msg msg = sample_make((enum sample)i);
		struct raw raw = encoded(&msg);
		for (size_t size = 0; size < raw.size; size++) {
			int rc = decode_alone(raw.bytes, size, &msg);
			/* optional fields at the end may be missing, nothing else */
			assert_true(rc == 0 || rc == OPTD_MALFORMED || rc == OPTD_CHECKSUM);
			if (rc != 0)
				assert_true(why[0] != '\0');
		}
	}
}

static void test_a_push_cut_anywhere_is_refused(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH);
	msg.weight = msg.loss_scale = 0; /* which are last and may be missing */
	struct raw raw = encoded(&msg);
	raw.size -= 3; /* base_version, likewise */
	for (size_t size = 0; size < raw.size; size++)
		assert_true(decode_alone(raw.bytes, size, &msg) < 0);
	assert_int_equal(decode_alone(raw.bytes, raw.size, &msg), 0);
}

static void test_an_open_cut_anywhere_is_refused(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	struct raw raw = encoded(&msg);
	for (size_t size = 0; size < raw.size; size++)
		assert_true(decode_alone(raw.bytes, size, &msg) < 0);
}

static void test_a_flipped_bit_anywhere_does_no_harm(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLE_COUNT; i++) {
		struct msg msg = sample_make((enum sample)i);
		struct raw raw = encoded(&msg);
		for (size_t bit = 0; bit < raw.size * 8; bit++) {
			raw.bytes[bit / 8] = (uint8_t)(raw.bytes[bit / 8] ^ 1u << bit % 8);
			decode_alone(raw.bytes, raw.size, &msg);
			raw.bytes[bit / 8] = (uint8_t)(raw.bytes[bit / 8] ^ 1u << bit % 8);
		}
	}
}

static void test_random_bytes_do_no_harm(void **state)
{
	unsigned seed = (unsigned)time(NULL);
	struct msg nothing = {0};
	struct raw raw;

	(void)state;
	print_message("seed %u\n", seed);
	for (int i = 0; i < 20000; i++) {
		raw.size = (size_t)rand_r(&seed) % 64;
		for (size_t b = 0; b < raw.size; b++)
			raw.bytes[b] = (uint8_t)rand_r(&seed);
		decode_alone(raw.bytes, raw.size, &nothing);
	}
}

static void test_an_empty_header_is_refused(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {.size = 0};
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
}

static void test_what_cannot_be_read_has_no_address(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {.size = 3, .bytes = {0xff, 0xff, 0xff}};
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
	assert_int_equal(out.verb, 0);
}

static void test_a_header_of_the_limit_is_read(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_GOODBYE);
	struct raw raw = encoded(&msg);
	uint8_t filler[LIMIT_HEADER_BYTES] = {0};
	raw_bytes(&raw, FIELD_UNKNOWN, filler, LIMIT_HEADER_BYTES - raw.size - 4);
	assert_int_equal(raw.size, LIMIT_HEADER_BYTES);
	assert_int_equal(decode(&raw, &msg), 0);
}

static void test_a_header_beyond_the_limit_is_refused(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_GOODBYE);
	struct raw raw = encoded(&msg);
	uint8_t filler[LIMIT_HEADER_BYTES] = {0};
	raw_bytes(&raw, FIELD_UNKNOWN, filler, LIMIT_HEADER_BYTES - raw.size - 3);
	assert_int_equal(raw.size, LIMIT_HEADER_BYTES + 1);
	assert_int_equal(decode(&raw, &msg), OPTD_MALFORMED);
	assert_non_null(strstr(why, "4097"));
}

static void test_unknown_fields_are_passed_over(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH);
	struct raw raw = encoded(&msg);
	raw_number(&raw, FIELD_UNKNOWN, UINT64_MAX);
	raw_bytes(&raw, FIELD_UNKNOWN + 1, "later", 5);
	assert_int_equal(decode(&raw, &msg), 0);
	assert_int_equal(out.part_count, 3);
}

static void test_a_header_full_of_unknown_fields_exhausts_nothing(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {0};
	while (raw.size + 2 <= LIMIT_HEADER_BYTES) {
		raw.bytes[raw.size++] = 15 << 3;
		raw.bytes[raw.size++] = 1;
	}
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
}

static void test_a_header_full_of_empty_messages_exhausts_nothing(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {0};
	while (raw.size + 2 <= LIMIT_HEADER_BYTES)
		raw_bytes(&raw, FIELD_PARTS, "", 0);
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
}

/* Each copy of a singular message is merged with the ones before it, which
 * copies its repeated fields again: quadratic, but within the arena. */
static void test_a_body_repeated_many_times_ends_with_the_arena(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {0};
	while (raw.size + 6 <= LIMIT_HEADER_BYTES)
		raw_bytes(&raw, FIELD_OPEN, "\x82\x01\x00", 3);
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
}

static void test_lengths_that_lie_are_refused(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {0};
	raw_varint(&raw, FIELD_TEXT << 3 | 2);
	raw_varint(&raw, UINT32_MAX);
	raw.size += 8;
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
}

/* No type of ours contains itself, so nesting is skipped, not followed. */
static void test_deep_nesting_is_not_followed(void **state)
{
	(void)state;
	struct msg nothing = {0};
	struct raw raw = {.size = LIMIT_HEADER_BYTES};
	size_t at = LIMIT_HEADER_BYTES;
	while (at >= 5) {
		struct raw tag = {0};
		raw_varint(&tag, FIELD_OPEN << 3 | 2);
		raw_varint(&tag, LIMIT_HEADER_BYTES - at);
		at -= tag.size;
		memcpy(raw.bytes + at, tag.bytes, tag.size);
	}
	memmove(raw.bytes, raw.bytes + at, LIMIT_HEADER_BYTES - at);
	raw.size -= at;
	assert_int_equal(decode(&raw, &nothing), OPTD_MALFORMED);
}

static void test_the_arena_serves_again_after_a_hostile_message(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	struct raw good = encoded(&msg), bad = {0};
	while (bad.size + 2 <= LIMIT_HEADER_BYTES)
		raw_bytes(&bad, FIELD_PARTS, "", 0);
	for (int i = 0; i < 100; i++) {
		assert_true(decode(&bad, &msg) < 0);
		assert_int_equal(decode(&good, &msg), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_header_cut_anywhere_does_no_harm),
	        cmocka_unit_test(test_a_push_cut_anywhere_is_refused),
	        cmocka_unit_test(test_an_open_cut_anywhere_is_refused),
	        cmocka_unit_test(test_a_flipped_bit_anywhere_does_no_harm),
	        cmocka_unit_test(test_random_bytes_do_no_harm),
	        cmocka_unit_test(test_an_empty_header_is_refused),
	        cmocka_unit_test(test_what_cannot_be_read_has_no_address),
	        cmocka_unit_test(test_a_header_of_the_limit_is_read),
	        cmocka_unit_test(test_a_header_beyond_the_limit_is_refused),
	        cmocka_unit_test(test_unknown_fields_are_passed_over),
	        cmocka_unit_test(test_a_header_full_of_unknown_fields_exhausts_nothing),
	        cmocka_unit_test(test_a_header_full_of_empty_messages_exhausts_nothing),
	        cmocka_unit_test(test_a_body_repeated_many_times_ends_with_the_arena),
	        cmocka_unit_test(test_lengths_that_lie_are_refused),
	        cmocka_unit_test(test_deep_nesting_is_not_followed),
	        cmocka_unit_test(test_the_arena_serves_again_after_a_hostile_message),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
