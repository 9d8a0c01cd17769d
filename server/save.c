/*
 * One checkpoint: ask the lanes, agree on a version, let them write, publish.
 *
 * What the lanes say is written to their part before they post, and read on the
 * main thread after.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/saver_parts.h"

/* How long blocks may take to reach the cut before they are saved as they are:
 * one worker's step must not hold up every other model's checkpoint. */
#define PATIENCE_MS 10000

/* A place for each model: those dropped are forgotten. */
static struct saved *find_saved(struct saver *saver, const char *model)
{
	struct saved *place = NULL;

	for (uint32_t i = 0; i < LIMIT_MODELS; i++) {
		struct saved *saved = &saver->saved[i];
		if (strcmp(saved->model, model) == 0)
			return saved;
		if (saved->model[0] == '\0')
			place = saved;
	}
	return place;
}

static void remember(struct saver *saver)
{
	const char *model = saver->first->model;
	struct saved *saved = find_saved(saver, model);

	if (saved == NULL)
		return; /* it is written anew each time */
	snprintf(saved->model, sizeof(saved->model), "%s", model);
	saved->run_id = saver->about.run_id;
	saved->updates = saver->updates;
	saved->changes = saver->about.changes.made;
}

void save_forget(struct saver *saver, const char *model)
{
	struct saved *saved = find_saved(saver, model);

	if (saved != NULL)
		*saved = (struct saved){0};
}

static void lane_cancelled(void *user, void *argument)
{
	(void)argument;
	if (lanes_all_done(user))
		job_finish(user);
}

/* On the lane's thread. */
static void mark_saved(void *user, void *argument)
{
	struct part *part = argument;
	(void)user;
	if (part->shard != NULL)
		part->shard->saved_version = part->saver->lowest;
	lane_done(part, lane_cancelled);
}

static void say_saved(struct saver *saver)
{
	struct job *job = saver->first;
	bool torn = saver->about.mode == MSG_SYNC && saver->lowest != saver->highest;

	snprintf(job->why, sizeof(job->why), "saved model '%s' at version %llu%s", job->model,
	         (unsigned long long)saver->lowest, torn ? "; a step stood still: some blocks are ahead" : "");
	log_event(saver->options.log, torn ? LOG_WARN : LOG_INFO, "checkpoint",
	          log_str("model", job->model), log_u64("version", saver->lowest),
	          log_u64("highest", saver->highest),
	          log_u64("ms", uv_hrtime() / 1000000 - saver->began_ms));
}

static void after_commit(uv_work_t *work, int status)
{
	struct saver *saver = work->data;

	(void)status;
	if (saver->work_status < 0) {
		job_fail(saver, OPTD_IO, saver->work_why);
		job_finish(saver);
		return;
	}
	/* Only now it is true. */
	remember(saver);
	say_saved(saver);
	each_lane(saver, mark_saved);
}

static void do_commit(uv_work_t *work)
{
	struct saver *saver = work->data;
	saver->work_status = checkpoint_commit(&saver->writer, saver->work_why, sizeof(saver->work_why));
}

/* The reason of the first lane that failed, or NULL. */
static const char *first_why(const struct saver *saver)
{
	for (uint32_t i = 0; i < saver->options.lane_count; i++) {
		if (saver->parts[i].status < 0)
			return saver->parts[i].why;
	}
	return NULL;
}

/* Over the lanes that have blocks. */
static void gather_versions(struct saver *saver)
{
	saver->lowest = UINT64_MAX;
	saver->highest = 0;
	saver->updates = 0;
	for (uint32_t i = 0; i < saver->options.lane_count; i++) {
		const struct part *part = &saver->parts[i];
		if (part->shard == NULL)
			continue;
		saver->highest = part->highest > saver->highest ? part->highest : saver->highest;
		saver->lowest = part->lowest < saver->lowest ? part->lowest : saver->lowest;
		saver->updates += part->updates;
	}
}

static void lane_cut_over(void *user, void *argument)
{
	struct saver *saver = user;

	(void)argument;
	if (!lanes_all_done(saver))
		return;
	if (first_why(saver) != NULL) {
		checkpoint_abandon(&saver->writer);
		job_fail(saver, OPTD_IO, first_why(saver));
		job_finish(saver);
		return;
	}
	gather_versions(saver);
	saver->work.data = saver;
	uv_queue_work(saver->options.loop, &saver->work, do_commit, after_commit);
}

