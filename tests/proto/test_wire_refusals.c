/*
 * Wire, the bad case: each field that can be wrong is refused by itself, with
 * a sentence that says what is wrong and an address to answer to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"
#include "tests/proto/raw.h"
#include "tests/proto/samples.h"

static struct wire_arena *arena;

static const uint8_t one_bit[1] = {1};
static const uint8_t no_bit[3] = {0};
_Alignas(4) static const uint8_t zeros[LIMIT_MESSAGE_BYTES + 4];
static char long_text[LIMIT_TEXT_BYTES + 1];
static const uint8_t long_mask[LIMIT_MASK_BYTES + 1] = {1};

static int set_up(void **state)
{
	(void)state;
	memset(long_text, 'x', sizeof(long_text));
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

static void refused_raw(const struct raw *raw, const struct msg *msg, int status, const char *words)
{
	char why[256] = "";
	struct msg out;

	int rc = wire_decode(arena, raw->bytes, raw->size, msg->payload, msg->payload_bytes, true, &out,
	                     why, sizeof(why));
	if (rc != status || !strstr(why, words))
		print_error("status %d, '%s'; expected %d, '%s'\n", rc, why, status, words);
	assert_int_equal(rc, status);
	assert_non_null(strstr(why, words));
	assert_int_equal(out.request, msg->request);
	assert_true(out.session == msg->session);
	assert_int_equal(out.reply, msg->reply);
	assert_int_equal(out.part_count, 0);
	assert_null(out.payload);
}

static void refused(struct msg *msg, int status, const char *words)
{
	struct raw raw = encoded(msg);

	refused_raw(&raw, msg, status, words);
}

/* One test: a sample, what is done to it, what it gets. */
#define REFUSES(name, sample, change, status, words) \
	static void test_refuses_##name(void **state) \
	{ \
		struct msg msg = sample_make(SAMPLE_##sample); \
		(void)state; \
		change; \
		refused(&msg, OPTD_##status, words); \
	}

/* The same with a field appended to the encoded header. */
#define REFUSES_RAW(name, sample, append, status, words) \
	static void test_refuses_##name(void **state) \
	{ \
		struct msg msg = sample_make(SAMPLE_##sample); \
		struct raw raw = encoded(&msg); \
		(void)state; \
		append; \
		refused_raw(&raw, &msg, OPTD_##status, words); \
	}

static struct msg_part blocks(uint32_t first, uint32_t count)
{
	return (struct msg_part){.first = first, .count = count};
}

static struct msg_part masked(uint32_t first, uint32_t count, const uint8_t *mask, uint32_t bytes)
{
	return (struct msg_part){.first = first, .count = count, .mask = mask, .mask_bytes = bytes};
}

/* ---- the header ---- */

REFUSES(no_verb, PUSH, msg.verb = (enum msg_verb)0, MALFORMED, "no verb")
REFUSES(a_later_verb, GOODBYE, msg.verb = (enum msg_verb)14, UNSUPPORTED, "verb 14")
REFUSES_RAW(a_negative_verb, GOODBYE, raw_number(&raw, FIELD_VERB, UINT64_MAX), UNSUPPORTED, "verb")
REFUSES(a_later_kind, PULL, msg.kind = (enum msg_kind)1, UNSUPPORTED, "kind 1")
REFUSES(a_later_place, PULL, msg.place = (enum msg_place)1, UNSUPPORTED, "place 1")
REFUSES(a_later_dtype, PUSH, msg.dtype = (enum dtype)3, UNSUPPORTED, "dtype 3")
REFUSES_RAW(a_negative_dtype, PUSH, raw_number(&raw, FIELD_DTYPE, UINT64_MAX), UNSUPPORTED, "dtype")
REFUSES(a_pull_of_halves, PULL, msg.dtype = DTYPE_BF16, UNSUPPORTED, "PULL request with dtype 1")
REFUSES(weights_in_halves, PUSH_PULL_OK, msg.dtype = DTYPE_F16, UNSUPPORTED, "PUSH_PULL reply with dtype 2")
REFUSES(first_weights_in_halves, INIT, msg.dtype = DTYPE_BF16, UNSUPPORTED, "INIT request with dtype 1")
REFUSES(a_close_step_in_halves, CLOSE_STEP, msg.dtype = DTYPE_F16, UNSUPPORTED, "only gradients")
REFUSES(a_rank_beyond_the_limit, PUSH, msg.rank = LIMIT_WORKERS, MALFORMED, "rank")
REFUSES_RAW(the_highest_number_as_rank, PUSH, raw_number(&raw, FIELD_RANK_PLUS_ONE, UINT32_MAX),
            MALFORMED, "rank")
REFUSES(a_step_beyond_counting, PUSH, msg.step = LIMIT_COUNTER + 1, MALFORMED, "step")
REFUSES(an_incarnation_beyond_counting, PUSH, msg.incarnation = UINT64_MAX, MALFORMED, "incarnation")
REFUSES(a_base_version_beyond_counting, PUSH, msg.base_version = UINT64_MAX, MALFORMED,
        "base_version")
REFUSES(a_min_version_beyond_counting, PULL, msg.min_version = UINT64_MAX, MALFORMED, "min_version")
REFUSES(a_version_beyond_counting, PULL_OK, msg.version = UINT64_MAX, MALFORMED, "version")
REFUSES(versions_the_wrong_way_round, PULL_OK, msg.version = msg.version_max + 1, MALFORMED,
        "version_max")
REFUSES(a_token_beyond_counting, INIT, msg.token = UINT64_MAX, MALFORMED, "token")
REFUSES(a_weight_that_is_nan, PUSH, msg.weight = (double)NAN, MALFORMED, "weight")
REFUSES(a_weight_that_is_infinite, PUSH, msg.weight = (double)INFINITY, MALFORMED, "weight")
REFUSES(a_negative_weight, PUSH, msg.weight = -1, MALFORMED, "weight")
REFUSES(a_weight_beyond_the_limit, PUSH, msg.weight = 1e300, MALFORMED, "weight")
REFUSES(a_subnormal_weight, PUSH, msg.weight = 5e-324, MALFORMED, "weight")
REFUSES(a_request_with_a_status, PULL, msg.status = OPTD_BUSY, MALFORMED, "status")
REFUSES_RAW(a_text_that_is_too_long, OPEN_REFUSED,
            raw_bytes(&raw, FIELD_TEXT, long_text, 1025), MALFORMED, "1025")
REFUSES_RAW(a_text_with_nul, OPEN_REFUSED, raw_bytes(&raw, FIELD_TEXT, "a\0b", 3), MALFORMED, "NUL")
REFUSES_RAW(a_text_cut_in_a_character, OPEN_REFUSED, raw_bytes(&raw, FIELD_TEXT, "a\xe2\x82", 3),
            MALFORMED, "UTF-8")
REFUSES_RAW(a_text_in_latin1, OPEN_REFUSED, raw_bytes(&raw, FIELD_TEXT, "\xe4h", 2), MALFORMED,
            "UTF-8")

/* ---- parts ---- */

REFUSES(a_part_without_blocks, PULL, msg.parts[0].count = 0, MALFORMED, "no blocks")
REFUSES(parts_that_overlap, PULL, (msg.parts[0] = blocks(3, 4), msg.parts[1] = blocks(6, 1), msg.part_count = 2),
        MALFORMED, "inside or before")
REFUSES(parts_out_of_order, PULL, (msg.parts[0] = blocks(9, 1), msg.parts[1] = blocks(2, 1), msg.part_count = 2),
        MALFORMED, "inside or before")
REFUSES(a_block_named_twice, PULL,
        (msg.parts[0] = masked(3, 1, one_bit, 1), msg.parts[1] = masked(3, 1, one_bit, 1), msg.part_count = 2),
        MALFORMED, "inside or before")
REFUSES(blocks_beyond_32_bits, PULL, msg.parts[0] = blocks(UINT32_MAX, 2), MALFORMED, "2^32")
REFUSES(a_mask_over_two_blocks, PULL, msg.parts[0] = masked(3, 2, one_bit, 1), MALFORMED, "mask")
REFUSES(an_empty_mask, PULL, msg.parts[0] = masked(3, 1, no_bit, 3), MALFORMED, "is empty")
REFUSES(a_mask_that_is_too_long, PULL, msg.parts[0] = masked(3, 1, long_mask, sizeof(long_mask)),
        MALFORMED, "513 bytes")
REFUSES(a_mask_in_close_step, CLOSE_STEP, msg.parts[0] = masked(0, 1, one_bit, 1), MALFORMED,
        "CLOSE_STEP")
REFUSES_RAW(more_parts_than_allowed, PULL, for (uint32_t i = 0; i < LIMIT_PARTS; i++)
            raw_bytes(&raw, FIELD_PARTS, "", 0), MALFORMED, "65 parts")
REFUSES(a_pull_without_parts, PULL, msg.part_count = 0, MALFORMED, "0 parts")
REFUSES(a_pull_reply_without_parts, PULL_OK, msg.part_count = 0, MALFORMED, "0 parts")
REFUSES(a_push_without_parts, PUSH, msg.part_count = 0, MALFORMED, "0 parts")
REFUSES(a_push_pull_without_parts, PUSH_PULL, msg.part_count = 0, MALFORMED, "0 parts")
REFUSES(a_close_step_without_parts, CLOSE_STEP, msg.part_count = 0, MALFORMED, "0 parts")
REFUSES(a_norm_without_parts, NORM, msg.part_count = 0, MALFORMED, "0 parts")
REFUSES(a_mask_in_norm, NORM, msg.parts[0] = masked(3, 1, one_bit, 1), MALFORMED, "NORM with a mask")
REFUSES(a_mask_in_what_norm_answers, NORM_OK, msg.parts[0] = masked(3, 1, no_bit, 1), MALFORMED, "NORM with a mask")
REFUSES(a_norm_in_halves, NORM_TELL, msg.dtype = DTYPE_F16, UNSUPPORTED, "only gradients")
REFUSES(parts_where_none_belong, GOODBYE, (msg.parts[0] = blocks(0, 1), msg.part_count = 1),
        MALFORMED, "1 parts")

/* ---- the payload ---- */

REFUSES(a_payload_shorter_than_parts, PUSH, msg.payload_bytes = 4 * 5, MALFORMED, "5 elements")
REFUSES(a_payload_longer_than_parts, PUSH_PULL,
        (msg.payload = zeros, msg.payload_bytes = LIMIT_BLOCK_BYTES + 4),
        MALFORMED, "131073 elements")
REFUSES(half_an_element, PUSH, msg.payload_bytes -= 2, MALFORMED, "whole number")
REFUSES(half_an_element_of_bf16, PUSH_BF16, msg.payload_bytes -= 1, MALFORMED, "elements of 2 bytes")
REFUSES(half_an_element_of_f16, PUSH_PULL_F16, msg.payload_bytes = 3, MALFORMED, "elements of 2 bytes")
REFUSES(more_halves_than_parts_have, PUSH_PULL_F16,
        (msg.payload = zeros, msg.payload_bytes = LIMIT_BLOCK_ELEMENTS * 2 + 2), MALFORMED, "131073 elements")
REFUSES(fewer_halves_than_parts_have, PUSH_BF16, msg.payload_bytes = 2 * 5, MALFORMED, "5 elements")
REFUSES(halves_at_an_odd_address, PUSH_BF16,
        (msg.payload = (const uint8_t *)msg.payload + 1, msg.payload_bytes -= 2), INTERNAL, "misaligned")
REFUSES(a_push_without_payload, PUSH, (msg.payload = NULL, msg.payload_bytes = 0), MALFORMED,
        "0 elements")
REFUSES(init_with_parts_but_no_payload, INIT, (msg.payload = NULL, msg.payload_bytes = 0),
        MALFORMED, "0 elements")
REFUSES(init_with_payload_but_no_parts, INIT, msg.part_count = 0, MALFORMED, "payload")
REFUSES(a_pull_with_payload, PULL, (msg.payload = one_bit, msg.payload_bytes = 1), MALFORMED,
        "with a payload of 1 bytes")
REFUSES(an_error_with_payload, PULL_OK, msg.status = OPTD_BUSY, MALFORMED, "with a payload")
REFUSES(a_notice_with_payload, PUSH_PULL_OK, msg.status = OPTD_FOLDED, MALFORMED, "with a payload")
REFUSES(seven_bytes_of_a_norm, NORM_TELL, (msg.parts[0] = blocks(3, 1), msg.payload_bytes = 7), MALFORMED,
        "7 bytes is no whole number")
REFUSES(half_a_part_of_a_norm, NORM_OK, msg.payload_bytes = 28, MALFORMED, "28 bytes is no whole number")
REFUSES(fewer_parts_of_a_norm_than_blocks, NORM_TELL, msg.parts[0] = blocks(3, 5), MALFORMED,
        "4 parts of a norm for 5 blocks")
REFUSES(more_parts_of_a_norm_than_allowed, NORM_OK,
        (msg.payload = zeros, msg.payload_bytes = 8 * (LIMIT_NORM_SEGMENTS + 1)), MALFORMED, "more than 32768")
REFUSES(an_error_with_parts_of_a_norm, NORM_OK, msg.status = OPTD_CONFLICT, MALFORMED, "with a payload")
REFUSES(a_payload_beyond_the_limit, STATUS_OK,
        (msg.payload = zeros, msg.payload_bytes = LIMIT_MESSAGE_BYTES + 1),
        MALFORMED, "at most 4194304")
REFUSES(a_misaligned_payload, PUSH,
        (msg.payload = (const uint8_t *)msg.payload + 1, msg.payload_bytes -= 4), INTERNAL,
        "misaligned")

static void test_refuses_a_payload_of_another_size(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH);
	struct raw raw = encoded(&msg);
	msg.payload_bytes -= 4;
	refused_raw(&raw, &msg, OPTD_MALFORMED, "the header says 256");
}

static void test_refuses_a_payload_with_a_flipped_bit(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH);
	struct raw raw = encoded(&msg);
	float copy[64];
	memcpy(copy, msg.payload, sizeof(copy));
	copy[63] = -0.0f;
	msg.payload = copy;
	refused_raw(&raw, &msg, OPTD_CHECKSUM, "checksum");
}

static void test_refuses_a_checksum_of_nothing(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_GOODBYE);
	struct raw raw = encoded(&msg);
	/* field 12, fixed64 */
	memcpy(raw.bytes + raw.size, "\x61\1\0\0\0\0\0\0\0", 9);
	raw.size += 9;
	refused_raw(&raw, &msg, OPTD_MALFORMED, "checksum");
}

static void test_leaves_the_checksum_alone_unless_told_to_check(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH), out;
	struct raw raw = encoded(&msg);
	char why[256];
	const float other[64] = {0};
	assert_int_equal(wire_decode(arena, raw.bytes, raw.size, other, sizeof(other), false, &out, why,
	                             sizeof(why)), 0);
}

