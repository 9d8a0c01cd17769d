/*
 * Checkpoint, writing: the head first, then blocks as they come, the tables and
 * the seal last.  The plan says where each byte goes, so order does not matter
 * and threads share nothing but the descriptor, which pwrite leaves alone.
 */
#include "server/disk/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/status.h"
#include "server/disk/digest.h"
#include "server/disk/file.h"
#include "server/disk/manifest.h"
#include "server/disk/plan.h"
#include "server/disk/shapes.h"

struct checkpoint_writer {
	const struct layout *layout;
	struct plan *plan;
	int dir, fd;
	char name[CHECKPOINT_NAME_BYTES];
	char temporary[CHECKPOINT_NAME_BYTES + 8];
	char *head, *shapes;
	size_t head_bytes, shapes_bytes;
	uint64_t *versions, *updates, *seen, *checksums;
	struct optim_carry *carries;
	float *numbers; /* see plan_numbers */
	uint8_t *done; /* a byte per block, so that threads touch only their own */
};

static int check_about(const struct checkpoint *about, char *why, size_t why_bytes)
{
	if (!*about->model || strlen(about->model) >= LIMIT_NAME_BYTES || strlen(about->run) >= LIMIT_NAME_BYTES)
		return disk_fail(OPTD_INVALID, why, why_bytes, "a model's name has 1 to %u bytes, a run's at most as many",
		                 LIMIT_NAME_BYTES - 1);
	if (about->daemon >= about->daemons || about->daemons > LIMIT_DAEMONS || about->workers > LIMIT_WORKERS ||
	    about->seats > LIMIT_WORKERS || about->created_s < 0 || about->saved_s < 0)
		return disk_fail(OPTD_INVALID, why, why_bytes, "model '%s': daemon, workers, seats or times are out of "
		                 "range", about->model);
	return OPTD_OK;
}

static int make_tables(struct checkpoint_writer *writer)
{
	const struct plan *plan = writer->plan;

	/* One more than needed: an empty table is not a failed allocation. */
	writer->versions = calloc(plan->owned.count + 1u, sizeof *writer->versions);
	writer->updates = calloc(plan->segment_count + 1u, sizeof *writer->updates);
	writer->seen = calloc((size_t)plan->seats * plan->owned.count + 1u, sizeof *writer->seen);
	writer->checksums = calloc(plan->owned.count + 1u, sizeof *writer->checksums);
	writer->carries = calloc(plan->segment_count + 1u, sizeof *writer->carries);
	writer->numbers = calloc(plan->number_count + 1u, sizeof *writer->numbers);
	writer->done = calloc(plan->owned.count + 1u, 1);
	return writer->versions && writer->updates && writer->seen && writer->checksums && writer->carries &&
	       writer->numbers && writer->done ? OPTD_OK : OPTD_NO_MEMORY;
}

/* The plan and the bytes of head and shapes. */
static int make_head(struct checkpoint_writer *writer, const struct checkpoint *about, char *why, size_t why_bytes)
{
	struct manifest *manifest = malloc(sizeof *manifest);
	int rc = manifest ? shapes_encode(about->layout, &writer->shapes, &writer->shapes_bytes) : OPTD_NO_MEMORY;

	if (rc == OPTD_OK)
		rc = plan_new(about, writer->shapes_bytes, &writer->plan);
	if (rc == OPTD_OK)
		rc = make_tables(writer);
	if (rc < 0) {
		disk_fail(rc, why, why_bytes, "model '%s': no memory for the tables of its checkpoint", about->model);
	} else {
		manifest_encode(about, manifest);
		rc = safetensors_encode(writer->plan->tensors, writer->plan->tensor_count, manifest->texts,
		                        manifest->count, LIMIT_SAFETENSORS_HEADER, &writer->head, &writer->head_bytes,
		                        why, why_bytes);
	}
	free(manifest);
	return rc;
}

/* Makes the file aside and asks for its room, so that a full disk is known
 * before the first byte is written.  Where that cannot be asked, writing tells. */