/* On the lane's thread. */
static void cut_done(void *user, struct lane *lane, int status)
{
	struct part *part = user;
	(void)lane;
	part->status = status;
	lane_done(part, lane_cut_over);
}

/* On the lane's thread: one block of one shard. */
static int put_block(void *user, const struct shard *shard, uint32_t block)
{
	struct part *part = user;
	const struct model *model = shard->model;
	const struct layout_block *b = model_block(model, block);
	uint32_t index = block - model->owned.first;
	uint64_t version = model->versions[index];
	const float *slots[OPTIM_SLOTS_MAX];
	const uint64_t *seen[LIMIT_WORKERS];

	part->lowest = version < part->lowest ? version : part->lowest;
	part->highest = version > part->highest ? version : part->highest;
	part->updates += version;
	for (uint32_t i = 0; i < model->slot_count; i++)
		slots[i] = model->slots[i] + model_slot_offset(model, block, i);
	for (uint32_t i = 0; i < part->saver->about.seats; i++)
		seen[i] = i < model->seats && model->seen[i] != NULL ? model->seen[i] + index : NULL;
	struct checkpoint_part put = {
	        .first_block = block,
	        .block_count = 1,
	        .weights = model->weights + model_offset(model, block),
	        .slots = slots,
	        .versions = model->versions + index,
	        .updates = model->updates + (b->first_segment - model->first_segment),
	        .carries = model->carries != NULL ?
	                           model->carries + (b->first_segment - model->first_segment) :
	                           NULL,
	        .seen = seen,
	        .average = model->average != NULL ? model->average + model_offset(model, block) : NULL,
	};
	return checkpoint_put(part->saver->writer, &put, part->why, sizeof(part->why));
}

static void begin_cut(void *user, void *argument)
{
	struct part *part = argument;
	struct saver *saver = part->saver;
	uint64_t drain_ms = saver->options.drain_ms;
	struct lane_cut cut = {.shard = part->shard,
	                       .patience_ms = saver->first->last ? drain_ms : PATIENCE_MS,
	                       .put = put_block,
	                       .done = cut_done,
	                       .user = part};

	if (part->shard == NULL) {
		lane_done(part, lane_cut_over);
		return;
	}
	part->lowest = UINT64_MAX;
	part->highest = 0;
	part->updates = 0;
	engine_cut_raise(lane_engine(user), part->shard, saver->highest);
	lane_send(user, lane_outbox(user));
	lane_cut(user, &cut);
}

static void cancel_cut(void *user, void *argument)
{
	struct part *part = argument;
	if (part->shard != NULL) {
		engine_cut_end(lane_engine(user), part->shard);
		lane_send(user, lane_outbox(user));
	}
	lane_done(part, lane_cancelled);
}

static void describe(struct saver *saver, const struct part *part)
{
	const struct model *model = part->shard->model;
	int64_t now_s = (int64_t)time(NULL);
	int64_t age_s = ((int64_t)(uv_hrtime() / 1000000) - model->born_ms) / 1000;

	saver->about = (struct checkpoint){
	        .model = model->name,
	        .run = model->run,
	        .run_id = model->run_id,
	        .layout = model->layout,
	        .optim = model->settings.optim,
	        .groups = model->settings.groups,
	        .average = model->settings.average,
	        .changes = part->changes,
	        .mode = model->settings.mode,
	        .reduce = model->settings.reduce,
	        .workers = model->settings.workers,
	        .step_timeout_ms = model->settings.step_timeout_ms,
	        .clip = model->settings.clip,
	        .nonfinite = model->settings.nonfinite,
	        .loss_scale = model->settings.loss_scale,
	        .history = model->history,
	        .epoch = engine_epoch(lane_engine(saver->options.lanes[0])),
	        .final = saver->first->last,
	        .daemon = model->place.daemon,
	        .daemons = model->place.daemons,
	        /* The age of a restored model is its checkpoint's. */
	        .created_s = model->restored ? model->created_s : now_s - age_s,
	        .saved_s = now_s,
	};
}

/* Whether the newest file already holds just this, and will: at the end a step in sync
 * that stands still may yet be completed and acknowledged. */