/* ---- bodies ---- */

REFUSES(hello_without_versions, HELLO, msg.hello.protocol_min = 0, MALFORMED, "protocol")
REFUSES(hello_versions_the_wrong_way_round, HELLO, msg.hello.protocol_min = 5, MALFORMED, "5 to 4")
REFUSES_RAW(a_host_with_nul, HELLO, raw_bytes(&raw, FIELD_HELLO, "\x08\1\x10\1\x1a\1\0", 7), MALFORMED, "host")
REFUSES_RAW(software_that_is_not_utf8, HELLO, raw_bytes(&raw, FIELD_HELLO, "\x08\1\x10\1\x2a\1\xff", 7),
            MALFORMED, "software")
REFUSES(welcome_without_version, WELCOME, msg.welcome.protocol = 0, MALFORMED, "version")
REFUSES(welcome_without_lanes, WELCOME, (msg.welcome.lanes = 0, msg.welcome.endpoint_count = 0),
        MALFORMED, "lane")
REFUSES(a_lane_beyond_the_lanes, WELCOME, msg.welcome.lane = 2, MALFORMED, "lane 2 of 2")
REFUSES(too_few_endpoints, WELCOME, msg.welcome.endpoint_count = 1, MALFORMED, "1 endpoints")
REFUSES(an_empty_endpoint, WELCOME, msg.welcome.endpoints[1].size = 0, MALFORMED, "endpoint 1")
REFUSES(a_message_smaller_than_a_block, WELCOME, msg.welcome.message_bytes = LIMIT_BLOCK_BYTES - 1,
        MALFORMED, "window")
