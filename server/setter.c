/* The steps of a change, each a walk through the lanes and back. */
#include "server/setter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/setter_parts.h"

static void on_hold_over(uv_timer_t *timer);
static void next(struct setter *setter);

struct setter *setter_new(uv_loop_t *loop, struct lane **lanes, uint32_t lane_count, const struct log *log)
{
	struct setter *setter = calloc(1, sizeof(*setter));
	if (setter == NULL)
		return NULL;
	setter->lanes = lanes;
	setter->lane_count = lane_count;
	setter->log = log;
	for (uint32_t i = 0; i < lane_count; i++)
		setter->parts[i].setter = setter;
	pthread_mutex_init(&setter->lock, NULL);
	mailbox_open(&setter->mailbox, loop);
	uv_timer_init(loop, &setter->timer);
	setter->timer.data = setter;
	return setter;
}

void setter_close(struct setter *setter)
{
	mailbox_close(&setter->mailbox);
	uv_close((uv_handle_t *)&setter->timer, NULL);
}

void setter_free(struct setter *setter)
{
	if (setter == NULL)
		return;
	pthread_mutex_destroy(&setter->lock);
	free(setter);
}

/* ---- talking to lanes --------------------------------------------------- */

static void each_lane(struct setter *setter, void (*run)(void *lane, void *part))
{
	setter->waiting = setter->lane_count;
	for (uint32_t i = 0; i < setter->lane_count; i++)
		lane_post_kept(setter->lanes[i], &setter->parts[i].there, run, &setter->parts[i]);
}

/* On the lane's thread. */
static void lane_done(struct set_part *part, void (*then)(void *setter, void *part))
{
	mailbox_post_kept(&part->setter->mailbox, &part->back, then, part->setter, part);
}

static bool lanes_all_done(struct setter *setter)
{
	return --setter->waiting == 0;
}

/* The model's shard where it has blocks, or NULL. */
static struct shard *find(struct lane *lane, const struct set_part *part)
{
	struct shard *shard = engine_find(lane_engine(lane), part->setter->model);
	return shard != NULL && shard->model->owned.count > 0 ? shard : NULL;
}

/* Keeps the first lane's reason. */
static void fail(struct setter *setter, int status, const char *why)
{
	if (setter->failed < 0)
		return;
	setter->failed = status;
	snprintf(setter->why, sizeof(setter->why), "%s", why);
}

static void gather_failures(struct setter *setter)
{
	for (uint32_t i = 0; i < setter->lane_count; i++) {
		if (setter->parts[i].status < 0)
			fail(setter, setter->parts[i].status, setter->parts[i].why);
	}
}

/* ---- what is at hand ------------------------------------------------------ */

static void finish(struct setter *setter)
{
	setter->busy = false;
	setter->asked = NULL;
	next(setter);
}

/* One that goes on holding blocks, for so long. */
static void hold(struct setter *setter, enum set_state state)
{
	setter->state = state;
	uv_timer_start(&setter->timer, on_hold_over, LIMIT_SET_HOLD_MS, 0);
}

/* One that was refused at once is not kept in mind: it may be asked for again. */
static void let_go(struct setter *setter, bool made)
{
	if (made || setter->state != SET_NONE)
		setter->done[setter->done_next++ % SETTER_DONE] = (struct set_done){setter->id, made, setter->from};
	setter->state = SET_NONE;
	uv_timer_stop(&setter->timer);
}

static const struct set_done *find_done(const struct setter *setter, uint64_t id)
{
	for (uint32_t i = 0; i < SETTER_DONE; i++) {
		if (setter->done[i].id == id && id != 0)
			return &setter->done[i];
	}
	return NULL;
}

/* ---- withdrawing it --------------------------------------------------------- */

