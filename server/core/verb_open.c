/*
 * HELLO, OPEN and GOODBYE: who is there, and which model they mean.
 *
 * OPEN never changes what a model is: it creates one that is not there, or
 * attaches to one whose run, place, layout and settings agree with what the
 * worker says.  Each way to disagree has its own status and both values.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/nearest.h"
#include "server/core/clipping.h"
#include "server/core/run.h"
#include "server/core/settings.h"
#include "server/core/verbs.h"
#include "server/core/whole.h"

#define SOFTWARE "optd 0.1.0"

static struct msg_text text_of(const char *s)
{
	return (struct msg_text){s, (uint32_t)strlen(s)};
}

/* ---- HELLO -------------------------------------------------------------- */

static bool session_room(struct engine *engine, uint32_t peer)
{
	if (peer < engine->session_room)
		return true;
	uint32_t room = engine->session_room == 0 ? 16 : engine->session_room;
	while (room <= peer)
		room *= 2;
	struct session *sessions = realloc(engine->sessions, room * sizeof(*sessions));
	if (sessions == NULL)
		return false;
	memset(sessions + engine->session_room, 0, (room - engine->session_room) * sizeof(*sessions));
	engine->sessions = sessions;
	engine->session_room = room;
	return true;
}

static void welcome(struct call *call)
{
	const struct engine_options *options = &call->engine->options;
	struct outbox_entry *entry = call_reply(call, OPTD_OK);
	struct msg_welcome *w = &entry->head.welcome;

	w->protocol = LIMIT_PROTOCOL_MAX;
	w->daemon_id = options->daemon_id;
	w->lane = options->lane;
	w->lanes = options->lanes;
	w->message_bytes = options->message_bytes;
	w->window_bytes = options->window_bytes;
	w->software = text_of(SOFTWARE);
	w->endpoint_count = options->lanes;
	for (uint32_t i = 0; i < options->lanes; i++)
		w->endpoints[i] = text_of(options->endpoints[i]);
}

void verb_hello(struct call *call)
{
	const struct msg *request = call->request;
	const struct msg_hello *hello = &request->hello;
	struct engine *engine = call->engine;

	if (hello->protocol_min > LIMIT_PROTOCOL_MAX || hello->protocol_max < LIMIT_PROTOCOL_MIN) {
		call_refuse(call, OPTD_PROTOCOL,
		            "the client speaks protocol %u to %u, this server %u to %u: update the older one",
		            hello->protocol_min, hello->protocol_max, LIMIT_PROTOCOL_MIN,
		            LIMIT_PROTOCOL_MAX);
		return;
	}
	if (!session_room(engine, call->peer)) {
		call_refuse(call, OPTD_NO_MEMORY, "no memory for a session");
		return;
	}
	/* The same number again is a probe: nothing changes. */
	if (!engine_has_session(engine, call->peer, request->session))
		session_close(engine, call->peer);
	struct session *session = &engine->sessions[call->peer];
	session->open = true;
	session->number = request->session;
	session->pid = hello->pid;
	snprintf(session->host, sizeof(session->host), "%.*s", (int)hello->host.size,
	         hello->host.size > 0 ? hello->host.bytes : "");
	welcome(call);
}

void verb_goodbye(struct call *call)
{
	session_close(call->engine, call->peer);
	call_reply(call, OPTD_OK);
}

/* ---- OPEN: creating ----------------------------------------------------- */

static const struct engine_preset *find_preset(const struct engine *engine, const char *name)
{
	for (uint32_t i = 0; i < engine->options.preset_count; i++) {
		if (strcmp(engine->options.presets[i].model, name) == 0)
			return &engine->options.presets[i];
	}
	return NULL;
}

/* SplitMix64: spreads the daemon's random seed over its runs. */
static uint64_t draw_run(struct engine *engine)
{
	uint64_t z = engine->options.seed + ++engine->runs * UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	return z != 0 ? z : 1;
}

/* Before anything is allocated for it: a peer may ask for 2^40 parameters. */
static bool limits_allow(struct call *call, const char *name, const struct model_settings *settings,
                          struct model_place place)
{
	const struct engine *engine = call->engine;
	struct layout *layout = *call->layout;
	uint64_t vectors = model_vector_count(settings);
	uint64_t elements = layout_elements(layout) / place.daemons / place.lanes;
	uint64_t least = elements * vectors * sizeof(float);
	char why[LIMIT_TEXT_BYTES];

