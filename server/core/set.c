/* A change of settings on one lane: looked at, agreed on, made. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "server/core/settings.h"
#include "server/core/verbs.h"

/* The furthest block, with the update that is under way, whose settings are chosen. */
static uint64_t furthest(const struct model *model)
{
	uint64_t lowest, highest;

	model_versions(model, &lowest, &highest);
	if (model->update.running && model->update.commit.version > highest)
		return model->update.commit.version;
	return highest;
}

static int refuse_late(const struct model *model, uint64_t from, char *why, size_t why_bytes)
{
	uint64_t highest = furthest(model);

	if (from >= highest)
		return OPTD_OK;
	snprintf(why, why_bytes,
	         "model '%s': a block is at version %" PRIu64 ", so a change from version %" PRIu64
	         " on comes too late: give %" PRIu64 " or a later one",
	         model->name, highest, from, highest);
	return OPTD_INVALID;
}

/* The sentence of a refusal, with the model's name in front. */
static int refuse_named(const struct model *model, int rc, const char *detail, char *why, size_t why_bytes)
{
	if (rc < 0)
		snprintf(why, why_bytes, "model '%s': %s", model->name, detail);
	return rc;
}

static int check(const struct model *model, const struct change *change, char detail[static LIMIT_TEXT_BYTES])
{
	return settings_check_change(&model->settings, &model->changes, change, detail, LIMIT_TEXT_BYTES);
}

int engine_set_begin(struct shard *shard, const struct msg_set *set, char *why, size_t why_bytes)
{
	const struct model *model = shard->model;
	char detail[LIMIT_TEXT_BYTES] = "";
	struct change change;

	assert(!shard->setting);
	if (!shard->ready)
		return refuse_named(model, OPTD_NOT_READY, "it has no weights yet: its settings are those it is opened with",
		                    why, why_bytes);
	int rc = settings_read_change(&model->settings, set, &change, detail, sizeof(detail));
	if (rc < 0)
		return refuse_named(model, rc, detail, why, why_bytes);
	change.from = furthest(model);
	if (set->has_from) {
		change.from = set->from;
		rc = refuse_late(model, set->from, why, why_bytes);
		if (rc == OPTD_OK)
			rc = refuse_named(model, check(model, &change, detail), detail, why, why_bytes);
	}
	if (rc < 0)
		return rc;
	shard->set = change;
	shard->setting = true;
	return OPTD_OK;
}

int engine_set_agree(struct engine *engine, struct shard *shard, uint64_t from, uint64_t passed, char *why,
                     size_t why_bytes)
{
	const struct model *model = shard->model;
	char detail[LIMIT_TEXT_BYTES];

	assert(shard->setting && from >= shard->set.from);
	shard->set.from = from;
	shard->set_passed = passed;
	shard_run_all(engine, shard);
	if (changes_room(&model->changes) > passed) {
		snprintf(why, why_bytes,
		         "model '%s': %u changes are kept, the most there may be, and block versions from %" PRIu64
		         " on still need each: set fewer ahead, or wait until training has come to them",
		         model->name, LIMIT_CHANGES, passed);
		return OPTD_TOO_LARGE;
	}
	return refuse_named(model, check(model, &shard->set, detail), detail, why, why_bytes);
}

void engine_set_make(struct engine *engine, struct shard *shard)
{
	struct commit commit = {
	        .kind = COMMIT_SETTINGS, .change = &shard->set, .passed = shard->set_passed};

	assert(shard->setting);
	shard_commit(engine, shard, &commit);
	engine_set_end(engine, shard);
}

void engine_set_end(struct engine *engine, struct shard *shard)
{
	if (!shard->setting)
		return;
	shard->setting = false;
	shard_run_all(engine, shard);
}
