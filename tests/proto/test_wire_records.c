/* Records in payloads: layouts and STATUS, there and back, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/layout.h"
#include "proto/wire.h"
#include "tests/proto/raw.h"
#include "tests/proto/samples.h"

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

static void add(struct layout *layout, const char *name, const uint64_t *shape, uint32_t rank,
                uint32_t group)
{
	assert_int_equal(layout_add(layout, name, strlen(name), shape, rank, group), 0);
}

/* ---- layouts ---- */

static struct layout *sample_layout(void)
{
	static char long_name[LIMIT_NAME_BYTES + 1];
	struct layout *layout = layout_new();

	memset(long_name, 'n', LIMIT_NAME_BYTES);
	add(layout, "fc1.weight", (uint64_t[]){128, 784}, 2, 0);
	add(layout, "gewicht.ä", (uint64_t[]){5, 0, 3}, 3, 7);
	add(layout, "scalar", NULL, 0, UINT32_MAX);
	/* as large as a tensor's record can be */
	add(layout, long_name, (uint64_t[]){UINT64_C(1) << 41, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	    16, 1);
	return layout;
}

static void test_a_layout_comes_through(void **state)
{
	(void)state;
	struct layout *layout = sample_layout(), *out = NULL;
	size_t size = wire_layout_bytes(layout);
	uint8_t *bytes = malloc(size);
	wire_layout_encode(layout, bytes);
	assert_int_equal(wire_layout_decode(arena, bytes, size, &out, why, sizeof(why)), 0);
	assert_int_equal(layout_compare(layout, out, why, sizeof(why)), 0);
	assert_true(layout_elements(layout) == layout_elements(out));
	free(bytes);
	layout_free(layout);
	layout_free(out);
}

static void test_ten_thousand_tensors_come_through(void **state)
{
	(void)state;
	struct layout *layout = layout_new(), *out = NULL;
	char name[16];
	for (uint32_t i = 0; i < 10000; i++) {
		snprintf(name, sizeof(name), "w%u", i);
		add(layout, name, (uint64_t[]){i, 3}, 2, i % 3);
	}
	size_t size = wire_layout_bytes(layout);
	uint8_t *bytes = malloc(size);
	wire_layout_encode(layout, bytes);
	assert_int_equal(wire_layout_decode(arena, bytes, size, &out, why, sizeof(why)), 0);
	assert_int_equal(layout_compare(layout, out, why, sizeof(why)), 0);
	free(bytes);
	layout_free(layout);
	layout_free(out);
}

static void test_a_layout_cut_anywhere_is_refused_or_shorter(void **state)
{
	(void)state;
	struct layout *layout = sample_layout();
	size_t size = wire_layout_bytes(layout);
	uint8_t *bytes = malloc(size);
	wire_layout_encode(layout, bytes);
	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *copy = malloc(cut ? cut : 1);
		struct layout *out = NULL;
		memcpy(copy, bytes, cut);
		int rc = wire_layout_decode(arena, copy, cut, &out, why, sizeof(why));
		if (rc == 0)
			assert_true(layout_tensor_count(out) < layout_tensor_count(layout));
		else
			assert_null(out);
		layout_free(out);
		free(copy);
	}
	free(bytes);
	layout_free(layout);
}

/* A record with a name and one dimension. */
static struct raw tensor(const char *name, size_t name_bytes, uint64_t dimension)
{
	struct raw raw = {0};

	raw_bytes(&raw, 1, name, name_bytes);
	raw_number(&raw, 2, dimension);
	return raw;
}

static void append(struct raw *stream, struct raw record)
{
	raw_varint(stream, record.size);
	memcpy(stream->bytes + stream->size, record.bytes, record.size);
	stream->size += record.size;
}

/* The record has a large field of a later version, and thus takes more of the
 * arena than lies in front of the header's texts. */
