/* A lane's life: socket, engine, thread, commands, time. */
#include "server/net/lane.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "server/net/lane_parts.h"

#define TICK_MS 50
/* Of notices and timeouts, in one of them: 20,000 a second. */
#define TICK_BATCHES 16
/* A lane asks every connection for a message at least once a second: who keeps it busy
 * is not to hide who sends parts without end. */
#define ROUND_TICKS (1000 / TICK_MS)
#define SWEEP_MS 1000
#define PROBE_MS 10000
/* All at once, when there is no room for a new one. */
#define PROBE_ALL_MS 1000
#define STOP_MS 2000
/* Messages ZeroMQ keeps per peer and direction.  Incoming is small: what waits
 * there is not in any window.  Outgoing is a backstop behind our own queue. */
#define RECEIVE_HWM 8
#define SEND_HWM 64

/* ---- socket ------------------------------------------------------------- */

static void set_int(void *socket, int option, int value)
{
	int rc = zmq_setsockopt(socket, option, &value, sizeof(value));
	assert(rc == 0);
	(void)rc;
}

static void set_options(const struct lane *lane)
{
	void *s = lane->socket;
	int64_t largest = (int64_t)lane->options.message_bytes + LIMIT_HEADER_BYTES;

	set_int(s, ZMQ_ROUTER_MANDATORY, 1);
	set_int(s, ZMQ_ROUTER_HANDOVER, 0);
	set_int(s, ZMQ_RCVHWM, RECEIVE_HWM);
	set_int(s, ZMQ_SNDHWM, SEND_HWM);
	set_int(s, ZMQ_LINGER, 1000);
	set_int(s, ZMQ_HANDSHAKE_IVL, 5000);
	/* A ping waits behind what is under way, and only whole messages count as an answer:
	 * a slow link needs time for the largest. */
	set_int(s, ZMQ_HEARTBEAT_IVL, 5000);
	set_int(s, ZMQ_HEARTBEAT_TIMEOUT, 60000);
	set_int(s, ZMQ_HEARTBEAT_TTL, 60000);
	/* A machine that is gone acknowledges nothing. */
	set_int(s, ZMQ_TCP_MAXRT, 30000);
	set_int(s, ZMQ_BACKLOG, LIMIT_BACKLOG);
	set_int(s, ZMQ_TCP_KEEPALIVE, 1);
	/* An address of version 4 would come back as ::ffff:127.0.0.1. */
	set_int(s, ZMQ_IPV6, strchr(lane->listen, '[') != NULL || strstr(lane->listen, "//*") != NULL);
	zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &largest, sizeof(largest));
}

static int lane_bind(struct lane *lane, char *why, size_t why_bytes)
{
	size_t size = sizeof(lane->endpoint);

	if (zmq_bind(lane->socket, lane->listen) == 0 &&
	    zmq_getsockopt(lane->socket, ZMQ_LAST_ENDPOINT, lane->endpoint, &size) == 0)
		return OPTD_OK;
	snprintf(why, why_bytes, "cannot listen on %s: %s", lane->listen, zmq_strerror(errno));
	return OPTD_IO;
}

static int lane_prepare(struct lane *lane)
{
	char name[32];
	struct guard_options guard = {
	        .connections = lane->options.connections,
	        .stranger_bytes = 256 * 1024,
	        .session_bytes = (RECEIVE_HWM + 4) * (uint64_t)lane->options.message_bytes,
	        .message_bytes = lane->options.message_bytes + 2 * LIMIT_HEADER_BYTES,
	        .total_bytes = 64 * (uint64_t)lane->options.message_bytes,
	};

	lane->pool = buf_pool_new(2 * (size_t)lane->options.window_bytes);
	lane->arena = wire_arena_new();
	lane->socket = zmq_socket(lane->options.context, ZMQ_ROUTER);
	if (lane->pool == NULL || lane->arena == NULL || lane->socket == NULL ||
	    peers_init(&lane->peers, lane->options.connections) < 0)
		return OPTD_NO_MEMORY;
	set_options(lane);
	snprintf(name, sizeof(name), "lane%u.%p", lane->options.index, (void *)lane);
	return guard_open(lane->options.context, lane->socket, name, &guard, &lane->guard);
}

