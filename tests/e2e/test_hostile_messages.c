/*
 * What peers may say in well-formed frames: broken headers, requests out of
 * turn, models beyond all bounds, answers never read.
 *
 * That the worker beside them saw nothing and the daemon's memory stayed in
 * bounds is claimed after each test by scene_end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/wire.h"
#include "tests/e2e/scene.h"
#include "tests/e2e/speak.h"
#include "tests/proto/raw.h"
#include "tests/support/rng_seed.h"
#include "tests/support/zmtp_peer.h"

#define CUT_MS 5000
#define LAYOUT_FLOOD 12
#define UNREAD_PULLS 4000
#define UNREAD_SMALL 200000
#define WAITING_PULLS 9000 /* more than one session may have */
#define WAITING_READERS 12

static void hello(struct scene *scene, struct speaker *speaker)
{
	speak_hello(speaker, scene_endpoint(scene));
}

static int dealer(const struct scene *scene)
{
	int fd = zmtp_dealer(scene_endpoint(scene));
	assert_true(fd >= 0);
	return fd;
}

/* ---- headers ------------------------------------------------------------ */

static void test_messages_of_wrong_part_counts_are_cut(void **state)
{
	static const int counts[] = { 1, 3, 4, 100 };

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		int fd = dealer(*state);
		for (int message = 0; message < 5; message++) {
			for (int part = 1; part <= counts[i]; part++)
				zmtp_frame(fd, part < counts[i] ? ZMTP_MORE : 0, "part", 4);
		}
		if (!zmtp_wait_cut(fd, CUT_MS))
			fail_msg("messages of %d parts are taken", counts[i]);
		close(fd);
	}
}

static void test_random_headers_are_cut(void **state)
{
	struct rng rng = rng_new(rng_seed());
	unsigned char bytes[LIMIT_HEADER_BYTES + 100];

	for (int i = 0; i < 50; i++) {
		int fd = dealer(*state);
		for (int j = 0; j < 20; j++) {
			size_t size = rng_below(&rng, j % 4 == 0 ? sizeof(bytes) : 64);
			for (size_t k = 0; k < size; k++)
				bytes[k] = (unsigned char)rng_next(&rng);
			if (!zmtp_message(fd, bytes, size, bytes, size))
				break;
		}
		assert_true(zmtp_wait_cut(fd, CUT_MS));
		close(fd);
	}
}

/* A valid HELLO, to have hostile fields planted behind it. */
static struct raw *plain_hello(struct raw *raw)
{
	struct msg msg = { .verb = MSG_HELLO, .request = 1, .session = 5, .rank = MSG_NO_RANK };

	msg.hello = (struct msg_hello){ .protocol_min = 1, .protocol_max = 1 };
	raw->size = (size_t)wire_encode(&msg, raw->bytes, sizeof(raw->bytes));
	return raw;
}

/* Sends a header so often that it must come to be cut, if it is malformed. */
static void send_headers(const struct scene *scene, const struct raw *raw, int times)
{
	int fd = dealer(scene);
	for (int i = 0; i < times && zmtp_message(fd, raw->bytes, raw->size, "", 0); i++)
		;
	close(fd);
}

static void test_hostile_protobuf_is_borne(void **state)
{
	static const uint8_t nested[1000] = { 0x8a, 0x02, 0x7f };
	struct raw raw;

	/* Thousands of unknown fields. */
	plain_hello(&raw);
	while (raw.size < LIMIT_HEADER_BYTES - 8)
		raw_number(&raw, FIELD_UNKNOWN, 1);
	send_headers(*state, &raw, 200);
	/* The same message field again and again: each is merged with the last. */
	plain_hello(&raw);
	while (raw.size < LIMIT_HEADER_BYTES - 8)
		raw_bytes(&raw, FIELD_OPEN, "\x82\x01\x00", 3);
	send_headers(*state, &raw, 200);
	/* As many empty parts as fit. */
	plain_hello(&raw);
	while (raw.size < LIMIT_HEADER_BYTES - 8)
		raw_bytes(&raw, FIELD_PARTS, "", 0);
	send_headers(*state, &raw, 200);
	/* Messages within messages, and a length that lies. */
	plain_hello(&raw);
	raw_bytes(&raw, FIELD_OPEN, nested, sizeof(nested));
	send_headers(*state, &raw, 200);
	plain_hello(&raw);
	raw_varint(&raw, FIELD_HELLO << 3 | 2);
	raw_varint(&raw, UINT64_C(1) << 40);
	send_headers(*state, &raw, 200);
}

