/* The door: finds session, model and verb, and lets time pass. */
#include "server/core/engine.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/verbs.h"

enum needs { NEEDS_NOTHING, NEEDS_SESSION, NEEDS_MODEL };

/* The index of the program: a verb is a row here and a function. */
static const struct verb {
	void (*handle)(struct call *call);
	enum needs needs;
} VERBS[MSG_VERB_COUNT] = {
        [MSG_HELLO] = {verb_hello, NEEDS_NOTHING},
        [MSG_OPEN] = {verb_open, NEEDS_SESSION},
        [MSG_INIT] = {verb_init, NEEDS_MODEL},
        [MSG_PUSH] = {verb_push, NEEDS_MODEL},
        [MSG_PULL] = {verb_pull, NEEDS_MODEL},
        [MSG_PUSH_PULL] = {verb_push, NEEDS_MODEL},
        [MSG_CLOSE_STEP] = {verb_push, NEEDS_MODEL},
        [MSG_NORM] = {verb_norm, NEEDS_MODEL},
        [MSG_GOODBYE] = {verb_goodbye, NEEDS_SESSION},
};

struct engine *engine_new(const struct engine_options *options, struct buf_pool *pool)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	if (engine == NULL)
		return NULL;
	assert(options->models <= LIMIT_MODELS && options->workers <= LIMIT_WORKERS);
	engine->options = *options;
	engine->pool = pool;
	return engine;
}

void engine_free(struct engine *engine)
{
	if (engine == NULL)
		return;
	for (uint32_t i = 0; i < engine->shard_count; i++)
		shard_free(engine->shards[i]);
	share_clear(&engine->share);
	free(engine->sessions);
	free(engine);
}

/* ---- answers ------------------------------------------------------------ */

struct outbox_entry *call_reply(struct call *call, int status)
{
	const struct msg *request = call->request;
	struct outbox_entry *entry = outbox_add(call->out, call->peer);

	entry->after_commit = call->engine->commits;
	entry->head.verb = request->verb;
	entry->head.status = status;
	entry->head.request = request->request;
	entry->head.session = request->session;
	entry->head.epoch = call->engine->options.epoch;
	entry->head.object = request->object;
	entry->head.rank = request->rank;
	entry->head.step = request->step;
	return entry;
}

void call_refuse(struct call *call, int status, const char *format, ...)
{
	char text[LIMIT_TEXT_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (call->shard != NULL)
		call->shard->counts.refused++;
	struct outbox_entry *entry = call_reply(call, status);
	entry->head.text = outbox_printf(call->out, "%s", text);
}

/* ---- sessions ----------------------------------------------------------- */

bool engine_has_session(const struct engine *engine, uint32_t peer, uint64_t session)
{
	return peer < engine->session_room && engine->sessions[peer].open &&
	       engine->sessions[peer].number == session;
}

static void shard_leave(struct engine *engine, struct shard *shard, uint32_t peer)
{
	for (uint32_t rank = 0; rank < shard->holder_count; rank++) {
		if (shard->holders[rank].held && shard->holders[rank].peer == peer)
			shard->holders[rank].held = false;
	}
	if (shard->grant.active && shard->grant.peer == peer)
		shard->grant.active = false;
	if (shard->lead != NULL && shard->lead->norms != NULL)
		norms_leave(shard->lead->norms, peer);
	struct wait *next;
	/* Most have none by then, while others may have many. */
	for (struct wait *wait = shard->waits.first; wait != NULL && engine->sessions[peer].waits > 0;
	     wait = next) {
		next = wait->next;
		if (wait->peer == peer)
			wait_abandon(engine, shard, wait);
	}
}

void session_close(struct engine *engine, uint32_t peer)
{
	if (peer >= engine->session_room || !engine->sessions[peer].open)
		return;
	engine->sessions[peer].open = false;
	for (uint32_t i = 0; i < engine->shard_count; i++)
		shard_leave(engine, engine->shards[i], peer);
}

void engine_peer_gone(struct engine *engine, uint32_t peer, struct outbox *out)
{
	(void)out; /* leaving is a membership commit once membership can change */
	session_close(engine, peer);
}

/* ---- requests ----------------------------------------------------------- */

static struct shard *find_handle(struct engine *engine, uint32_t handle)
{
	/* Linear scan: a daemon has at most 64 models. */
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		if (engine->shards[i]->handle == handle)
			return engine->shards[i];
	}
	return NULL;
}

