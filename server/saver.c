/* Jobs, each a walk through the lanes and back. */
#include "server/saver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/saver_parts.h"

struct saver *saver_new(const struct saver_options *options)
{
	struct saver *saver = calloc(1, sizeof(*saver));
	if (saver == NULL)
		return NULL;
	saver->options = *options;
	for (uint32_t i = 0; i < options->lane_count; i++)
		saver->parts[i].saver = saver;
	pthread_mutex_init(&saver->lock, NULL);
	mailbox_open(&saver->mailbox, options->loop);
	return saver;
}

void saver_close(struct saver *saver)
{
	mailbox_close(&saver->mailbox);
}

void saver_free(struct saver *saver)
{
	if (saver == NULL)
		return;
	while (saver->first != NULL) {
		struct job *job = saver->first;
		saver->first = job->next;
		free(job);
	}
	pthread_mutex_destroy(&saver->lock);
	free(saver);
}

/* ---- the queue ---------------------------------------------------------- */

void job_queue(struct saver *saver, struct job *job)
{
	job->next = NULL;
	if (saver->first != NULL)
		saver->last->next = job;
	else
		saver->first = job;
	saver->last = job;
}

struct job *job_new(enum job_kind kind, const char *model)
{
	struct job *job = calloc(1, sizeof(*job));
	if (job == NULL)
		return NULL;
	job->kind = kind;
	snprintf(job->model, sizeof(job->model), "%s", model);
	return job;
}

/* ---- talking to lanes --------------------------------------------------- */

void each_lane(struct saver *saver, void (*run)(void *lane, void *part))
{
	saver->waiting = saver->options.lane_count;
	for (uint32_t i = 0; i < saver->options.lane_count; i++) {
		struct part *part = &saver->parts[i];
		lane_post_kept(saver->options.lanes[i], &part->there, run, part);
	}
}

void lane_done(struct part *part, void (*then)(void *saver, void *part))
{
	mailbox_post_kept(&part->saver->mailbox, &part->back, then, part->saver, part);
}

bool lanes_all_done(struct saver *saver)
{
	return --saver->waiting == 0;
}

/* ---- dropping and listing ----------------------------------------------- */

static void lane_dropped(void *user, void *argument)
{
	struct saver *saver = user;
	struct job *job = saver->first;
	bool found = false;
	char why[SAVER_WHY_BYTES];

	(void)argument;
	if (!lanes_all_done(saver))
		return;
	for (uint32_t i = 0; i < saver->options.lane_count; i++)
		found |= saver->parts[i].status == OPTD_OK;
	if (!found) {
		snprintf(why, sizeof(why), "no model '%s' here", job->model);
		job_fail(saver, OPTD_NO_MODEL, why);
	} else {
		log_event(saver->options.log, LOG_INFO, "drop", log_str("model", job->model));
	}
	job_finish(saver);
}

/* On the lane's thread. */
static void drop(void *user, void *argument)
{
	struct part *part = argument;

	do {
		part->status =
		        engine_drop(lane_engine(user), part->saver->first->model, lane_outbox(user));
		lane_send(user, lane_outbox(user));
	} while (part->status == OPTD_WAITING);
	lane_done(part, lane_dropped);
}

/* The file first: if it stays, so does the model, and DROP can be asked for again.  The
 * other way round the next start would bring back what is gone. */
static void drop_begin(struct saver *saver)
{
	const char *model = saver->first->model;
	char why[SAVER_WHY_BYTES];

	save_forget(saver, model);
	if (checkpoint_remove(saver->options.data_dir, model, why, sizeof(why)) == OPTD_OK) {
		each_lane(saver, drop);
		return;
	}
	job_fail(saver, OPTD_IO, why);
	job_finish(saver);
}

/* Whether another lane has listed it: by the jobs behind `all`, up to the last. */
static bool is_listed(const struct job *all, const struct job *last, const char *model)
{
	for (const struct job *job = all; job != last; job = job->next) {
		if (strcmp(job->next->model, model) == 0)
			return true;
	}
	return false;
}

/* Right behind the job that lists, before the one that tells who asked. */
static struct job *insert(const struct job *all, struct job *last, const char *model)
{
	struct job *job = job_new(JOB_SAVE, model);

	if (job == NULL)
		return NULL;
	job->unchanged_too = all->unchanged_too;
	job->last = all->last;
	job->asked = all->asked;
	job->next = last->next;
	last->next = job;
	return job;
}

static void lane_listed(void *user, void *argument)
{
	struct saver *saver = user;
	struct job *all = saver->first;
	struct job *last = all;

	(void)argument;
	if (!lanes_all_done(saver))
		return;
	/* One that was at hand when the daemon began to stop: the end lists anew. */
	bool left_out = saver->stopping && !all->last;
	for (uint32_t i = 0; !left_out && i < saver->options.lane_count; i++) {
		for (uint32_t j = 0; j < saver->parts[i].name_count; j++) {
			const char *model = saver->parts[i].names[j];
			if (is_listed(all, last, model))
				continue;
			struct job *job = insert(all, last, model);
			if (job == NULL)
				job_fail(saver, OPTD_NO_MEMORY, "no memory to save all models");
			else
				last = job;
		}
	}
	job_finish(saver);
}