REFUSES(a_window_smaller_than_a_message, WELCOME, msg.welcome.window_bytes = LIMIT_BLOCK_BYTES,
        MALFORMED, "window")
REFUSES_RAW(more_endpoints_than_allowed, WELCOME, for (int i = 0; i < 64; i++)
            raw_bytes(&raw, FIELD_WELCOME, "\x42\x01x", 3), MALFORMED, "66 endpoints")
REFUSES_RAW(an_endpoint_with_nul, WELCOME,
            raw_bytes(&raw, FIELD_WELCOME,
                      "\x08\1\x20\3\x28\x80\x80\x80\2\x30\x80\x80\x80\x08\x42\1\0", 17),
            MALFORMED, "an endpoint")
REFUSES(open_without_a_model, OPEN, msg.open.model.size = 0, MALFORMED, "name of a model")
REFUSES_RAW(a_model_name_with_nul, OPEN, raw_bytes(&raw, FIELD_OPEN, "\x0a\x02x\0", 4), MALFORMED,
            "model's name")
REFUSES_RAW(a_run_with_nul, OPEN, raw_bytes(&raw, FIELD_OPEN, "\x3a\x01\0", 3), MALFORMED, "run")
REFUSES_RAW(an_optimizer_with_nul, OPEN, raw_bytes(&raw, FIELD_OPEN, "\x52\x01\0", 3), MALFORMED,
            "optimizer")