static void test_replies_sent_as_requests_are_cut(void **state)
{
	struct speaker speaker;

	hello(*state, &speaker);
	for (int i = 0; i < 5; i++) {
		struct msg reply = speak_request(&speaker, MSG_HELLO);
		reply.reply = true;
		reply.welcome = (struct msg_welcome){ .protocol = 1, .lanes = 1,
			                              .message_bytes = LIMIT_BLOCK_BYTES,
			                              .window_bytes = LIMIT_WINDOW_BYTES };
		if (!speak_send(&speaker, &reply))
			break;
	}
	assert_true(zmtp_wait_cut(speaker.fd, CUT_MS));
	speak_close(&speaker);
}

/* ---- requests ----------------------------------------------------------- */

static void test_requests_before_hello_hear_that_there_is_no_session(void **state)
{
	static const enum msg_verb verbs[] = { MSG_PULL, MSG_SAVE, MSG_STATUS, MSG_GOODBYE };
	struct speaker speaker = { .fd = dealer(*state), .session = 99 };

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		struct msg msg = speak_request(&speaker, verbs[i]);
		msg.layout = 1;
		if (verbs[i] == MSG_PULL) {
			msg.part_count = 1;
			msg.parts[0].count = 1;
		}
		assert_int_equal(speak_ask(&speaker, &msg), OPTD_NO_SESSION);
	}
	speak_close(&speaker);
}

static void test_a_stale_session_number_is_refused(void **state)
{
	struct speaker speaker;

	hello(*state, &speaker);
	struct msg msg = speak_request(&speaker, MSG_GOODBYE);
	msg.session++;
	assert_int_equal(speak_ask(&speaker, &msg), OPTD_NO_SESSION);
	msg = speak_request(&speaker, MSG_STATUS);
	msg.session--;
	assert_int_equal(speak_ask(&speaker, &msg), OPTD_NO_SESSION);
	speak_close(&speaker);
}

static void test_another_protocol_version_hears_both(void **state)
{
	struct speaker speaker = { .fd = dealer(*state), .session = 99 };
	struct msg msg = speak_request(&speaker, MSG_HELLO);

	msg.hello = (struct msg_hello){ .protocol_min = 7, .protocol_max = 9 };
	assert_int_equal(speak_ask(&speaker, &msg), OPTD_PROTOCOL);
	assert_non_null(strstr(speaker.text, "7 to 9"));
	assert_non_null(strstr(speaker.text, "1 to 1"));
	speak_close(&speaker);
}

/* A model of one block with weights, held by rank 0. */
static void open_target(struct speaker *speaker, const char *name)
{
	const uint64_t shape[] = { LIMIT_BLOCK_ELEMENTS };

	assert_int_equal(speak_open(speaker, name, shape, 1, 0, 0), OPTD_OK);
	assert_int_equal(speak_init(speaker, LIMIT_BLOCK_BYTES), OPTD_OK);
}

static void drop(struct speaker *speaker, const char *name)
{
	struct msg msg = speak_request(speaker, MSG_DROP);
	msg.named.model = (struct msg_text){ name, (uint32_t)strlen(name) };
	assert_int_equal(speak_ask(speaker, &msg), OPTD_OK);
}

static void test_a_payload_of_another_size_is_refused(void **state)
{
	static float gradient[LIMIT_BLOCK_ELEMENTS];
	struct speaker speaker;

	hello(*state, &speaker);
	open_target(&speaker, "sizes");
	/* One element short of the block. */
	struct msg push = speak_push(&speaker, gradient, LIMIT_BLOCK_BYTES - 4);
	assert_int_equal(speak_ask(&speaker, &push), OPTD_INVALID);
	/* A header that promises more than comes, and one that promises less. */
	for (int i = -1; i <= 1; i += 2) {
		unsigned char header[LIMIT_HEADER_BYTES];
		push = speak_push(&speaker, gradient, LIMIT_BLOCK_BYTES);
		push.payload_bytes = LIMIT_BLOCK_BYTES + (uint64_t)(i * 4);
		int size = wire_encode(&push, header, sizeof(header));
		assert_true(zmtp_message(speaker.fd, header, (size_t)size, gradient, LIMIT_BLOCK_BYTES));
		assert_false(speak_answer(&speaker, &push, 200));
	}
	/* Nothing of it was applied, and a good one still is. */
	push = speak_push(&speaker, gradient, LIMIT_BLOCK_BYTES);
	assert_int_equal(speak_ask(&speaker, &push), OPTD_OK);
	drop(&speaker, "sizes");
	speak_close(&speaker);
}

