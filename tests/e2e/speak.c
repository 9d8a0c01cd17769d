/* wire.h for the bytes, zmtp_peer.h for the frames. */
#include "tests/e2e/speak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/wire.h"
#include "tests/support/daemon_process.h"
#include "tests/support/zmtp_peer.h"

#define ANSWER_MS 10000

struct msg speak_request(struct speaker *speaker, enum msg_verb verb)
{
	struct msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.verb = verb;
	msg.request = ++speaker->requests;
	msg.session = speaker->session;
	msg.epoch = speaker->epoch;
	msg.object = speaker->object;
	msg.layout = speaker->layout;
	msg.rank = MSG_NO_RANK;
	return msg;
}

bool speak_send(struct speaker *speaker, const struct msg *msg)
{
	unsigned char header[LIMIT_HEADER_BYTES];
	int size = wire_encode(msg, header, sizeof(header));

	assert_true(size > 0);
	return zmtp_message(speaker->fd, header, (size_t)size, msg->payload, msg->payload_bytes);
}

static void learn(struct speaker *speaker, const struct msg *reply)
{
	speaker->status = reply->status;
	speaker->skipped_rank_plus_one = reply->skipped_rank_plus_one;
	speaker->skipped_tensor_plus_one = reply->skipped_tensor_plus_one;
	snprintf(speaker->text, sizeof(speaker->text), "%.*s", (int)reply->text.size,
	         reply->text.size > 0 ? reply->text.bytes : "");
	if (reply->status == OPTD_OK && reply->verb == MSG_HELLO)
		speaker->epoch = reply->epoch;
	if (reply->status == OPTD_OK && reply->verb == MSG_OPEN) {
		speaker->object = reply->opened.model;
		speaker->layout = reply->opened.layout;
		speaker->token = reply->opened.token;
	}
}

/* One answer; its payload is thrown away. */
static bool next_answer(struct speaker *speaker, uint64_t *request)
{
	unsigned char header[LIMIT_HEADER_BYTES];
	static float payload[LIMIT_MESSAGE_BYTES / sizeof(float)];
	size_t header_bytes, payload_bytes;
	struct msg reply;
	char why[256];
	bool more;

	if (!zmtp_next(speaker->fd, header, sizeof(header), &header_bytes, &more) || !more ||
	    !zmtp_next(speaker->fd, payload, sizeof(payload), &payload_bytes, &more) || more)
		return false;
	struct wire_arena *arena = wire_arena_new();
	int rc = wire_decode(arena, header, header_bytes, payload, payload_bytes, true, &reply, why,
	                     sizeof(why));
	if (rc < 0)
		fail_msg("an answer that cannot be read: %s", why);
	assert_true(reply.reply);
	*request = reply.request;
	learn(speaker, &reply);
	wire_arena_free(arena);
	return true;
}

bool speak_answer(struct speaker *speaker, const struct msg *request, int timeout_ms)
{
	uint64_t deadline_ms = daemon_now_ms() + (uint64_t)timeout_ms, number;

	for (;;) {
		uint64_t now_ms = daemon_now_ms();
		if (now_ms >= deadline_ms || !zmtp_readable(speaker->fd, (int)(deadline_ms - now_ms)))
			return false;
		if (!next_answer(speaker, &number))
			return false;
		if (number == request->request && speaker->status <= 0)
			return true;
	}
}

int speak_ask(struct speaker *speaker, const struct msg *msg)
{
	if (!speak_send(speaker, msg) || !speak_answer(speaker, msg, ANSWER_MS))
		return OPTD_TIMEOUT;
	return speaker->status;
}

void speak_hello(struct speaker *speaker, const char *endpoint)
{
	*speaker = (struct speaker){ .fd = zmtp_dealer(endpoint) };
	assert_true(speaker->fd >= 0);
	speaker->session = daemon_now_ms() << 20 | (uint64_t)(unsigned)speaker->fd;
	struct msg hello = speak_request(speaker, MSG_HELLO);
	hello.hello = (struct msg_hello){ .protocol_min = LIMIT_PROTOCOL_MIN,
		                          .protocol_max = LIMIT_PROTOCOL_MAX,
		                          .host = { "hostile", 7 },
		                          .pid = 666 };
	assert_int_equal(speak_ask(speaker, &hello), OPTD_OK);
}

void speak_close(struct speaker *speaker)
{
	close(speaker->fd);
	speaker->fd = -1;
}

int speak_open(struct speaker *speaker, const char *name, const uint64_t *shape, uint32_t dimensions,
               int32_t rank, uint32_t workers)
{
	struct msg open = speak_request(speaker, MSG_OPEN);
	struct layout *layout = layout_new();
	unsigned char bytes[256];

	assert_int_equal(layout_add(layout, "w", 1, shape, dimensions, 0), 0);
	open.payload_bytes = wire_layout_bytes(layout);
	assert_true(open.payload_bytes <= sizeof(bytes));
	wire_layout_encode(layout, bytes);
	open.payload = bytes;
	open.checksum = wire_checksum(bytes, open.payload_bytes);
	open.rank = rank;
	open.open = (struct msg_open){ .model = { name, (uint32_t)strlen(name) },
		                       .daemons = 1,
		                       .layout_hash = 1,
		                       .client = speaker->session,
		                       .wants_init = true,
		                       .optimizer = { "sgd", 3 },
		                       .mode = workers > 0 ? MSG_SYNC : MSG_ASYNC,
		                       .workers = workers };
	/* Cutting takes memory by the element: not for those no server would take. */
	if (layout_elements(layout) < UINT64_C(1) << 30) {
		assert_int_equal(layout_cut(layout, NULL), 0);
		open.open.layout_hash = layout_hash(layout);
	}
	layout_free(layout);
	return speak_ask(speaker, &open);
}

int speak_init(struct speaker *speaker, uint64_t bytes)
{
	float *zeros = calloc(1, bytes);
	struct msg init = speak_request(speaker, MSG_INIT);

	assert_non_null(zeros);
	init.rank = 0;
	init.token = speaker->token;
	init.part_count = 1;
	init.parts[0].count = 1;
	init.payload = zeros;
	init.payload_bytes = bytes;
	init.checksum = wire_checksum(zeros, bytes);
	int rc = speak_ask(speaker, &init);
	free(zeros);
	if (rc < 0)
		return rc;
	init = speak_request(speaker, MSG_INIT);
	init.rank = 0;
	init.token = speaker->token;
	return speak_ask(speaker, &init);
}

struct msg speak_push(struct speaker *speaker, const float *gradient, uint64_t bytes)
{
	struct msg push = speak_request(speaker, MSG_PUSH);

	push.rank = 0;
	push.incarnation = 1;
	push.part_count = 1;
	push.parts[0].count = 1;
	push.payload = gradient;
	push.payload_bytes = bytes;
	push.checksum = wire_checksum(gradient, bytes);
	return push;
}
