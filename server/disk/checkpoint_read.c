/*
 * Checkpoint, reading.
 *
 * Checks go from the outside in, so that each may trust the one before: the head
 * is a valid one; the seal says that head and tables are as they were written;
 * settings and layout make sense to this version; the tensors are exactly those
 * of the plan; each block has its checksum.  A file is read with pread into
 * bounded memory: mapping one that somebody else shortens would kill the daemon.
 */
#include "server/disk/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/status.h"
#include "server/core/whole.h"
#include "server/disk/digest.h"
#include "server/disk/file.h"
#include "server/disk/manifest.h"
#include "server/disk/plan.h"
#include "server/disk/shapes.h"

/* Memory for passing over bytes that are only checked. */
#define CHUNK_BYTES (256u * 1024u)

/* More texts than any version of ours writes. */
#define METADATA_MAX 1024u

/* The least that a block of the daemon's run takes in a file: an element, its
 * version, the updates of a segment, and its checksum. */
#define BLOCK_BYTES_MIN 28u

struct checkpoint_file {
	int fd;               /* -1: the bytes are in memory */
	const uint8_t *bytes;
	uint64_t size;
	struct safetensors *head; /* about's texts are in it */
	uint64_t head_bytes;
	struct checkpoint about;
	struct layout *layout;
	struct plan *plan;
	uint64_t *versions, *updates, *seen, *checksums;
	struct optim_carry *carries;
	float *numbers; /* see plan_numbers */
};

static int no_memory(char *why, size_t why_bytes)
{
	return disk_fail(OPTD_NO_MEMORY, why, why_bytes, "no memory to read the checkpoint");
}

/* The one way to the file's bytes. */
static int read_at(const struct checkpoint_file *file, void *bytes, size_t size, uint64_t offset,
                   char *why, size_t why_bytes)
{
	int rc = OPTD_OK;

	if (offset > file->size || size > file->size - offset)
		rc = OPTD_CORRUPT;
	else if (file->fd < 0)
		memcpy(bytes, file->bytes + offset, size);
	else
		rc = file_read_at(file->fd, bytes, size, offset);
	if (rc == OPTD_CORRUPT)
		return disk_fail(rc, why, why_bytes, "the file ends before byte %" PRIu64, offset + size);
	if (rc < 0)
		return disk_fail(rc, why, why_bytes, "cannot read at byte %" PRIu64 ": %m", offset);
	return OPTD_OK;
}

/* New memory with these bytes of the file. */
static int read_new(const struct checkpoint_file *file, uint64_t size, uint64_t offset, void **out,
                    char *why, size_t why_bytes)
{
	void *bytes;
	int rc;

	/* Before asking for memory: a table is never larger than its file. */
	if (size > file->size)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "a table is larger than the file");
	bytes = malloc(size + !size);
	if (!bytes)
		return no_memory(why, why_bytes);
	rc = read_at(file, bytes, size, offset, why, why_bytes);
	if (rc < 0) {
		free(bytes);
		return rc;
	}
	*out = bytes;
	return OPTD_OK;
}

static int read_head(struct checkpoint_file *file, char *why, size_t why_bytes)
{
	unsigned char eight[8];
	uint64_t text_bytes;
	void *text = NULL;
	int rc;

	if (file->size < sizeof eight)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "the file has only %" PRIu64 " bytes", file->size);
	rc = read_at(file, eight, sizeof eight, 0, why, why_bytes);
	if (rc < 0)
		return rc;
	rc = safetensors_text_bytes(eight, file->size, LIMIT_SAFETENSORS_HEADER, &text_bytes, why, why_bytes);
	if (rc < 0)
		return rc;
	rc = read_new(file, text_bytes, 8, &text, why, why_bytes);
	if (rc < 0)
		return rc;
	file->head_bytes = 8 + text_bytes;
	rc = safetensors_decode(text, text_bytes, file->size - file->head_bytes, PLAN_TENSORS_MAX, METADATA_MAX,
	                        &file->head, why, why_bytes);
	free(text);
	return rc;
}