static void lane_ended(void *user, void *argument)
{
	struct setter *setter = user;

	(void)argument;
	if (!lanes_all_done(setter))
		return;
	let_go(setter, false);
	if (setter->asked == NULL)
		log_event(setter->log, LOG_WARN, "set", log_str("model", setter->model),
		          log_str("why", "who asked for a change went away: it is withdrawn"));
	else if (setter->failed < 0)
		set_answer(setter->asked, setter->failed, "%s", setter->why);
	else
		set_answer(setter->asked, OPTD_OK, "the change of model '%s' is withdrawn", setter->model);
	finish(setter);
}

/* On the lane's thread. */
static void end_on_lane(void *user, void *argument)
{
	struct set_part *part = argument;
	struct shard *shard = find(user, part);

	if (shard != NULL) {
		engine_set_end(lane_engine(user), shard);
		lane_send(user, lane_outbox(user));
	}
	lane_done(part, lane_ended);
}

/* ---- making it --------------------------------------------------------------- */

static void lane_made(void *user, void *argument)
{
	struct setter *setter = user;
	const char *text = "", *group = "";

	(void)argument;
	if (!lanes_all_done(setter))
		return;
	gather_failures(setter);
	for (uint32_t i = setter->lane_count; i-- > 0;) {
		if (setter->parts[i].text[0] == '\0')
			continue;
		text = setter->parts[i].text;
		group = setter->parts[i].group;
	}
	let_go(setter, setter->failed == OPTD_OK);
	if (setter->failed == OPTD_OK)
		log_event(setter->log, LOG_INFO, "set", log_str("model", setter->model), log_u64("from", setter->from),
		          log_str("group", group), log_str("settings", text));
	if (setter->asked != NULL && setter->failed == OPTD_OK) {
		setter->asked->version = setter->asked->version_max = setter->from;
		set_answer(setter->asked, OPTD_OK, "model '%s' has %s from version %" PRIu64 " on", setter->model,
		           text, setter->from);
	} else if (setter->asked != NULL) {
		set_answer(setter->asked, setter->failed, "%s", setter->why);
	}
	finish(setter);
}

/* On the lane's thread. */
static void make_on_lane(void *user, void *argument)
{
	struct set_part *part = argument;
	struct shard *shard = find(user, part);

	part->text[0] = '\0';
	part->status = OPTD_OK;
	if (shard != NULL && shard->setting) {
		const struct model_settings *settings = &shard->model->settings;
		change_text(&shard->set, groups_optim(&settings->groups, &settings->optim, shard->set.group)->rule,
		            part->text, sizeof(part->text));
		snprintf(part->group, sizeof(part->group), "%s",
		         shard->set.group > 0 ? settings->groups.list[shard->set.group - 1].tensors : "");
		engine_set_make(lane_engine(user), shard);
		lane_send(user, lane_outbox(user));
	} else if (part->blocks > 0) {
		part->status = OPTD_MODEL_LOST;
		snprintf(part->why, sizeof(part->why), "model '%s' was dropped meanwhile", part->setter->model);
	}
	lane_done(part, lane_made);
}

/* ---- agreeing on its version --------------------------------------------------- */

static void lane_agreed(void *user, void *argument)
{
	struct setter *setter = user;

	(void)argument;
	if (!lanes_all_done(setter))
		return;
	gather_failures(setter);
	if (setter->failed < 0) {
		each_lane(setter, end_on_lane);
	} else if (setter->asked->set.act == MSG_SET_NOW) {
		each_lane(setter, make_on_lane);
	} else {
		hold(setter, SET_PROMISED);
		setter->asked->version = setter->asked->version_max = setter->from;
		set_answer(setter->asked, OPTD_OK, "model '%s' will change from version %" PRIu64 " on", setter->model,
		           setter->from);
		finish(setter);
	}
}

