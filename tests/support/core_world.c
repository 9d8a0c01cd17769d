/* Requests by hand, answers in a list. */
#include "tests/support/core_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t USUAL_TENSORS[] = {4, 3, CORE_SCALAR};
static const char *const ENDPOINTS[LIMIT_LANES] = {"tcp://lane0", "tcp://lane1", "tcp://lane2",
                                                   "tcp://lane3"};

static void copy_text(char *to, size_t room, struct msg_text text)
{
	snprintf(to, room, "%.*s", (int)text.size, text.size > 0 ? text.bytes : "");
}

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

void core_world_init(struct core_world *world)
{
	memset(world, 0, sizeof(*world));
	world->principal = PRINCIPAL_ANONYMOUS;
	world->options = (struct engine_options){.lanes = 1,
	                                         .endpoints = ENDPOINTS,
	                                         .daemon_id = 77,
	                                         .epoch = 5,
	                                         .seed = 1,
	                                         .isa = OPTIM_ISA_BASE,
	                                         .memory_bytes = UINT64_C(1) << 30,
	                                         .message_bytes = LIMIT_MESSAGE_BYTES,
	                                         .window_bytes = LIMIT_WINDOW_BYTES,
	                                         .models = LIMIT_MODELS,
	                                         .workers = 8,
	                                         .step_timeout_ms = 30000,
	                                         .notice_ms = 5000,
	                                         .lease_ms = 10000};
	world->now_ms = 1000;
	world->tensors = USUAL_TENSORS;
	world->tensor_count = 3;
	world->open = (struct msg_open){.model = text_of("m"),
	                                .daemons = 1,
	                                .optimizer = text_of("sgd"),
	                                .mode = MSG_SYNC,
	                                .workers = 1,
	                                .wants_init = true,
	                                .hyper_count = 1};
	world->open.hypers[0] = (struct msg_hyper){.name = text_of("lr"), .values = {1.0}, .count = 1};
}

void core_world_start(struct core_world *world)
{
	world->pool = buf_pool_new(1u << 20);
	assert_non_null(world->pool);
	outbox_init(&world->out);
	world->engine = engine_new(&world->options, world->pool);
	assert_non_null(world->engine);
}

static void forget_answers(struct core_world *world)
{
	for (uint32_t i = 0; i < world->answer_count; i++)
		free(world->answers[i].values);
	free(world->answers);
}

void core_world_end(struct core_world *world)
{
	engine_free(world->engine);
	outbox_deinit(&world->out);
	buf_pool_free(world->pool);
	forget_answers(world);
	assert_int_equal(world->payloads, 0);
}

void core_world_scalars(struct core_world *world, uint32_t count)
{
	static uint64_t scalars[3 * LIMIT_BLOCK_SEGMENTS];
	assert_true(count <= 3 * LIMIT_BLOCK_SEGMENTS);
	for (uint32_t i = 0; i < count; i++)
		scalars[i] = CORE_SCALAR;
	world->tensors = scalars;
	world->tensor_count = count;
}

struct layout *core_world_layout(const struct core_world *world)
{
	struct layout *layout = layout_new();
	char name[16];

	assert_non_null(layout);
	for (uint32_t i = 0; i < world->tensor_count; i++) {
		int bytes = snprintf(name, sizeof(name), "t%u", i);
		uint64_t count = world->tensors[i], columns = world->columns;
		uint64_t matrix[2] = {columns > 0 ? count / columns : 0, columns};
		if (count != CORE_SCALAR && columns > 0 && count > columns && count % columns == 0)
			assert_int_equal(layout_add(layout, name, (size_t)bytes, matrix, 2, 0), 0);
		else
			assert_int_equal(layout_add(layout, name, (size_t)bytes, &count,
			                            count == CORE_SCALAR ? 0 : 1, 0), 0);
	}
	return layout;
}

/* ---- answers ------------------------------------------------------------ */

static void keep_answer(struct core_world *world, const struct outbox_entry *entry)
{
	if (world->answer_count == world->answer_room) {
		world->answer_room = world->answer_room == 0 ? 64 : world->answer_room * 2;
		world->answers = realloc(world->answers, world->answer_room * sizeof(*world->answers));
		assert_non_null(world->answers);
	}
	struct core_answer *answer = &world->answers[world->answer_count++];
	memset(answer, 0, sizeof(*answer));
	answer->peer = entry->peer;
	answer->after_commit = entry->after_commit;
	answer->head = entry->head;
	copy_text(answer->text, sizeof(answer->text), entry->head.text);
	if (entry->head.verb == MSG_OPEN && entry->head.status == OPTD_OK)
		copy_text(answer->optimizer, sizeof(answer->optimizer), entry->head.opened.optimizer);
	if (entry->payload != NULL) {
		answer->count = entry->head.payload_bytes / sizeof(float);
		answer->values = malloc(entry->head.payload_bytes);
		assert_non_null(answer->values);
		memcpy(answer->values, entry->payload->data, entry->head.payload_bytes);
	}
}

