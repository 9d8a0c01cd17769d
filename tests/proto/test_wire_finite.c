/* Wire: verdicts, skipped steps and loss scales, there and back, and what is refused of them. */
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

enum { FIELD_VERDICT = 27, FIELD_POISON_TENSOR = 28, FIELD_SKIPPED_RANK = 29, FIELD_SKIPPED_TENSOR = 30 };
enum { OPEN_NONFINITE = 26 };

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

static struct raw encoded(struct msg *msg)
{
	struct raw raw;

	msg->checksum = wire_checksum(msg->payload, msg->payload_bytes);
	int size = wire_encode(msg, raw.bytes, LIMIT_HEADER_BYTES);
	assert_true(size > 0);
	raw.size = (size_t)size;
	return raw;
}

static int decode(const struct raw *raw, const struct msg *msg, struct msg *out)
{
	return wire_decode(arena, raw->bytes, raw->size, msg->payload, msg->payload_bytes, true, out, why,
	                   sizeof(why));
}

static struct msg through(struct msg *msg)
{
	struct msg out;
	struct raw raw = encoded(msg);

	assert_int_equal(decode(&raw, msg, &out), OPTD_OK);
	return out;
}

static void refused(const struct raw *raw, const struct msg *msg, int status, const char *words)
{
	struct msg out;

	assert_int_equal(decode(raw, msg, &out), status);
	if (!strstr(why, words))
		fail_msg("'%s' is not in: %s", words, why);
	assert_int_equal(out.verdict, MSG_FINITE);
	assert_true(out.loss_scale == 0);
}

/* ---- there and back ---- */

static void test_verdict_of_a_push_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH_PULL);
	msg.verdict = MSG_POISONED;
	msg.poison_tensor_plus_one = 7;
	msg.loss_scale = 65536;
	struct msg out = through(&msg);
	assert_int_equal(out.verdict, MSG_POISONED);
	assert_int_equal(out.poison_tensor_plus_one, 7);
	assert_true(out.loss_scale == 65536);
}

static void test_what_an_answer_says_of_its_step_comes_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH_OK);
	struct msg out = through(&msg);
	assert_int_equal(out.skipped_rank_plus_one, 3);
	assert_int_equal(out.skipped_tensor_plus_one, 12);
	assert_int_equal(out.zeroed, 9);
	assert_true(out.next_loss_scale == 32768);
}

static void same_loss_scale(struct msg_loss_scale a, struct msg_loss_scale b)
{
	assert_int_equal(a.given, b.given);
	assert_true(a.init_scale == b.init_scale && a.growth_factor == b.growth_factor);
	assert_true(a.backoff_factor == b.backoff_factor);
	assert_int_equal(a.growth_interval, b.growth_interval);
}

static void test_policy_and_loss_scale_of_open_come_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	for (enum msg_nonfinite policy = MSG_NONFINITE_UNSET; policy <= MSG_ZERO; policy++) {
		msg.open.nonfinite = policy;
		msg.open.loss_scale.given = policy == MSG_SKIP_STEP;
		if (!msg.open.loss_scale.given)
			msg.open.loss_scale = (struct msg_loss_scale){.given = false};
		struct msg out = through(&msg);
		assert_int_equal(out.open.nonfinite, policy);
		same_loss_scale(out.open.loss_scale, msg.open.loss_scale);
	}
}

static void test_policy_and_loss_scale_of_opened_come_through(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPENED);
	struct msg out = through(&msg);
	assert_int_equal(out.opened.nonfinite, MSG_ZERO);
	same_loss_scale(out.opened.loss_scale, msg.opened.loss_scale);
	assert_true(out.opened.loss_scale_now == 4096);
}

static void test_loss_scale_without_settings_is_one_with_defaults(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	msg.open.loss_scale = (struct msg_loss_scale){.given = true};
	same_loss_scale(through(&msg).open.loss_scale, msg.open.loss_scale);
}

static struct wire_model_status status_of(void)
{
	return (struct wire_model_status){
	        .model = {"m", 1},
	        .state = MSG_MODEL_READY,
	        .skipped = {.count = 4, .step = 93, .rank = 2, .tensor = {"fc.weight", 9}},
	        .zeroed = 17,
	        .nonfinite = MSG_SKIP_STEP,
	        .loss_scale = {true, 1024, 2, 0.25, 500},
	        .scale = 256,
	        .growth_tracker = 3,
	};
}

static void test_status_tells_skipped_steps_and_the_scale(void **state)
{
	(void)state;
	struct wire_model_status a = status_of(), b;
	uint8_t bytes[1024];
	size_t at = 0, size = wire_status_encode(&a, bytes, sizeof(bytes));
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &b), 1);
	assert_int_equal(b.skipped.count, 4);
	assert_int_equal(b.skipped.step, 93);
	assert_int_equal(b.skipped.rank, 2);
	assert_int_equal(b.skipped.tensor.size, 9);
	assert_memory_equal(b.skipped.tensor.bytes, "fc.weight", 9);
	assert_int_equal(b.zeroed, 17);
	assert_int_equal(b.nonfinite, MSG_SKIP_STEP);
	same_loss_scale(a.loss_scale, b.loss_scale);
	assert_true(b.scale == 256);
	assert_int_equal(b.growth_tracker, 3);
}

static void test_status_without_any_of_it_tells_none(void **state)
{
	(void)state;
	struct wire_model_status a = {.model = {"m", 1}, .state = MSG_MODEL_READY}, b;
	uint8_t bytes[64];
	size_t at = 0, size = wire_status_encode(&a, bytes, sizeof(bytes));
	assert_int_equal(wire_status_decode(arena, bytes, size, &at, &b), 1);
	assert_int_equal(b.skipped.count, 0);
	assert_false(b.loss_scale.given);
	assert_int_equal(b.nonfinite, MSG_NONFINITE_UNSET);
}