/* Adds the file's bytes [begin, end) to the digest. */
static int digest_range(const struct checkpoint_file *file, struct digest *digest, uint64_t begin, uint64_t end,
                        char *why, size_t why_bytes)
{
	char *chunk = malloc(end - begin < CHUNK_BYTES ? (size_t)(end - begin) + 1 : CHUNK_BYTES);
	int rc = chunk ? OPTD_OK : no_memory(why, why_bytes);

	while (rc == OPTD_OK && begin < end) {
		size_t size = end - begin < CHUNK_BYTES ? (size_t)(end - begin) : CHUNK_BYTES;
		rc = read_at(file, chunk, size, begin, why, why_bytes);
		digest_add(digest, chunk, rc == OPTD_OK ? size : 0);
		begin += size;
	}
	free(chunk);
	return rc;
}

static int check_seal(const struct checkpoint_file *file, char *why, size_t why_bytes)
{
	const struct safetensors_tensor *shapes = safetensors_find(file->head, "optd.layout");
	const struct safetensors_tensor *seal = safetensors_find(file->head, "optd.seal");
	uint64_t stored, value;
	struct digest *digest;
	int rc;

	if (!shapes || !seal || seal->end - seal->begin != sizeof stored || shapes->begin > seal->begin)
		return disk_fail(OPTD_UNSUPPORTED, why, why_bytes, "this safetensors file is not a checkpoint of optd");
	rc = read_at(file, &stored, sizeof stored, file->head_bytes + seal->begin, why, why_bytes);
	if (rc < 0)
		return rc;
	digest = digest_new();
	if (!digest)
		return no_memory(why, why_bytes);
	rc = digest_range(file, digest, 0, file->head_bytes, why, why_bytes);
	if (rc == OPTD_OK)
		rc = digest_range(file, digest, file->head_bytes + shapes->begin, file->head_bytes + seal->begin,
		                  why, why_bytes);
	value = digest_value(digest);
	digest_free(digest);
	if (rc == OPTD_OK && value != stored)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "the head or a table is damaged: its checksum is %016" PRIx64
		                 ", the file says %016" PRIx64, value, stored);
	return rc;
}

/* Bytes of the table of shapes; the seal's check has seen that it is there. */
static uint64_t shapes_bytes(const struct checkpoint_file *file)
{
	const struct safetensors_tensor *shapes = safetensors_find(file->head, "optd.layout");

	return shapes->end - shapes->begin;
}

static int read_layout(struct checkpoint_file *file, char *why, size_t why_bytes)
{
	const struct safetensors_tensor *shapes = safetensors_find(file->head, "optd.layout");
	uint64_t bytes = shapes_bytes(file);
	void *text = NULL;
	int rc;

	rc = read_new(file, bytes, file->head_bytes + shapes->begin, &text, why, why_bytes);
	if (rc < 0)
		return rc;
	rc = shapes_decode(text, bytes, &file->layout, why, why_bytes);
	free(text);
	if (rc < 0)
		return rc;
	/* Before tables are made for them: this daemon's share of the blocks is in
	 * the file, and the others' are of the same number. */
	if (layout_elements(file->layout) / LIMIT_BLOCK_ELEMENTS >
	    (file->size / BLOCK_BYTES_MIN + 1) * file->about.daemons)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "a layout of %" PRIu64 " elements does not fit a file of "
		                 "%" PRIu64 " bytes", layout_elements(file->layout), file->size);
	rc = whole_cut(&file->about.groups, &file->about.optim, file->layout);
	if (rc < 0)
		return disk_fail(rc == OPTD_NO_MEMORY ? rc : OPTD_CORRUPT, why, why_bytes, "the layout cannot be cut: %s",
		                 status_text(rc));
	return manifest_check_layout(file->head, file->layout, why, why_bytes);
}

/* The settings are valid, but say nothing yet about these tensors. */
static int check_groups(const struct checkpoint_file *file, char *why, size_t why_bytes)
{
	char text[512];

	const struct checkpoint *about = &file->about;

	if (groups_fit(&about->groups, file->layout, text, sizeof text) == OPTD_OK &&
	    whole_check(&about->groups, &about->optim, about->mode, file->layout, text, sizeof text) == OPTD_OK)
		return OPTD_OK;
	return disk_fail(OPTD_CORRUPT, why, why_bytes, "metadata: %s", text);
}