static bool admit_session(struct call *call)
{
	const struct msg *request = call->request;

	if (!engine_has_session(call->engine, call->peer, request->session)) {
		call_refuse(call, OPTD_NO_SESSION, "no session on this connection: say HELLO first");
		return false;
	}
	call->session = &call->engine->sessions[call->peer];
	if (request->epoch != call->engine->options.epoch) {
		call_refuse(call, OPTD_STALE_EPOCH,
		            "the request is for epoch %llu, the server is in epoch %llu: open again",
		            (unsigned long long)request->epoch,
		            (unsigned long long)call->engine->options.epoch);
		return false;
	}
	return true;
}

static bool admit_model(struct call *call)
{
	const struct msg *request = call->request;

	call->shard = find_handle(call->engine, request->object);
	if (call->shard == NULL) {
		call_refuse(call, OPTD_MODEL_LOST, "the model was dropped: open it again");
		return false;
	}
	if (request->layout != call->shard->model->layout_id) {
		call_refuse(call, OPTD_WRONG_MAP,
		            "layout id %016llx of the request differs from the model's %016llx: "
		            "open it again",
		            (unsigned long long)request->layout,
		            (unsigned long long)call->shard->model->layout_id);
		return false;
	}
	return true;
}

void engine_handle(struct engine *engine, uint32_t peer, const struct principal *principal,
                   const struct msg *request, struct buf *payload, struct layout **layout,
                   uint64_t now_ms, struct outbox *out)
{
	struct call call = {.engine = engine,
	                    .peer = peer,
	                    .request = request,
	                    .payload = payload,
	                    .layout = layout,
	                    .now_ms = now_ms,
	                    .out = out};
	char why[LIMIT_TEXT_BYTES];
	const struct verb *verb = &VERBS[(unsigned)request->verb < MSG_VERB_COUNT ? request->verb : 0];

	engine->now_ms = now_ms;
	if (verb->handle == NULL) {
		call_refuse(&call, OPTD_UNSUPPORTED, "verb %u is not known here", request->verb);
		return;
	}
	if (!access_allows(principal, request, why, sizeof(why))) {
		call_refuse(&call, OPTD_DENIED, "%s", why);
		return;
	}
	if (verb->needs >= NEEDS_SESSION && !admit_session(&call))
		return;
	if (verb->needs == NEEDS_MODEL && !admit_model(&call))
		return;
	verb->handle(&call);
}

void engine_hear(struct engine *engine, struct lane_message *message, uint64_t now_ms,
                 struct outbox *out)
{
	engine->now_ms = now_ms;
	lead_hear(engine, message, out);
}

/* ---- time --------------------------------------------------------------- */

static void wait_notice(struct engine *engine, struct shard *shard, struct wait *wait,
                        uint64_t now_ms, struct outbox *out)
{
	char missing[SHARD_MISSING_BYTES];
	uint32_t block = shard_lagging_block(shard, wait);
	uint32_t workers = shard->model->settings.workers;
	uint32_t count = shard_missing_text(shard, block, missing, sizeof(missing));
	bool pull = wait->verb == MSG_PULL;

	wait->told_ms = now_ms;
	struct outbox_entry *entry = wait_reply(engine, shard, wait, OPTD_WAITING, out);
	if (!shard->ready)
		entry->head.text = outbox_printf(out, "waiting for the first weights of model '%s'",
		                                 shard->model->name);
	else if (count > 0)
		entry->head.text = outbox_printf(out, "waiting for %u of %u workers: %s", count, workers,
		                                 missing);
	else if (gate_collected(shard->gate))
		entry->head.text = outbox_printf(out, "waiting for other lanes or servers: this one has all of step %llu",
		                                 (unsigned long long)gate_step(shard->gate));
	else
		entry->head.text = outbox_printf(
		        out, "waiting for update %llu of block %u%s",
		        (unsigned long long)(pull ? wait->min_version : model_version(shard->model, block) + 1), block,
		        model_busy(shard->model, block) ? ", which is under way" : "");
}

/* One that is ready has the time from when its peer was last seen to take an answer. */
static uint64_t waits_since(const struct engine *engine, const struct wait *wait)
{
	uint64_t answered_ms = engine->sessions[wait->peer].answered_ms;
	return wait->ready && answered_ms > wait->since_ms ? answered_ms : wait->since_ms;
}

static struct msg_text no_room_text(struct engine *engine, const struct shard *shard,
                                    const struct wait *wait, uint64_t now_ms, struct outbox *out)
{
	unsigned long long seconds = (now_ms - waits_since(engine, wait)) / 1000;

	if (wait->verb == MSG_PULL)
		return outbox_printf(
		        out,
		        "the blocks of model '%s' that are asked for have been there for %llu s, and there "
		        "was no room to send them: read answers as they come, or ask for less at a time",
		        shard->model->name, seconds);
	return outbox_printf(
	        out,
	        "step %llu of model '%s' is complete and has this push, but for %llu s there was no "
	        "room to send its weights: read answers as they come; the same call again gets them",
	        (unsigned long long)wait->step, shard->model->name, seconds);
}

