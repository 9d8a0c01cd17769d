/* The bare server: receive, verify, step, copy out, send. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "optim/optim.h"
#include "proto/limits.h"
#include "proto/wire.h"
#include "server/base/buf.h"
#include "server/base/mem.h"
#include "tests/bench/bare.h"
#include "tests/bench/measure.h"

struct server {
	struct bare_plan plan;
	void *socket;
	struct buf_pool *pool;
	struct optim optim;
	enum optim_isa isa;
	float *weights, *slots[OPTIM_SLOTS_MAX];
	uint64_t step; /* of scalars */
	struct optim_scalars scalars;
	struct optim_carry carry;
};

float bare_first_weight(size_t i)
{
	return (float)(i % 1021) / 1021.0f - 0.5f;
}

void bare_keep_warm(bool server)
{
	if (server)
		mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

static void *new_socket(void)
{
	static const struct {
		int name, value;
	} options[] = {
		{ ZMQ_ROUTER_MANDATORY, 1 }, { ZMQ_RCVHWM, 8 },
		{ ZMQ_SNDHWM, 64 },          { ZMQ_HEARTBEAT_IVL, 5000 },
		{ ZMQ_TCP_KEEPALIVE, 1 },    { ZMQ_HEARTBEAT_TIMEOUT, 15000 },
	};
	void *socket = zmq_socket(zmq_ctx_new(), ZMQ_ROUTER);

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		zmq_setsockopt(socket, options[i].name, &options[i].value, sizeof(int));
	return socket;
}

static void model_new(struct server *server)
{
	char why[256] = "";
	size_t bytes = server->plan.elements * sizeof(float);

	if (optim_init(&server->optim, optim_find("adam"), OPTIM_TORCH2, why, sizeof(why)) < 0)
		die("bare server: %s", why);
	server->isa = optim_isa_best();
	server->pool = buf_pool_new(2 * server->plan.window_bytes);
	server->weights = mem_new(bytes);
	for (uint32_t i = 0; i < optim_slot_count(&server->optim); i++)
		server->slots[i] = mem_new(bytes);
	if (server->pool == NULL || server->weights == NULL || server->slots[0] == NULL)
		die("bare server: no memory");
	for (size_t i = 0; i < server->plan.elements; i++)
		server->weights[i] = bare_first_weight(i);
}

static void release(void *data, void *hint)
{
	(void)data;
	buf_drop(hint);
}

/* Applies what has come and puts fresh weights in its place. */
static void serve(struct server *server, struct bare_header *header, zmq_msg_t *payload)
{
	size_t bytes = zmq_msg_size(payload), n = bytes / sizeof(float);
	const float *gradient = zmq_msg_data(payload);
	float *weights = server->weights + header->first;
	float *slots[OPTIM_SLOTS_MAX] = { 0 };

	if (wire_checksum(gradient, bytes) != header->checksum)
		die("bare server: wrong checksum");
	if (server->step != header->step) {
		server->step = header->step;
		optim_scalars(&server->optim, header->step, &server->carry, &server->scalars);
	}
	for (uint32_t i = 0; i < optim_slot_count(&server->optim); i++)
		slots[i] = server->slots[i] + header->first;
	optim_step(&server->optim, server->isa, &server->scalars, weights, slots, gradient, n);
	zmq_msg_close(payload);
	struct buf *copy = buf_pool_take(server->pool, bytes);
	if (copy == NULL)
		die("bare server: no memory");
	memcpy(copy->data, weights, bytes);
	header->checksum = wire_checksum(copy->data, bytes);
	zmq_msg_init_data(payload, copy->data, bytes, release, copy);
}

static void turn(struct server *server)
{
	zmq_msg_t id, payload;
	struct bare_header header;

	zmq_msg_init(&id);
	zmq_msg_init(&payload);
	if (zmq_msg_recv(&id, server->socket, 0) < 0 ||
	    zmq_recv(server->socket, &header, sizeof(header), 0) != sizeof(header) ||
	    zmq_msg_recv(&payload, server->socket, 0) < 0)
		die("bare server: cannot receive: %s", zmq_strerror(zmq_errno()));
	if (!server->plan.echo)
		serve(server, &header, &payload);
	if (zmq_msg_send(&id, server->socket, ZMQ_SNDMORE) < 0 ||
	    zmq_send(server->socket, &header, sizeof(header), ZMQ_SNDMORE) < 0 ||
	    zmq_msg_send(&payload, server->socket, 0) < 0)
		die("bare server: cannot send: %s", zmq_strerror(zmq_errno()));
}

static void serve_for_ever(const struct bare_plan *plan, const char *listen, int tell)
{
	struct server server = { .plan = *plan };
	char endpoint[LIMIT_ENDPOINT_BYTES] = "";
	size_t size = sizeof(endpoint);

	bare_keep_warm(true);
	server.socket = new_socket();
	if (!plan->echo)
		model_new(&server);
	if (zmq_bind(server.socket, listen) != 0 ||
	    zmq_getsockopt(server.socket, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0)
		die("bare server: cannot listen on %s: %s", listen, zmq_strerror(zmq_errno()));
	if (write(tell, endpoint, sizeof(endpoint)) != sizeof(endpoint))
		die("bare server: its parent has gone");
	close(tell);
	for (;;)
		turn(&server);
}

pid_t bare_server_start(const struct bare_plan *plan, const char *listen, char *endpoint)
{
	int tell[2];

	if (pipe(tell) != 0)
		die("cannot make a pipe");
	pid_t pid = fork();
	if (pid < 0)
		die("cannot fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(tell[0]);
		serve_for_ever(plan, listen, tell[1]);
	}
	close(tell[1]);
	if (read(tell[0], endpoint, LIMIT_ENDPOINT_BYTES) != LIMIT_ENDPOINT_BYTES)
		die("the bare server did not start");
	close(tell[0]);
	return pid;
}

void bare_server_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