static void test_reading_a_layout_leaves_the_header_alone(void **state)
{
	static const uint8_t filler[3000];

	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN), out;
	uint8_t header[LIMIT_HEADER_BYTES];
	struct layout *layout = NULL;
	struct raw stream = {0}, record = tensor("w", 1, 5);
	raw_bytes(&record, FIELD_UNKNOWN, filler, sizeof(filler));
	append(&stream, record);
	msg.payload = stream.bytes;
	msg.payload_bytes = stream.size;
	int size = wire_encode(&msg, header, sizeof(header));
	assert_int_equal(wire_decode(arena, header, (size_t)size, msg.payload, msg.payload_bytes, false,
	                             &out, why, sizeof(why)), 0);
	assert_int_equal(wire_layout_decode(arena, msg.payload, msg.payload_bytes, &layout, why,
	                                    sizeof(why)), 0);
	assert_memory_equal(out.open.model.bytes, "fashion", 7);
	assert_memory_equal(out.open.run.bytes, "job-12", 6);
	assert_memory_equal(out.open.hypers[1].name.bytes, "betas", 5);
	layout_free(layout);
}

static void refused(const struct raw *stream, int status, const char *words)
{
	struct layout *out = NULL;

	int rc = wire_layout_decode(arena, stream->bytes, stream->size, &out, why, sizeof(why));
	if (rc != status || !strstr(why, words))
		print_error("status %d: %s\n", rc, why);
	assert_int_equal(rc, status);
	assert_non_null(strstr(why, words));
	assert_null(out);
}

static void test_a_tensor_twice_is_refused_by_name(void **state)
{
	(void)state;
	struct raw stream = {0};
	append(&stream, tensor("w", 1, 5));
	append(&stream, tensor("w", 1, 5));
	refused(&stream, OPTD_INVALID, "'w' is in the layout twice");
}

static void test_a_tensor_without_a_name_is_refused(void **state)
{
	(void)state;
	struct raw stream = {0};
	append(&stream, tensor("", 0, 5));
	refused(&stream, OPTD_MALFORMED, "tensor 0 has no name");
}

static void test_a_tensor_name_with_nul_is_refused(void **state)
{
	(void)state;
	struct raw stream = {0};
	append(&stream, tensor("a", 1, 5));
	append(&stream, tensor("w\0", 2, 5));
	refused(&stream, OPTD_MALFORMED, "the name of tensor 1");
}

static void test_a_tensor_name_of_513_bytes_is_refused(void **state)
{
	char name[LIMIT_NAME_BYTES + 1];

	(void)state;
	struct raw stream = {0};
	memset(name, 'n', sizeof(name));
	append(&stream, tensor(name, sizeof(name), 5));
	refused(&stream, OPTD_MALFORMED, "513 bytes");
}

static void test_a_tensor_of_too_many_elements_is_refused(void **state)
{
	(void)state;
	struct raw stream = {0};
	append(&stream, tensor("a", 1, LIMIT_ELEMENTS));
	append(&stream, tensor("w", 1, 1));
	refused(&stream, OPTD_TOO_LARGE, "tensor 'w' (number 1)");
}

static void test_17_dimensions_are_refused(void **state)
{
	(void)state;
	struct raw stream = {0}, record = tensor("w", 1, 1);
	for (uint32_t i = 0; i < LIMIT_TENSOR_RANK; i++)
		raw_number(&record, 2, 1);
	append(&stream, record);
	refused(&stream, OPTD_TOO_LARGE, "17 dimensions");
}

static void test_a_record_that_cannot_be_unpacked_is_refused(void **state)
{
	(void)state;
	struct raw stream = {.size = 4, .bytes = {3, 0x0a, 0x7f, 'w'}};
	refused(&stream, OPTD_MALFORMED, "the record of tensor 0");
}

static void test_a_record_beyond_the_payload_is_refused(void **state)
{
	(void)state;
	struct raw stream = {.size = 2, .bytes = {3, 0x0a}};
	refused(&stream, OPTD_MALFORMED, "the record of tensor 0");
}

