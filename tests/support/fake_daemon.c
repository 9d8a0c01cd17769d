/* One worker's daemon: a loop that receives, decides and answers. */
#include "tests/support/fake_daemon.h"
#include "tests/support/half.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define WAITING_TEXT "waiting for 1 of 2 workers: rank 1"

/* Takes one from a count that a test has set. */
static bool use_up(_Atomic int *count)
{
	if (atomic_load(count) <= 0)
		return false;
	atomic_fetch_sub(count, 1);
	return true;
}

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

/* ---- sending --------------------------------------------------------------- */

static void send_frames(struct fake_daemon *d, zmq_msg_t *id, size_t header_bytes, const void *payload,
                        size_t payload_bytes)
{
	zmq_send(d->socket, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
	zmq_send(d->socket, d->header, header_bytes, ZMQ_SNDMORE);
	zmq_send(d->socket, payload, payload_bytes, 0);
}

static void send_nonsense(struct fake_daemon *d, zmq_msg_t *id)
{
	zmq_send(d->socket, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
	zmq_send(d->socket, "one", 3, 0);
	zmq_send(d->socket, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
	zmq_send(d->socket, "one", 3, ZMQ_SNDMORE);
	zmq_send(d->socket, "two", 3, ZMQ_SNDMORE);
	zmq_send(d->socket, "three", 5, 0);
	zmq_send(d->socket, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
	zmq_send(d->socket, "\xff\xff\xff", 3, ZMQ_SNDMORE);
	zmq_send(d->socket, "", 0, 0);
}

static void answer(struct fake_daemon *d, zmq_msg_t *id, void *payload, size_t bytes)
{
	d->reply.payload_bytes = bytes;
	d->reply.checksum = bytes ? wire_checksum(payload, bytes) : 0;
	int size = wire_encode(&d->reply, d->header, sizeof(d->header));
	if (size < 0)
		abort();
	if (use_up(&d->odd_frames))
		send_nonsense(d, id);
	if (bytes && use_up(&d->damage_answers))
		((unsigned char *)payload)[bytes / 2] ^= 4;
	send_frames(d, id, (size_t)size, payload, bytes);
}

/* ---- the model ---------------------------------------------------------------- */

static void lowest_step(struct fake_daemon *d)
{
	struct layout_run own = layout_owned(d->layout, d->number, d->daemons, 0, 1);
	uint64_t lowest = UINT64_MAX;
	for (uint32_t i = own.first; i < own.first + own.count; i++)
		if (d->versions[i] < lowest)
			lowest = d->versions[i];
	d->step = lowest;
	atomic_store(&d->step_answers, (int)lowest);
}

/* Walks the elements that a part names; apply adds `values`, else copies the
 * weights into `out`.  Returns their number. */
static uint64_t walk(struct fake_daemon *d, const struct msg_part *part, uint32_t b, const float *values,
                     float *out, bool set)
{
	const struct layout_block *block = layout_block(d->layout, b);
	uint64_t n = 0;
	for (uint32_t s = 0; s < block->segment_count; s++) {
		const struct layout_segment *segment = layout_segment(d->layout, block->first_segment + s);
		if (part->mask && !(part->mask[s / 8] >> (s % 8) & 1))
			continue;
		float *w = d->weights + block->begin + segment->offset;
		for (uint32_t k = 0; k < segment->count; k++, n++) {
			if (values)
				w[k] = set ? values[n] : w[k] + values[n];
			if (out)
				out[n] = w[k];
		}
	}
	return n;
}

/* The elements as float32; to be freed. */
static float *widened(struct fake_daemon *d, const struct msg *m)
{
	uint64_t n = m->payload_bytes / dtype_bytes(m->dtype);
	float *values = malloc(n * sizeof(float) + 1);
	if (m->dtype == DTYPE_F32)
		memcpy(values, m->payload, m->payload_bytes);
	else
		half_values(m->dtype, m->payload, values, n);
	atomic_store(&d->dtype, (int)m->dtype);
	atomic_fetch_add(&d->pushed_bytes, (int)m->payload_bytes);
	return values;
}

static void apply(struct fake_daemon *d, const struct msg *m)
{
	bool poisoned = m->verdict == MSG_POISONED;
	float *made = m->payload_bytes > 0 && !poisoned ? widened(d, m) : NULL;
	const float *values = made;
	for (uint32_t i = 0; i < m->part_count; i++)
		for (uint32_t k = 0; k < m->parts[i].count; k++) {
			uint32_t b = m->parts[i].first + k;
			bool due = m->verb == MSG_INIT || d->versions[b] == m->step;
			float *skipped = NULL;
			uint64_t n = 0;
			if (values && due)
				n = walk(d, &m->parts[i], b, values, NULL, m->verb == MSG_INIT);
			else if (values)
				n = walk(d, &m->parts[i], b, NULL, skipped, false);
			if (values)
				values += n;
			if (due && m->verb != MSG_INIT) {
				d->versions[b]++;
				atomic_fetch_add(m->verb == MSG_CLOSE_STEP ? &d->closed_blocks : &d->applied, 1);
			}
		}
	lowest_step(d);
	free(made);
}

static size_t collect(struct fake_daemon *d, const struct msg *m, float *out)
{
	uint64_t n = 0;
	d->reply.version = UINT64_MAX;
	for (uint32_t i = 0; i < m->part_count; i++)
		for (uint32_t k = 0; k < m->parts[i].count; k++) {
			uint32_t b = m->parts[i].first + k;
			n += walk(d, &m->parts[i], b, NULL, out + n, false);
			if (d->versions[b] < d->reply.version)
				d->reply.version = d->versions[b];
			if (d->versions[b] > d->reply.version_max)
				d->reply.version_max = d->versions[b];
		}
	memcpy(d->reply.parts, m->parts, sizeof(m->parts));
	d->reply.part_count = m->part_count;
	return n * sizeof(float);
}

/* ---- verbs ------------------------------------------------------------------------ */

static void welcome(struct fake_daemon *d, zmq_msg_t *id, const struct msg *m)
{
	atomic_fetch_add(&d->hellos, 1);
	d->session = m->session;
	d->reply.welcome = (struct msg_welcome){
		.protocol = 1,
		.daemon_id = d->id,
		.lanes = 1,
		.message_bytes = LIMIT_MESSAGE_BYTES,
		.window_bytes = LIMIT_WINDOW_BYTES,
		.software = text_of("fake"),
		.endpoint_count = 1,
		.endpoints = {text_of(d->endpoint)},
	};
	if (atomic_load(&d->window) > 0) {
		d->reply.welcome.window_bytes = (uint32_t)atomic_load(&d->window);
		d->reply.welcome.message_bytes = d->reply.welcome.window_bytes / 2;
	}
	int lanes = atomic_load(&d->lanes);
	if (lanes > 1) {
		d->reply.welcome.lanes = d->reply.welcome.endpoint_count = (uint32_t)lanes;
		for (int i = 1; i < lanes; i++)
			d->reply.welcome.endpoints[i] = text_of(i == lanes - 1 ? d->last_lane : d->endpoint);
	}
	answer(d, id, NULL, 0);
}

static void refuse(struct fake_daemon *d, zmq_msg_t *id, int status, const char *text)
{
	d->reply.status = status;
	d->reply.text = text_of(text);
	answer(d, id, NULL, 0);
}

static void take_layout(struct fake_daemon *d, const struct msg *m)
{
	char why[256];
	if (wire_layout_decode(d->arena, m->payload, m->payload_bytes, &d->layout, why, sizeof(why)) < 0 ||
	    layout_cut(d->layout, NULL) < 0)
		abort();
	d->weights = calloc(layout_elements(d->layout), sizeof(float));
	d->versions = calloc(layout_block_count(d->layout), sizeof(*d->versions));
	d->run++;
	d->number = m->open.daemon;
	d->daemons = m->open.daemons;
}

static void open_model(struct fake_daemon *d, zmq_msg_t *id, const struct msg *m)
{
	atomic_fetch_add(&d->opens, 1);
	if (!d->layout && m->open.expect_run && m->open.daemon == 0) {
		refuse(d, id, OPTD_MODEL_LOST, "model 'm' is not here");
		return;
	}
	if (m->rank < 0 && m->open.expect_run && d->step < m->open.seen_step) {
		refuse(d, id, OPTD_ROLLBACK, "model 'm' went back");
		return;
	}
	bool created = !d->layout;
	if (created && m->payload_bytes == 0) {
		refuse(d, id, OPTD_NO_MODEL, "no model of this name");
		return;
	}
	if (created)
		take_layout(d, m);
	d->reply.opened = (struct msg_opened){
		.model = 1,
		.layout = 2,
		.run_id = d->run,
		.step = m->rank >= 0 ? d->step : 0,
		.incarnation = 1,
		.token = 9,
		.state = d->ready ? MSG_MODEL_READY : m->open.wants_init ? MSG_MODEL_GRANTED : MSG_MODEL_WAITING,
		.created = created,
		.mode = MSG_SYNC,
		.reduce = MSG_MEAN,
		.workers = atomic_load(&d->workers) > 0 ? (uint32_t)atomic_load(&d->workers) : 1,
		.optimizer = text_of("add"),
		.elements = layout_elements(d->layout),
		.tensors = layout_tensor_count(d->layout),
		.nonfinite = (enum msg_nonfinite)atomic_load(&d->nonfinite),
		.loss_scale = {.given = atomic_load(&d->next_scale) > 0},
		.loss_scale_now = atomic_load(&d->next_scale),
	};
	if (atomic_load(&d->clips))
		d->reply.rule.clip = (struct msg_clip){.norm = 1, .norm_type = 2};
	d->reply.version = d->reply.version_max = d->step;
	size_t bytes = m->payload_bytes ? 0 : wire_layout_bytes(d->layout);
	void *payload = malloc(bytes + 1);
	if (bytes)
		wire_layout_encode(d->layout, payload);
	answer(d, id, payload, bytes);
	free(payload);
}

/* One worker: whether its step is skipped is for itself to say. */
static void note_verdict(struct fake_daemon *d, const struct msg *m)
{
	if (m->verb < MSG_PUSH || m->verb == MSG_PULL)
		return;
	atomic_store(&d->scale, (int)m->loss_scale);
	d->reply.next_loss_scale = atomic_load(&d->next_scale);
	if (m->verdict != MSG_POISONED)
		return;
	atomic_fetch_add(&d->poisoned, 1);
	atomic_store(&d->poison_tensor_plus_one, (int)m->poison_tensor_plus_one);
	d->reply.skipped_rank_plus_one = 1;
	d->reply.skipped_tensor_plus_one = m->poison_tensor_plus_one;
}

/* As a server whose model has reject answers it. */
static void take_rejection(struct fake_daemon *d, zmq_msg_t *id, const struct msg *m)
{
	atomic_fetch_add(&d->rejected, 1);
	atomic_store(&d->rejected_step, (int)m->step);
	atomic_store(&d->poison_tensor_plus_one, (int)m->poison_tensor_plus_one);
	for (uint32_t i = 0; i < m->part_count; i++)
		atomic_fetch_add(&d->rejected_blocks, (int)m->parts[i].count);
	if (!use_up(&d->lose_answers))
		refuse(d, id, OPTD_NOT_FINITE, "this one has reject");
}

static void push_or_pull(struct fake_daemon *d, zmq_msg_t *id, const struct msg *m)
{
	bool pushes = m->verb != MSG_PULL;
	if (m->verb == MSG_CLOSE_STEP && m->verdict == MSG_POISONED && atomic_load(&d->nonfinite) == MSG_REJECT) {
		take_rejection(d, id, m);
		return;
	}
	if (pushes)
		atomic_fetch_add(&d->pushes, 1);
	if (pushes && atomic_load(&d->refuse_push)) {
		refuse(d, id, atomic_exchange(&d->refuse_push, 0), "refused for the test");
		return;
	}
	if (pushes && atomic_load(&d->hold)) {
		refuse(d, id, OPTD_WAITING, WAITING_TEXT);
		return;
	}
	if (m->verb == MSG_CLOSE_STEP)
		atomic_store(&d->close_weight, (int)m->weight);
	if (pushes) {
		atomic_store(&d->base_version, (int)m->base_version);
		apply(d, m);
	note_verdict(d, m);
	}
	if (atomic_load(&d->averages))
		d->reply.source = m->source;
	if (m->verb == MSG_INIT && m->part_count == 0)
		d->ready = true;
	float *out = NULL;
	size_t bytes = 0;
	if (m->verb == MSG_PULL || m->verb == MSG_PUSH_PULL) {
		out = malloc(LIMIT_MESSAGE_BYTES);
		bytes = collect(d, m, out);
	}
	if (!use_up(&d->lose_answers))
		answer(d, id, out, bytes);
	free(out);
}

/* A segment's part of the norm, whoever has it, tells the step and the segment. */
static void tell_or_take_norms(struct fake_daemon *d, zmq_msg_t *id, const struct msg *m)
{
	uint32_t first = layout_block(d->layout, m->parts[0].first)->first_segment;
	uint32_t count = layout_run_segments(d->layout, (struct layout_run){m->parts[0].first, m->parts[0].count});
	size_t bytes = count * sizeof(double);
	double *numbers = malloc(bytes);
	for (uint32_t i = 0; i < count; i++)
		numbers[i] = 1000.0 * (double)m->step + first + i;
	bool tells = m->payload_bytes > 0;
	atomic_fetch_add(tells ? &d->told : &d->asked, 1);
	if (tells && (m->payload_bytes != bytes || memcmp(m->payload, numbers, bytes) != 0))
		atomic_fetch_add(&d->told_wrong, 1);
	if (atomic_load(&d->refuse_norm)) {
		refuse(d, id, atomic_exchange(&d->refuse_norm, 0), "refused for the test");
	} else {
		d->reply.part_count = !tells;
		d->reply.parts[0] = m->parts[0];
		answer(d, id, tells ? NULL : numbers, tells ? 0 : bytes);
	}
	free(numbers);
}

/* ---- the loop ------------------------------------------------------------------------ */

static void have_accident(struct fake_daemon *d)
{
	if (use_up(&d->forget_sessions))
		d->session = 0;
	if (!use_up(&d->restart))
		return;
	d->session = 0;
	d->epoch++;
	int back = atomic_exchange(&d->back, 0);
	for (uint32_t i = 0; d->layout && i < layout_block_count(d->layout); i++)
		d->versions[i] -= (uint64_t)back;
	if (d->layout)
		lowest_step(d);
	if (!atomic_exchange(&d->lose_model, 0))
		return;
	layout_free(d->layout);
	d->layout = NULL;
	d->ready = false;
	d->step = 0;
	free(d->weights);
	free(d->versions);
	d->weights = NULL;
	d->versions = NULL;
}

static void handle(struct fake_daemon *d, zmq_msg_t *id, const struct msg *m)
{
	memset(&d->reply, 0, sizeof(d->reply));
	have_accident(d);
	d->reply.verb = m->verb;
	d->reply.reply = true;
	d->reply.request = m->request;
	d->reply.session = m->session;
	d->reply.epoch = d->epoch;
	d->reply.rank = m->rank;
	if (m->verb == MSG_HELLO)
		welcome(d, id, m);
	else if (m->session != d->session)
		refuse(d, id, OPTD_NO_SESSION, "say HELLO first");
	else if (m->verb == MSG_OPEN)
		open_model(d, id, m);
	else if (m->verb == MSG_GOODBYE) {
		atomic_fetch_add(&d->goodbyes, 1);
		answer(d, id, NULL, 0);
	} else if (m->verb >= MSG_INIT && m->verb <= MSG_CLOSE_STEP)
		push_or_pull(d, id, m);
	else if (m->verb == MSG_NORM && d->layout)
		tell_or_take_norms(d, id, m);
	else if ((m->verb == MSG_SAVE || m->verb == MSG_DROP) && atomic_load(&d->hold))
		refuse(d, id, OPTD_WAITING, WAITING_TEXT);
	else
		answer(d, id, NULL, 0);
}

static void receive(struct fake_daemon *d)
{
	static _Thread_local struct msg m;
	zmq_msg_t id, header, payload;
	char why[256];
	zmq_msg_init(&id);
	zmq_msg_init(&header);
	zmq_msg_init(&payload);
	zmq_msg_recv(&id, d->socket, 0);
	zmq_msg_recv(&header, d->socket, 0);
	zmq_msg_recv(&payload, d->socket, 0);
	/* Small frames may lie anywhere; floats may not. */
	size_t bytes = zmq_msg_size(&payload);
	void *aligned = malloc(bytes + 1);
	memcpy(aligned, zmq_msg_data(&payload), bytes);
	if (wire_decode(d->arena, zmq_msg_data(&header), zmq_msg_size(&header), bytes ? aligned : NULL, bytes,
	                true, &m, why, sizeof(why)) == 0)
		handle(d, &id, &m);
	free(aligned);
	zmq_msg_close(&id);
	zmq_msg_close(&header);
	zmq_msg_close(&payload);
}

static void *run(void *user)
{
	struct fake_daemon *d = user;
	while (!atomic_load(&d->stop)) {
		zmq_pollitem_t item = {.socket = d->socket, .events = ZMQ_POLLIN};
		if (zmq_poll(&item, 1, 5) > 0)
			receive(d);
	}
	return NULL;
}

void fake_daemon_start_at(struct fake_daemon *daemon, const char *endpoint, uint64_t id)
{
	size_t size = sizeof(daemon->endpoint);
	memset(daemon, 0, sizeof(*daemon));
	daemon->id = id;
	daemon->epoch = 1;
	daemon->run = 100;
	daemon->arena = wire_arena_new();
	daemon->context = zmq_ctx_new();
	daemon->socket = zmq_socket(daemon->context, ZMQ_ROUTER);
	if (!daemon->arena || zmq_bind(daemon->socket, endpoint) != 0 ||
	    zmq_getsockopt(daemon->socket, ZMQ_LAST_ENDPOINT, daemon->endpoint, &size) != 0 ||
	    pthread_create(&daemon->thread, NULL, run, daemon) != 0)
		abort();
}

void fake_daemon_start(struct fake_daemon *daemon, uint64_t id)
{
	fake_daemon_start_at(daemon, "tcp://127.0.0.1:*", id);
}

void fake_daemon_stop(struct fake_daemon *daemon)
{
	int none = 0;
	atomic_store(&daemon->stop, true);
	pthread_join(daemon->thread, NULL);
	zmq_setsockopt(daemon->socket, ZMQ_LINGER, &none, sizeof(none));
	zmq_close(daemon->socket);
	zmq_ctx_term(daemon->context);
	layout_free(daemon->layout);
	free(daemon->weights);
	free(daemon->versions);
	wire_arena_free(daemon->arena);
}