int lane_open(const struct lane_options *options, struct lane **out, char *why, size_t why_bytes)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	if (lane == NULL)
		return OPTD_NO_MEMORY;
	lane->options = *options;
	snprintf(lane->listen, sizeof(lane->listen), "%s", options->listen);
	outbox_init(&lane->out);
	hearing_init(&lane->hearing);
	int rc = lane_prepare(lane);
	if (rc < 0)
		snprintf(why, why_bytes, "cannot open a socket for lane %u: %s", options->index,
		         zmq_strerror(errno));
	else
		rc = lane_bind(lane, why, why_bytes);
	if (rc < 0) {
		lane_close_socket(lane);
		lane_free(&lane);
		return rc;
	}
	*out = lane;
	return OPTD_OK;
}

const char *lane_endpoint(const struct lane *lane)
{
	return lane->endpoint;
}

void lane_close_socket(struct lane *lane)
{
	if (lane->socket != NULL)
		zmq_close(lane->socket);
	lane->socket = NULL;
	guard_close(lane->guard);
	lane->guard = NULL;
}

void lane_free(struct lane **lane_p)
{
	struct lane *lane = *lane_p;
	if (lane == NULL)
		return;
	*lane_p = NULL;
	engine_free(lane->engine);
	outbox_deinit(&lane->out);
	hearing_deinit(&lane->hearing);
	peers_deinit(&lane->peers);
	wire_arena_free(lane->arena);
	buf_pool_free(lane->pool);
	free(lane);
}

/* ---- engine ------------------------------------------------------------- */

int lane_start(struct lane *lane, const struct engine_options *options)
{
	lane->engine_options = *options;
	lane->engine = engine_new(options, lane->pool);
	return lane->engine != NULL ? OPTD_OK : OPTD_NO_MEMORY;
}

void lane_begin_epoch(struct lane *lane, uint64_t epoch)
{
	lane->engine_options.epoch = epoch;
	engine_begin_epoch(lane->engine, epoch);
}

struct engine *lane_engine(struct lane *lane)
{
	return lane->engine;
}

struct outbox *lane_outbox(struct lane *lane)
{
	return &lane->out;
}

uint64_t lane_now_ms(void)
{
	return uv_hrtime() / 1000000;
}

void lane_answer(struct lane *lane, uint32_t peer, const struct msg *request, int status,
                 const char *text)
{
	struct outbox_entry *entry = outbox_add(&lane->out, peer);

	entry->head.verb = request->verb;
	entry->head.status = status;
	entry->head.request = request->request;
	entry->head.session = request->session;
	entry->head.epoch = lane->engine_options.epoch;
	entry->head.text = outbox_printf(&lane->out, "%s", text);
	lane_send(lane, &lane->out);
}

void lane_peer_gone(struct lane *lane, uint32_t number)
{
	if (!lane->peers.all[number].used)
		return;
	peers_remove(&lane->peers, number);
	engine_peer_gone(lane->engine, number, &lane->out);
}

/* ---- time --------------------------------------------------------------- */

/* A dead connection is noticed only by sending on it. */
static void probe(struct lane *lane, uint32_t number, uint64_t now_ms)
{
	struct outbox_entry *entry = outbox_add(&lane->out, number);

	lane->peers.all[number].probed_ms = now_ms;
	entry->head.verb = MSG_HELLO;
	entry->head.status = OPTD_WAITING;
	entry->head.epoch = lane->engine_options.epoch;
}

void lane_probe_all(struct lane *lane)
{
	uint64_t now_ms = lane_now_ms();

	if (now_ms - lane->probed_ms < PROBE_ALL_MS)
		return;
	lane->probed_ms = now_ms;
	for (uint32_t i = 0; i < lane->peers.room; i++) {
		const struct peer *peer = &lane->peers.all[i];
		/* Those with a queue are sent to anyway. */
		if (!peer->used || peer->first != NULL)
			continue;
		probe(lane, i, now_ms);
		lane_send(lane, &lane->out);
	}
}

static void sweep(struct lane *lane, uint64_t now_ms)
{
	for (uint32_t i = 0; i < lane->peers.room; i++) {
		const struct peer *peer = &lane->peers.all[i];
		if (!peer->used || now_ms - peer->heard_ms < PROBE_MS ||
		    now_ms - peer->probed_ms < PROBE_MS)
			continue;
		probe(lane, i, now_ms);
	}
}

static bool all_sent(const struct lane *lane)
{
	for (uint32_t i = 0; i < lane->peers.room; i++) {
		if (atomic_load(&lane->peers.accounts[i]) != 0 ||
		    (lane->peers.all[i].used && lane->peers.all[i].first != NULL))
			return false;
	}
	return !engine_has_kept(lane->engine);
}