static void test_a_record_larger_than_a_header_is_refused(void **state)
{
	(void)state;
	struct raw stream = {.size = 4 + LIMIT_HEADER_BYTES, .bytes = {0x81, 0x20}};
	refused(&stream, OPTD_MALFORMED, "the record of tensor 0");
	stream.bytes[0] = stream.bytes[1] = stream.bytes[2] = 0xff;
	refused(&stream, OPTD_MALFORMED, "the record of tensor 0");
}

static void test_an_empty_payload_is_an_empty_layout(void **state)
{
	(void)state;
	struct layout *out = NULL;
	assert_int_equal(wire_layout_decode(arena, NULL, 0, &out, why, sizeof(why)), 0);
	assert_int_equal(layout_tensor_count(out), 0);
	layout_free(out);
}

/* ---- status ---- */

static struct msg_text text(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

static struct wire_model_status sample_status(void)
{
	return (struct wire_model_status){
	        .model = text("fashion"),
	        .run_id = UINT64_C(0xab12000000000001),
	        .run = text("job"),
	        .state = MSG_MODEL_WAITING,
	        .restored = true,
	        .elements = 101770,
	        .tensors = 4,
	        .blocks = 9,
	        .first_block = 3,
	        .block_count = 6,
	        .version = 100,
	        .version_max = 101,
	        .step = 100,
	        .mode = MSG_ASYNC,
	        .reduce = MSG_SUM,
	        .workers = 2,
	        .workers_present = 1,
	        .optimizer = text("adam lr=0.001"),
	        .waiting = text("rank 1"),
	        .bytes = 4096,
	        .pushes = 1,
	        .pulls = 2,
	        .duplicates = 3,
	        .refused = 4,
	        .saved_version = 99,
	        .last_norm = 12.5,
	        .last_factor = 0.08,
	        .clipped = 100,
	        .overflowed = 101,
	        .average = text("swa start=7 every=1"),
	        .rate_count = 2,
	        .rates = {{text(""), 0.00084}, {text("*.bias"), INFINITY}},
	};
}

static bool same_text(struct msg_text a, struct msg_text b)
{
	return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

#define SAME(field) assert_true(a.field == b.field)

static void test_a_status_comes_through(void **state)
{
	(void)state;
	struct wire_model_status a = sample_status(), b;
	uint8_t bytes[512];
	size_t at = 0, size = wire_status_encode(&a, bytes, sizeof(bytes));
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &b), 1);
	assert_int_equal(at, size);
	assert_true(same_text(a.model, b.model) && same_text(a.run, b.run) &&
	            same_text(a.optimizer, b.optimizer) && same_text(a.waiting, b.waiting) &&
	            same_text(a.average, b.average));
	SAME(run_id);
	SAME(state);
	SAME(restored);
	SAME(elements);
	SAME(tensors);
	SAME(blocks);
	SAME(first_block);
	SAME(block_count);
	SAME(version);
	SAME(version_max);
	SAME(step);
	SAME(mode);
	SAME(reduce);
	SAME(workers);
	SAME(workers_present);
	SAME(bytes);
	SAME(pushes);
	SAME(pulls);
	SAME(duplicates);
	SAME(refused);
	SAME(saved_version);
	assert_true(b.last_norm == 12.5 && b.last_factor == 0.08);
	SAME(clipped);
	SAME(overflowed);
	SAME(rate_count);
	assert_true(b.rates[0].tensors.size == 0 && b.rates[0].lr == 0.00084);
	assert_true(same_text(a.rates[1].tensors, b.rates[1].tensors) && isinf(b.rates[1].lr));
}