REFUSES_RAW(a_match_with_nul, OPEN, raw_bytes(&raw, FIELD_OPEN, "\x5a\x01\0", 3), MALFORMED, "match")
REFUSES(a_server_beyond_the_list, OPEN, msg.open.daemon = 3, MALFORMED, "server 3 of 3")
REFUSES(an_empty_list_of_servers, OPEN, msg.open.daemons = 0, MALFORMED, "of 0")
REFUSES(too_many_servers, OPEN, msg.open.daemons = LIMIT_DAEMONS + 1, MALFORMED, "of 257")
REFUSES(a_layout_without_its_hash, OPEN, msg.open.layout_hash = 0, MALFORMED, "hash")
REFUSES(a_later_mode, OPEN, msg.open.mode = (enum msg_mode)3, UNSUPPORTED, "mode 3")
REFUSES(a_later_reduce, OPEN, msg.open.reduce = (enum msg_reduce)3, UNSUPPORTED, "reduce 3")
REFUSES(a_later_resume, OPEN, msg.open.resume = (enum msg_resume)3, UNSUPPORTED, "resume 3")
REFUSES(too_many_workers, OPEN, msg.open.workers = LIMIT_WORKERS + 1, MALFORMED, "1025 workers")
REFUSES(a_seen_version_beyond_counting, OPEN, msg.open.seen_version = UINT64_MAX, MALFORMED,
        "seen_version")
