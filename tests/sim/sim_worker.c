/*
 * A worker: what the library's calls do, as a state machine over the library's own
 * sessions.  It opens the lead and then the other lanes, gives or awaits first
 * weights, and then pushes and pulls until the last step.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

static uint32_t engine_count(const struct sim *sim)
{
	return sim->daemons * sim->lanes;
}

static struct layout_run run_of(const struct sim *sim, uint32_t engine)
{
	return layout_owned(sim->layout, engine / sim->lanes, sim->daemons,
	                    engine % sim->lanes, sim->lanes);
}

static void make_spec(const struct sim *sim, struct worker *worker, uint32_t engine)
{
	struct session_spec *spec = &worker->specs[engine];

	memset(spec, 0, sizeof(*spec));
	spec->open.model = (struct msg_text){"m", 1};
	spec->open.daemon = engine / sim->lanes;
	spec->open.daemons = sim->daemons;
	spec->open.layout_hash = layout_hash(sim->layout);
	spec->open.client = worker->client;
	spec->open.relays_norms = true;
	spec->rank = (int32_t)worker->rank;
}

static void make_route(const struct sim *sim, struct worker *worker, const uint32_t *tensors,
                       uint32_t count, struct route **out)
{
	struct route_lane lanes[SIM_ENGINES];

	for (uint32_t i = 0; i < engine_count(sim); i++)
		lanes[i] = (struct route_lane){run_of(sim, i), worker->sessions[i].message_bytes,
		                               worker->sessions[i].window_bytes};
	if (route_new(sim->layout, lanes, engine_count(sim), tensors, count, true, out) < 0)
		abort();
}

void worker_start(struct sim *sim, struct worker *worker, uint32_t rank, uint64_t wake_ms)
{
	uint64_t elements = layout_elements(sim->layout);

	memset(worker, 0, sizeof(*worker));
	worker->state = WORKER_ABSENT;
	worker->rank = rank;
	worker->wake_ms = wake_ms;
	worker->client = 7000 + ++sim->processes;
	worker->hello = (struct msg_hello){LIMIT_PROTOCOL_MIN, LIMIT_PROTOCOL_MAX, {"host", 4},
	                                   (uint32_t)worker->client, {"sim", 3}};
	worker->weights = calloc(elements, sizeof(float));
	worker->gradient = calloc(elements, sizeof(float));
	worker->has = calloc(sim->tensor_count, sizeof(bool));
	worker->tensors = calloc(sim->tensor_count, sizeof(uint32_t));
	worker->items = calloc(sim->tensor_count, sizeof(*worker->items));
	for (uint32_t i = 0; i < engine_count(sim); i++) {
		session_init(&worker->sessions[i], rng_next(&sim->rng) >> 16, &worker->hello);
		worker->links[i] = SIM_NO_LINK;
		make_spec(sim, worker, i);
	}
}

void worker_free(struct worker *worker)
{
	for (uint32_t i = 0; i < SIM_ENGINES; i++)
		session_deinit(&worker->sessions[i]);
	relay_free(worker->relay);
	route_free(worker->route);
	route_free(worker->some);
	free(worker->weights);
	free(worker->gradient);
	free(worker->has);
	free(worker->tensors);
	free(worker->items);
}

void worker_die(struct sim *sim, struct worker *worker)
{
	uint32_t rank = worker->rank;

	for (uint32_t i = 0; i < engine_count(sim); i++) {
		if (worker->links[i] != SIM_NO_LINK)
			net_cut(sim, worker->links[i], false);
	}
	worker_free(worker);
	worker_start(sim, worker, rank, sim->now_ms + rng_below(&sim->rng, 4000));
}

void worker_lost(struct sim *sim, struct worker *worker, uint32_t engine)
{
	worker->links[engine] = SIM_NO_LINK;
	session_restart(&worker->sessions[engine], sim->now_ms);
}

/* ---- calls -------------------------------------------------------------- */