	/* Cutting it takes memory too, so first without the tables. */
	int rc = engine_has_room(engine, name, layout, least, why, sizeof(why));
	if (rc < 0) {
		call_refuse(call, rc, "%s", why);
		return false;
	}
	rc = whole_cut(&settings->groups, &settings->optim, layout);
	if (rc < 0) {
		call_refuse(call, rc, "model '%s': %s", name,
		            rc == OPTD_INVALID ? "the layout has no elements" : "no memory for its tables");
		return false;
	}
	rc = engine_admits(engine, name, settings, layout, place, why, sizeof(why));
	if (rc < 0)
		call_refuse(call, rc, "%s", why);
	return rc == OPTD_OK;
}

/* A model that trains for days must not turn out then to be one that cannot be saved. */
static bool checkpoint_allows(struct call *call, const char *name,
                              const struct model_settings *settings, struct model_place place)
{
	const struct engine_options *options = &call->engine->options;
	uint64_t need = options->head_bytes != NULL ? options->head_bytes(settings, *call->layout, place) : 0;

	if (need <= LIMIT_SAFETENSORS_HEADER)
		return true;
	call_refuse(call, OPTD_TOO_LARGE,
	            "model '%s' could not be saved: the header of its checkpoint takes up to %" PRIu64
	            " bytes (%u tensors, %u state vectors), readers of safetensors accept %u; join small "
	            "tensors, give shorter names, or share the model among more servers",
	            name, need, layout_tensor_count(*call->layout),
	            groups_slot_count(&settings->groups, &settings->optim),
	            LIMIT_SAFETENSORS_HEADER);
	return false;
}

/* Whether its optimizer and groups are for these tensors.  Who they are of is told: a worker
 * that gave none looks for the fault in the server's config. */
static bool suits(struct call *call, const char *name, const struct model_settings *settings, bool preset)
{
	char why[LIMIT_TEXT_BYTES] = "";

	int rc = groups_fit(&settings->groups, *call->layout, why, sizeof(why));
	if (rc == OPTD_OK)
		rc = whole_check(&settings->groups, &settings->optim, settings->mode, *call->layout, why, sizeof(why));
	if (rc < 0)
		call_refuse(call, rc, "model '%s': %s%s", name, preset ? "by the server's config (models), " : "", why);
	return rc == OPTD_OK;
}

static struct shard *create(struct call *call, const char *name)
{
	const struct msg_open *open = &call->request->open;
	struct engine *engine = call->engine;
	struct model_place place = {open->daemon, open->daemons, engine->options.lane,
	                            engine->options.lanes};
	struct model_settings settings;
	char why[LIMIT_TEXT_BYTES] = "";

	const struct engine_preset *preset = find_preset(engine, name);
	int rc = settings_make(&engine->options, preset, open, &settings, why, sizeof(why));
	if (rc == OPTD_OK)
		rc = clipping_check_client(&settings.clip, open, why, sizeof(why));
	if (rc < 0) {
		call_refuse(call, rc, "model '%s': %s", name, why);
		return NULL;
	}
	if (!suits(call, name, &settings, preset != NULL && preset->optim_given) ||
	    !limits_allow(call, name, &settings, place) || !checkpoint_allows(call, name, &settings, place))
		return NULL;
	if (layout_hash(*call->layout) != open->layout_hash) {
		call_refuse(call, OPTD_LAYOUT,
		            "model '%s': client and server cut this layout differently: update the older one",
		            name);
		return NULL;
	}
	struct model *model = model_new(name, &settings, call->layout, place);
	if (model == NULL) {
		call_refuse(call, OPTD_NO_MEMORY, "no memory for model '%s'", name);
		return NULL;
	}
	settings_text(open->run, model->run, sizeof(model->run));
	model->run_id = open->expect_run != 0 ? open->expect_run : draw_run(engine);
	model->born_ms = (int64_t)call->now_ms;
	rc = engine_adopt(engine, &model, why, sizeof(why));
	if (rc < 0) {
		model_free(model);
		call_refuse(call, rc, "%s", why);
		return NULL;
	}
	return engine_find(engine, name);
}

/* ---- OPEN: attaching ---------------------------------------------------- */