/* On the lane's thread. */
static void agree_on_lane(void *user, void *argument)
{
	struct set_part *part = argument;
	struct setter *setter = part->setter;
	struct shard *shard = find(user, part);

	part->status = OPTD_OK;
	if (shard != NULL && shard->setting) {
		part->status = engine_set_agree(lane_engine(user), shard, setter->from, setter->passed, part->why,
		                                sizeof(part->why));
		lane_send(user, lane_outbox(user));
	} else if (part->blocks > 0) {
		part->status = OPTD_MODEL_LOST;
		snprintf(part->why, sizeof(part->why), "model '%s' was dropped meanwhile", setter->model);
	}
	lane_done(part, lane_agreed);
}

/* ---- preparing it ---------------------------------------------------------------- */

/* What all lanes said together: the lowest version that none has passed. */
static void gather_parts(struct setter *setter)
{
	uint32_t blocks = 0, share = 0;
	char why[LIMIT_NAME_BYTES + 100];

	setter->from = 0;
	setter->passed = UINT64_MAX;
	gather_failures(setter);
	for (uint32_t i = 0; i < setter->lane_count; i++) {
		const struct set_part *part = &setter->parts[i];
		if (part->blocks == 0)
			continue;
		blocks += part->blocks;
		share = part->share;
		setter->from = part->from > setter->from ? part->from : setter->from;
		setter->passed = part->lowest < setter->passed ? part->lowest : setter->passed;
	}
	snprintf(why, sizeof(why), "no model '%s' here", setter->model);
	if (blocks == 0)
		fail(setter, OPTD_NO_MODEL, why);
	snprintf(why, sizeof(why), "model '%s' is not complete here: %u of %u blocks", setter->model, blocks, share);
	if (blocks < share)
		fail(setter, OPTD_NOT_READY, why);
}

static void lane_begun(void *user, void *argument)
{
	struct setter *setter = user;

	(void)argument;
	if (!lanes_all_done(setter))
		return;
	gather_parts(setter);
	if (setter->failed < 0) {
		each_lane(setter, end_on_lane);
	} else if (setter->asked->set.act == MSG_SET_NOW) {
		each_lane(setter, agree_on_lane);
	} else {
		hold(setter, SET_PREPARED);
		setter->asked->version = setter->passed < setter->from ? setter->passed : setter->from;
		setter->asked->version_max = setter->from;
		set_answer(setter->asked, OPTD_OK, "model '%s' is held at version %" PRIu64, setter->model,
		           setter->from);
		finish(setter);
	}
}

/* On the lane's thread: from here on no block gets past the version. */
static void begin_on_lane(void *user, void *argument)
{
	struct set_part *part = argument;
	struct shard *shard = find(user, part);
	uint64_t highest;

	part->status = OPTD_OK;
	part->blocks = 0;
	if (shard != NULL) {
		const struct model *model = shard->model;
		struct model_place place = model->place;
		part->blocks = model->owned.count;
		part->share = layout_owned(model->layout, place.daemon, place.daemons, 0, 1).count;
		part->status = engine_set_begin(shard, &part->setter->asked->set, part->why, sizeof(part->why));
		model_versions(model, &part->lowest, &highest);
		part->from = shard->set.from;
	}
	lane_done(part, lane_begun);
}

/* ---- requests ---------------------------------------------------------------------- */

static void answer_done(struct set_asked *asked, const struct set_done *done)
{
	bool wants = asked->set.act != MSG_SET_WITHDRAW;

	asked->version = asked->version_max = done->from;
	if (done->made == wants)
		set_answer(asked, OPTD_OK, "%s", done->made ? "it is made" : "it is withdrawn");
	else if (done->made)
		set_answer(asked, OPTD_CONFLICT, "the change of model '%s' is made, from version %" PRIu64 " on",
		           asked->model, done->from);
	else
		set_answer(asked, OPTD_TIMEOUT,
		           "the change of model '%s' was withdrawn: there was no word of it for %u ms", asked->model,
		           LIMIT_SET_HOLD_MS);
}

static void begin(struct setter *setter, struct set_asked *asked)
{
	setter->id = asked->set.id;
	memcpy(setter->model, asked->model, sizeof(setter->model));
	each_lane(setter, begin_on_lane);
}