static bool unchanged(struct saver *saver)
{
	const struct saved *saved = find_saved(saver, saver->first->model);
	bool whole = saver->about.mode == MSG_ASYNC || saver->lowest == saver->highest;

	return saved != NULL && saved->run_id == saver->about.run_id &&
	       saved->updates == saver->updates && saved->changes == saver->about.changes.made && (whole || !saver->first->last);
}

/* Where the loss scale stands at the cut: the lanes behind will come to the same. */
static struct scaler furthest_scaler(const struct saver *saver)
{
	struct scaler furthest = {.steps = 0};

	for (uint32_t i = 0; i < saver->options.lane_count; i++) {
		const struct part *part = &saver->parts[i];
		if (part->shard != NULL && (furthest.scale == 0 || part->scaler.steps > furthest.steps))
			furthest = part->scaler;
	}
	return furthest;
}

/* Adds up what the lanes said; how many blocks they have between them. */
static uint32_t gather(struct saver *saver)
{
	uint32_t blocks = 0, seats = 0;

	gather_versions(saver);
	for (uint32_t i = 0; i < saver->options.lane_count; i++) {
		const struct part *part = &saver->parts[i];
		if (part->shard == NULL)
			continue;
		blocks += part->shard->model->owned.count;
		seats = part->seats > seats ? part->seats : seats;
		describe(saver, part);
	}
	saver->about.seats = seats;
	saver->about.scaler = furthest_scaler(saver);
	return blocks;
}

static void lane_asked(void *user, void *argument)
{
	struct saver *saver = user;
	struct job *job = saver->first;
	char why[SAVER_WHY_BYTES] = "";

	(void)argument;
	if (!lanes_all_done(saver))
		return;
	uint32_t blocks = gather(saver);
	bool whole = blocks > 0 && blocks == checkpoint_owned(&saver->about).count;
	/* Of all models, one is passed over whose first weights are on some lanes only. */
	bool passed = whole ? !job->unchanged_too && unchanged(saver) : job->asker == NULL;
	int rc = OPTD_OK;
	if (first_why(saver) != NULL) {
		rc = OPTD_NO_MEMORY;
		snprintf(why, sizeof(why), "%s", first_why(saver));
	} else if (!whole && !passed) {
		rc = OPTD_NO_MODEL;
		snprintf(why, sizeof(why), "model '%s' is not here, or has no weights yet", job->model);
	} else if (!passed && checkpoint_begin(saver->options.data_dir, &saver->about, &saver->writer,
	                                       why, sizeof(why)) < 0) {
		rc = OPTD_IO;
	}
	if (rc < 0)
		job_fail(saver, rc, why);
	each_lane(saver, rc < 0 || passed ? cancel_cut : begin_cut);
}

static void count_versions(const struct shard *shard, struct part *part)
{
	const struct model *model = shard->model;

	part->lowest = UINT64_MAX;
	part->highest = 0;
	part->updates = 0;
	for (uint32_t i = 0; i < model->owned.count; i++) {
		uint64_t version = engine_cut_reach(shard, model->owned.first + i);
		part->lowest = version < part->lowest ? version : part->lowest;
		part->highest = version > part->highest ? version : part->highest;
		part->updates += version;
	}
}

/* On the lane's thread: how far the model is; from here on it gets no further than that
 * until its blocks are saved. */
static void ask(void *user, void *argument)
{
	struct part *part = argument;
	struct shard *shard = engine_find(lane_engine(user), part->saver->first->model);

	part->shard = NULL;
	part->status = OPTD_OK;
	if (shard != NULL && shard->ready && shard->model->owned.count > 0) {
		count_versions(shard, part);
		part->changes = shard->model->changes;
		part->seats = shard->model->settings.mode == MSG_ASYNC ? shard->model->seats : 0;
		part->scaler = shard->model->scaler;
		part->status = engine_cut_begin(shard, part->highest, part->saver->first->last);
		if (part->status == OPTD_OK)
			part->shard = shard;
		else
			snprintf(part->why, sizeof(part->why), "no memory for model '%s'",
			         shard->model->name);
	}
	lane_done(part, lane_asked);
}

void save_begin(struct saver *saver)
{
	saver->began_ms = uv_hrtime() / 1000000;
	each_lane(saver, ask);
}
