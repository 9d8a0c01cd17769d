/* Sample: models for the tests of disk/. */
#include "tests/disk/sample.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/safetensors.h"
#include "proto/status.h"
#include "server/disk/digest.h"

/* A helper that fails is a broken test, not a result. */
#define MUST(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

void sample_dir(char dir[64])
{
	snprintf(dir, 64, "/tmp/optd-disk-XXXXXX");
	MUST(mkdtemp(dir));
}

void sample_dir_remove(const char *dir)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;
	char path[1024];
	struct stat info;

	MUST(stream);
	while ((entry = readdir(stream))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
		MUST(lstat(path, &info) == 0);
		if (S_ISDIR(info.st_mode))
			sample_dir_remove(path);
		else
			MUST(unlink(path) == 0);
	}
	closedir(stream);
	MUST(rmdir(dir) == 0);
}

uint64_t sample_random(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static float random_bits(uint64_t *seed)
{
	static const uint32_t awkward[] = { 0x80000000, 0x7fc00001, 0xffabcdef, 0x7f800001, 0xff800000, 1 };
	uint64_t r = sample_random(seed);
	uint32_t bits = r % 8 == 0 ? awkward[(r >> 8) % 6] : (uint32_t)(r >> 32);
	float value;

	memcpy(&value, &bits, sizeof value);
	return value;
}

static float *random_vector(uint64_t count, uint64_t *seed)
{
	float *vector = malloc((count + 1) * sizeof *vector);

	MUST(vector);
	for (uint64_t i = 0; i < count; i++)
		vector[i] = random_bits(seed);
	return vector;
}

static uint64_t *random_counts(uint32_t count, uint64_t *seed)
{
	uint64_t *counts = malloc((count + 1u) * sizeof *counts);

	MUST(counts);
	for (uint32_t i = 0; i < count; i++)
		counts[i] = sample_random(seed) >> (sample_random(seed) % 64);
	return counts;
}

static struct optim_carry *random_carries(uint32_t count, uint64_t *seed)
{
	struct optim_carry *carries = malloc((count + 1u) * sizeof *carries);

	MUST(carries);
	for (uint32_t i = 0; i < count * OPTIM_CARRIES_MAX; i++)
		carries[i / OPTIM_CARRIES_MAX].values[i % OPTIM_CARRIES_MAX] = random_bits(seed);
	return carries;
}

static void set_optimizer(struct optim *optim, const char *name)
{
	char why[256];
	double lr = 0.1 + 0.2, betas[2] = { 0.9, 0.123456789012345678 };

	MUST(optim_init(optim, optim_find(name), OPTIM_TORCH2, why, sizeof why) == 0);
	MUST(optim_set(optim, "lr", &lr, 1, why, sizeof why) == 0);
	if (strcmp(name, "adam") == 0)
		MUST(optim_set(optim, "betas", betas, 2, why, sizeof why) == 0);
	MUST(optim_check(optim, why, sizeof why) == 0);
}

void sample_init(struct sample *sample, struct layout *layout, const char *optimizer, uint32_t seats,
                 uint64_t seed)
{
	MUST(layout_cut(layout, NULL) == 0 && seats <= 16);
	*sample = (struct sample){ .layout = layout };
	sample->about = (struct checkpoint){
		.model = "mnist", .run = "night \"7\"", .run_id = UINT64_C(0xfedcba9876543210), .layout = layout,
		.mode = seats ? MSG_ASYNC : MSG_SYNC, .reduce = MSG_MEAN, .workers = 2, .step_timeout_ms = 30000,
		.seats = seats, .daemons = 1, .history = { { { 3, 100 }, { UINT64_C(1) << 60, UINT64_C(1) << 61 } }, 2 },
		.epoch = UINT64_C(1) << 62, .final = true,
		 .created_s = 1700000000, .saved_s = 1700000900,
	};
	set_optimizer(&sample->about.optim, optimizer);
	sample->weights = random_vector(layout_elements(layout), &seed);
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		sample->slots[i] = random_vector(layout_elements(layout), &seed);
	sample->average = random_vector(layout_elements(layout), &seed);
	sample->versions = random_counts(layout_block_count(layout), &seed);
	sample->updates = random_counts(layout_segment_count(layout), &seed);
	sample->carries = random_carries(layout_segment_count(layout), &seed);
	sample->seen = calloc(seats + 1u, sizeof *sample->seen);
	MUST(sample->seen);
	for (uint32_t i = 0; i < seats; i++)
		sample->seen[i] = random_counts(layout_block_count(layout), &seed);
}

void sample_deinit(struct sample *sample)
{
	free(sample->weights);
	free(sample->average);
	for (uint32_t i = 0; i < OPTIM_SLOTS_MAX; i++)
		free(sample->slots[i]);
	free(sample->versions);
	free(sample->updates);
	free(sample->carries);
	for (uint32_t i = 0; i < sample->about.seats; i++)
		free(sample->seen[i]);
	free(sample->seen);
	layout_free(sample->layout);
}

void sample_add(struct layout *layout, const char *name, const uint64_t *shape, uint32_t rank)
{
	MUST(layout_add(layout, name, strlen(name), shape, rank, 0) == 0);
}

void sample_small(struct sample *sample, uint64_t seed)
{
	struct layout *layout = layout_new();

	MUST(layout);
	sample_add(layout, "fc.weight", (uint64_t[]){ 2, 5 }, 2);
	sample_add(layout, "fc.bias", (uint64_t[]){ 3 }, 1);
	sample_add(layout, "scale", NULL, 0);
	sample_init(sample, layout, "adam", 0, seed);
}

struct group *sample_group(struct sample *sample, const char *tensors, const char *name)
{
	struct group *group = &sample->about.groups.list[sample->about.groups.count++];
	char why[256];

	MUST(group_begin(group, tensors, &sample->about.optim, name, NULL, why, sizeof why) == 0);
	return group;
}

void sample_average(struct sample *sample, const char *kind)
{
	const double start = 9007199254740991.0;
	char why[256];

	MUST(average_begin(&sample->about.average, kind, why, sizeof why) == 0);
	MUST(average_set(&sample->about.average, "start", &start, 1, why, sizeof why) == 0);
}

void sample_grouped(struct sample *sample, uint64_t seed)
{
	struct layout *layout = layout_new();

	MUST(layout);
	sample_add(layout, "fc.weight", (uint64_t[]){ 2, 5 }, 2);
	sample_add(layout, "fc.bias", (uint64_t[]){ 3 }, 1);
	sample_add(layout, "scale", NULL, 0);
	sample_add(layout, "bn.mean", (uint64_t[]){ 4 }, 1);
	sample_init(sample, layout, "sgd", 0, seed);
	sample_group(sample, "*.bias", "nadam");
	sample_group(sample, "fc.*", "adam");
	sample_group(sample, "scale", NULL)->frozen = true;
	sample_group(sample, "bn.*", "average");
}

const struct optim *sample_optim(const struct sample *sample, uint32_t tensor)
{
	struct group_finder finder;

	group_finder_init(&finder, &sample->about.groups);
	return groups_optim(&sample->about.groups, &sample->about.optim,
	                    group_find(&finder, layout_tensor(sample->layout, tensor)->name));
}

struct layout *sample_layout(uint64_t *seed)
{
	struct layout *layout = layout_new();
	uint32_t large = (uint32_t)(sample_random(seed) % 4), small = (uint32_t)(sample_random(seed) % 9000);
	char name[64];

	MUST(layout);
	for (uint32_t i = 0; i < large; i++) {
		snprintf(name, sizeof name, "layer.%u \xc3\xa9\"\\.weight", i);
		sample_add(layout, name, (uint64_t[]){ 1 + sample_random(seed) % 600, 300 }, 2);
	}
	for (uint32_t i = 0; i < small; i++) {
		snprintf(name, sizeof name, "p%u", i);
		sample_add(layout, name, (uint64_t[]){ sample_random(seed) % 4, 1 }, (uint32_t)(sample_random(seed) % 3));
	}
	sample_add(layout, "last", NULL, 0);
	sample_add(layout, "empty", (uint64_t[]){ 0 }, 1);
	return layout;
}

uint32_t sample_slot_count(const struct sample *sample)
{
	return groups_slot_count(&sample->about.groups, &sample->about.optim);
}

uint64_t sample_begin(const struct sample *sample, uint32_t block)
{
	return block < layout_block_count(sample->layout) ? layout_block(sample->layout, block)->begin
	                                                  : layout_elements(sample->layout);
}

static uint32_t first_segment(const struct sample *sample, uint32_t block)
{
	return block < layout_block_count(sample->layout) ? layout_block(sample->layout, block)->first_segment
	                                                  : layout_segment_count(sample->layout);
}

struct checkpoint_part sample_part(const struct sample *sample, uint32_t first, uint32_t count,
                                   const float *slots[OPTIM_SLOTS_MAX], const uint64_t *seen[16])
{
	uint64_t at = sample_begin(sample, first);

	for (uint32_t i = 0; i < sample_slot_count(sample); i++)
		slots[i] = sample->slots[i] + at;
	for (uint32_t i = 0; i < sample->about.seats; i++)
		seen[i] = sample->seen[i] + first;
	return (struct checkpoint_part){
		.first_block = first, .block_count = count, .weights = sample->weights + at, .slots = slots,
		.versions = sample->versions + first, .updates = sample->updates + first_segment(sample, first),
		.carries = sample->carries + first_segment(sample, first), .seen = seen,
		.average = average_is_kept(&sample->about.average) ? sample->average + at : NULL,
	};
}

int sample_write(const struct sample *sample, const char *dir, char *why, size_t why_bytes)
{
	struct layout_run owned = checkpoint_owned(&sample->about);
	const float *slots[OPTIM_SLOTS_MAX];
	const uint64_t *seen[16];
	struct checkpoint_part part = sample_part(sample, owned.first, owned.count, slots, seen);

	return checkpoint_write(dir, &sample->about, &part, 1, why, why_bytes);
}

/* Whether a slot of these blocks has the sample's bits where tensors have it, and is as it
 * was, zero bytes, elsewhere. */
static bool same_slot(const struct sample *sample, uint32_t slot, const float *read, uint32_t segment, uint32_t end)
{
	const float *wrote = sample->slots[slot];
	static const float zeros[LIMIT_BLOCK_ELEMENTS];
	uint64_t offset = 0, at = 0;
	bool same = true;

	for (uint32_t i = 0; i < segment; i++)
		at += layout_segment(sample->layout, i)->count;
	for (uint32_t i = segment; i < end; i++) {
		const struct layout_segment *s = layout_segment(sample->layout, i);
		const struct optim *optim = sample_optim(sample, s->tensor);
		bool has = optim && slot < optim_slot_count(optim);
		same = same && memcmp(read + offset, has ? wrote + at + offset : zeros, s->count * sizeof(float)) == 0;
		offset += s->count;
	}
	return same;
}

bool sample_same(const struct sample *sample, const struct checkpoint_file *file, uint32_t first, uint32_t count)
{
	uint64_t at = sample_begin(sample, first), elements = sample_begin(sample, first + count) - at;
	uint32_t segment = first_segment(sample, first), segments = first_segment(sample, first + count) - segment;
	struct checkpoint_target target = { .first_block = first, .block_count = count };
	float *vectors[1 + OPTIM_SLOTS_MAX] = { 0 };
	char why[512];
	bool same;

	for (uint32_t i = 0; i <= sample_slot_count(sample); i++)
		MUST((vectors[i] = calloc(elements + 1, sizeof(float))));
	target.weights = vectors[0];
	target.slots = vectors + 1;
	MUST((target.average = calloc(elements + 1, sizeof(float))));
	MUST((target.versions = malloc((count + 1u) * sizeof(uint64_t))));
	MUST((target.updates = malloc((segments + 1u) * sizeof(uint64_t))));
	MUST((target.carries = malloc((segments + 1u) * sizeof(struct optim_carry))));
	same = checkpoint_read(file, &target, why, sizeof why) == 0;
	same = same && memcmp(vectors[0], sample->weights + at, elements * sizeof(float)) == 0;
	if (average_is_kept(&sample->about.average))
		same = same && memcmp(target.average, sample->average + at, elements * sizeof(float)) == 0;
	for (uint32_t i = 0; i < sample_slot_count(sample); i++)
		same = same && same_slot(sample, i, vectors[1 + i], segment, segment + segments);
	same = same && memcmp(target.versions, sample->versions + first, count * sizeof(uint64_t)) == 0;
	same = same && memcmp(target.updates, sample->updates + segment, segments * sizeof(uint64_t)) == 0;
	if (groups_carry_count(&sample->about.groups, &sample->about.optim) > 0)
		same = same && memcmp(target.carries, sample->carries + segment, segments * sizeof *target.carries) == 0;
	for (uint32_t rank = 0; rank < sample->about.seats; rank++)
		for (uint32_t i = 0; i < count; i++)
			same = same && checkpoint_seen(file, rank, first + i) == sample->seen[rank][first + i];
	for (uint32_t i = 0; i <= sample_slot_count(sample); i++)
		free(vectors[i]);
	free(target.versions);
	free(target.updates);
	free(target.carries);
	free(target.average);
	return same;
}

void sample_path(const struct sample *sample, const char *dir, char path[512])
{
	char name[CHECKPOINT_NAME_BYTES];

	checkpoint_name(sample->about.model, name);
	snprintf(path, 512, "%s/models/%s", dir, name);
}

uint8_t *sample_bytes(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes;
	long end;

	MUST(file && fseek(file, 0, SEEK_END) == 0);
	end = ftell(file);
	MUST(end >= 0 && (bytes = malloc((size_t)end + 1)));
	rewind(file);
	MUST(fread(bytes, 1, (size_t)end, file) == (size_t)end);
	fclose(file);
	*size = (size_t)end;
	return bytes;
}

static struct safetensors *head_in(const uint8_t *bytes, size_t size)
{
	struct safetensors *head;
	uint64_t text_bytes;
	char why[256];

	MUST(safetensors_text_bytes(bytes, size, 1u << 24, &text_bytes, why, sizeof why) == 0);
	MUST(safetensors_decode(bytes + 8, text_bytes, size - 8 - text_bytes, 100000, 1000, &head, why, sizeof why) == 0);
	return head;
}

struct safetensors *sample_head(const char *path, uint8_t **bytes, size_t *size)
{
	*bytes = sample_bytes(path, size);
	return head_in(*bytes, *size);
}

struct checkpoint_file *sample_saved(const struct sample *sample, const char *dir, char path[512])
{
	struct checkpoint_file *file = NULL;
	char why[512];

	int rc = sample_write(sample, dir, why, sizeof why);
	sample_path(sample, dir, path);
	if (rc == OPTD_OK)
		rc = checkpoint_open(path, &file, why, sizeof why);
	if (rc < 0)
		fprintf(stderr, "%s\n", why);
	MUST(rc == OPTD_OK);
	return file;
}

void sample_change(uint8_t *bytes, size_t size, const char *from, const char *to)
{
	struct digest *digest = digest_new();
	struct safetensors *head = head_in(bytes, size);
	uint64_t text_bytes, value;
	char why[256];

	MUST(digest && strlen(from) == strlen(to));
	MUST(safetensors_text_bytes(bytes, size, 1u << 24, &text_bytes, why, sizeof why) == 0);
	uint8_t *data = bytes + 8 + text_bytes, *at = memmem(bytes, 8 + text_bytes, from, strlen(from));
	MUST(at);
	memcpy(at, to, strlen(to));
	digest_add(digest, bytes, 8 + text_bytes);
	digest_add(digest, data + safetensors_find(head, "optd.layout")->begin,
	           safetensors_find(head, "optd.seal")->begin - safetensors_find(head, "optd.layout")->begin);
	value = digest_value(digest);
	memcpy(data + safetensors_find(head, "optd.seal")->begin, &value, sizeof value);
	digest_free(digest);
	safetensors_free(head);
}