static void test_a_wrong_checksum_is_refused(void **state)
{
	static float gradient[LIMIT_BLOCK_ELEMENTS];
	struct speaker speaker;

	hello(*state, &speaker);
	open_target(&speaker, "sums");
	struct msg push = speak_push(&speaker, gradient, LIMIT_BLOCK_BYTES);
	push.checksum ^= 1;
	assert_int_equal(speak_ask(&speaker, &push), OPTD_CHECKSUM);
	drop(&speaker, "sums");
	speak_close(&speaker);
}

static void test_a_payload_beyond_the_limit_is_cut(void **state)
{
	static char payload[LIMIT_MESSAGE_BYTES + 64 * 1024];
	struct speaker speaker;
	struct raw raw;

	hello(*state, &speaker);
	plain_hello(&raw);
	zmtp_message(speaker.fd, raw.bytes, raw.size, payload, sizeof(payload));
	assert_true(zmtp_wait_cut(speaker.fd, CUT_MS));
	speak_close(&speaker);
}

/* ---- models ------------------------------------------------------------- */

static void test_a_model_of_a_trillion_parameters_hears_both_sizes(void **state)
{
	const uint64_t shape[] = { 1u << 20, 1u << 20 };
	struct speaker speaker;
	char parameters[32];

	hello(*state, &speaker);
	uint64_t began_ms = daemon_now_ms();
	assert_int_equal(speak_open(&speaker, "vast", shape, 2, 0, 0), OPTD_TOO_LARGE);
	assert_true(daemon_now_ms() - began_ms < 1000);
	snprintf(parameters, sizeof(parameters), "%" PRIu64, UINT64_C(1) << 40);
	assert_non_null(strstr(speaker.text, parameters));
	assert_non_null(strstr(speaker.text, "4398046511104 bytes"));
	assert_non_null(strstr(speaker.text, "limits.memory"));
	speak_close(&speaker);
}

static void test_floods_of_layouts_are_borne(void **state)
{
	static unsigned char layout[LIMIT_MESSAGE_BYTES];
	struct rng rng = rng_new(rng_seed());
	struct speaker speaker;

	hello(*state, &speaker);
	for (int i = 0; i < LAYOUT_FLOOD; i++) {
		/* Half are noise, half are as many small tensors as fit. */
		size_t used = 0;
		for (uint32_t tensor = 0; i % 2 && used + 16 < sizeof(layout); tensor++)
			used += (size_t)sprintf((char *)layout + used, "\x0b\x0a\x06%06x\x12\x01\x01",
			                        tensor);
		for (; i % 2 == 0 && used < sizeof(layout); used++)
			layout[used] = (unsigned char)rng_next(&rng);
		struct msg open = speak_request(&speaker, MSG_OPEN);
		open.rank = 0;
		open.open = (struct msg_open){ .model = { "noise", 5 }, .daemons = 1, .layout_hash = 1 };
		open.payload = layout;
		open.payload_bytes = used;
		open.checksum = wire_checksum(layout, used);
		assert_true(speak_ask(&speaker, &open) < 0);
	}
	speak_close(&speaker);
}

/* ---- answers ------------------------------------------------------------ */

static struct msg pull_of(struct speaker *speaker, uint64_t min_version)
{
	struct msg pull = speak_request(speaker, MSG_PULL);
	pull.part_count = 1;
	pull.parts[0].count = 1;
	pull.min_version = min_version;
	return pull;
}