static const char *nobody_text(const struct shard *shard)
{
	if (gate_collected(shard->gate))
		return "nobody here (another lane or server has not all of the step, or a checkpoint is being written, or a "
		       "change of settings agreed on)";
	if (!shard->cutting && !shard->setting)
		return "nobody (tensors are being updated)";
	return "nobody (a checkpoint is being written, or a change of settings agreed on)";
}

static void wait_expire(struct engine *engine, struct shard *shard, struct wait *wait,
                        uint64_t now_ms, struct outbox *out)
{
	char missing[SHARD_MISSING_BYTES];
	uint32_t block = shard_lagging_block(shard, wait);
	uint64_t version = model_version(shard->model, block);
	bool pull = wait->verb == MSG_PULL;
	int status = pull || wait->ready ? OPTD_TIMEOUT : OPTD_STEP_TIMEOUT;

	shard_missing_text(shard, block, missing, sizeof(missing));
	struct outbox_entry *entry = wait_reply(engine, shard, wait, status, out);
	if (wait->ready)
		entry->head.text = no_room_text(engine, shard, wait, now_ms, out);
	else if (!shard->ready)
		entry->head.text = outbox_printf(
		        out, "nobody has given model '%s' its first weights within %llu s",
		        shard->model->name, (unsigned long long)((now_ms - wait->since_ms) / 1000));
	else if (pull)
		entry->head.text = outbox_printf(
		        out, "block %u of model '%s' is at version %llu after %llu s, %llu is asked for",
		        block, shard->model->name, (unsigned long long)version,
		        (unsigned long long)((now_ms - wait->since_ms) / 1000),
		        (unsigned long long)wait->min_version);
	else
		entry->head.text = outbox_printf(
		        out,
		        "step %llu of model '%s' is not complete after %llu s: missing %s; this push "
		        "stays and counts, make the same call again to go on waiting",
		        (unsigned long long)wait->step, shard->model->name,
		        (unsigned long long)((now_ms - wait->since_ms) / 1000),
		        missing[0] != '\0' ? missing : nobody_text(shard));
	wait_abandon(engine, shard, wait);
}

static void shard_tick(struct engine *engine, struct shard *shard, uint64_t now_ms,
                       struct outbox *out)
{
	uint32_t timeout_ms = shard->model->settings.step_timeout_ms;
	struct wait *wait;

	if (shard->grant.active && now_ms >= shard->grant.expires_ms)
		shard->grant.active = false;
	while ((wait = shard->waits.at) != NULL && out->count < ENGINE_BATCH) {
		shard->waits.at = wait->next;
		if (wait->ready && wait_is_busy(wait))
			continue;
		if (now_ms - waits_since(engine, wait) >= timeout_ms)
			wait_expire(engine, shard, wait, now_ms, out);
		else if (!wait->ready && now_ms - wait->told_ms >= engine->options.notice_ms)
			wait_notice(engine, shard, wait, now_ms, out);
	}
}

/* A round looks at every wait once, over as many calls as its notices take. */
bool engine_tick(struct engine *engine, uint64_t now_ms, struct outbox *out)
{
	bool more = false;

	engine->now_ms = now_ms;
	for (uint32_t i = 0; i < engine->shard_count && !engine->in_round; i++)
		engine->shards[i]->waits.at = engine->shards[i]->waits.first;
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		shard_tick(engine, engine->shards[i], now_ms, out);
		more |= engine->shards[i]->waits.at != NULL;
	}
	engine->in_round = more;
	return more;
}

/* ---- models ------------------------------------------------------------- */

void engine_begin_epoch(struct engine *engine, uint64_t epoch)
{
	engine->options.epoch = epoch;
	for (uint32_t i = 0; i < engine->shard_count; i++)
		model_begin_epoch(engine->shards[i]->model, epoch);
}

uint64_t engine_epoch(const struct engine *engine)
{
	return engine->options.epoch;
}

uint32_t engine_shard_count(const struct engine *engine)
{
	return engine->shard_count;
}

struct shard *engine_shard(const struct engine *engine, uint32_t index)
{
	assert(index < engine->shard_count);
	return engine->shards[index];
}

struct shard *engine_find(const struct engine *engine, const char *name)
{
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		if (strcmp(engine->shards[i]->model->name, name) == 0)
			return engine->shards[i];
	}
	return NULL;
}

struct shard_window engine_window(const struct engine *engine)
{
	return (struct shard_window){engine->options.window_bytes, engine->options.message_bytes};
}

void engine_drain(struct engine *engine)
{
	engine->draining = true;
}

uint64_t engine_bytes(const struct engine *engine)
{
	return engine->bytes + engine->pull_bytes;
}