/* On the lane's thread: the models that have weights to save. */
static void list(void *user, void *argument)
{
	struct part *part = argument;
	struct engine *engine = lane_engine(user);

	part->name_count = 0;
	for (uint32_t i = 0; i < engine_shard_count(engine); i++) {
		const struct shard *shard = engine_shard(engine, i);
		if (shard->ready && shard->model->owned.count > 0)
			memcpy(part->names[part->name_count++], shard->model->name, LIMIT_NAME_BYTES);
	}
	lane_done(part, lane_listed);
}

/* ---- jobs --------------------------------------------------------------- */

void job_next(struct saver *saver)
{
	if (saver->busy || saver->stopped || saver->first == NULL)
		return;
	saver->busy = true;
	switch (saver->first->kind) {
	case JOB_SAVE:
		save_begin(saver);
		break;
	case JOB_DROP:
		drop_begin(saver);
		break;
	case JOB_ALL:
		each_lane(saver, list);
		break;
	case JOB_DONE:
		job_finish(saver);
		break;
	}
}

void job_finish(struct saver *saver)
{
	struct job *job = saver->first;

	saver->first = job->next;
	saver->busy = false;
	if (job->done != NULL)
		job->done(job->user, job->status == OPTD_OK);
	if (job->kind == JOB_DONE && job->last)
		saver->stopped = true;
	if (job->asker != NULL)
		asker_answer(job);
	else
		free(job);
	job_next(saver);
}

/* A name that nobody knows is the asker's business.  Of what peers ask for, which they may
 * do all day while a disk is full, a model's failure is told once a minute. */
static void log_failure(struct saver *saver, const struct job *job)
{
	const char *event = job->kind == JOB_DROP ? "drop" : "checkpoint";
	char key[LIMIT_NAME_BYTES + 16];
	uint64_t left_out = 0;

	if (job->status == OPTD_NO_MODEL)
		return;
	int bytes = snprintf(key, sizeof(key), "%s %s", event, job->model);
	if (job->asked && !log_limit(&saver->log_limit, key, (size_t)bytes,
	                             uv_hrtime() / 1000000, &left_out))
		return;
	log_event(saver->options.log, LOG_ERROR, event, log_str("model", job->model),
	          log_str("why", job->why), log_u64("left_out", left_out));
}

void job_fail(struct saver *saver, int status, const char *why)
{
	struct job *job = saver->first;

	job->status = status;
	snprintf(job->why, sizeof(job->why), "%s", why);
	log_failure(saver, job);
	if (job->asker != NULL)
		return;
	/* Whoever asked for all hears of the first that failed. */
	struct job *end = job->next;
	while (end != NULL && end->kind != JOB_DONE)
		end = end->next;
	if (end == NULL || end->last != job->last || end->status != OPTD_OK)
		return;
	end->status = status;
	snprintf(end->why, sizeof(end->why), "%s", why);
}

/* ---- all models --------------------------------------------------------- */

bool job_queue_all(struct saver *saver, bool unchanged_too, const struct job *end)
{
	struct job *all = job_new(JOB_ALL, "");
	struct job *last = job_new(JOB_DONE, "");

	if (all == NULL || last == NULL) {
		free(all);
		free(last);
		return false;
	}
	all->unchanged_too = unchanged_too;
	all->last = last->last = end->last;
	all->asked = last->asked = end->asked;
	last->asker = end->asker;
	last->done = end->done;
	last->user = end->user;
	job_queue(saver, all);
	job_queue(saver, last);
	job_next(saver);
	return true;
}

void saver_all(struct saver *saver)
{
	const struct job end = {0};

	if (saver->stopping)
		return;
	/* One that has not begun yet will find all that changed. */
	for (const struct job *job = saver->first; job != NULL; job = job->next) {
		if (job->kind == JOB_ALL && !job->asked && job != saver->first)
			return;
	}
	/* Without memory it is left out: the next interval comes. */
	job_queue_all(saver, false, &end);
}

/* On the lane's thread. */
static void drain(void *user, void *argument)
{
	(void)argument;
	engine_drain(lane_engine(user));
}

/* Those who wait are told; what is at hand goes on. */
static void turn_away(struct saver *saver)
{
	struct job *next;

	if (saver->first == NULL)
		return;
	for (struct job *job = saver->first->next; job != NULL; job = next) {
		next = job->next;
		if (job->asker != NULL)
			asker_turn_away(job);
		else
			free(job);
	}
	saver->first->next = NULL;
	saver->last = saver->first;
}

void saver_stop(struct saver *saver, bool save, void (*done)(void *user, bool well), void *user)
{
	const struct job end = {.last = true, .done = done, .user = user};

	saver->stopping = true;
	/* First: a model made after the lanes have listed theirs would be in no file. */
	for (uint32_t i = 0; i < saver->options.lane_count; i++)
		lane_post_kept(saver->options.lanes[i], &saver->parts[i].drain, drain, NULL);
	turn_away(saver);
	if (save && job_queue_all(saver, false, &end))
		return;
	struct job *last = job_new(JOB_DONE, "");
	if (last == NULL) {
		saver->stopped = true;
		done(user, !save);
		return;
	}
	last->last = true;
	last->done = done;
	last->user = user;
	last->status = save ? OPTD_NO_MEMORY : OPTD_OK;
	job_queue(saver, last);
	job_next(saver);
}
