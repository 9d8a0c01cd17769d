/*
 * Wire, the good case: what is encoded is decoded again, every field of it.
 *
 * With WIRE_CORPUS=folder in the environment the samples are written there
 * instead, as seeds for fuzz_wire.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "tests/proto/samples.h"

static uint8_t header[LIMIT_HEADER_BYTES];
static struct wire_arena *arena;

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

static struct msg through(struct msg *msg)
{
	char why[256] = "";
	struct msg out;

	msg->checksum = wire_checksum(msg->payload, msg->payload_bytes);
	int size = wire_encode(msg, header, sizeof(header));
	assert_true(size > 0);
	int rc = wire_decode(arena, header, (size_t)size, msg->payload, msg->payload_bytes, true, &out,
	                     why, sizeof(why));
	if (rc != 0)
		print_error("%s: %s\n", msg_verb_name(msg->verb), why);
	assert_int_equal(rc, 0);
	return out;
}

static void same_text(struct msg_text a, struct msg_text b)
{
	assert_int_equal(a.size, b.size);
	if (a.size)
		assert_memory_equal(a.bytes, b.bytes, a.size);
}

#define SAME(field) assert_true(a->field == b->field)

static void same_fields(const struct msg *a, const struct msg *b)
{
	SAME(verb);
	SAME(reply);
	SAME(status);
	SAME(request);
	SAME(session);
	SAME(epoch);
	SAME(kind);
	SAME(object);
	SAME(layout);
	SAME(rank);
	SAME(incarnation);
	SAME(step);
	SAME(base_version);
	SAME(min_version);
	SAME(source);
	SAME(version);
	SAME(version_max);
	SAME(token);
	SAME(weight);
	SAME(dtype);
	SAME(place);
	SAME(checksum);
	SAME(payload_bytes);
	SAME(payload);
	same_text(a->text, b->text);
}

static void same_parts(const struct msg *a, const struct msg *b)
{
	SAME(part_count);
	for (uint32_t i = 0; i < a->part_count; i++) {
		SAME(parts[i].first);
		SAME(parts[i].count);
		SAME(parts[i].mask_bytes);
		assert_true((a->parts[i].mask == NULL) == (b->parts[i].mask == NULL));
		if (a->parts[i].mask)
			assert_memory_equal(a->parts[i].mask, b->parts[i].mask, a->parts[i].mask_bytes);
	}
}

static void test_every_message_comes_through_with_its_fields(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLE_COUNT; i++) {
		struct msg msg = sample_make((enum sample)i);
		struct msg out = through(&msg);
		same_fields(&msg, &out);
		same_parts(&msg, &out);
	}
}

static void test_every_message_encodes_again_to_the_same_bytes(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLE_COUNT; i++) {
		uint8_t again[LIMIT_HEADER_BYTES];
		struct msg msg = sample_make((enum sample)i);
		struct msg out = through(&msg);
		int size = wire_encode(&out, again, sizeof(again));
		assert_true(size > 0);
		assert_memory_equal(header, again, (size_t)size);
	}
}

static void test_hello_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_HELLO);
	struct msg out = through(&msg);
	const struct msg_hello *a = &msg.hello, *b = &out.hello;
	SAME(protocol_min);
	SAME(protocol_max);
	SAME(pid);
	same_text(a->host, b->host);
	same_text(a->software, b->software);
}

static void test_welcome_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_WELCOME);
	struct msg out = through(&msg);
	const struct msg_welcome *a = &msg.welcome, *b = &out.welcome;
	SAME(protocol);
	SAME(daemon_id);
	SAME(lane);
	SAME(lanes);
	SAME(message_bytes);
	SAME(window_bytes);
	SAME(endpoint_count);
	same_text(a->software, b->software);
	same_text(a->endpoints[0], b->endpoints[0]);
	same_text(a->endpoints[1], b->endpoints[1]);
}

static void same_schedule(const struct msg_schedule_part *a, const struct msg_schedule_part *b,
                          uint32_t count)
{
	for (uint32_t i = 0; i < count; i++, a++, b++) {
		same_text(a->name, b->name);
		SAME(until);
		SAME(param_count);
		for (uint32_t j = 0; j < a->param_count; j++) {
			same_text(a->params[j].name, b->params[j].name);
			SAME(params[j].count);
			assert_memory_equal(a->params[j].values, b->params[j].values,
			                    sizeof(a->params[j].values));
		}
	}
}

static void test_open_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	struct msg out = through(&msg);
	const struct msg_open *a = &msg.open, *b = &out.open;
	same_text(a->model, b->model);
	SAME(daemon);
	SAME(daemons);
	SAME(layout_hash);
	SAME(client);
	SAME(resume);
	same_text(a->run, b->run);
	SAME(expect_run);
	SAME(seen_step);
	SAME(seen_version);
	SAME(seen_epoch);
	SAME(wants_init);
	SAME(relays_norms);
	same_text(a->optimizer, b->optimizer);
	same_text(a->match, b->match);
	SAME(mode);
	SAME(reduce);
	SAME(workers);
	SAME(step_timeout_ms);
	SAME(hyper_count);
	for (uint32_t i = 0; i < a->hyper_count; i++) {
		same_text(a->hypers[i].name, b->hypers[i].name);
		SAME(hypers[i].count);
		SAME(hypers[i].values[0]);
		SAME(hypers[i].values[1]);
	}
	SAME(schedule_count);
	same_schedule(a->schedule, b->schedule, a->schedule_count);
}

static void test_opened_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPENED);
	struct msg out = through(&msg);
	const struct msg_opened *a = &msg.opened, *b = &out.opened;
	SAME(model);
	SAME(layout);
	SAME(run_id);
	SAME(step);
	SAME(incarnation);
	SAME(token);
	SAME(lease_ms);
	SAME(state);
	SAME(created);
	SAME(restored);
	SAME(age_s);
	SAME(mode);
	SAME(reduce);
	SAME(workers);
	SAME(step_timeout_ms);
	same_text(a->optimizer, b->optimizer);
	SAME(elements);
	SAME(tensors);
}

static void test_opened_has_the_optimizer_as_open_takes_it(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPENED);
	struct msg out = through(&msg);
	const struct msg_rule *a = &msg.rule, *b = &out.rule;
	same_text(a->name, b->name);
	same_text(a->match, b->match);
	SAME(whole);
	SAME(hyper_count);
	for (uint32_t i = 0; i < a->hyper_count; i++) {
		same_text(a->hypers[i].name, b->hypers[i].name);
		SAME(hypers[i].count);
		SAME(hypers[i].values[0]);
		SAME(hypers[i].values[1]);
	}
	SAME(schedule_count);
	same_schedule(a->schedule, b->schedule, a->schedule_count);
}

static void test_status_tells_what_a_lane_has_counted(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_STATUS_OK);
	struct msg out = through(&msg);
	assert_memory_equal(&msg.lane_status, &out.lane_status, sizeof(out.lane_status));
}

static void test_drop_names_its_model(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_DROP);
	struct msg out = through(&msg);
	same_text(msg.named.model, out.named.model);
}

static void test_save_without_a_name_is_about_all_models(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_SAVE);
	struct msg out = through(&msg);
	assert_int_equal(out.named.model.size, 0);
}

static void test_a_body_does_not_travel_with_an_error(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPENED);
	msg.status = OPTD_NO_MODEL;
	struct msg out = through(&msg);
	assert_int_equal(out.opened.elements, 0);
}

static void test_no_rank_and_the_highest_rank_come_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PULL);
	msg.rank = MSG_NO_RANK;
	assert_int_equal(through(&msg).rank, MSG_NO_RANK);
	msg.rank = LIMIT_WORKERS - 1;
	assert_int_equal(through(&msg).rank, LIMIT_WORKERS - 1);
}

static void test_as_many_parts_as_allowed_come_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PULL);
	msg.part_count = LIMIT_PARTS;
	for (uint32_t i = 0; i < LIMIT_PARTS; i++)
		msg.parts[i] = (struct msg_part){.first = i * 60000000, .count = 60000000};
	struct msg out = through(&msg);
	same_parts(&msg, &out);
}

static void test_a_full_mask_fits_the_header(void **state)
{
	static uint8_t mask[LIMIT_MASK_BYTES];

	(void)state;
	struct msg msg = sample_make(SAMPLE_PULL);
	memset(mask, 0xff, sizeof(mask));
	for (uint32_t i = 0; i < 5; i++)
		msg.parts[i] =
		        (struct msg_part){.first = i, .count = 1, .mask = mask, .mask_bytes = sizeof(mask)};
	msg.part_count = 5;
	struct msg out = through(&msg);
	same_parts(&msg, &out);
}

static void test_as_many_parts_of_a_norm_as_allowed_come_through(void **state)
{
	static const double numbers[LIMIT_NORM_SEGMENTS] = {1, 2};
	(void)state;
	struct msg msg = sample_make(SAMPLE_NORM_TELL);
	msg.parts[0].count = LIMIT_NORM_SEGMENTS;
	msg.payload = numbers;
	msg.payload_bytes = sizeof(numbers);
	struct msg out = through(&msg);
	assert_int_equal(out.payload_bytes, sizeof(numbers));
	assert_int_equal(out.parts[0].count, LIMIT_NORM_SEGMENTS);
}

static void test_a_message_larger_than_a_header_is_not_encoded(void **state)
{
	static uint8_t mask[LIMIT_MASK_BYTES] = {1};

	(void)state;
	struct msg msg = sample_make(SAMPLE_PULL);
	msg.part_count = 8;
	for (uint32_t i = 0; i < msg.part_count; i++)
		msg.parts[i] =
		        (struct msg_part){.first = i, .count = 1, .mask = mask, .mask_bytes = sizeof(mask)};
	assert_int_equal(wire_encode(&msg, header, sizeof(header)), OPTD_TOO_LARGE);
}

static void test_a_header_is_not_written_beyond_its_buffer(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	int size = wire_encode(&msg, header, sizeof(header));
	memset(header, 0x5a, sizeof(header));
	assert_int_equal(wire_encode(&msg, header, (size_t)size - 1), OPTD_TOO_LARGE);
	assert_int_equal(header[0], 0x5a);
	assert_int_equal(wire_encode(&msg, header, (size_t)size), size);
}

static void test_a_long_text_is_cut_between_characters(void **state)
{
	static char text[LIMIT_TEXT_BYTES + 2];

	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN_REFUSED);
	text[0] = 'x'; /* so that a two-byte character lies across the bound */
	for (size_t i = 1; i + 1 < sizeof(text); i += 2)
		memcpy(text + i, "ä", 2);
	msg.text = (struct msg_text){text, sizeof(text)};
	assert_int_equal(through(&msg).text.size, LIMIT_TEXT_BYTES - 1);
}

