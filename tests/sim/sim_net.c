/* Connections: order is kept on each, and all of them break. */
#include <stdlib.h>
#include <string.h>

#include "server/core/lane_message.h"
#include "tests/sim/sim.h"

static void release(struct buf *buf)
{
	free(buf->data);
	free(buf);
}

static struct buf *copy_payload(const void *bytes, size_t size)
{
	struct buf *buf = calloc(1, sizeof(*buf));
	buf->data = malloc(size + 1);
	if (bytes != NULL)
		memcpy(buf->data, bytes, size);
	buf->bytes = size;
	buf->release = release;
	atomic_store(&buf->holders, 1);
	return buf;
}

static void own_masks(struct packet *packet)
{
	struct msg *msg = &packet->msg;
	packet->masks = malloc((size_t)LIMIT_PARTS * LIMIT_MASK_BYTES);
	for (uint32_t i = 0; i < msg->part_count; i++) {
		if (msg->parts[i].mask == NULL)
			continue;
		uint8_t *mask = packet->masks + i * LIMIT_MASK_BYTES;
		memcpy(mask, msg->parts[i].mask, msg->parts[i].mask_bytes);
		msg->parts[i].mask = mask;
	}
}

static struct packet *packet_new(const struct msg *msg, struct buf *payload)
{
	struct packet *packet = calloc(1, sizeof(*packet));
	packet->msg = *msg;
	packet->payload = payload;
	packet->msg.payload = payload != NULL ? payload->data : NULL;
	own_masks(packet);
	if (msg->reply && msg->text.size > 0) {
		memcpy(packet->text, msg->text.bytes, msg->text.size);
		packet->msg.text.bytes = packet->text;
	}
	return packet;
}

static void packet_free(struct packet *packet)
{
	buf_drop(packet->payload);
	free(packet->masks);
	free(packet);
}

static void pipe_put(struct sim *sim, struct pipe *pipe, struct packet *packet, uint32_t delay_ms)
{
	packet->at_ms = sim->now_ms + 1 + rng_below(&sim->rng, delay_ms);
	if (packet->at_ms < pipe->last_ms)
		packet->at_ms = pipe->last_ms;
	pipe->last_ms = packet->at_ms;
	if (pipe->last != NULL)
		pipe->last->next = packet;
	else
		pipe->first = packet;
	pipe->last = packet;
}

static struct packet *pipe_take(struct sim *sim, struct pipe *pipe)
{
	struct packet *packet = pipe->first;
	if (packet == NULL || packet->at_ms > sim->now_ms)
		return NULL;
	pipe->first = packet->next;
	if (pipe->first == NULL)
		pipe->last = NULL;
	return packet;
}

static void pipe_empty(struct pipe *pipe)
{
	while (pipe->first != NULL) {
		struct packet *packet = pipe->first;
		pipe->first = packet->next;
		packet_free(packet);
	}
	pipe->last = NULL;
}

/* ---- connections -------------------------------------------------------- */

uint32_t net_connect(struct sim *sim, uint32_t worker, uint32_t engine)
{
	/* A number is given again once its last owner is forgotten on both sides. */
	uint32_t index = 0;
	while (index < sim->link_count && sim->links[index].used)
		index++;
	if (index == SIM_LINKS)
		abort();
	if (index == sim->link_count)
		sim->link_count++;
	sim->links[index] = (struct link){.used = true,
	                                  .worker = worker,
	                                  .engine = engine,
	                                  .delay_ms = rng_one_in(&sim->rng, 4) ? 200 : 5};
	return index;
}

void net_cut(struct sim *sim, uint32_t index, bool client_learns)
{
	struct link *link = &sim->links[index];

	if (link->cut)
		return;
	link->cut = true;
	pipe_empty(&link->up);
	pipe_empty(&link->down);
	/* A late server is what makes ranks held and sessions stale. */
	link->server_ms = sim->now_ms + 1 + rng_below(&sim->rng, rng_one_in(&sim->rng, 3) ? 4000 : 50);
	link->client_ms =
	        client_learns ? sim->now_ms + 1 + rng_below(&sim->rng, 100) : UINT64_MAX;
}

void net_send_up(struct sim *sim, uint32_t index, const struct msg *msg, const void *payload)
{
	struct link *link = &sim->links[index];
	uint32_t times = rng_one_in(&sim->rng, 15) ? 2 : 1;

	if (link->cut || link->deaf)
		return;
	sim->duplicated += times - 1;
	for (uint32_t i = 0; i < times; i++) {
		struct buf *buf = msg->payload_bytes > 0 ? copy_payload(payload, msg->payload_bytes) : NULL;
		pipe_put(sim, &link->up, packet_new(msg, buf), link->delay_ms);
	}
}

