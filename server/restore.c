/* One file after the other, each into the lanes that own its blocks. */
#include "server/restore.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "server/core/clipping.h"
#include "server/core/whole.h"
#include "server/disk/checkpoint.h"

struct restore {
	struct lane **lanes;
	uint32_t lane_count;
	uint64_t memory_bytes; /* of all lanes */
	uint64_t own_bytes;    /* of the models that are back */
	uint64_t epoch;        /* the latest of those that wrote them */
	const struct log *log;
	int models;
	char *why;
	size_t why_bytes;
};

/* Each lane's model owns its layout. */
static struct layout *copy_layout(const struct checkpoint *about)
{
	const struct layout *from = about->layout;
	struct layout *layout = layout_new();

	for (uint32_t i = 0; layout != NULL && i < layout_tensor_count(from); i++) {
		const struct layout_tensor *t = layout_tensor(from, i);
		if (layout_add(layout, t->name, strlen(t->name), t->shape, t->rank, t->group) < 0) {
			layout_free(layout);
			return NULL;
		}
	}
	if (layout != NULL && whole_cut(&about->groups, &about->optim, layout) < 0) {
		layout_free(layout);
		return NULL;
	}
	return layout;
}

static struct model_settings settings_of(const struct checkpoint *about)
{
	return (struct model_settings){.optim = about->optim,
	                               .groups = about->groups,
	                               .average = about->average,
	                               .mode = about->mode,
	                               .reduce = about->reduce,
	                               .workers = about->workers,
	                               .step_timeout_ms = about->step_timeout_ms,
	                               .clip = about->clip,
	                               .nonfinite = about->nonfinite,
	                               .loss_scale = about->loss_scale};
}

static struct model *make_model(const struct checkpoint *about, struct model_place place)
{
	struct model_settings settings = settings_of(about);
	struct layout *layout = copy_layout(about);
	if (layout == NULL)
		return NULL;
	struct model *model = model_new(about->model, &settings, &layout, place);
	if (model == NULL) {
		layout_free(layout);
		return NULL;
	}
	int64_t age_ms = ((int64_t)time(NULL) - about->saved_s) * 1000;
	snprintf(model->run, sizeof(model->run), "%s", about->run);
	model->run_id = about->run_id;
	model->restored = true;
	model->created_s = about->created_s;
	model->history = about->history;
	if (about->loss_scale.given)
		model->scaler = about->scaler;
	model->skips = about->skips;
	model->changes = about->changes;
	model->born_ms = (int64_t)(uv_hrtime() / 1000000) - (age_ms > 0 ? age_ms : 0);
	return model;
}

static int read_seen(struct model *model, const struct checkpoint_file *file)
{
	for (uint32_t rank = 0; rank < checkpoint_about(file)->seats; rank++) {
		int rc = model_seat(model, rank);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < model->owned.count; i++)
			model->seen[rank][i] = checkpoint_seen(file, rank, model->owned.first + i);
	}
	return OPTD_OK;
}

static int fill_model(struct model *model, const struct checkpoint_file *file, char *why,
                      size_t why_bytes)
{
	struct checkpoint_target target = {
	        .first_block = model->owned.first,
	        .block_count = model->owned.count,
	        .weights = model->weights,
	        .slots = model->slots,
	        .versions = model->versions,
	        .updates = model->updates,
	        .carries = model->carries,
	        .average = model->average,
	};
	int rc = checkpoint_read(file, &target, why, why_bytes);
	if (rc == OPTD_OK) {
		rc = read_seen(model, file);
		if (rc < 0)
			snprintf(why, why_bytes, "no memory for the model's ranks");
	}
	if (rc == OPTD_OK)
		model_set_ready(model);
	return rc;
}