REFUSES(a_seen_step_beyond_counting, OPEN, msg.open.seen_step = UINT64_MAX, MALFORMED, "seen_step")
REFUSES(a_hyper_without_a_name, OPEN, msg.open.hypers[0].name.size = 0, MALFORMED, "without a name")
REFUSES(a_hyper_without_a_value, OPEN, msg.open.hypers[0].count = 0, MALFORMED, "without a name or")
REFUSES(a_hyper_that_is_nan, OPEN, msg.open.hypers[1].values[1] = (double)NAN, MALFORMED, "'betas'")
REFUSES(a_hyper_that_is_infinite, OPEN, msg.open.hypers[0].values[0] = -(double)INFINITY, MALFORMED,
        "'lr' is -inf")
REFUSES(a_schedule_without_a_name, OPEN, msg.open.schedule[0].name = (struct msg_text){0}, MALFORMED,
        "a schedule without a name")
REFUSES(a_schedules_parameter_without_a_value, OPEN, msg.open.schedule[0].params[0].count = 0, MALFORMED,
        "schedule's parameter without")
REFUSES(a_schedules_parameter_that_is_nan, OPEN, msg.open.schedule[1].params[0].values[3] = (double)NAN,
        MALFORMED, "'milestones' is")
REFUSES_RAW(more_schedule_parts_than_allowed, OPEN, for (uint32_t i = 0; i < LIMIT_SCHEDULE_PARTS; i++)
            raw_bytes(&raw, FIELD_OPEN, "\x92\x01\x00", 3), MALFORMED, "6 parts, at most 4")
REFUSES_RAW(a_hyper_of_four_values, OPEN,
            raw_bytes(&raw, FIELD_OPEN, "\x82\x01\x22\x12\x20" "0123456789abcdef0123456789abcdef", 37),
            MALFORMED, "4 values")
REFUSES_RAW(more_hypers_than_allowed, OPEN, for (uint32_t i = 0; i < LIMIT_HYPERS; i++)
            raw_bytes(&raw, FIELD_OPEN, "\x82\x01\x00", 3), MALFORMED, "34 hyper")