static void ask(struct sim *sim, struct worker *worker, uint32_t engine, enum msg_verb verb,
                uint32_t index, uint64_t bytes)
{
	if (inflight_add(&worker->sessions[engine].inflight, verb, 0, bytes, worker, index) == 0)
		abort();
	worker->left++;
	(void)sim;
}

static void call_route(struct sim *sim, struct worker *worker, const struct route *route,
                       enum msg_verb verb)
{
	worker->call = route;
	worker->left = 0;
	for (uint32_t i = 0; i < route->message_count; i++) {
		const struct route_message *m = &route->messages[i];
		ask(sim, worker, m->lane, m->close ? MSG_CLOSE_STEP : verb, i,
		    verb == MSG_PULL ? 0 : m->bytes);
	}
}

/* Beside the call, which does not wait for it. */
static void ask_norm(const struct sim *sim, struct worker *worker, uint32_t index)
{
	const struct relay_message *m = &worker->relay->messages[index];
	struct session *session = &worker->sessions[m->daemon * sim->lanes];

	if (inflight_add(&session->inflight, MSG_NORM, 0, relay_bytes(m), worker, index) == 0)
		abort();
}

static void begin_norm(const struct sim *sim, struct worker *worker)
{
	if (!plan_clips(sim))
		return;
	if (worker->relay == NULL && relay_new(sim->layout, sim->daemons, &worker->relay) < 0)
		abort();
	if (worker->relay == NULL)
		return;
	relay_begin(worker->relay, worker->step);
	for (uint32_t i = 0; i < worker->relay->message_count; i++) {
		if (relay_begins_with(worker->relay, i))
			ask_norm(sim, worker, i);
	}
}

static void end_norm(const struct sim *sim, struct worker *worker)
{
	for (uint32_t i = 0; i < engine_count(sim) && worker->relay != NULL; i++)
		inflight_cancel(&worker->sessions[i].inflight, worker);
}

static void call_end(struct sim *sim, struct worker *worker, uint32_t first, uint32_t last)
{
	worker->call = NULL;
	worker->left = 0;
	for (uint32_t i = first; i < last; i++) {
		if (run_of(sim, i).count > 0)
			ask(sim, worker, i, MSG_INIT, 0, 0);
	}
}

static void begin_pull(struct sim *sim, struct worker *worker, enum worker_state state)
{
	worker->state = state;
	call_route(sim, worker, worker->route, MSG_PULL);
}

static void begin_push(struct sim *sim, struct worker *worker)
{
	uint32_t count = 0;

	if (worker->step >= sim->steps) {
		worker->state = WORKER_DONE;
		return;
	}
	worker->state = WORKER_PUSH;
	plan_gradient(sim, worker->rank, worker->step, worker->weights, worker->gradient, worker->has);
	worker->stated = worker->scale;
	/* A power of two: what divides by it again gives the very gradient. */
	plan_scale(sim, worker->stated, worker->gradient);
	for (uint32_t i = 0; i < sim->tensor_count; i++) {
		if (!worker->has[i])
			continue;
		worker->tensors[count] = i;
		worker->items[count++] = worker->gradient + layout_tensor(sim->layout, i)->offset;
	}
	route_free(worker->some);
	worker->some = NULL;
	worker->whole = count == sim->tensor_count;
	if (!worker->whole)
		make_route(sim, worker, worker->tensors, count, &worker->some);
	call_route(sim, worker, worker->whole ? worker->route : worker->some,
	           worker->whole ? MSG_PUSH_PULL : MSG_PUSH);
	begin_norm(sim, worker);
}

static uint64_t lowest_step(const struct sim *sim, const struct worker *worker)
{
	uint64_t lowest = UINT64_MAX;
	for (uint32_t i = 0; i < engine_count(sim); i++) {
		uint64_t step = worker->sessions[i].slots[0].opened.step;
		if (run_of(sim, i).count > 0 && step < lowest)
			lowest = step;
	}
	return lowest;
}

static void set_step(const struct sim *sim, struct worker *worker, uint64_t step)
{
	worker->step = step;
	for (uint32_t i = 0; i < engine_count(sim); i++)
		worker->sessions[i].slots[0].seen_step = step;
}