static bool place_agrees(struct call *call, const struct model *model)
{
	const struct msg_open *open = &call->request->open;

	/* Readers too: from the list they computed which lane has which blocks. */
	if (open->daemon == model->place.daemon && open->daemons == model->place.daemons)
		return true;
	call_refuse(call, OPTD_WRONG_MAP,
	            "this server is number %u of %u in the list given, and number %u of %u for model "
	            "'%s': give the servers in the order the model was made with",
	            open->daemon + 1, open->daemons, model->place.daemon + 1, model->place.daemons,
	            model->name);
	return false;
}

static bool layout_agrees(struct call *call, const struct model *model)
{
	const struct msg_open *open = &call->request->open;
	char why[512] = "the cut into blocks differs";

	if (open->layout_hash == 0 || open->layout_hash == layout_hash(model->layout))
		return true;
	if (*call->layout != NULL)
		layout_compare(*call->layout, model->layout, why, sizeof(why));
	call_refuse(call, OPTD_LAYOUT, "model '%s': %s", model->name, why);
	return false;
}

static bool settings_agree(struct call *call, const struct shard *shard)
{
	const struct model *model = shard->model;
	char why[LIMIT_TEXT_BYTES];
	const struct msg_open *open = &call->request->open;
	int rc = settings_compare_changed(open, model, shard->setting ? &shard->set : NULL, why, sizeof(why));
	if (rc == OPTD_OK && call->request->rank != MSG_NO_RANK)
		rc = clipping_check_client(&model->settings.clip, open, why, sizeof(why));
	if (rc < 0)
		call_refuse(call, rc, "model '%s': %s", model->name, why);
	return rc == OPTD_OK;
}

/* ---- OPEN: ranks -------------------------------------------------------- */

static void probe(struct call *call, const struct holder *holder)
{
	/* If the holder's connection is gone, sending this finds out. */
	struct outbox_entry *entry = outbox_add(call->out, holder->peer);
	entry->head.verb = MSG_HELLO;
	entry->head.status = OPTD_WAITING;
	entry->head.session = call->engine->sessions[holder->peer].number;
	entry->head.epoch = call->engine->options.epoch;
}

static bool rank_fits(struct call *call, const struct model *model)
{
	uint32_t rank = (uint32_t)call->request->rank;
	bool sync = model->settings.mode == MSG_SYNC;
	uint32_t ranks = sync ? model->settings.workers : call->engine->options.workers;

	if (rank < ranks)
		return true;
	call_refuse(call, OPTD_INVALID, "rank %u: model '%s' has ranks 0 to %u (%s)", rank, model->name,
	            ranks - 1, sync ? "workers" : "limits.workers");
	return false;
}

/* In async ranks come as they like: one beyond those that the model's bytes have, if it
 * never came before, is counted from here on, also when it is gone.  One whose steps came
 * back with a checkpoint had room when it was made, and has it with other lanes, too. */
static bool rank_counts(struct call *call, struct shard *shard, uint32_t rank)
{
	struct engine *engine = call->engine;
	const struct model *model = shard->model;
	uint64_t left = engine_left(engine);
	uint64_t need = shard_rank_bytes(&model->settings, model->layout, model->place, engine_window(engine));
	bool came_back = rank < model->seats && model->seen[rank] != NULL;
	uint32_t ever = 0;
	char later[ENGINE_SHORT_BYTES];

	for (uint32_t i = 0; i < shard->holder_count; i++)
		ever += shard->holders[i].ever;
	if (ever < shard->ranks || (rank < shard->holder_count && shard->holders[rank].ever))
		return true;
	if (!came_back && need > left) {
		int rc = engine_short(engine, need, later, sizeof(later));
		call_refuse(call, rc,
		            "rank %u would be worker %u of model '%s': what it may have under way takes %" PRIu64
		            " bytes here, %" PRIu64 " are left of %" PRIu64
		            ", this lane's share of limits.memory (1 of %u lanes)%s",
		            rank, ever + 1, model->name, need, left, engine->options.memory_bytes,
		            engine->options.lanes, later);
		return false;
	}
	shard->ranks++;
	shard->bytes += need;
	engine->bytes += need;
	return true;
}