/* Over all blocks in the file, of which there is one at least. */
static void file_versions(const struct checkpoint_file *file, uint64_t *lowest, uint64_t *highest)
{
	const struct layout_run owned = checkpoint_owned(checkpoint_about(file));

	*lowest = UINT64_MAX;
	*highest = 0;
	for (uint32_t i = 0; i < owned.count; i++) {
		uint64_t version = checkpoint_version(file, owned.first + i);
		*lowest = version < *lowest ? version : *lowest;
		*highest = version > *highest ? version : *highest;
	}
}

static int restore_lane(struct restore *restore, const struct checkpoint_file *file, uint32_t lane,
                        char *why, size_t why_bytes)
{
	const struct checkpoint *about = checkpoint_about(file);
	struct model_place place = {about->daemon, about->daemons, lane, restore->lane_count};
	struct model *model = make_model(about, place);
	if (model == NULL) {
		snprintf(why, why_bytes, "no memory for the model");
		return OPTD_NO_MEMORY;
	}
	uint64_t lowest, highest;
	file_versions(file, &lowest, &highest);
	model->source = (struct model_source){about->epoch, highest, about->final};
	int rc = OPTD_OK;
	if (model->owned.count > 0)
		rc = fill_model(model, file, why, why_bytes);
	if (rc == OPTD_OK && model->owned.count > 0) {
		struct engine *engine = lane_engine(restore->lanes[lane]);
		rc = engine_adopt(engine, &model, why, why_bytes);
		if (rc == OPTD_OK) {
			/* What it was read from is its newest checkpoint. */
			struct shard *shard = engine_find(engine, checkpoint_about(file)->model);
			model_versions(shard->model, &shard->saved_version, &highest);
		}
	}
	model_free(model);
	return rc;
}

/* What the model is, as one lane would hold it: each further one repeats tables and rounds
 * vectors up, and no model may be refused for that which was served before. */
static uint64_t bytes_of(const struct checkpoint *about)
{
	const struct model_settings settings = settings_of(about);
	struct model_place place = {about->daemon, about->daemons, 0, 1};

	return shard_own_bytes(&settings, about->layout, place);
}

static int has_room(const struct restore *restore, const struct checkpoint *about, char *why,
                    size_t why_bytes)
{
	uint64_t need = bytes_of(about), limit = restore->memory_bytes;
	uint64_t left = limit > restore->own_bytes ? limit - restore->own_bytes : 0;

	if (need <= left)
		return OPTD_OK;
	snprintf(why, why_bytes,
	         "model '%s' (%llu parameters) takes %llu bytes without workers, %llu are left of %llu, "
	         "limits.memory",
	         about->model, (unsigned long long)layout_elements(about->layout), (unsigned long long)need,
	         (unsigned long long)left, (unsigned long long)limit);
	return OPTD_TOO_LARGE;
}

/* Before it takes memory. */
static int admit(const struct restore *restore, const struct checkpoint *about, char *why,
                 size_t why_bytes)
{
	char text[LIMIT_TEXT_BYTES];
	int rc = has_room(restore, about, text, sizeof(text));

	for (uint32_t lane = 0; rc == OPTD_OK && lane < restore->lane_count; lane++)
		rc = engine_has_place(lane_engine(restore->lanes[lane]), about->model, text, sizeof(text));
	if (rc < 0)
		snprintf(why, why_bytes, "%s; raise it, or move the file away to start without the model",
		         text);
	return rc;
}

/* A step that is decided as a whole is in all blocks or in none: there is nobody to tell
 * the rest of half a step what was decided. */
static int check_whole(const struct checkpoint_file *file, char *why, size_t why_bytes)
{
	const struct checkpoint *about = checkpoint_about(file);
	uint64_t lowest, highest;

	file_versions(file, &lowest, &highest);
	if (!clipping_on(&about->clip))
		return OPTD_OK;
	if (lowest != highest) {
		snprintf(why, why_bytes, "model '%s' clips a norm, and has blocks at versions %llu to %llu: no optd writes "
		         "such a file",
		         about->model, (unsigned long long)lowest, (unsigned long long)highest);
		return OPTD_CORRUPT;
	}
	return OPTD_OK;
}