static int read_tables(struct checkpoint_file *file, char *why, size_t why_bytes)
{
	const struct plan *plan = file->plan;
	const struct { uint64_t at, end; void **out; } tables[] = {
		{ plan->numbers_at, plan->shapes, (void **)&file->numbers },
		{ plan->versions, plan->updates, (void **)&file->versions },
		{ plan->updates, plan->carries, (void **)&file->updates },
		{ plan->carries, plan->seen, (void **)&file->carries },
		{ plan->seen, plan->checksums, (void **)&file->seen },
		{ plan->checksums, plan->seal, (void **)&file->checksums },
	};

	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		int rc = read_new(file, tables[i].end - tables[i].at, file->head_bytes + tables[i].at, tables[i].out, why,
		                  why_bytes);
		if (rc < 0)
			return rc;
	}
	return OPTD_OK;
}

/* They say nothing that updates and carries do not: made again, they must agree. */
static int check_numbers(const struct checkpoint_file *file, char *why, size_t why_bytes)
{
	uint64_t count = file->plan->number_count;
	float *numbers = calloc(count + 1u, sizeof *numbers);
	int same;

	if (!numbers)
		return no_memory(why, why_bytes);
	plan_numbers(file->plan, file->layout, file->updates, file->carries, numbers);
	same = memcmp(numbers, file->numbers, count * sizeof *numbers) == 0;
	free(numbers);
	if (!same)
		return disk_fail(OPTD_CORRUPT, why, why_bytes, "a tensor's step or carried number is not that of its segments");
	return OPTD_OK;
}

/* Reads a block's part of a vector to where the block begins in it; NULL: only checks it. */
static int read_vector(const struct checkpoint_file *file, struct digest *digest, uint32_t number,
                       uint32_t vector, float *to, char *why, size_t why_bytes)
{
	struct plan_stretch stretch = plan_begin(file->plan, file->layout, number, vector);
	int rc = OPTD_OK;

	while (rc == OPTD_OK && plan_next(file->plan, file->layout, number, vector, &stretch)) {
		size_t bytes = stretch.count * sizeof(float);
		uint64_t begin = file->head_bytes + stretch.place;
		if (!to) {
			rc = digest_range(file, digest, begin, begin + bytes, why, why_bytes);
			continue;
		}
		rc = read_at(file, to + stretch.offset, bytes, begin, why, why_bytes);
		digest_add(digest, to + stretch.offset, rc == OPTD_OK ? bytes : 0);
	}
	return rc;
}

/* Reads a block to w and states, which are its slots and average, and checks it; NULL for both:
 * only checks. */
static int read_block(const struct checkpoint_file *file, struct digest *digest, uint32_t number,
                      float *w, float *const *states, char *why, size_t why_bytes)
{
	const struct plan *plan = file->plan;
	const struct layout_block *block = layout_block(file->layout, number);
	uint64_t value, stored = file->checksums[number - plan->owned.first];
	int rc;

	digest_reset(digest);
	rc = read_vector(file, digest, number, 0, w, why, why_bytes);
	for (uint32_t i = 0; rc == OPTD_OK && i < plan_state_count(plan); i++)
		rc = read_vector(file, digest, number, 1 + i, states ? states[i] : NULL, why, why_bytes);
	if (rc < 0)
		return rc;
	value = digest_value(digest);
	if (value == stored)
		return OPTD_OK;
	return disk_fail(OPTD_CORRUPT, why, why_bytes, "block %" PRIu32 " is damaged (in tensor '%.100s' or behind it): "
	                 "its checksum is %016" PRIx64 ", the file says %016" PRIx64, number,
	                 layout_tensor(file->layout, layout_segment(file->layout, block->first_segment)->tensor)->name,
	                 value, stored);
}

static int check_blocks(const struct checkpoint_file *file, char *why, size_t why_bytes)
{
	const struct plan *plan = file->plan;
	struct digest *digest = digest_new();
	int rc = digest ? OPTD_OK : no_memory(why, why_bytes);

	for (uint32_t i = 0; rc == OPTD_OK && i < plan->owned.count; i++)
		rc = read_block(file, digest, plan->owned.first + i, NULL, NULL, why, why_bytes);
	digest_free(digest);
	return rc;
}