REFUSES(opened_without_a_state, OPENED, msg.opened.state = (enum msg_model_state)0, MALFORMED, "state")
REFUSES(an_opened_hyper_that_is_nan, OPENED, msg.rule.hypers[1].values[0] = (double)NAN, MALFORMED,
        "'betas'")
REFUSES(a_later_state, OPENED, msg.opened.state = (enum msg_model_state)4, UNSUPPORTED, "state 4")
REFUSES(a_later_mode_of_the_model, OPENED, msg.opened.mode = (enum msg_mode)3, UNSUPPORTED, "mode 3")
REFUSES(a_later_reduce_of_the_model, OPENED, msg.opened.reduce = (enum msg_reduce)3, UNSUPPORTED,
        "reduce 3")
REFUSES(an_opened_step_beyond_counting, OPENED, msg.opened.step = UINT64_MAX, MALFORMED, "step")
REFUSES(an_opened_incarnation_beyond_counting, OPENED, msg.opened.incarnation = UINT64_MAX,
        MALFORMED, "incarnation")
REFUSES(an_opened_token_beyond_counting, OPENED, msg.opened.token = UINT64_MAX, MALFORMED, "token")
REFUSES(a_model_beyond_the_limit, OPENED, msg.opened.elements = LIMIT_ELEMENTS + 1, MALFORMED,
        "elements")
REFUSES(a_model_of_too_many_tensors, OPENED, msg.opened.tensors = LIMIT_TENSORS + 1, MALFORMED,
        "tensors")
REFUSES(a_model_of_too_many_workers, OPENED, msg.opened.workers = LIMIT_WORKERS + 1, MALFORMED,
        "workers")
REFUSES(drop_without_a_name, DROP, msg.named.model.size = 0, MALFORMED, "DROP")
REFUSES_RAW(drop_of_a_name_with_nul, DROP, raw_bytes(&raw, FIELD_NAMED, "\x0a\x01\0", 3), MALFORMED,
            "model's name")

/* A message whose body was left out: the verb of one, the fields of another. */
REFUSES_RAW(hello_without_its_body, GOODBYE, raw_number(&raw, FIELD_VERB, MSG_HELLO), MALFORMED,
            "HELLO request without its body")
REFUSES_RAW(welcome_without_its_body, SAVE_OK, raw_number(&raw, FIELD_VERB, MSG_HELLO), MALFORMED,
            "HELLO reply without its body")
REFUSES_RAW(open_without_its_body, GOODBYE, raw_number(&raw, FIELD_VERB, MSG_OPEN), MALFORMED,
            "OPEN request without its body")
REFUSES_RAW(opened_without_its_body, SAVE_OK, raw_number(&raw, FIELD_VERB, MSG_OPEN), MALFORMED,
            "OPEN reply without its body")