static void test_a_status_of_the_longest_texts_and_most_groups_is_a_record(void **state)
{
	(void)state;
	static char name[LIMIT_NAME_BYTES], words[LIMIT_TEXT_BYTES], waiting[256], average[128],
	        pattern[LIMIT_RATE_BYTES + 1];
	struct wire_model_status status, out;
	uint8_t bytes[LIMIT_HEADER_BYTES + 2];
	size_t at = 0;
	memset(name, 'n', sizeof(name) - 1);
	memset(words, 'w', sizeof(words) - 1);
	memset(waiting, 'r', sizeof(waiting) - 1);
	memset(average, 'a', sizeof(average) - 1);
	memset(pattern, 'p', sizeof(pattern) - 1);
	memset(&status, 0xff, sizeof(status));
	status.model = status.run = status.skipped.tensor = text(name);
	status.optimizer = text(words);
	status.waiting = text(waiting);
	status.average = text(average);
	status.state = MSG_MODEL_READY;
	status.restored = true;
	status.mode = MSG_SYNC;
	status.reduce = MSG_MEAN;
	status.nonfinite = MSG_SKIP_STEP;
	status.loss_scale = (struct msg_loss_scale){true, 1, 2, 0.5, 7};
	status.scale = 1;
	status.change_count = 0;
	status.rate_count = 1 + LIMIT_GROUPS;
	for (uint32_t i = 0; i <= LIMIT_GROUPS; i++)
		status.rates[i] = (struct wire_rate){text(i > 0 ? pattern : ""), 1};
	size_t size = wire_status_encode(&status, bytes, sizeof(bytes));
	assert_in_range(size, 3000, sizeof(bytes));
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &out), 1);
	assert_int_equal(out.rate_count, 1 + LIMIT_GROUPS);
	assert_int_equal(out.rates[LIMIT_GROUPS].tensors.size, LIMIT_RATE_BYTES);
}

static void test_records_are_read_one_after_the_other(void **state)
{
	(void)state;
	struct wire_model_status status = sample_status();
	uint8_t bytes[1024];
	size_t at = 0, size = 0;
	for (uint32_t i = 0; i < 5; i++) {
		status.tensors = i;
		size += wire_status_encode(&status, bytes + size, sizeof(bytes) - size);
	}
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(wire_status_decode(arena, bytes, size, &at, &status), 1);
		assert_int_equal(status.tensors, i);
	}
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &status), 0);
}

static void test_a_status_is_not_written_beyond_its_buffer(void **state)
{
	(void)state;
	struct wire_model_status status = sample_status();
	uint8_t bytes[512];
	size_t size = wire_status_encode(&status, bytes, sizeof(bytes));
	assert_int_equal(wire_status_encode(&status, bytes, size - 1), 0);
	assert_int_equal(wire_status_encode(&status, bytes, size), size);
}

static void test_a_status_cut_anywhere_is_refused(void **state)
{
	(void)state;
	struct wire_model_status status = sample_status(), out;
	uint8_t bytes[512];
	size_t size = wire_status_encode(&status, bytes, sizeof(bytes));
	for (size_t cut = 1; cut < size; cut++) {
		uint8_t *copy = malloc(cut);
		size_t at = 0;
		memcpy(copy, bytes, cut);
		assert_int_equal(wire_status_decode(arena, copy, cut, &at, &out), OPTD_MALFORMED);
		assert_int_equal(at, 0);
		free(copy);
	}
}

/* A valid record with one field overridden. */
static int with_field(uint32_t field, const char *bytes, size_t size, uint64_t number)
{
	struct wire_model_status status = sample_status(), out;
	struct raw stream = {0}, record = {0};
	uint8_t valid[512];
	size_t at = 0;

	size_t valid_bytes = wire_status_encode(&status, valid, sizeof(valid));
	size_t prefix = valid[0] & 0x80 ? 2 : 1; /* its length */
	record.size = valid_bytes - prefix;
	memcpy(record.bytes, valid + prefix, record.size);
	if (bytes)
		raw_bytes(&record, field, bytes, size);
	else
		raw_number(&record, field, number);
	append(&stream, record);
	return wire_status_decode(arena, stream.bytes, stream.size, &at, &out);
}