static bool answer_some(struct core_world *world)
{
	return engine_answer(world->engine, world->room, &world->out) ||
	       (!world->kept_stay && engine_answer_kept(world->engine, world->room, &world->out)) ||
	       (!world->work_stays && engine_work(world->engine, UINT64_MAX) != ENGINE_IDLE);
}

void core_collect(struct core_world *world)
{
	do {
		for (uint32_t i = 0; i < world->out.count; i++)
			keep_answer(world, &world->out.entries[i]);
		outbox_clear(&world->out);
	} while (answer_some(world));
}

void core_tick(struct core_world *world, uint64_t after_ms)
{
	world->now_ms += after_ms;
	while (engine_tick(world->engine, world->now_ms, &world->out))
		core_collect(world);
	core_collect(world);
}

struct shard *core_shard(const struct core_world *world)
{
	char name[LIMIT_NAME_BYTES];
	copy_text(name, sizeof(name), world->open.model);
	struct shard *shard = engine_find(world->engine, name);
	if (shard == NULL)
		shard = engine_find(world->engine, "m");
	assert_non_null(shard);
	return shard;
}

uint64_t core_hash(const struct core_world *world)
{
	return model_hash(core_shard(world)->model);
}

const struct core_answer *core_answer(const struct core_world *world, uint64_t request)
{
	for (uint32_t i = 0; i < world->answer_count; i++) {
		const struct core_answer *answer = &world->answers[i];
		if (answer->head.request == request && answer->head.status <= 0)
			return answer;
	}
	return NULL;
}

const struct core_answer *core_notice(const struct core_world *world, uint64_t request, int status)
{
	for (uint32_t i = world->answer_count; i-- > 0;) {
		const struct core_answer *answer = &world->answers[i];
		if (answer->head.request == request && answer->head.status == status)
			return answer;
	}
	return NULL;
}

uint32_t core_answers_to(const struct core_world *world, uint64_t request)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < world->answer_count; i++)
		count += world->answers[i].head.request == request;
	return count;
}

void core_assert_text(const struct core_answer *answer, const char *words)
{
	char copy[256];
	char *rest = NULL;

	assert_non_null(answer);
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *word = strtok_r(copy, "|", &rest); word != NULL; word = strtok_r(NULL, "|", &rest)) {
		if (strstr(answer->text, word) == NULL)
			fail_msg("'%s' is not in: %s", word, answer->text);
	}
}

void core_assert_refused(const struct core_world *world, uint64_t request, int status,
                         const char *words)
{
	const struct core_answer *answer = core_answer(world, request);

	if (answer == NULL)
		fail_msg("no answer to request %llu", (unsigned long long)request);
	if (answer->head.status != status)
		fail_msg("%s, expected %s: %s", status_name(answer->head.status), status_name(status),
		         answer->text);
	assert_null(answer->values);
	core_assert_text(answer, words);
}

void core_assert_ok(const struct core_world *world, uint64_t request)
{
	const struct core_answer *answer = core_answer(world, request);

	if (answer == NULL)
		fail_msg("no answer to request %llu", (unsigned long long)request);
	if (answer->head.status != OPTD_OK)
		fail_msg("%s: %s", status_name(answer->head.status), answer->text);
}

/* ---- clients ------------------------------------------------------------ */

struct core_client core_client_of(struct core_world *world, uint32_t peer, int32_t rank)
{
	return (struct core_client){.world = world,
	                            .peer = peer,
	                            .session = 1000 + peer,
	                            .client = 500 + peer,
	                            .rank = rank};
}

struct msg core_msg(struct core_client *client, enum msg_verb verb)
{
	return (struct msg){.verb = verb,
	                    .request = ++client->world->requests,
	                    .session = client->session,
	                    .epoch = client->world->options.epoch,
	                    .object = client->opened.model,
	                    .layout = client->opened.layout,
	                    .rank = client->rank,
	                    .incarnation = client->opened.incarnation};
}

struct counted {
	struct buf buf;
	uint32_t *payloads;
};

static void counted_release(struct buf *buf)
{
	(*((struct counted *)buf)->payloads)--;
	free(buf->data);
	free(buf);
}

static struct buf *counted_new(struct core_world *world, const void *bytes, size_t size)
{
	struct counted *counted = calloc(1, sizeof(*counted));
	assert_non_null(counted);
	counted->buf.data = malloc(size);
	assert_non_null(counted->buf.data);
	if (bytes != NULL)
		memcpy(counted->buf.data, bytes, size);
	counted->buf.bytes = size;
	counted->buf.release = counted_release;
	atomic_store(&counted->buf.holders, 1);
	counted->payloads = &world->payloads;
	world->payloads++;
	return &counted->buf;
}

uint64_t core_send_typed(struct core_client *client, struct msg *msg, enum dtype type, const void *values,
                         uint64_t count)
{
	struct core_world *world = client->world;
	struct layout *layout = NULL;
	struct buf *payload = NULL;

	if (count > 0) {
		payload = counted_new(world, values, count * dtype_bytes(type));
		msg->payload = payload->data;
		msg->payload_bytes = payload->bytes;
	}
	msg->dtype = type;
	if (msg->verb == MSG_OPEN && msg->open.layout_hash != 0)
		layout = core_world_layout(world);
	engine_handle(world->engine, client->peer, &world->principal, msg, payload, &layout,
	              world->now_ms, &world->out);
	layout_free(layout);
	buf_drop(payload);
	core_collect(world);
	return msg->request;
}