/* Of the change that is prepared or promised. */
static void go_on(struct setter *setter, struct set_asked *asked)
{
	switch (asked->set.act) {
	case MSG_SET_PROMISE:
		if (setter->state == SET_PROMISED ? asked->set.from == setter->from : asked->set.from >= setter->from) {
			setter->from = asked->set.from;
			each_lane(setter, agree_on_lane);
			return;
		}
		set_answer(asked, OPTD_INVALID, "model '%s' is held at version %" PRIu64 ", %" PRIu64 " is asked for",
		           setter->model, setter->from, asked->set.from);
		break;
	case MSG_SET_MAKE:
		if (setter->state == SET_PROMISED) {
			each_lane(setter, make_on_lane);
			return;
		}
		set_answer(asked, OPTD_INVALID, "the change of model '%s' is not promised yet", setter->model);
		break;
	case MSG_SET_WITHDRAW:
		each_lane(setter, end_on_lane);
		return;
	case MSG_SET_NOW:
	case MSG_SET_PREPARE:
		asked->version = asked->version_max = setter->from;
		set_answer(asked, OPTD_OK, "model '%s' is held at version %" PRIu64, setter->model, setter->from);
		break;
	}
	finish(setter);
}

static void take_up(struct setter *setter, struct set_asked *asked)
{
	const struct set_done *done = find_done(setter, asked->set.id);
	enum msg_act act = asked->set.act;

	setter->failed = OPTD_OK;
	if (done != NULL) {
		answer_done(asked, done);
	} else if (setter->state != SET_NONE && asked->set.id == setter->id) {
		go_on(setter, asked);
		return;
	} else if (setter->stopping) {
		set_answer(asked, OPTD_DRAINING, "the server is shutting down: ask again when it is back");
	} else if (act == MSG_SET_WITHDRAW) {
		set_answer(asked, OPTD_OK, "there is no such change here");
	} else if (act != MSG_SET_NOW && act != MSG_SET_PREPARE) {
		set_answer(asked, OPTD_TIMEOUT, "the change of model '%s' is not prepared here, or no longer",
		           asked->model);
	} else if (setter->state != SET_NONE) {
		set_answer(asked, OPTD_BUSY, "a change of model '%s' is being agreed on: try again later",
		           setter->model);
	} else {
		begin(setter, asked);
		return;
	}
	finish(setter);
}

/* The hold is over, or the daemon stops: without a further word. */
static void settle(struct setter *setter)
{
	setter->busy = true;
	setter->failed = OPTD_OK;
	each_lane(setter, setter->state == SET_PROMISED ? make_on_lane : end_on_lane);
}

static void next(struct setter *setter)
{
	if (setter->busy)
		return;
	if (setter->stopping && setter->state != SET_NONE) {
		settle(setter);
		return;
	}
	if (setter->first != NULL) {
		setter->busy = true;
		setter->asked = setter->first;
		setter->first = setter->first->next;
		take_up(setter, setter->asked);
		return;
	}
	if (setter->stopped != NULL) {
		void (*stopped)(void *user) = setter->stopped;
		setter->stopped = NULL;
		stopped(setter->user);
	}
}

void setter_queue(struct setter *setter, struct set_asked *asked)
{
	if (setter->ended)
		return;
	asked->next = NULL;
	if (setter->first != NULL)
		setter->last->next = asked;
	else
		setter->first = asked;
	setter->last = asked;
	next(setter);
}

static void on_hold_over(uv_timer_t *timer)
{
	struct setter *setter = timer->data;

	/* What is at hand renews the hold, or ends it. */
	if (!setter->busy && setter->state != SET_NONE)
		settle(setter);
}

void setter_stop(struct setter *setter, void (*done)(void *user), void *user)
{
	setter->stopping = true;
	setter->stopped = done;
	setter->user = user;
	next(setter);
}

void setter_end(struct setter *setter)
{
	setter->ended = true;
}
