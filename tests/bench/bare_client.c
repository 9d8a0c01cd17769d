/* The bare client: fill the window, take what has come, wait. */
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "proto/wire.h"
#include "server/base/buf.h"
#include "tests/bench/bare.h"
#include "tests/bench/measure.h"

struct bare_client {
	struct bare_plan plan;
	void *context, *socket;
	struct buf_pool *pool;
	uint64_t step;
	const float *gradient;
	float *weights;
};

struct bare_client *bare_client_open(const struct bare_plan *plan, const char *endpoint)
{
	static const struct {
		int name, value;
	} options[] = {
		{ ZMQ_LINGER, 0 },   { ZMQ_IMMEDIATE, 1 },     { ZMQ_SNDHWM, 256 },
		{ ZMQ_RCVHWM, 256 }, { ZMQ_TCP_KEEPALIVE, 1 }, { ZMQ_HEARTBEAT_IVL, 5000 },
	};
	struct bare_client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		die("bare client: no memory");
	client->plan = *plan;
	client->pool = buf_pool_new(2 * plan->window_bytes);
	client->context = zmq_ctx_new();
	client->socket = zmq_socket(client->context, ZMQ_DEALER);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		zmq_setsockopt(client->socket, options[i].name, &options[i].value, sizeof(int));
	if (zmq_connect(client->socket, endpoint) != 0)
		die("bare client: cannot connect to %s: %s", endpoint, zmq_strerror(zmq_errno()));
	return client;
}

void bare_client_close(struct bare_client *client)
{
	zmq_close(client->socket);
	zmq_ctx_term(client->context);
	buf_pool_free(client->pool);
	free(client);
}

static size_t message_elements(const struct bare_plan *plan, size_t first)
{
	size_t left = plan->elements - first;

	return left < plan->message_elements ? left : plan->message_elements;
}

static void release(void *data, void *hint)
{
	(void)data;
	buf_drop(hint);
}

static void send_one(struct bare_client *client, size_t first)
{
	size_t bytes = message_elements(&client->plan, first) * sizeof(float);
	struct bare_header header = { .step = client->step, .first = first };
	zmq_msg_t payload;

	if (client->plan.echo) {
		/* libzmq calls nothing for data without a release function. */
		zmq_msg_init_data(&payload, (void *)(uintptr_t)(client->gradient + first), bytes,
		                  NULL, NULL);
	} else {
		struct buf *copy = buf_pool_take(client->pool, bytes);
		if (copy == NULL)
			die("bare client: no memory");
		memcpy(copy->data, client->gradient + first, bytes);
		header.checksum = wire_checksum(copy->data, bytes);
		zmq_msg_init_data(&payload, copy->data, bytes, release, copy);
	}
	if (zmq_send(client->socket, &header, sizeof(header), ZMQ_SNDMORE) < 0 ||
	    zmq_msg_send(&payload, client->socket, 0) < 0)
		die("bare client: cannot send: %s", zmq_strerror(zmq_errno()));
}

/* Returns the elements that came, 0 if there is nothing (with ZMQ_DONTWAIT). */
static size_t receive_one(struct bare_client *client, int flags)
{
	struct bare_header header;
	zmq_msg_t payload;

	if (zmq_recv(client->socket, &header, sizeof(header), flags) != sizeof(header)) {
		if (flags == ZMQ_DONTWAIT && zmq_errno() == EAGAIN)
			return 0;
		die("bare client: cannot receive: %s", zmq_strerror(zmq_errno()));
	}
	zmq_msg_init(&payload);
	if (zmq_msg_recv(&payload, client->socket, 0) < 0)
		die("bare client: cannot receive: %s", zmq_strerror(zmq_errno()));
	size_t bytes = zmq_msg_size(&payload);
	if (!client->plan.echo) {
		if (wire_checksum(zmq_msg_data(&payload), bytes) != header.checksum)
			die("bare client: wrong checksum");
		memcpy(client->weights + header.first, zmq_msg_data(&payload), bytes);
	}
	zmq_msg_close(&payload);
	return bytes / sizeof(float);
}

void bare_client_round(struct bare_client *client, const float *gradient, float *weights)
{
	const struct bare_plan *plan = &client->plan;
	size_t sent = 0, received = 0;

	client->step++;
	client->gradient = gradient;
	client->weights = weights;
	while (received < plan->elements) {
		bool room = sent < plan->elements &&
		            (sent - received + message_elements(plan, sent)) * sizeof(float) <=
		                    plan->window_bytes;
		if (room) {
			send_one(client, sent);
			sent += message_elements(plan, sent);
		}
		received += receive_one(client, room ? ZMQ_DONTWAIT : 0);
	}
}