void engine_set_unread(struct engine *engine, uint64_t bytes)
{
	engine->unread = bytes;
}

uint64_t engine_left(const struct engine *engine)
{
	uint64_t taken = engine_bytes(engine) + engine->unread, limit = engine->options.memory_bytes;
	return limit > taken ? limit - taken : 0;
}

int engine_short(const struct engine *engine, uint64_t need, char *text, size_t bytes)
{
	uint64_t taken = engine_bytes(engine), limit = engine->options.memory_bytes;

	text[0] = '\0';
	if (engine->unread == 0 || taken > limit || need > limit - taken)
		return OPTD_TOO_LARGE;
	snprintf(text, bytes, "; %llu more are once answers that wait have been read: try again later",
	         (unsigned long long)engine->unread);
	return OPTD_BUSY;
}

int engine_has_room(const struct engine *engine, const char *name, const struct layout *layout,
                    uint64_t need, char *why, size_t why_bytes)
{
	const struct engine_options *options = &engine->options;
	uint64_t left = engine_left(engine);
	char later[ENGINE_SHORT_BYTES];

	if (need <= left)
		return OPTD_OK;
	int rc = engine_short(engine, need, later, sizeof(later));
	snprintf(why, why_bytes,
	         "model '%s' (%llu parameters) takes %llu bytes here, %llu are left of %llu, this "
	         "lane's share of limits.memory (1 of %u lanes)%s",
	         name, (unsigned long long)layout_elements(layout), (unsigned long long)need,
	         (unsigned long long)left, (unsigned long long)options->memory_bytes, options->lanes,
	         later);
	return rc;
}

int engine_has_place(const struct engine *engine, const char *name, char *why, size_t why_bytes)
{
	uint32_t models = engine->options.models;

	if (engine->shard_count < models)
		return OPTD_OK;
	snprintf(why, why_bytes, "model '%s' would be number %u here, limits.models allows %u", name,
	         engine->shard_count + 1, models);
	return OPTD_BUSY;
}

int engine_admits(const struct engine *engine, const char *name,
                  const struct model_settings *settings, const struct layout *layout,
                  struct model_place place, char *why, size_t why_bytes)
{
	int rc = engine_has_place(engine, name, why, why_bytes);
	if (rc < 0)
		return rc;
	uint64_t need = shard_bytes(settings, layout, place, engine_window(engine));
	return engine_has_room(engine, name, layout, need, why, why_bytes);
}

int engine_adopt(struct engine *engine, struct model **model, char *why, size_t why_bytes)
{
	const struct model *m = *model;
	uint64_t bytes = shard_bytes(&m->settings, m->layout, m->place, engine_window(engine));
	/* A checkpoint brings the steps of all ranks that ever pushed. */
	if (m->seats > m->settings.workers)
		bytes += (m->seats - m->settings.workers) * (uint64_t)m->owned.count * sizeof(uint64_t);

	if (engine_find(engine, m->name) != NULL) {
		snprintf(why, why_bytes, "model '%s' is there already", m->name);
		return OPTD_EXISTS;
	}
	int rc = m->restored ? engine_has_place(engine, m->name, why, why_bytes)
	                     : engine_admits(engine, m->name, &m->settings, m->layout, m->place, why,
	                                     why_bytes);
	if (rc < 0)
		return rc;
	struct shard *shard = shard_new(model, engine->options.isa);
	if (shard == NULL) {
		snprintf(why, why_bytes, "no memory for the %llu bytes of model '%s'",
		         (unsigned long long)bytes, m->name);
		return OPTD_NO_MEMORY;
	}
	shard->handle = ++engine->next_handle;
	shard->bytes = bytes;
	shard->ready = shard->model->restored;
	engine->bytes += bytes;
	engine->shards[engine->shard_count++] = shard;
	return OPTD_OK;
}

int engine_drop(struct engine *engine, const char *name, struct outbox *out)
{
	for (uint32_t i = 0; i < engine->shard_count; i++) {
		struct shard *shard = engine->shards[i];
		if (strcmp(shard->model->name, name) != 0)
			continue;
		while (shard->waits.first != NULL) {
			struct wait *wait = shard->waits.first;
			if (out->count >= ENGINE_BATCH)
				return OPTD_WAITING;
			struct outbox_entry *entry = wait_reply(engine, shard, wait, OPTD_MODEL_LOST, out);
			entry->head.text = outbox_printf(out, "model '%s' was dropped", name);
			wait_abandon(engine, shard, wait);
		}
		if (!norms_end(engine, shard, out))
			return OPTD_WAITING;
		engine->bytes -= shard->bytes;
		engine->shards[i] = engine->shards[--engine->shard_count];
		shard_free(shard);
		return OPTD_OK;
	}
	return OPTD_NO_MODEL;
}