/* The blocks of a whole tensor are updated together, so they count alike. */
static int check_units(const struct checkpoint_file *file, char *why, size_t why_bytes)
{
	const struct plan *plan = file->plan;

	for (uint32_t i = 1; i < plan->owned.count; i++) {
		const struct layout_block *b = layout_block(file->layout, plan->owned.first + i);
		uint32_t segment = b->first_segment - plan->first_segment;
		bool together = layout_unit(file->layout, plan->owned.first + i).first < plan->owned.first + i;
		if (together && (file->versions[i] != file->versions[i - 1] ||
		                 file->updates[segment] != file->updates[segment - 1]))
			return disk_fail(OPTD_CORRUPT, why, why_bytes, "blocks %" PRIu32 " and %" PRIu32 " of tensor '%.100s' "
			                 "are of different versions", plan->owned.first + i - 1, plan->owned.first + i,
			                 layout_tensor(file->layout, layout_segment(file->layout, b->first_segment)->tensor)->name);
	}
	return OPTD_OK;
}

static int check_file(struct checkpoint_file *file, char *why, size_t why_bytes)
{
	int rc = read_head(file, why, why_bytes);

	if (rc == OPTD_OK)
		rc = check_seal(file, why, why_bytes);
	if (rc == OPTD_OK)
		rc = manifest_decode(file->head, &file->about, why, why_bytes);
	if (rc == OPTD_OK)
		rc = read_layout(file, why, why_bytes);
	if (rc == OPTD_OK)
		rc = check_groups(file, why, why_bytes);
	if (rc < 0)
		return rc;
	file->about.layout = file->layout;
	rc = manifest_check_keys(file->head, &file->about, why, why_bytes);
	if (rc < 0)
		return rc;
	rc = plan_new(&file->about, shapes_bytes(file), &file->plan);
	if (rc < 0)
		return no_memory(why, why_bytes);
	rc = plan_compare(file->plan, file->head, why, why_bytes);
	if (rc == OPTD_OK)
		rc = read_tables(file, why, why_bytes);
	if (rc == OPTD_OK)
		rc = check_numbers(file, why, why_bytes);
	if (rc == OPTD_OK)
		rc = check_units(file, why, why_bytes);
	return rc < 0 ? rc : check_blocks(file, why, why_bytes);
}

static int file_new(int fd, const void *bytes, uint64_t size, struct checkpoint_file **out,
                    char *why, size_t why_bytes)
{
	struct checkpoint_file *file = calloc(1, sizeof *file);
	int rc;

	if (!file) {
		if (fd >= 0)
			close(fd);
		return no_memory(why, why_bytes);
	}
	file->fd = fd;
	file->bytes = bytes;
	file->size = size;
	rc = check_file(file, why, why_bytes);
	if (rc < 0) {
		checkpoint_close(file);
		return rc;
	}
	*out = file;
	return OPTD_OK;
}

/* Who is denied, and whose the file is: the two that have to be made one. */
static int denied(const char *path, char *why, size_t why_bytes)
{
	const struct passwd *user = getpwuid(geteuid());
	struct stat info;

	if (lstat(path, &info) < 0)
		return disk_fail(OPTD_DENIED, why, why_bytes, "user %s (uid %ld) may not look into its directory: start "
		                 "optd as the directory's owner, or give it to this user (chown)",
		                 user ? user->pw_name : "?", (long)geteuid());
	return disk_fail(OPTD_DENIED, why, why_bytes, "user %s (uid %ld) may not read it; it belongs to uid %ld, with mode "
	                 "%04o: start optd as its owner, or give the file to this user (chown) and let it read (chmod "
	                 "u+r)", user ? user->pw_name : "?", (long)geteuid(), (long)info.st_uid,
	                 (unsigned)(info.st_mode & 07777));
}