static int make_file(struct checkpoint_writer *writer, const char *dir, char *why, size_t why_bytes)
{
	uint64_t bytes = writer->head_bytes + writer->plan->end;
	int top = dir_open(AT_FDCWD, dir, 0, why, why_bytes);

	if (top < 0)
		return top;
	writer->dir = dir_open(top, "models", 1, why, why_bytes);
	close(top);
	if (writer->dir < 0)
		return writer->dir;
	writer->fd = file_create(writer->dir, writer->temporary, why, why_bytes);
	if (writer->fd < 0)
		return writer->fd;
	if (fallocate(writer->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) < 0 &&
	    (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
		return disk_fail(OPTD_IO, why, why_bytes, "'%s/models': no room for a checkpoint of %" PRIu64 " bytes: %m",
		                 dir, bytes);
	if (file_write_at(writer->fd, writer->head, writer->head_bytes, 0) < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot write '%s/models/%s': %m", dir, writer->temporary);
	return OPTD_OK;
}

int checkpoint_begin(const char *dir, const struct checkpoint *about,
                     struct checkpoint_writer **out, char *why, size_t why_bytes)
{
	struct checkpoint_writer *writer;
	int rc = check_about(about, why, why_bytes);

	if (rc < 0)
		return rc;
	writer = calloc(1, sizeof *writer);
	if (!writer)
		return disk_fail(OPTD_NO_MEMORY, why, why_bytes, "no memory to save the model '%s'", about->model);
	writer->dir = writer->fd = -1;
	writer->layout = about->layout;
	checkpoint_name(about->model, writer->name);
	snprintf(writer->temporary, sizeof writer->temporary, "%s.tmp", writer->name);
	rc = make_head(writer, about, why, why_bytes);
	if (rc == OPTD_OK)
		rc = make_file(writer, dir, why, why_bytes);
	if (rc < 0) {
		checkpoint_abandon(&writer);
		return rc;
	}
	*out = writer;
	return OPTD_OK;
}

/* A block's part of a vector, which `from` points at. */
static int put_vector(struct checkpoint_writer *writer, struct digest *digest, uint32_t number,
                      uint32_t vector, const float *from)
{
	struct plan_stretch stretch = plan_begin(writer->plan, writer->layout, number, vector);
	int rc = OPTD_OK;

	while (rc == OPTD_OK && plan_next(writer->plan, writer->layout, number, vector, &stretch)) {
		size_t bytes = stretch.count * sizeof(float);
		digest_add(digest, from + stretch.offset, bytes);
		rc = file_write_at(writer->fd, from + stretch.offset, bytes, writer->head_bytes + stretch.place);
	}
	return rc;
}

/* One block; w and states, which are its slots and average, point at its first element. */
static int put_block(struct checkpoint_writer *writer, struct digest *digest, uint32_t number,
                     const float *w, const float *const *states)
{
	int rc;

	digest_reset(digest);
	rc = put_vector(writer, digest, number, 0, w);
	for (uint32_t i = 0; rc == OPTD_OK && i < plan_state_count(writer->plan); i++)
		rc = put_vector(writer, digest, number, 1 + i, states[i]);
	writer->checksums[number - writer->plan->owned.first] = digest_value(digest);
	return rc;
}

static int put_vectors(struct checkpoint_writer *writer, const struct checkpoint_part *part)
{
	struct digest *digest = digest_new();
	const float *states[PLAN_STATES_MAX];
	uint64_t begin = layout_block(writer->layout, part->first_block)->begin;
	int rc = digest ? OPTD_OK : OPTD_NO_MEMORY;

	for (uint32_t i = 0; rc == OPTD_OK && i < part->block_count; i++) {
		uint32_t number = part->first_block + i;
		uint64_t offset = layout_block(writer->layout, number)->begin - begin;
		for (uint32_t s = 0; s < writer->plan->slot_count; s++)
			states[s] = part->slots[s] + plan_distance(writer->plan, writer->layout, part->first_block, number, 1 + s);
		if (writer->plan->average_count > 0)
			states[writer->plan->slot_count] = part->average + offset;
		rc = put_block(writer, digest, number, part->weights + offset, states);
	}
	digest_free(digest);
	return rc;
}

static void put_tables(struct checkpoint_writer *writer, const struct checkpoint_part *part)
{
	const struct plan *plan = writer->plan;
	const struct layout_block *first = layout_block(writer->layout, part->first_block);
	const struct layout_block *last = layout_block(writer->layout, part->first_block + part->block_count - 1);
	uint32_t segments = last->first_segment + last->segment_count - first->first_segment;
	uint32_t at = part->first_block - plan->owned.first;

	memcpy(writer->versions + at, part->versions, part->block_count * sizeof *part->versions);
	memcpy(writer->updates + (first->first_segment - plan->first_segment), part->updates,
	       segments * sizeof *part->updates);
	if (plan->carry_count > 0)
		memcpy(writer->carries + (first->first_segment - plan->first_segment), part->carries,
		       segments * sizeof *part->carries);
	for (uint32_t rank = 0; part->seen && rank < plan->seats; rank++)
		if (part->seen[rank])
			memcpy(writer->seen + (size_t)rank * plan->owned.count + at, part->seen[rank],
			       part->block_count * sizeof *part->seen[rank]);
	memset(writer->done + at, 1, part->block_count);
}

int checkpoint_put(struct checkpoint_writer *writer, const struct checkpoint_part *part,
                   char *why, size_t why_bytes)
{
	struct layout_run owned = writer->plan->owned;
	uint32_t at = part->first_block - owned.first;
	int rc;

	if (part->block_count == 0)
		return OPTD_OK;
	if (part->first_block < owned.first || at >= owned.count || part->block_count > owned.count - at)
		return disk_fail(OPTD_INVALID, why, why_bytes, "blocks %" PRIu32 " +%" PRIu32 " are not in the daemon's "
		                 "run %" PRIu32 " +%" PRIu32, part->first_block, part->block_count, owned.first,
		                 owned.count);
	rc = put_vectors(writer, part);
	if (rc == OPTD_IO)
		return disk_fail(rc, why, why_bytes, "cannot write '%s': %m", writer->temporary);
	if (rc < 0)
		return disk_fail(rc, why, why_bytes, "no memory to save blocks");
	put_tables(writer, part);
	return OPTD_OK;
}

/* Numbers, shapes, tables and the seal over head, shapes and tables. */
static int write_tables(struct checkpoint_writer *writer)
{
	static const char zeros[8];
	const struct plan *plan = writer->plan;
	const struct { const void *bytes; uint64_t at, end; } tables[] = {
		{ writer->shapes, plan->shapes, plan->padding },
		{ zeros, plan->padding, plan->versions },
		{ writer->versions, plan->versions, plan->updates },
		{ writer->updates, plan->updates, plan->carries },
		{ writer->carries, plan->carries, plan->seen },
		{ writer->seen, plan->seen, plan->checksums },
		{ writer->checksums, plan->checksums, plan->seal },
	};
	struct digest *digest = digest_new();
	uint64_t seal;
	int rc;

	if (!digest)
		return OPTD_NO_MEMORY;
	digest_add(digest, writer->head, writer->head_bytes);
	plan_numbers(plan, writer->layout, writer->updates, writer->carries, writer->numbers);
	rc = file_write_at(writer->fd, writer->numbers, plan->number_count * sizeof(float),
	                   writer->head_bytes + plan->numbers_at);
	for (size_t i = 0; rc == OPTD_OK && i < sizeof tables / sizeof *tables; i++) {
		size_t bytes = tables[i].end - tables[i].at;
		digest_add(digest, tables[i].bytes, bytes);
		rc = file_write_at(writer->fd, tables[i].bytes, bytes, writer->head_bytes + tables[i].at);
	}
	seal = digest_value(digest);
	digest_free(digest);
	return rc < 0 ? rc : file_write_at(writer->fd, &seal, sizeof seal, writer->head_bytes + plan->seal);
}

static int commit(struct checkpoint_writer *writer, char *why, size_t why_bytes)
{
	const uint8_t *missing = memchr(writer->done, 0, writer->plan->owned.count);
	int rc;

	if (missing)
		return disk_fail(OPTD_INVALID, why, why_bytes, "block %" PRIu32 " was not handed over",
		                 writer->plan->owned.first + (uint32_t)(missing - writer->done));
	rc = write_tables(writer);
	if (rc == OPTD_IO)
		return disk_fail(rc, why, why_bytes, "cannot write '%s': %m", writer->temporary);
	if (rc < 0)
		return disk_fail(rc, why, why_bytes, "no memory to finish '%s'", writer->temporary);
	return file_publish(writer->dir, writer->fd, writer->temporary, writer->name, why, why_bytes);
}

/* Frees the writer; what lies under the temporary name is removed unless `kept`. */
static void writer_free(struct checkpoint_writer *writer, int kept)
{
	if (writer->fd >= 0) {
		close(writer->fd);
		if (!kept)
			unlinkat(writer->dir, writer->temporary, 0);
	}
	if (writer->dir >= 0)
		close(writer->dir);
	plan_free(writer->plan);
	free(writer->head);
	free(writer->shapes);
	free(writer->versions);
	free(writer->updates);
	free(writer->seen);
	free(writer->checksums);
	free(writer->carries);
	free(writer->numbers);
	free(writer->done);
	free(writer);
}

int checkpoint_commit(struct checkpoint_writer **writer, char *why, size_t why_bytes)
{
	int rc = commit(*writer, why, why_bytes);

	writer_free(*writer, rc == OPTD_OK);
	*writer = NULL;
	return rc;
}

void checkpoint_abandon(struct checkpoint_writer **writer)
{
	if (!*writer)
		return;
	writer_free(*writer, 0);
	*writer = NULL;
}

int checkpoint_write(const char *dir, const struct checkpoint *about,
                     const struct checkpoint_part *parts, uint32_t part_count,
                     char *why, size_t why_bytes)
{
	struct checkpoint_writer *writer;
	int rc = checkpoint_begin(dir, about, &writer, why, why_bytes);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < part_count; i++) {
		rc = checkpoint_put(writer, &parts[i], why, why_bytes);
		if (rc < 0) {
			checkpoint_abandon(&writer);
			return rc;
		}
	}
	return checkpoint_commit(&writer, why, why_bytes);
}