/* Asks for gigabytes and reads nothing of it. */
static void test_readers_that_never_read_are_let_go(void **state)
{
	struct speaker readers[4];

	for (int reader = 0; reader < 4; reader++) {
		hello(*state, &readers[reader]);
		assert_int_equal(speak_open(&readers[reader], "steady", (const uint64_t[]){ 1 }, 1,
		                            MSG_NO_RANK, 0), OPTD_LAYOUT);
	}
	for (int reader = 0; reader < 4; reader++) {
		struct speaker *r = &readers[reader];
		struct msg open = speak_request(r, MSG_OPEN);
		open.open = (struct msg_open){ .model = { "steady", 6 }, .daemons = 1 };
		assert_int_equal(speak_ask(r, &open), OPTD_OK);
		for (int i = 0; i < UNREAD_PULLS; i++) {
			struct msg pull = pull_of(r, 0);
			if (!speak_send(r, &pull))
				break;
		}
	}
	struct scene *scene = *state;
	worker_wait(&scene->worker, 50);
	for (int reader = 0; reader < 4; reader++)
		speak_close(&readers[reader]);
}

/* Short ones, of which none is read: what counts is the memory that each takes. */
static void ask_for_small_answers(struct scene *scene, enum msg_verb verb)
{
	struct speaker speaker;

	hello(scene, &speaker);
	for (int i = 0; i < UNREAD_SMALL; i++) {
		struct msg msg = speak_request(&speaker, verb);
		if (verb == MSG_OPEN)
			msg.open = (struct msg_open){ .model = { "steady", 6 }, .daemons = 1 };
		if (!speak_send(&speaker, &msg))
			break;
	}
	worker_wait(&scene->worker, 50);
	speak_close(&speaker);
}

static void test_floods_of_status_are_borne(void **state)
{
	ask_for_small_answers(*state, MSG_STATUS);
}

static void test_floods_of_small_layouts_are_borne(void **state)
{
	ask_for_small_answers(*state, MSG_OPEN);
}

/* Ask for versions that will not come, in as many sessions as take what is there. */
static void test_floods_of_waiting_pulls_are_borne(void **state)
{
	struct scene *scene = *state;
	struct speaker speakers[WAITING_READERS];

	for (int reader = 0; reader < WAITING_READERS; reader++) {
		struct speaker *speaker = &speakers[reader];
		hello(scene, speaker);
		struct msg open = speak_request(speaker, MSG_OPEN);
		open.open = (struct msg_open){ .model = { "steady", 6 }, .daemons = 1 };
		assert_int_equal(speak_ask(speaker, &open), OPTD_OK);
		for (int i = 0; i < WAITING_PULLS; i++) {
			struct msg pull = pull_of(speaker, UINT64_C(1) << 60);
			if (!speak_send(speaker, &pull))
				break;
		}
	}
	worker_wait(&scene->worker, 100);
	for (int reader = 0; reader < WAITING_READERS; reader++)
		speak_close(&speakers[reader]);
}

static void test_attacks_fill_no_log(void **state)
{
	struct scene *scene = *state;
	assert_true(daemon_log_count(&scene->daemon, "") < 300);
}

#define ATTACK(test) cmocka_unit_test_setup_teardown(test, scene_begin, scene_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ATTACK(test_messages_of_wrong_part_counts_are_cut),
		ATTACK(test_random_headers_are_cut),
		ATTACK(test_hostile_protobuf_is_borne),
		ATTACK(test_replies_sent_as_requests_are_cut),
		ATTACK(test_requests_before_hello_hear_that_there_is_no_session),
		ATTACK(test_a_stale_session_number_is_refused),
		ATTACK(test_another_protocol_version_hears_both),
		ATTACK(test_a_payload_of_another_size_is_refused),
		ATTACK(test_a_wrong_checksum_is_refused),
		ATTACK(test_a_payload_beyond_the_limit_is_cut),
		ATTACK(test_a_model_of_a_trillion_parameters_hears_both_sizes),
		ATTACK(test_floods_of_layouts_are_borne),
		ATTACK(test_readers_that_never_read_are_let_go),
		ATTACK(test_floods_of_status_are_borne),
		ATTACK(test_floods_of_small_layouts_are_borne),
		ATTACK(test_floods_of_waiting_pulls_are_borne),
		ATTACK(test_attacks_fill_no_log),
	};
	return cmocka_run_group_tests(tests, scene_open, scene_close);
}