/* ---- refused ---- */

static void test_unknown_verdict_is_unsupported(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_PUSH);
	struct raw raw = encoded(&msg);
	raw_number(&raw, FIELD_VERDICT, 2);
	refused(&raw, &msg, OPTD_UNSUPPORTED, "verdict 2");
	raw = encoded(&msg);
	raw_number(&raw, FIELD_VERDICT, UINT64_MAX);
	refused(&raw, &msg, OPTD_UNSUPPORTED, "verdict 4294967295");
}

static void test_tensors_and_ranks_beyond_the_limits_are_refused(void **state)
{
	(void)state;
	static const uint32_t fields[] = {FIELD_POISON_TENSOR, FIELD_SKIPPED_RANK, FIELD_SKIPPED_TENSOR};
	for (int i = 0; i < 3; i++) {
		struct msg msg = sample_make(SAMPLE_PUSH_OK);
		struct raw raw = encoded(&msg);
		raw_number(&raw, fields[i], UINT32_MAX);
		refused(&raw, &msg, OPTD_MALFORMED, i == 1 ? "a rank beyond 1023" : "a tensor beyond 1048575");
	}
}

static void test_scales_no_float_has_are_refused(void **state)
{
	(void)state;
	static const double bad[] = {-1, 1e-39, 1e39, 4.9e-324, HUGE_VAL, NAN, -0.5};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct msg push = sample_make(SAMPLE_PUSH), answer = sample_make(SAMPLE_PUSH_OK);
		push.loss_scale = bad[i];
		struct raw raw = encoded(&push);
		refused(&raw, &push, OPTD_MALFORMED, "loss_scale");
		answer.next_loss_scale = bad[i];
		raw = encoded(&answer);
		refused(&raw, &answer, OPTD_MALFORMED, "next_loss_scale");
		answer = sample_make(SAMPLE_OPENED);
		answer.opened.loss_scale_now = bad[i];
		raw = encoded(&answer);
		refused(&raw, &answer, OPTD_MALFORMED, "loss_scale_now");
	}
}

static void test_settings_that_are_no_numbers_are_refused(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	double *const settings[] = {&msg.open.loss_scale.init_scale, &msg.open.loss_scale.growth_factor,
	                            &msg.open.loss_scale.backoff_factor};
	for (int i = 0; i < 3; i++) {
		double before = *settings[i];
		*settings[i] = i == 0 ? NAN : HUGE_VAL;
		struct raw raw = encoded(&msg);
		refused(&raw, &msg, OPTD_MALFORMED, "not a finite number");
		*settings[i] = before;
	}
}

static void test_loss_scale_without_the_one_of_now_is_refused(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPENED);
	msg.opened.loss_scale_now = 0;
	struct raw raw = encoded(&msg);
	refused(&raw, &msg, OPTD_MALFORMED, "without the one of now");
}

/* A body behind the one there is merges with it. */
static struct raw with_word(struct msg *msg, uint32_t body, uint32_t field, const char *word, size_t size)
{
	struct raw raw = encoded(msg), inner = {0};

	raw_bytes(&inner, field, word, size);
	raw_bytes(&raw, body, inner.bytes, inner.size);
	return raw;
}

static void test_open_with_an_unknown_policy_is_unsupported(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPEN);
	struct raw raw = with_word(&msg, FIELD_OPEN, OPEN_NONFINITE, "ignore", 6);
	refused(&raw, &msg, OPTD_UNSUPPORTED, "nonfinite 'ignore' is not known");
	raw = with_word(&msg, FIELD_OPEN, OPEN_NONFINITE, "\xff\0x", 3);
	refused(&raw, &msg, OPTD_MALFORMED, "nonfinite is not UTF-8");
}

/* A daemon of a later version: its word is not known, so nothing is promised. */
static void test_opened_with_an_unknown_policy_has_none(void **state)
{
	(void)state;
	struct msg msg = sample_make(SAMPLE_OPENED), out;
	struct raw raw = encoded(&msg);
	uint8_t *word = memmem(raw.bytes, raw.size, "zero", 4);
	assert_non_null(word);
	memcpy(word, "clip", 4);
	assert_int_equal(decode(&raw, &msg, &out), OPTD_OK);
	assert_int_equal(out.opened.nonfinite, MSG_NONFINITE_UNSET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_verdict_of_a_push_comes_through),
	        cmocka_unit_test(test_what_an_answer_says_of_its_step_comes_through),
	        cmocka_unit_test(test_policy_and_loss_scale_of_open_come_through),
	        cmocka_unit_test(test_policy_and_loss_scale_of_opened_come_through),
	        cmocka_unit_test(test_loss_scale_without_settings_is_one_with_defaults),
	        cmocka_unit_test(test_status_tells_skipped_steps_and_the_scale),
	        cmocka_unit_test(test_status_without_any_of_it_tells_none),
	        cmocka_unit_test(test_unknown_verdict_is_unsupported),
	        cmocka_unit_test(test_tensors_and_ranks_beyond_the_limits_are_refused),
	        cmocka_unit_test(test_scales_no_float_has_are_refused),
	        cmocka_unit_test(test_settings_that_are_no_numbers_are_refused),
	        cmocka_unit_test(test_loss_scale_without_the_one_of_now_is_refused),
	        cmocka_unit_test(test_open_with_an_unknown_policy_is_unsupported),
	        cmocka_unit_test(test_opened_with_an_unknown_policy_has_none),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