static void tell_guard(struct lane *lane)
{
	bool empty = !zsock_readable(&lane->zsock);

	lane->round_ticks++;
	if (!empty && !lane->round_done && lane->round_ticks < ROUND_TICKS)
		return;
	guard_turn(lane->guard, empty);
	lane->round_done = false;
	lane->round_messages = lane->round_ticks = 0;
}

static void tick(struct lane *lane, uint64_t now_ms)
{
	bool more = true;

	for (int i = 0; i < TICK_BATCHES && more; i++) {
		more = engine_tick(lane->engine, now_ms, &lane->out);
		lane_send(lane, &lane->out);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct lane *lane = timer->data;
	uint64_t now_ms = lane_now_ms();

	tell_guard(lane);
	if (!lane->draining)
		tick(lane, now_ms);
	skipped_log(lane, now_ms);
	if (now_ms % SWEEP_MS < TICK_MS) {
		grants_renew(lane);
		peers_look(&lane->peers, now_ms);
		sweep(lane, now_ms);
	}
	lane_send(lane, &lane->out);
	send_queued(lane);
	if (lane->cutting)
		cut_turn(lane);
	if (lane->stopping && (all_sent(lane) || now_ms >= lane->stop_by_ms))
		uv_stop(&lane->loop);
}

int lane_post(struct lane *lane, void (*run)(void *lane, void *argument), void *argument)
{
	return mailbox_post(&lane->mailbox, run, lane, argument);
}

void lane_post_kept(struct lane *lane, struct mail *mail, void (*run)(void *lane, void *argument),
                    void *argument)
{
	mailbox_post_kept(&lane->mailbox, mail, run, lane, argument);
}

/* ---- other lanes --------------------------------------------------------- */

static void hear(void *user, struct lane_message *message)
{
	struct lane *lane = user;

	/* What a lane that drains would commit is in no checkpoint. */
	if (lane->draining) {
		free(message);
		return;
	}
	engine_hear(lane->engine, message, lane_now_ms(), &lane->out);
	lane_send(lane, &lane->out);
	if (lane->cutting)
		cut_turn(lane);
}

/* ---- thread ------------------------------------------------------------- */

static void *lane_main(void *argument)
{
	struct lane *lane = argument;
	uv_run(&lane->loop, UV_RUN_DEFAULT);
	zsock_close(&lane->zsock);
	uv_close((uv_handle_t *)&lane->timer, NULL);
	mailbox_close(&lane->mailbox);
	hearing_close(&lane->hearing);
	uv_close((uv_handle_t *)&lane->cut_idle, NULL);
	uv_close((uv_handle_t *)&lane->kept_check, NULL);
	uv_close((uv_handle_t *)&lane->kept_idle, NULL);
	uv_close((uv_handle_t *)&lane->work_idle, NULL);
	uv_run(&lane->loop, UV_RUN_DEFAULT);
	uv_loop_close(&lane->loop);
	return NULL;
}

int lane_run(struct lane *lane)
{
	sigset_t all, before;

	uv_loop_init(&lane->loop);
	uv_timer_init(&lane->loop, &lane->timer);
	mailbox_open(&lane->mailbox, &lane->loop);
	hearing_open(&lane->hearing, &lane->loop, hear, lane);
	uv_idle_init(&lane->loop, &lane->cut_idle);
	uv_check_init(&lane->loop, &lane->kept_check);
	uv_idle_init(&lane->loop, &lane->kept_idle);
	uv_idle_init(&lane->loop, &lane->work_idle);
	lane->timer.data = lane->cut_idle.data = lane->kept_check.data = lane->work_idle.data = lane;
	uv_timer_start(&lane->timer, on_timer, TICK_MS, TICK_MS);
	if (zsock_open(&lane->zsock, &lane->loop, lane->socket, dispatch_turn, lane) < 0)
		return OPTD_INTERNAL;
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int rc = pthread_create(&lane->thread, NULL, lane_main, lane);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	lane->running = rc == 0;
	return rc == 0 ? OPTD_OK : OPTD_INTERNAL;
}

static void begin_stop(void *user, void *argument)
{
	struct lane *lane = user;

	(void)argument;
	lane->draining = true;
	lane->stopping = true;
	lane->stop_by_ms = lane_now_ms() + STOP_MS;
}

void lane_stop(struct lane *lane)
{
	if (!lane->running)
		return;
	if (lane_post(lane, begin_stop, NULL) < 0)
		return;
	pthread_join(lane->thread, NULL);
	lane->running = false;
}
