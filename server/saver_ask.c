/*
 * SAVE and DROP as peers ask for them: from a lane to the queue, and the answer
 * back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "server/saver_parts.h"

/* ---- places ------------------------------------------------------------- */

struct places {
	struct asker *free; /* or NULL */
	uint32_t left;
	uint32_t own; /* taken by this session */
};

static struct places count_places(struct saver *saver, const struct lane *lane, uint32_t peer)
{
	struct places places = {0};

	for (uint32_t i = 0; i < LIMIT_JOBS; i++) {
		struct asker *asker = &saver->askers[i];
		if (asker->lane == NULL) {
			places.free = asker;
			places.left++;
		} else if (asker->lane == lane && asker->peer == peer) {
			places.own++;
		}
	}
	return places;
}

static bool may_take(const struct places *places, char *why, size_t why_bytes)
{
	if (places->own >= LIMIT_SESSION_JOBS)
		snprintf(why, why_bytes,
		         "%u SAVEs and DROPs of this session wait and %u may: ask again when one is answered",
		         places->own, LIMIT_SESSION_JOBS);
	else if (places->free == NULL)
		snprintf(why, why_bytes,
		         "%u SAVEs and DROPs of all sessions wait and no more may: try again later",
		         LIMIT_JOBS);
	else if (places->own > 0 && places->left <= LIMIT_FIRST_JOBS)
		snprintf(why, why_bytes,
		         "%u SAVEs and DROPs of all sessions wait, %u of this one, and the last %u places are "
		         "for sessions that have none: ask again when one is answered",
		         LIMIT_JOBS - places->left, places->own, LIMIT_FIRST_JOBS);
	else
		return true;
	return false;
}

/* A place for one more request, or NULL and a sentence in why.  On the lane's thread. */
static struct asker *take_place(struct saver *saver, struct lane *lane, uint32_t peer, char *why,
                                size_t why_bytes)
{
	pthread_mutex_lock(&saver->lock);
	struct places places = count_places(saver, lane, peer);
	bool may = may_take(&places, why, why_bytes);
	if (may)
		*places.free = (struct asker){.saver = saver, .lane = lane, .peer = peer};
	pthread_mutex_unlock(&saver->lock);
	return may ? places.free : NULL;
}

static void give_back(struct asker *asker)
{
	struct saver *saver = asker->saver;

	pthread_mutex_lock(&saver->lock);
	asker->lane = NULL;
	pthread_mutex_unlock(&saver->lock);
}

/* ---- answers ------------------------------------------------------------ */

/* On the lane's thread. */
static void answer(void *user, void *argument)
{
	struct job *job = argument;
	struct asker *asker = job->asker;
	const struct msg request = {
	        .verb = asker->verb, .request = asker->request, .session = asker->session};
	uint32_t peer = asker->peer;

	/* First the place: who has the answer may ask again. */
	give_back(asker);
	lane_answer(user, peer, &request, job->status, job->why);
	free(job);
}

void asker_answer(struct job *job)
{
	lane_post_kept(job->asker->lane, &job->asker->mail, answer, job);
}

void asker_turn_away(struct job *job)
{
	job->status = OPTD_DRAINING;
	snprintf(job->why, sizeof(job->why), "the server is shutting down: ask again when it is back");
	asker_answer(job);
}

/* ---- questions ---------------------------------------------------------- */

/* On the main thread. */
static void admin(void *user, void *argument)
{
	struct saver *saver = user;
	struct job *job = argument;

	if (saver->stopping && !saver->stopped) {
		asker_turn_away(job);
		return;
	}
	/* Once all is over the lanes are gone: it stays in the queue, to be freed. */
	if (job->kind != JOB_ALL || saver->stopped) {
		job_queue(saver, job);
		job_next(saver);
		return;
	}
	const struct job end = {.asker = job->asker, .asked = true};
	if (job_queue_all(saver, true, &end)) {
		free(job);
		return;
	}
	job->status = OPTD_NO_MEMORY;
	snprintf(job->why, sizeof(job->why), "no memory to save all models");
	asker_answer(job);
}

void saver_admin(void *user, struct lane *lane, const struct msg *request, uint32_t peer,
                 const char *name)
{
	struct saver *saver = user;
	enum job_kind kind = JOB_DROP;
	char why[200];

	if (request->verb == MSG_SAVE)
		kind = name[0] != '\0' ? JOB_SAVE : JOB_ALL;
	struct asker *asker = take_place(saver, lane, peer, why, sizeof(why));
	if (asker == NULL) {
		lane_answer(lane, peer, request, OPTD_BUSY, why);
		return;
	}
	struct job *job = job_new(kind, name);
	if (job == NULL) {
		give_back(asker);
		lane_answer(lane, peer, request, OPTD_NO_MEMORY, "no memory for this");
		return;
	}
	/* Of the request only its numbers are needed: what it points to goes away. */
	asker->verb = request->verb;
	asker->request = request->request;
	asker->session = request->session;
	job->asker = asker;
	job->asked = true;
	job->unchanged_too = true;
	mailbox_post_kept(&saver->mailbox, &asker->mail, admin, saver, job);
}