static bool claim_rank(struct call *call, struct shard *shard)
{
	const struct msg *request = call->request;

	if (request->rank == MSG_NO_RANK)
		return true;
	if (!rank_fits(call, shard->model))
		return false;
	uint32_t rank = (uint32_t)request->rank;
	if (!rank_counts(call, shard, rank))
		return false;
	struct holder *holder = shard_holder(shard, rank);
	if (holder == NULL || (shard->model->settings.mode == MSG_ASYNC &&
	                       model_seat(shard->model, rank) < 0)) {
		call_refuse(call, OPTD_NO_MEMORY, "no memory for rank %u", rank);
		return false;
	}
	if (holder->held && holder->peer == call->peer)
		return true;
	if (holder->held && holder->client != request->open.client) {
		probe(call, holder);
		call_refuse(call, OPTD_RANK_HELD, "rank %u of model '%s' is held by %s:%u", rank,
		            shard->model->name, holder->host, holder->pid);
		return false;
	}
	holder->held = true;
	holder->ever = true;
	holder->peer = call->peer;
	holder->client = request->open.client;
	holder->incarnation++;
	holder->pid = call->session->pid;
	memcpy(holder->host, call->session->host, sizeof(holder->host));
	return true;
}

/* ---- OPEN --------------------------------------------------------------- */

/* Only to one who asks for it: a worker that opens to pull, or to see whether the
 * server lives, has no weights to give, and would keep those who have from it. */
static void grant_init(struct call *call, struct shard *shard, struct msg_opened *opened)
{
	struct grant *grant = &shard->grant;

	opened->state = shard->ready ? MSG_MODEL_READY : MSG_MODEL_WAITING;
	if (shard->ready || !call->request->open.wants_init || shard->model->owned.first != 0 ||
	    call->request->rank == MSG_NO_RANK)
		return;
	if (grant->active && grant->peer != call->peer)
		return;
	if (!grant->active)
		grant->token++;
	grant->active = true;
	grant->peer = call->peer;
	grant->expires_ms = call->now_ms + call->engine->options.lease_ms;
	opened->state = MSG_MODEL_GRANTED;
	opened->token = grant->token;
	opened->lease_ms = call->engine->options.lease_ms;
}

/* A model's groups, copied: the model may be dropped before they are sent.  False without
 * memory. */
static bool tell_groups(struct call *call, const struct model_settings *settings, struct msg_rule *rule)
{
	uint32_t count = settings->groups.count;
	struct settings_told told;
	bool kept = true;

	settings_tell_groups(settings, &told);
	for (uint32_t i = 0; i < count; i++) {
		struct msg_group *g = &told.groups[i];
		g->tensors.bytes = (const char *)outbox_bytes(call->out, g->tensors.bytes, g->tensors.size);
		g->hypers = outbox_structs(call->out, told.hypers[i], g->hyper_count * (uint32_t)sizeof(*g->hypers));
		g->schedule = outbox_structs(call->out, told.schedules[i],
		                             g->schedule_count * (uint32_t)sizeof(*g->schedule));
		kept = kept && g->tensors.bytes != NULL && g->hypers != NULL && g->schedule != NULL;
	}
	rule->groups = outbox_structs(call->out, told.groups, count * (uint32_t)sizeof(*told.groups));
	rule->group_count = count;
	return kept && rule->groups != NULL;
}

static void opened(struct call *call, struct shard *shard, bool created, bool earlier)
{
	const struct model *model = shard->model;
	struct outbox_entry *entry = call_reply(call, OPTD_OK);
	struct msg_opened *o = &entry->head.opened;
	struct model_settings settings;
	char optimizer[LIMIT_TEXT_BYTES];

	model_versions(model, &entry->head.version, &entry->head.version_max);
	settings_at(&model->settings, &model->changes, NULL, entry->head.version, &settings);
	settings_describe(&settings, optimizer, sizeof(optimizer));
	o->model = shard->handle;
	o->layout = model->layout_id;
	o->run_id = model->run_id;
	o->created = created;
	o->restored = model->restored;
	o->age_s = run_age_s(call, model);
	o->mode = model->settings.mode;
	o->reduce = model->settings.reduce;
	o->workers = model->settings.workers;
	o->step_timeout_ms = model->settings.step_timeout_ms;
	o->nonfinite = model->settings.nonfinite;
	o->loss_scale = model->settings.loss_scale;
	o->loss_scale_now = (double)model->scaler.scale;
	o->elements = layout_elements(model->layout);
	o->tensors = layout_tensor_count(model->layout);
	if (call->request->rank != MSG_NO_RANK) {
		o->step = run_next_step(shard, (uint32_t)call->request->rank);
		o->incarnation = shard->holders[call->request->rank].incarnation;
	}
	grant_init(call, shard, o);
	o->optimizer = outbox_printf(call->out, "%s", optimizer);
	settings_tell(&settings, &entry->head.rule);
	if (!tell_groups(call, &settings, &entry->head.rule))
		entry->head.status = OPTD_NO_MEMORY;
	if (earlier)
		entry->head.text = run_exists_text(call, model);
}

