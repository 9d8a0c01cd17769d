/* Wire: clipping in OPEN and OPENED, there and back, and what is refused of it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/wire.h"
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

/* What becomes of it in OPEN (or OPENED) on the other side. */
static int decode(enum sample sample, struct msg_clip clip, struct msg_clip *out)
{
	static uint8_t header[LIMIT_HEADER_BYTES];
	static struct msg msg, back;

	msg = sample_make(sample);
	if (sample == SAMPLE_OPEN)
		msg.open.clip = clip;
	else
		msg.rule.clip = clip;
	msg.checksum = wire_checksum(msg.payload, msg.payload_bytes);
	int size = wire_encode(&msg, header, sizeof(header));
	assert_true(size > 0);
	int rc = wire_decode(arena, header, (size_t)size, msg.payload, msg.payload_bytes, true, &back, why,
	                     sizeof(why));
	*out = sample == SAMPLE_OPEN ? back.open.clip : back.rule.clip;
	return rc;
}

static void comes_through(struct msg_clip clip)
{
	static const enum sample samples[] = {SAMPLE_OPEN, SAMPLE_OPENED};

	for (int i = 0; i < 2; i++) {
		struct msg_clip out;
		assert_int_equal(decode(samples[i], clip, &out), OPTD_OK);
		assert_true(out.norm == clip.norm && out.norm_type == clip.norm_type &&
		            out.tensor_norm == clip.tensor_norm);
	}
}

static void test_limits_come_through(void **state)
{
	(void)state;
	comes_through((struct msg_clip){0.1, 3, 7.5});
	comes_through((struct msg_clip){0, INFINITY, 1e-300});
	comes_through((struct msg_clip){0, 0, 0});
	/* Whether a model may have it is the core's to say, in a sentence. */
	comes_through((struct msg_clip){-1, -2, -3});
}

static void refuses(struct msg_clip clip, const char *words)
{
	struct msg_clip out;

	assert_int_equal(decode(SAMPLE_OPEN, clip, &out), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
	assert_int_equal(decode(SAMPLE_OPENED, clip, &out), OPTD_MALFORMED);
	assert_non_null(strstr(why, words));
}

static void test_limits_that_are_no_numbers_are_refused(void **state)
{
	(void)state;
	refuses((struct msg_clip){(double)NAN, 2, 0}, "clip_norm is");
	refuses((struct msg_clip){INFINITY, 2, 0}, "clip_norm is inf");
	refuses((struct msg_clip){1, (double)NAN, 0}, "clip_norm_type is not a number");
	refuses((struct msg_clip){0, 2, -INFINITY}, "clip_tensor_norm is -inf");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_limits_come_through),
	        cmocka_unit_test(test_limits_that_are_no_numbers_are_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