uint64_t core_send(struct core_client *client, struct msg *msg, const float *values, uint64_t count)
{
	return core_send_typed(client, msg, DTYPE_F32, values, count);
}

const struct core_answer *core_hello(struct core_client *client)
{
	struct msg msg = core_msg(client, MSG_HELLO);
	msg.hello = (struct msg_hello){.protocol_min = LIMIT_PROTOCOL_MIN,
	                               .protocol_max = LIMIT_PROTOCOL_MAX,
	                               .host = text_of("host"),
	                               .pid = 100 + client->peer};
	return core_answer(client->world, core_send(client, &msg, NULL, 0));
}

/* The hash a client would send; it is not formed of a giant layout. */
static uint64_t hash_of(const struct core_world *world)
{
	struct layout *layout = core_world_layout(world);
	uint64_t hash = 1;

	if (layout_elements(layout) < (UINT64_C(1) << 32))
		hash = layout_hash(layout);
	layout_free(layout);
	return hash;
}

const struct core_answer *core_open(struct core_client *client)
{
	struct msg msg = core_msg(client, MSG_OPEN);
	msg.open = client->world->open;
	if (msg.open.client == 0)
		msg.open.client = client->client;
	if (msg.open.layout_hash == 0)
		msg.open.layout_hash = hash_of(client->world);
	else if (msg.open.layout_hash == UINT64_MAX)
		msg.open.layout_hash = 0; /* the test wants to attach without a layout */
	const struct core_answer *answer = core_answer(client->world, core_send(client, &msg, NULL, 0));
	assert_non_null(answer);
	if (answer->head.status == OPTD_OK)
		client->opened = answer->head.opened;
	return answer;
}

void core_init_weights(struct core_client *client, const float *values)
{
	const struct model *model = core_shard(client->world)->model;
	float *zeros = calloc(LIMIT_BLOCK_ELEMENTS, sizeof(float));

	assert_non_null(zeros);
	for (uint32_t i = 0; i < model->owned.count; i++) {
		uint32_t block = model->owned.first + i;
		const struct layout_block *b = layout_block(model->layout, block);
		struct msg msg = core_msg(client, MSG_INIT);
		msg.token = client->opened.token;
		msg.part_count = 1;
		msg.parts[0] = (struct msg_part){.first = block, .count = 1};
		core_assert_ok(client->world, core_send(client, &msg, values == NULL ? zeros : values + b->begin,
		                                        b->count));
	}
	struct msg msg = core_msg(client, MSG_INIT);
	msg.token = client->opened.token;
	core_assert_ok(client->world, core_send(client, &msg, NULL, 0));
	free(zeros);
}

struct core_client core_join(struct core_world *world, uint32_t peer, int32_t rank)
{
	struct core_client client = core_client_of(world, peer, rank);
	assert_int_equal(core_hello(&client)->head.status, OPTD_OK);
	const struct core_answer *answer = core_open(&client);
	if (answer->head.status != OPTD_OK)
		fail_msg("%s: %s", status_name(answer->head.status), answer->text);
	if (answer->head.opened.state == MSG_MODEL_GRANTED)
		core_init_weights(&client, NULL);
	return client;
}

uint64_t core_push(struct core_client *client, enum msg_verb verb, uint64_t step, uint32_t first,
                   uint32_t count, const float *values)
{
	const struct layout *layout = core_shard(client->world)->model->layout;
	const struct layout_block *last = layout_block(layout, first + count - 1);
	uint64_t elements = last->begin + last->count - layout_block(layout, first)->begin;
	struct msg msg = core_msg(client, verb);

	msg.step = step;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = first, .count = count};
	return core_send(client, &msg, values, verb == MSG_CLOSE_STEP ? 0 : elements);
}

uint64_t core_push_all(struct core_client *client, uint64_t step, float value)
{
	const struct layout *layout = core_shard(client->world)->model->layout;
	uint64_t elements = layout_elements(layout);
	float *values = malloc(elements * sizeof(float));

	assert_non_null(values);
	for (uint64_t i = 0; i < elements; i++)
		values[i] = value;
	uint64_t request =
	        core_push(client, MSG_PUSH, step, 0, layout_block_count(layout), values);
	free(values);
	return request;
}

uint64_t core_close_step(struct core_client *client, uint64_t step, uint32_t first, uint32_t count)
{
	return core_push(client, MSG_CLOSE_STEP, step, first, count, NULL);
}

uint64_t core_pull(struct core_client *client, uint32_t first, uint32_t count, uint64_t min_version)
{
	struct msg msg = core_msg(client, MSG_PULL);
	msg.min_version = min_version;
	msg.part_count = 1;
	msg.parts[0] = (struct msg_part){.first = first, .count = count};
	return core_send(client, &msg, NULL, 0);
}