static void say_restored(const struct restore *restore, const struct checkpoint_file *file)
{
	const struct checkpoint *about = checkpoint_about(file);
	uint64_t lowest, highest;

	file_versions(file, &lowest, &highest);
	log_event(restore->log, LOG_INFO, "restored", log_str("model", about->model),
	          log_u64("parameters", layout_elements(about->layout)), log_u64("version", lowest),
	          log_u64("highest", highest), log_i64("age_s", (int64_t)time(NULL) - about->saved_s));
}

static int restore_file(void *context, enum checkpoint_entry entry, const char *path)
{
	struct restore *restore = context;
	struct checkpoint_file *file;
	char why[LIMIT_TEXT_BYTES + 100];

	if (entry == CHECKPOINT_LEFTOVER) {
		log_event(restore->log, LOG_WARN, "leftover", log_str("removed", path));
		return 0;
	}
	int rc = checkpoint_open(path, &file, why, sizeof(why));
	if (rc < 0) {
		snprintf(restore->why, restore->why_bytes, "%s: %s%s", path, why,
		         rc == OPTD_DENIED ? "" : "; move the file away to start without it");
		return rc;
	}
	const struct checkpoint *about = checkpoint_about(file);
	if (checkpoint_owned(about).count == 0) {
		snprintf(why, sizeof(why), "it holds no block of model '%s'", about->model);
		rc = OPTD_CORRUPT;
	}
	if (rc == OPTD_OK)
		rc = check_whole(file, why, sizeof(why));
	if (rc == OPTD_OK)
		rc = admit(restore, about, why, sizeof(why));
	for (uint32_t lane = 0; rc == OPTD_OK && lane < restore->lane_count; lane++)
		rc = restore_lane(restore, file, lane, why, sizeof(why));
	if (rc < 0)
		snprintf(restore->why, restore->why_bytes, "%s: %s", path, why);
	else
		say_restored(restore, file);
	if (rc == OPTD_OK) {
		restore->epoch = about->epoch > restore->epoch ? about->epoch : restore->epoch;
		restore->models++;
		restore->own_bytes += bytes_of(about);
	}
	checkpoint_close(file);
	return rc;
}

/* The models are served all the same; what is refused is what comes on top. */
static void warn_of_memory(const struct restore *restore)
{
	uint64_t share = restore->memory_bytes / restore->lane_count, most = 0;
	uint32_t beyond = 0;

	for (uint32_t i = 0; i < restore->lane_count; i++) {
		uint64_t bytes = engine_bytes(lane_engine(restore->lanes[i]));
		beyond += bytes > share;
		most = bytes > most ? bytes : most;
	}
	if (beyond > 0)
		log_event(restore->log, LOG_WARN, "memory", log_u64("lanes", beyond),
		          log_u64("of", restore->lane_count), log_u64("most", most), log_u64("share", share),
		          log_u64("models", restore->own_bytes), log_u64("limit", restore->memory_bytes),
		          log_str("text", "with their workers the models may take more than limits.memory: "
		                          "raise it, or start fewer lanes"));
}

int restore_all(const char *data_dir, struct lane **lanes, uint32_t lane_count,
                uint64_t memory_bytes, uint64_t *epoch, const struct log *log, char *why, size_t why_bytes)
{
	struct restore restore = {.lanes = lanes,
	                          .lane_count = lane_count,
	                          .memory_bytes = memory_bytes,
	                          .log = log,
	                          .why = why,
	                          .why_bytes = why_bytes};
	int rc = checkpoint_list(data_dir, restore_file, &restore, why, why_bytes);
	if (rc >= 0)
		warn_of_memory(&restore);
	*epoch = restore.epoch;
	return rc < 0 ? rc : restore.models;
}