/* A valid record with so many rates of this pattern more. */
static int with_rates(uint32_t count, const char *tensors, size_t size)
{
	struct wire_model_status status = sample_status(), out;
	struct raw stream = {0}, record = {0}, rate = {0};
	uint8_t valid[512];
	size_t at = 0;

	status.rate_count = 0;
	size_t valid_bytes = wire_status_encode(&status, valid, sizeof(valid));
	size_t prefix = valid[0] & 0x80 ? 2 : 1;
	record.size = valid_bytes - prefix;
	memcpy(record.bytes, valid + prefix, record.size);
	raw_bytes(&rate, 1, tensors, size);
	for (uint32_t i = 0; i < count; i++)
		raw_bytes(&record, 36, rate.bytes, rate.size);
	append(&stream, record);
	return wire_status_decode(arena, stream.bytes, stream.size, &at, &out);
}

static void test_more_rates_than_groups_and_bad_patterns_are_refused(void **state)
{
	(void)state;
	char pattern[LIMIT_RATE_BYTES + 1];
	memset(pattern, '*', sizeof(pattern));
	assert_int_equal(with_rates(1 + LIMIT_GROUPS, "*", 1), 1);
	assert_int_equal(with_rates(2 + LIMIT_GROUPS, "*", 1), OPTD_MALFORMED);
	assert_int_equal(with_rates(1, pattern, LIMIT_RATE_BYTES), 1);
	assert_int_equal(with_rates(1, pattern, LIMIT_RATE_BYTES + 1), OPTD_MALFORMED);
	assert_int_equal(with_rates(1, "a\0", 2), OPTD_MALFORMED);
	assert_int_equal(with_rates(1, "\xff", 1), OPTD_MALFORMED);
}

static void test_a_status_with_bad_fields_is_refused(void **state)
{
	(void)state;
	assert_int_equal(with_field(1, "other", 5, 0), 1);
	assert_int_equal(with_field(1, "", 0, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(1, "a\0", 2, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(3, "\xff", 1, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(18, "\xff", 1, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(19, "\xff", 1, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(27, "\xff", 1, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(4, NULL, 0, 0), OPTD_MALFORMED);
	assert_int_equal(with_field(4, NULL, 0, 4), OPTD_MALFORMED);
	assert_int_equal(with_field(14, NULL, 0, 3), OPTD_MALFORMED);
	assert_int_equal(with_field(15, NULL, 0, 3), OPTD_MALFORMED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_layout_comes_through),
	        cmocka_unit_test(test_ten_thousand_tensors_come_through),
	        cmocka_unit_test(test_a_layout_cut_anywhere_is_refused_or_shorter),
	        cmocka_unit_test(test_reading_a_layout_leaves_the_header_alone),
	        cmocka_unit_test(test_a_tensor_twice_is_refused_by_name),
	        cmocka_unit_test(test_a_tensor_without_a_name_is_refused),
	        cmocka_unit_test(test_a_tensor_name_with_nul_is_refused),
	        cmocka_unit_test(test_a_tensor_name_of_513_bytes_is_refused),
	        cmocka_unit_test(test_a_tensor_of_too_many_elements_is_refused),
	        cmocka_unit_test(test_17_dimensions_are_refused),
	        cmocka_unit_test(test_a_record_that_cannot_be_unpacked_is_refused),
	        cmocka_unit_test(test_a_record_beyond_the_payload_is_refused),
	        cmocka_unit_test(test_a_record_larger_than_a_header_is_refused),
	        cmocka_unit_test(test_an_empty_payload_is_an_empty_layout),
	        cmocka_unit_test(test_a_status_comes_through),
	        cmocka_unit_test(test_records_are_read_one_after_the_other),
	        cmocka_unit_test(test_a_status_is_not_written_beyond_its_buffer),
	        cmocka_unit_test(test_a_status_cut_anywhere_is_refused),
	        cmocka_unit_test(test_a_status_of_the_longest_texts_and_most_groups_is_a_record),
	        cmocka_unit_test(test_more_rates_than_groups_and_bad_patterns_are_refused),
	        cmocka_unit_test(test_a_status_with_bad_fields_is_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