/* ---- stages ------------------------------------------------------------- */

static void open_lead(struct sim *sim, struct worker *worker, uint64_t not_before_ms)
{
	(void)sim;
	worker->state = WORKER_LEAD;
	session_open(&worker->sessions[0], 0, &worker->specs[0], not_before_ms);
	session_want_init(&worker->sessions[0], 0);
}

/* Once the lead has answered: the others join its run. */
static void open_rest(struct sim *sim, struct worker *worker)
{
	const struct msg_opened *lead = &worker->sessions[0].slots[0].opened;

	worker->state = WORKER_REST;
	for (uint32_t i = 1; i < engine_count(sim); i++) {
		struct session_slot *slot = &worker->sessions[i].slots[0];
		if (run_of(sim, i).count == 0 || slot->state != SESSION_CLOSED)
			continue;
		if (lead->state == MSG_MODEL_READY)
			worker->specs[i].open.resume = MSG_RESUME_MUST;
		session_open(&worker->sessions[i], 0, &worker->specs[i], 0);
		slot->expect_run = lead->run_id;
	}
}

static bool all_open(const struct sim *sim, const struct worker *worker)
{
	for (uint32_t i = 0; i < engine_count(sim); i++) {
		if (run_of(sim, i).count > 0 && worker->sessions[i].slots[0].state != SESSION_OPEN)
			return false;
	}
	return true;
}

static void rest_opened(struct sim *sim, struct worker *worker)
{
	const struct msg_opened *lead = &worker->sessions[0].slots[0].opened;

	if (worker->route == NULL)
		make_route(sim, worker, NULL, 0, &worker->route);
	worker->scale = lead->loss_scale_now;
	if (lead->state == MSG_MODEL_READY) {
		set_step(sim, worker, lowest_step(sim, worker));
		begin_pull(sim, worker, WORKER_WEIGHTS);
	} else if (lead->state == MSG_MODEL_GRANTED) {
		worker->state = WORKER_INIT;
		worker->token = lead->token;
		call_route(sim, worker, worker->route, MSG_INIT);
	} else {
		open_lead(sim, worker, sim->now_ms + 100);
	}
}

static void call_done(struct sim *sim, struct worker *worker)
{
	switch (worker->state) {
	case WORKER_INIT:
		worker->state = WORKER_END;
		call_end(sim, worker, 1, engine_count(sim));
		if (worker->left == 0)
			call_done(sim, worker);
		break;
	case WORKER_END:
		worker->state = WORKER_END_LEAD;
		call_end(sim, worker, 0, 1);
		break;
	case WORKER_END_LEAD:
		set_step(sim, worker, lowest_step(sim, worker));
		begin_pull(sim, worker, WORKER_WEIGHTS);
		break;
	case WORKER_PUSH:
		end_norm(sim, worker);
		set_step(sim, worker, worker->step + 1);
		if (worker->whole)
			begin_push(sim, worker); /* the answers brought the weights */
		else
			begin_pull(sim, worker, WORKER_PULL);
		break;
	case WORKER_WEIGHTS:
	case WORKER_PULL:
		begin_push(sim, worker);
		break;
	default:
		sim_fail(sim, "a call ended in state %d", worker->state);
	}
}

/* ---- receiving ---------------------------------------------------------- */

static void take_weights(struct worker *worker, const struct inflight_request *request,
                         const struct packet *packet)
{
	const struct route_message *message = &worker->call->messages[request->index];
	route_scatter(worker->call, message, packet->payload->data, &worker->weights);
}