static void refuse_unknown(struct call *call, const char *name)
{
	struct engine *engine = call->engine;
	struct nearest nearest = nearest_of(name);

	for (uint32_t i = 0; i < engine->shard_count; i++)
		nearest_try(&nearest, engine->shards[i]->model->name);
	if (engine->shard_count == 0)
		call_refuse(call, OPTD_NO_MODEL, "no model '%s' here, nor any other", name);
	else if (nearest.best == NULL)
		call_refuse(call, OPTD_NO_MODEL, "no model '%s' here; of %u none is like it", name,
		            engine->shard_count);
	else
		call_refuse(call, OPTD_NO_MODEL, "no model '%s' here; the nearest of %u is '%s'", name,
		            engine->shard_count, nearest.best);
}

/* A reader that knows the run from the lead comes before every worker of it. */
static void refuse_early(struct call *call, const char *name)
{
	const struct msg_open *open = &call->request->open;
	const struct engine_options *options = &call->engine->options;

	call_refuse(call, OPTD_NO_MODEL,
	            "lane %u of %u (server %u of %u) has no part of model '%s' yet: a worker makes it when it "
	            "opens the model",
	            options->lane + 1, options->lanes, open->daemon + 1, open->daemons, name);
}

static bool may_create(struct call *call, const char *name)
{
	const struct msg_open *open = &call->request->open;
	bool lead = open->daemon == 0 && call->engine->options.lane == 0;

	/* The lead begins a run, the others join it: once, before its first step. */
	if (open->expect_run != 0 &&
	    (lead || open->seen_step > 0 || open->resume == MSG_RESUME_MUST)) {
		call_refuse(call, OPTD_MODEL_LOST,
		            "model '%s' of run %016" PRIx64 " is not here: the server has no checkpoint of it",
		            name, open->expect_run);
		return false;
	}
	/* A reader attaches to what there is: a typo of its must not become a model. */
	bool reads = call->request->rank == MSG_NO_RANK;
	if (open->resume == MSG_RESUME_MUST || open->layout_hash == 0 || *call->layout == NULL || reads) {
		if (open->expect_run != 0)
			refuse_early(call, name);
		else
			refuse_unknown(call, name);
		return false;
	}
	if (call->engine->draining) {
		call_refuse(call, OPTD_DRAINING,
		            "the server is shutting down and makes no new model; '%s' can be opened when it is back",
		            name);
		return false;
	}
	return true;
}

void verb_open(struct call *call)
{
	const struct msg_open *open = &call->request->open;
	char name[LIMIT_NAME_BYTES];
	bool created = false, earlier;

	if (open->model.size == 0 || !settings_text(open->model, name, sizeof(name)) ||
	    open->run.size >= LIMIT_NAME_BYTES || open->daemons == 0 || open->daemon >= open->daemons) {
		call_refuse(call, OPTD_INVALID, "OPEN needs a model name of 1 to %u bytes and the server's "
		            "place in the list", LIMIT_NAME_BYTES - 1);
		return;
	}
	struct shard *shard = engine_find(call->engine, name);
	if (shard == NULL) {
		if (!may_create(call, name))
			return;
		shard = create(call, name);
		if (shard == NULL)
			return;
		created = true;
	} else if (!run_agrees(call, shard) || !place_agrees(call, shard->model) ||
	           !layout_agrees(call, shard->model) || !settings_agree(call, shard)) {
		return;
	}
	/* Before the rank is claimed: who opens does not keep a run going that had ended. */
	earlier = !created && !run_is_same(open, shard);
	if (claim_rank(call, shard))
		opened(call, shard, created, earlier);
	else if (created)
		engine_drop(call->engine, name, call->out); /* a refusal leaves nothing behind */
}