static void test_says_nothing_where_there_is_no_room_for_words(void **state)
{
	(void)state;
	struct msg out;
	assert_int_equal(wire_decode(arena, "\x08", 1, NULL, 0, true, &out, NULL, 0), OPTD_MALFORMED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_refuses_no_verb),
	        cmocka_unit_test(test_refuses_a_later_verb),
	        cmocka_unit_test(test_refuses_a_negative_verb),
	        cmocka_unit_test(test_refuses_a_later_kind),
	        cmocka_unit_test(test_refuses_a_later_place),
	        cmocka_unit_test(test_refuses_a_later_dtype),
	        cmocka_unit_test(test_refuses_a_negative_dtype),
	        cmocka_unit_test(test_refuses_a_pull_of_halves),
	        cmocka_unit_test(test_refuses_weights_in_halves),
	        cmocka_unit_test(test_refuses_first_weights_in_halves),
	        cmocka_unit_test(test_refuses_a_close_step_in_halves),
	        cmocka_unit_test(test_refuses_half_an_element_of_bf16),
	        cmocka_unit_test(test_refuses_half_an_element_of_f16),
	        cmocka_unit_test(test_refuses_more_halves_than_parts_have),
	        cmocka_unit_test(test_refuses_fewer_halves_than_parts_have),
	        cmocka_unit_test(test_refuses_halves_at_an_odd_address),
	        cmocka_unit_test(test_refuses_a_rank_beyond_the_limit),
	        cmocka_unit_test(test_refuses_the_highest_number_as_rank),
	        cmocka_unit_test(test_refuses_a_step_beyond_counting),
	        cmocka_unit_test(test_refuses_an_incarnation_beyond_counting),
	        cmocka_unit_test(test_refuses_a_base_version_beyond_counting),
	        cmocka_unit_test(test_refuses_a_min_version_beyond_counting),
	        cmocka_unit_test(test_refuses_a_version_beyond_counting),
	        cmocka_unit_test(test_refuses_versions_the_wrong_way_round),
	        cmocka_unit_test(test_refuses_a_token_beyond_counting),
	        cmocka_unit_test(test_refuses_a_weight_that_is_nan),
	        cmocka_unit_test(test_refuses_a_weight_that_is_infinite),
	        cmocka_unit_test(test_refuses_a_negative_weight),
	        cmocka_unit_test(test_refuses_a_weight_beyond_the_limit),
	        cmocka_unit_test(test_refuses_a_subnormal_weight),
	        cmocka_unit_test(test_refuses_a_request_with_a_status),
	        cmocka_unit_test(test_refuses_a_text_that_is_too_long),
	        cmocka_unit_test(test_refuses_a_text_with_nul),
	        cmocka_unit_test(test_refuses_a_text_cut_in_a_character),
	        cmocka_unit_test(test_refuses_a_text_in_latin1),
	        cmocka_unit_test(test_refuses_a_part_without_blocks),
	        cmocka_unit_test(test_refuses_parts_that_overlap),
	        cmocka_unit_test(test_refuses_parts_out_of_order),
	        cmocka_unit_test(test_refuses_a_block_named_twice),
	        cmocka_unit_test(test_refuses_blocks_beyond_32_bits),
	        cmocka_unit_test(test_refuses_a_mask_over_two_blocks),
	        cmocka_unit_test(test_refuses_an_empty_mask),
	        cmocka_unit_test(test_refuses_a_mask_that_is_too_long),
	        cmocka_unit_test(test_refuses_a_mask_in_close_step),
	        cmocka_unit_test(test_refuses_more_parts_than_allowed),
	        cmocka_unit_test(test_refuses_a_pull_without_parts),
	        cmocka_unit_test(test_refuses_a_pull_reply_without_parts),
	        cmocka_unit_test(test_refuses_a_push_without_parts),
	        cmocka_unit_test(test_refuses_a_push_pull_without_parts),
	        cmocka_unit_test(test_refuses_a_close_step_without_parts),
	        cmocka_unit_test(test_refuses_a_norm_without_parts),
	        cmocka_unit_test(test_refuses_a_mask_in_norm),
	        cmocka_unit_test(test_refuses_a_mask_in_what_norm_answers),
	        cmocka_unit_test(test_refuses_a_norm_in_halves),
	        cmocka_unit_test(test_refuses_parts_where_none_belong),
	        cmocka_unit_test(test_refuses_a_payload_shorter_than_parts),
	        cmocka_unit_test(test_refuses_a_payload_longer_than_parts),
	        cmocka_unit_test(test_refuses_half_an_element),
	        cmocka_unit_test(test_refuses_a_push_without_payload),
	        cmocka_unit_test(test_refuses_init_with_parts_but_no_payload),
	        cmocka_unit_test(test_refuses_init_with_payload_but_no_parts),
	        cmocka_unit_test(test_refuses_a_pull_with_payload),
	        cmocka_unit_test(test_refuses_an_error_with_payload),
	        cmocka_unit_test(test_refuses_a_notice_with_payload),
	        cmocka_unit_test(test_refuses_a_payload_beyond_the_limit),
	        cmocka_unit_test(test_refuses_a_misaligned_payload),
	        cmocka_unit_test(test_refuses_seven_bytes_of_a_norm),
	        cmocka_unit_test(test_refuses_half_a_part_of_a_norm),
	        cmocka_unit_test(test_refuses_fewer_parts_of_a_norm_than_blocks),
	        cmocka_unit_test(test_refuses_more_parts_of_a_norm_than_allowed),
	        cmocka_unit_test(test_refuses_an_error_with_parts_of_a_norm),
	        cmocka_unit_test(test_refuses_a_payload_of_another_size),
	        cmocka_unit_test(test_refuses_a_payload_with_a_flipped_bit),
	        cmocka_unit_test(test_refuses_a_checksum_of_nothing),
	        cmocka_unit_test(test_leaves_the_checksum_alone_unless_told_to_check),
	        cmocka_unit_test(test_refuses_hello_without_versions),
	        cmocka_unit_test(test_refuses_hello_versions_the_wrong_way_round),
	        cmocka_unit_test(test_refuses_a_host_with_nul),
	        cmocka_unit_test(test_refuses_software_that_is_not_utf8),
	        cmocka_unit_test(test_refuses_welcome_without_version),
	        cmocka_unit_test(test_refuses_welcome_without_lanes),
	        cmocka_unit_test(test_refuses_a_lane_beyond_the_lanes),
	        cmocka_unit_test(test_refuses_too_few_endpoints),
	        cmocka_unit_test(test_refuses_an_empty_endpoint),
	        cmocka_unit_test(test_refuses_a_message_smaller_than_a_block),
	        cmocka_unit_test(test_refuses_a_window_smaller_than_a_message),
	        cmocka_unit_test(test_refuses_more_endpoints_than_allowed),
	        cmocka_unit_test(test_refuses_an_endpoint_with_nul),
	        cmocka_unit_test(test_refuses_open_without_a_model),
	        cmocka_unit_test(test_refuses_a_model_name_with_nul),
	        cmocka_unit_test(test_refuses_a_run_with_nul),
	        cmocka_unit_test(test_refuses_an_optimizer_with_nul),
	        cmocka_unit_test(test_refuses_a_match_with_nul),
	        cmocka_unit_test(test_refuses_a_server_beyond_the_list),
	        cmocka_unit_test(test_refuses_an_empty_list_of_servers),
	        cmocka_unit_test(test_refuses_too_many_servers),
	        cmocka_unit_test(test_refuses_a_layout_without_its_hash),
	        cmocka_unit_test(test_refuses_a_later_mode),
	        cmocka_unit_test(test_refuses_a_later_reduce),
	        cmocka_unit_test(test_refuses_a_later_resume),
	        cmocka_unit_test(test_refuses_too_many_workers),
	        cmocka_unit_test(test_refuses_a_seen_step_beyond_counting),
	        cmocka_unit_test(test_refuses_a_seen_version_beyond_counting),
	        cmocka_unit_test(test_refuses_a_hyper_without_a_name),
	        cmocka_unit_test(test_refuses_a_hyper_without_a_value),
	        cmocka_unit_test(test_refuses_a_hyper_that_is_nan),
	        cmocka_unit_test(test_refuses_a_hyper_that_is_infinite),
	        cmocka_unit_test(test_refuses_a_schedule_without_a_name),
	        cmocka_unit_test(test_refuses_a_schedules_parameter_without_a_value),
	        cmocka_unit_test(test_refuses_a_schedules_parameter_that_is_nan),
	        cmocka_unit_test(test_refuses_more_schedule_parts_than_allowed),
	        cmocka_unit_test(test_refuses_a_hyper_of_four_values),
	        cmocka_unit_test(test_refuses_more_hypers_than_allowed),
	        cmocka_unit_test(test_refuses_opened_without_a_state),
	        cmocka_unit_test(test_refuses_a_later_state),
	        cmocka_unit_test(test_refuses_a_later_mode_of_the_model),
	        cmocka_unit_test(test_refuses_a_later_reduce_of_the_model),
	        cmocka_unit_test(test_refuses_an_opened_hyper_that_is_nan),
	        cmocka_unit_test(test_refuses_an_opened_step_beyond_counting),
	        cmocka_unit_test(test_refuses_an_opened_incarnation_beyond_counting),
	        cmocka_unit_test(test_refuses_an_opened_token_beyond_counting),
	        cmocka_unit_test(test_refuses_a_model_beyond_the_limit),
	        cmocka_unit_test(test_refuses_a_model_of_too_many_tensors),
	        cmocka_unit_test(test_refuses_a_model_of_too_many_workers),
	        cmocka_unit_test(test_refuses_drop_without_a_name),
	        cmocka_unit_test(test_refuses_drop_of_a_name_with_nul),
	        cmocka_unit_test(test_refuses_hello_without_its_body),
	        cmocka_unit_test(test_refuses_welcome_without_its_body),
	        cmocka_unit_test(test_refuses_open_without_its_body),
	        cmocka_unit_test(test_refuses_opened_without_its_body),
	        cmocka_unit_test(test_says_nothing_where_there_is_no_room_for_words),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