/* What the answer to a push says of its step. */
static void take_verdict(struct sim *sim, struct worker *worker, uint32_t engine,
                         const struct inflight_request *request, const struct packet *packet)
{
	uint32_t rank = plan_skipped(sim, worker->step);

	/* That sums overflow is known to the reference only. */
	if (rank == 0 && plan_clips(sim) && packet->msg.skipped_rank_plus_one == MSG_SKIPPED_SUM)
		rank = MSG_SKIPPED_SUM;

	if (request->verb != MSG_PUSH && request->verb != MSG_PUSH_PULL && request->verb != MSG_CLOSE_STEP)
		return;
	if (packet->msg.skipped_rank_plus_one != rank)
		sim_fail(sim, "worker %u hears of %s of step %llu that rank %d poisoned it, not rank %d", worker->rank,
		         msg_verb_name(request->verb), (unsigned long long)worker->step,
		         (int)packet->msg.skipped_rank_plus_one - 1, (int)rank - 1);
	if (engine == 0)
		worker->scale = packet->msg.next_loss_scale;
}

static void take_norm(struct sim *sim, struct worker *worker, const struct inflight_request *request,
                      const struct packet *packet)
{
	if (packet->msg.status != OPTD_OK)
		sim_fail(sim, "worker %u, NORM of step %llu: %s: %.*s", worker->rank, (unsigned long long)worker->step,
		         status_name(packet->msg.status), (int)packet->msg.text.size, packet->text);
	/* No daemon dies, so one behind by a step is answered exactly. */
	if (packet->msg.guessed)
		sim_fail(sim, "worker %u, NORM of step %llu: guessed", worker->rank, (unsigned long long)worker->step);
	if (packet->msg.status != OPTD_OK || worker->relay->messages[request->index].tells)
		return;
	struct relay_due due = relay_take(worker->relay, request->index, packet->payload->data,
	                                  packet->msg.guessed);
	for (uint32_t i = 0; i < due.count; i++)
		ask_norm(sim, worker, due.first + i);
}

static void give_up_init(struct sim *sim, struct worker *worker)
{
	for (uint32_t i = 0; i < engine_count(sim); i++)
		inflight_cancel(&worker->sessions[i].inflight, worker);
	worker->left = 0;
	open_lead(sim, worker, sim->now_ms + 100);
}

static void take_answer(struct sim *sim, struct worker *worker, uint32_t engine,
                        const struct session_event *event, const struct packet *packet)
{
	const struct inflight_request *request = &event->request;
	int status = packet->msg.status;

	if (status == OPTD_NO_TOKEN && request->verb == MSG_INIT) {
		give_up_init(sim, worker);
		return;
	}
	if (request->verb == MSG_NORM) {
		take_norm(sim, worker, request, packet);
		return;
	}
	worker->left--;
	if (status == OPTD_STEP_TIMEOUT || status == OPTD_TIMEOUT) {
		/* As the text says: make the same call again to go on waiting. */
		sim->timeouts++;
		ask(sim, worker, engine, request->verb, request->index, request->bytes);
		return;
	}
	if (status != OPTD_OK) {
		sim_fail(sim, "worker %u, %s of step %llu: %s: %.*s", worker->rank,
		         msg_verb_name(request->verb), (unsigned long long)worker->step,
		         status_name(status), (int)packet->msg.text.size, packet->text);
		return;
	}
	take_verdict(sim, worker, engine, request, packet);
	if (request->verb == MSG_PULL || request->verb == MSG_PUSH_PULL)
		take_weights(worker, request, packet);
	if (worker->left == 0)
		call_done(sim, worker);
}

void worker_receive(struct sim *sim, struct worker *worker, uint32_t engine, struct packet *packet)
{
	struct session *session = &worker->sessions[engine];
	struct session_event event;

	if (packet->damaged && packet->msg.payload_bytes > 0) {
		session_damaged(session, packet->msg.request);
		return;
	}
	session_reply(session, &packet->msg, sim->now_ms, &event);
	switch (event.kind) {
	case SESSION_LOST:
		if (worker->links[engine] != SIM_NO_LINK)
			net_cut(sim, worker->links[engine], false);
		worker->links[engine] = SIM_NO_LINK;
		break;
	case SESSION_REFUSED:
		sim_fail(sim, "HELLO was refused: %s", status_name(event.status));
		break;
	case SESSION_NOT_OPENED:
		if (session->slots[0].status == OPTD_RANK_HELD)
			session_open(session, 0, &worker->specs[engine], sim->now_ms + 200);
		else
			sim_fail(sim, "worker %u, OPEN on %u: %s: %.*s", worker->rank, engine,
			         status_name(session->slots[0].status), (int)packet->msg.text.size,
			         packet->text);
		break;
	case SESSION_ANSWER:
		take_answer(sim, worker, engine, &event, packet);
		break;
	default:
		break;
	}
}