int checkpoint_open(const char *path, struct checkpoint_file **out, char *why, size_t why_bytes)
{
	/* O_NONBLOCK: a named pipe in the file's place must not hold us up. */
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat info;

	if (fd < 0 && errno == ELOOP)
		return disk_fail(OPTD_IO, why, why_bytes, "is a symbolic link; checkpoints are not followed through links");
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return denied(path, why, why_bytes);
	if (fd < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot be opened: %m");
	if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
		close(fd);
		return disk_fail(OPTD_IO, why, why_bytes, "is not a regular file");
	}
	return file_new(fd, NULL, (uint64_t)info.st_size, out, why, why_bytes);
}

int checkpoint_open_memory(const void *bytes, size_t size, struct checkpoint_file **out,
                           char *why, size_t why_bytes)
{
	return file_new(-1, bytes, size, out, why, why_bytes);
}

void checkpoint_close(struct checkpoint_file *file)
{
	if (!file)
		return;
	if (file->fd >= 0)
		close(file->fd);
	plan_free(file->plan);
	layout_free(file->layout);
	safetensors_free(file->head);
	free(file->versions);
	free(file->updates);
	free(file->seen);
	free(file->checksums);
	free(file->numbers);
	free(file->carries);
	free(file);
}

const struct checkpoint *checkpoint_about(const struct checkpoint_file *file)
{
	return &file->about;
}

static uint32_t place_of(const struct checkpoint_file *file, uint32_t block)
{
	assert(block >= file->plan->owned.first && block - file->plan->owned.first < file->plan->owned.count);
	return block - file->plan->owned.first;
}

uint64_t checkpoint_version(const struct checkpoint_file *file, uint32_t block)
{
	return file->versions[place_of(file, block)];
}

uint64_t checkpoint_seen(const struct checkpoint_file *file, uint32_t rank, uint32_t block)
{
	assert(rank < file->plan->seats);
	return file->seen[(size_t)rank * file->plan->owned.count + place_of(file, block)];
}

static void read_counters(const struct checkpoint_file *file, const struct checkpoint_target *target)
{
	const struct layout_block *first = layout_block(file->layout, target->first_block);
	const struct layout_block *last = layout_block(file->layout, target->first_block + target->block_count - 1);
	uint32_t segments = last->first_segment + last->segment_count - first->first_segment;

	memcpy(target->versions, file->versions + place_of(file, target->first_block),
	       target->block_count * sizeof *target->versions);
	memcpy(target->updates, file->updates + (first->first_segment - file->plan->first_segment),
	       segments * sizeof *target->updates);
	if (file->plan->carry_count > 0)
		memcpy(target->carries, file->carries + (first->first_segment - file->plan->first_segment),
		       segments * sizeof *target->carries);
}

int checkpoint_read(const struct checkpoint_file *file, const struct checkpoint_target *target,
                    char *why, size_t why_bytes)
{
	struct layout_run owned = file->plan->owned;
	uint32_t at = target->first_block - owned.first;
	float *states[PLAN_STATES_MAX];
	struct digest *digest;
	int rc = OPTD_OK;

	if (target->block_count == 0)
		return OPTD_OK;
	if (target->first_block < owned.first || at >= owned.count || target->block_count > owned.count - at)
		return disk_fail(OPTD_INVALID, why, why_bytes, "blocks %" PRIu32 " +%" PRIu32 " are not all in the file, "
		                 "which has %" PRIu32 " +%" PRIu32, target->first_block, target->block_count, owned.first,
		                 owned.count);
	digest = digest_new();
	if (!digest)
		return no_memory(why, why_bytes);
	for (uint32_t i = 0; rc == OPTD_OK && i < target->block_count; i++) {
		uint32_t number = target->first_block + i;
		uint64_t offset = layout_block(file->layout, number)->begin -
		                  layout_block(file->layout, target->first_block)->begin;
		for (uint32_t s = 0; s < file->plan->slot_count; s++)
			states[s] = target->slots[s] +
			            plan_distance(file->plan, file->layout, target->first_block, number, 1 + s);
		if (file->plan->average_count > 0)
			states[file->plan->slot_count] = target->average + offset;
		rc = read_block(file, digest, number, target->weights + offset, states, why, why_bytes);
	}
	digest_free(digest);
	if (rc == OPTD_OK)
		read_counters(file, target);
	return rc;
}
