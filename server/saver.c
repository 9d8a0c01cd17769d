/* Jobs, each a walk through the lanes and back. */
#include "server/saver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/saver_parts.h"

static void job_free(struct job *job)
{
	free(job->asker);
	free(job);
}

struct saver *saver_new(const struct saver_options *options)
{
	struct saver *saver = calloc(1, sizeof(*saver));
	if (saver == NULL)
		return NULL;
	saver->options = *options;
	for (uint32_t i = 0; i < options->lane_count; i++)
		saver->parts[i].saver = saver;
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
		job_free(job);
	}
	free(saver);
}

/* ---- the queue ---------------------------------------------------------- */

static void queue(struct saver *saver, struct job *job)
{
	job->next = NULL;
	if (saver->first != NULL)
		saver->last->next = job;
	else
		saver->first = job;
	saver->last = job;
}

static struct job *job_new(enum job_kind kind, const char *model)
{
	struct job *job = calloc(1, sizeof(*job));
	if (job == NULL)
		return NULL;
	job->kind = kind;
	snprintf(job->model, sizeof(job->model), "%s", model);
	return job;
}

/* On the lane's thread. */
static void answer(void *user, void *argument)
{
	struct job *job = argument;

	lane_answer(user, job->asker->peer, &job->asker->request, job->status, job->why);
	job_free(job);
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
	save_forget(saver, job->model);
	for (uint32_t i = 0; i < saver->options.lane_count; i++)
		found |= saver->parts[i].status == OPTD_OK;
	if (checkpoint_remove(saver->options.data_dir, job->model, why, sizeof(why)) < 0) {
		job_fail(saver, OPTD_IO, why);
	} else if (!found) {
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

	part->status = engine_drop(lane_engine(user), part->saver->first->model, lane_outbox(user));
	lane_send(user, lane_outbox(user));
	lane_done(part, lane_dropped);
}

static bool is_queued(const struct saver *saver, const char *model)
{
	for (const struct job *job = saver->first->next; job != NULL; job = job->next) {
		if (job->kind == JOB_SAVE && strcmp(job->model, model) == 0)
			return true;
	}
	return false;
}

static void lane_listed(void *user, void *argument)
{
	struct saver *saver = user;
	struct job *all = saver->first;
	struct job *last = all;

	(void)argument;
	if (!lanes_all_done(saver))
		return;
	for (uint32_t i = 0; i < saver->options.lane_count; i++) {
		for (uint32_t j = 0; j < saver->parts[i].name_count; j++) {
			const char *model = saver->parts[i].names[j];
			struct job *job = is_queued(saver, model) ? NULL : job_new(JOB_SAVE, model);
			if (job == NULL)
				continue;
			/* Right behind this job, before the one that tells who asked. */
			job->unchanged_too = all->unchanged_too;
			job->last = all->last;
			job->next = last->next;
			last->next = job;
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

static void next_job(struct saver *saver)
{
	if (saver->busy || saver->stopped || saver->first == NULL)
		return;
	saver->busy = true;
	switch (saver->first->kind) {
	case JOB_SAVE:
		save_begin(saver);
		break;
	case JOB_DROP:
		each_lane(saver, drop);
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
	if (job->asker == NULL || lane_post(job->asker->lane, answer, job) < 0)
		job_free(job);
	next_job(saver);
}

void job_fail(struct saver *saver, int status, const char *why)
{
	struct job *job = saver->first;

	job->status = status;
	snprintf(job->why, sizeof(job->why), "%s", why);
	log_event(saver->options.log, LOG_ERROR, job->kind == JOB_DROP ? "drop" : "checkpoint",
	          log_str("model", job->model), log_str("why", why));
	/* Whoever asked for all hears of the first that failed. */
	for (struct job *later = job->next; later != NULL && job->asker == NULL; later = later->next) {
		if (later->kind == JOB_DONE && later->status == OPTD_OK) {
			later->status = status;
			snprintf(later->why, sizeof(later->why), "%s", why);
			break;
		}
	}
}

/* ---- asking ------------------------------------------------------------- */

/* Two jobs: one that queues the saves, and one behind them that tells of their end,
 * as `end` says. */
static bool queue_all(struct saver *saver, bool unchanged_too, const struct job *end)
{
	struct job *all = job_new(JOB_ALL, "");
	struct job *last = job_new(JOB_DONE, "");

	if (all == NULL || last == NULL) {
		free(all);
		free(last);
		return false;
	}
	all->unchanged_too = unchanged_too;
	all->last = end->last;
	last->last = end->last;
	last->asker = end->asker;
	last->done = end->done;
	last->user = end->user;
	queue(saver, all);
	queue(saver, last);
	next_job(saver);
	return true;
}

void saver_all(struct saver *saver)
{
	const struct job end = {0};

	/* Without memory it is left out: the next interval comes. */
	queue_all(saver, false, &end);
}

void saver_stop(struct saver *saver, bool save, void (*done)(void *user, bool well), void *user)
{
	const struct job end = {.last = true, .done = done, .user = user};

	if (save && queue_all(saver, false, &end))
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
	queue(saver, last);
	next_job(saver);
}

/* On the main thread. */
static void admin(void *user, void *argument)
{
	struct saver *saver = user;
	struct job *job = argument;

	if (job->kind == JOB_ALL) {
		const struct job end = {.asker = job->asker};
		if (!queue_all(saver, true, &end))
			free(job->asker);
		free(job);
		return;
	}
	queue(saver, job);
	next_job(saver);
}

void saver_admin(void *user, struct lane *lane, const struct msg *request, uint32_t peer,
                 const char *name)
{
	struct saver *saver = user;
	enum job_kind kind = JOB_DROP;

	if (request->verb == MSG_SAVE)
		kind = name[0] != '\0' ? JOB_SAVE : JOB_ALL;
	struct job *job = job_new(kind, name);
	if (job != NULL)
		job->asker = calloc(1, sizeof(*job->asker));
	if (job == NULL || job->asker == NULL) {
		free(job);
		lane_answer(lane, peer, request, OPTD_NO_MEMORY, "no memory for this");
		return;
	}
	job->unchanged_too = true;
	/* Of the request only its numbers are needed: what it points to goes away. */
	*job->asker = (struct asker){.lane = lane, .peer = peer};
	job->asker->request.verb = request->verb;
	job->asker->request.request = request->request;
	job->asker->request.session = request->session;
	if (mailbox_post(&saver->mailbox, admin, saver, job) < 0) {
		job_free(job);
		lane_answer(lane, peer, request, OPTD_NO_MEMORY, "no memory for this");
	}
}