static void test_a_text_is_cut_before_what_is_not_utf8(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN_REFUSED);
	msg.text = (struct msg_text){"abc\xc3", 4};
	assert_int_equal(through(&msg).text.size, 3);
	msg.text = (struct msg_text){"ab\0c", 4};
	assert_int_equal(through(&msg).text.size, 2);
}

static void test_a_push_header_is_small(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH_PULL);
	assert_true(wire_encode(&msg, header, sizeof(header)) < 80);
}

static void test_checksum_is_zero_for_nothing_only(void **state)
{
	(void)state;
	assert_int_equal(wire_checksum(NULL, 0), 0);
	assert_true(wire_checksum("", 1) != 0);
	/* the reference's number for one zero byte, so that other clients agree */
	assert_true(wire_checksum("", 1) == UINT64_C(0xc44bdff4074eecdb));
}

static int write_seeds(const char *folder)
{
	for (int i = 0; i < SAMPLE_COUNT; i++) {
		char path[512];
		struct msg msg = sample_make((enum sample)i);
		msg.checksum = wire_checksum(msg.payload, msg.payload_bytes);
		int size = wire_encode(&msg, header, sizeof(header));
		snprintf(path, sizeof(path), "%s/%s", folder, sample_name((enum sample)i));
		FILE *file = fopen(path, "wb");
		if (!file)
			return 1;
		fputc(size & 0xff, file);
		fputc(size >> 8, file);
		fwrite(header, 1, (size_t)size, file);
		fwrite(msg.payload ? msg.payload : "", 1, msg.payload_bytes, file);
		fclose(file);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_every_message_comes_through_with_its_fields),
	        cmocka_unit_test(test_every_message_encodes_again_to_the_same_bytes),
	        cmocka_unit_test(test_hello_comes_through),
	        cmocka_unit_test(test_welcome_comes_through),
	        cmocka_unit_test(test_open_comes_through),
	        cmocka_unit_test(test_opened_comes_through),
	        cmocka_unit_test(test_opened_has_the_optimizer_as_open_takes_it),
	        cmocka_unit_test(test_status_tells_what_a_lane_has_counted),
	        cmocka_unit_test(test_drop_names_its_model),
	        cmocka_unit_test(test_save_without_a_name_is_about_all_models),
	        cmocka_unit_test(test_a_body_does_not_travel_with_an_error),
	        cmocka_unit_test(test_no_rank_and_the_highest_rank_come_through),
	        cmocka_unit_test(test_as_many_parts_as_allowed_come_through),
	        cmocka_unit_test(test_a_full_mask_fits_the_header),
	        cmocka_unit_test(test_as_many_parts_of_a_norm_as_allowed_come_through),
	        cmocka_unit_test(test_a_message_larger_than_a_header_is_not_encoded),
	        cmocka_unit_test(test_a_header_is_not_written_beyond_its_buffer),
	        cmocka_unit_test(test_a_long_text_is_cut_between_characters),
	        cmocka_unit_test(test_a_text_is_cut_before_what_is_not_utf8),
	        cmocka_unit_test(test_a_push_header_is_small),
	        cmocka_unit_test(test_checksum_is_zero_for_nothing_only),
	};

	if (getenv("WIRE_CORPUS"))
		return write_seeds(getenv("WIRE_CORPUS"));
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