static void send_entries(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->out.count; i++) {
		struct outbox_entry *entry = &sim->out.entries[i];
		struct link *link = &sim->links[entry->peer];
		if (!link->used || link->cut || link->deaf)
			continue;
		struct buf *payload = entry->payload != NULL ? buf_hold(entry->payload) : NULL;
		struct packet *packet = packet_new(&entry->head, payload);
		packet->damaged = rng_one_in(&sim->rng, 60);
		pipe_put(sim, &link->down, packet, link->delay_ms);
	}
	outbox_clear(&sim->out);
}

static bool has_room(void *user, const struct wait *wait)
{
	struct sim *sim = user;
	(void)wait;
	return !rng_one_in(&sim->rng, 3);
}

void net_send_down(struct sim *sim, uint32_t engine)
{
	const struct engine_room room = {has_room, sim};
	struct lane_message *message;

	do
		send_entries(sim);
	while (engine_answer(sim->engines[engine], &room, &sim->out));
	while ((message = outbox_take_told(&sim->out)) != NULL) {
		if (sim->told_count == SIM_ENGINES)
			abort();
		sim->told[sim->told_count++] =
		        (struct told){message, engine / sim->lanes * sim->lanes + message->to,
		                      sim->now_ms + rng_below(&sim->rng, rng_one_in(&sim->rng, 4) ? 300 : 3)};
	}
}

/* At most one a turn, so that others may come in between. */
static void hear(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->told_count; i++) {
		struct told told = sim->told[i];
		if (told.at_ms > sim->now_ms)
			continue;
		sim->told[i] = sim->told[--sim->told_count];
		engine_hear(sim->engines[told.engine], told.message, sim->now_ms, &sim->out);
		net_send_down(sim, told.engine);
		return;
	}
}

void net_send_kept(struct sim *sim, uint32_t engine)
{
	const struct engine_room room = {has_room, sim};

	while (engine_answer_kept(sim->engines[engine], &room, &sim->out))
		send_entries(sim);
}

void net_work(struct sim *sim, uint32_t engine)
{
	if (engine_has_work(sim->engines[engine]))
		engine_work(sim->engines[engine], 1 + rng_below(&sim->rng, 300000));
	net_send_down(sim, engine);
}

static void deliver_up(struct sim *sim, uint32_t index, struct packet *packet)
{
	struct link *link = &sim->links[index];
	struct layout *layout = NULL;

	if (packet->msg.verb == MSG_OPEN)
		layout = plan_layout(sim);
	engine_handle(sim->engines[link->engine], index, &PRINCIPAL_ANONYMOUS, &packet->msg,
	              packet->payload, &layout, sim->now_ms, &sim->out);
	layout_free(layout);
	packet_free(packet);
	sim->delivered++;
	net_send_down(sim, link->engine);
}

static void learn(struct sim *sim, uint32_t index)
{
	struct link *link = &sim->links[index];

	if (link->server_ms != 0 && sim->now_ms >= link->server_ms) {
		link->server_ms = 0;
		engine_peer_gone(sim->engines[link->engine], index, &sim->out);
		net_send_down(sim, link->engine);
	}
	if (link->client_ms != 0 && sim->now_ms >= link->client_ms) {
		link->client_ms = 0;
		/* Unless the worker, or its rank's next process, is on another by now. */
		if (sim->worker[link->worker].links[link->engine] == index)
			worker_lost(sim, &sim->worker[link->worker], link->engine);
	}
	if (link->server_ms == 0 && (link->client_ms == 0 || link->client_ms == UINT64_MAX) &&
	    sim->worker[link->worker].links[link->engine] != index)
		link->used = false;
}

static void link_turn(struct sim *sim, uint32_t index)
{
	struct packet *packet;

	while ((packet = pipe_take(sim, &sim->links[index].up)) != NULL)
		deliver_up(sim, index, packet);
	while ((packet = pipe_take(sim, &sim->links[index].down)) != NULL) {
		worker_receive(sim, &sim->worker[sim->links[index].worker], sim->links[index].engine, packet);
		packet_free(packet);
	}
	if (sim->links[index].cut)
		learn(sim, index);
}

void net_turn(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->link_count; i++) {
		if (sim->links[i].used)
			link_turn(sim, i);
	}
	hear(sim);
}

void net_fault(struct sim *sim)
{
	struct worker *worker = &sim->worker[rng_below(&sim->rng, sim->workers)];
	uint32_t link = worker->links[rng_below(&sim->rng, sim->daemons * sim->lanes)];

	sim->faults++;
	if (sim->deaths && rng_one_in(&sim->rng, 4) && worker->state != WORKER_ABSENT) {
		sim->died++;
		worker_die(sim, worker);
	} else if (link != SIM_NO_LINK && rng_one_in(&sim->rng, 3)) {
		sim->links[link].deaf = true;
	} else if (link != SIM_NO_LINK) {
		net_cut(sim, link, true);
	}
}

void net_free(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->link_count; i++) {
		pipe_empty(&sim->links[i].up);
		pipe_empty(&sim->links[i].down);
	}
	free(sim->links);
	for (uint32_t i = 0; i < sim->told_count; i++)
		free(sim->told[i].message);
}