/* ---- sending ------------------------------------------------------------ */

static void fill_norm(const struct worker *worker, const struct inflight_request *request, struct msg *msg,
                      float **payload)
{
	const struct relay_message *m = &worker->relay->messages[request->index];

	msg->part_count = 1;
	msg->parts[0] = m->part;
	if (!m->tells)
		return;
	msg->payload_bytes = relay_bytes(m);
	msg->guessed = worker->relay->guessed;
	*payload = malloc(msg->payload_bytes);
	memcpy(*payload, worker->relay->numbers + m->first_segment, msg->payload_bytes);
}

static void fill_request(struct sim *sim, struct worker *worker, const struct inflight_request *request,
                         struct msg *msg, float **payload)
{
	msg->token = worker->token;
	/* A push's step is the one under way; by the time of a pull it is complete. */
	msg->step = worker->step;
	msg->min_version = request->verb == MSG_PULL ? worker->step : 0;
	if (request->verb == MSG_NORM) {
		fill_norm(worker, request, msg, payload);
		return;
	}
	msg->loss_scale = worker->stated;
	if (worker->state == WORKER_PUSH && plan_poisons(sim, worker->rank, worker->step)) {
		msg->verdict = MSG_POISONED;
		msg->poison_tensor_plus_one = 1 + worker->rank % sim->tensor_count;
	}
	if (worker->call == NULL)
		return;
	const struct route_message *m = &worker->call->messages[request->index];
	msg->part_count = m->part_count;
	memcpy(msg->parts, worker->call->parts + m->first_part, m->part_count * sizeof(msg->parts[0]));
	if (m->close || request->verb == MSG_PULL)
		return;
	const void *whole = request->verb == MSG_INIT ? sim->first_weights : worker->gradient;
	*payload = malloc(m->bytes);
	route_gather(worker->call, m, worker->call == worker->route ? &whole : worker->items, DTYPE_F32,
	             *payload);
	msg->payload_bytes = m->bytes;
}

static void send_lane(struct sim *sim, struct worker *worker, uint32_t engine)
{
	struct session *session = &worker->sessions[engine];
	struct session_out out;

	while (session_next(session, sim->now_ms, &out)) {
		struct msg msg;
		float *payload = NULL;
		if (worker->links[engine] == SIM_NO_LINK)
			worker->links[engine] =
			        net_connect(sim, (uint32_t)(worker - sim->worker), engine);
		session_fill(session, &out, &msg);
		if (out.kind == SESSION_SEND_REQUEST)
			fill_request(sim, worker, out.request, &msg, &payload);
		net_send_up(sim, worker->links[engine], &msg, payload);
		free(payload);
		session_sent(session, &out, sim->now_ms);
	}
}

void worker_turn(struct sim *sim, struct worker *worker)
{
	if (worker->state == WORKER_ABSENT) {
		if (sim->now_ms < worker->wake_ms)
			return;
		open_lead(sim, worker, 0);
	}
	for (uint32_t i = 0; i < engine_count(sim); i++) {
		if (!session_tick(&worker->sessions[i], sim->now_ms))
			continue;
		if (worker->links[i] != SIM_NO_LINK)
			net_cut(sim, worker->links[i], false);
		worker->links[i] = SIM_NO_LINK;
	}
	if (worker->state == WORKER_LEAD && worker->sessions[0].slots[0].state == SESSION_OPEN)
		open_rest(sim, worker);
	if (worker->state == WORKER_REST && all_open(sim, worker))
		rest_opened(sim, worker);
	for (uint32_t i = 0; i < engine_count(sim); i++)
		send_lane(sim, worker, i);
}
