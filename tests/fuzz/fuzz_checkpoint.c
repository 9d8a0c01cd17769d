/*
 * Fuzzing the readers of safetensors heads and of checkpoints, from memory.
 *
 * The first byte of an input chooses what the rest is: the text of a head, or a
 * checkpoint.  A checkpoint is tried as it is and then with a seal that fits, so
 * that mutations get past the seal to settings, layout and tables.  The run
 * begins with checkpoints written by optd; the fuzzer alone would not find one.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/safetensors.h"
#include "server/core/whole.h"
#include "server/disk/checkpoint.h"
#include "server/disk/digest.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char why[512];

static void must(int condition)
{
	if (!condition)
		abort();
}

/* What decodes must encode, and decode again to the same. */
static void round_trip(const struct safetensors *head, uint64_t data_bytes)
{
	struct safetensors *again;
	size_t size;
	char *text;

	if (safetensors_encode(safetensors_tensors(head), safetensors_count(head), NULL, 0, UINT32_MAX, &text, &size,
	                       why, sizeof why) < 0)
		abort();
	must(safetensors_decode(text + 8, size - 8, data_bytes, UINT32_MAX, 0, &again, why, sizeof why) == 0);
	must(safetensors_count(again) == safetensors_count(head));
	for (uint32_t i = 0; i < safetensors_count(head); i++)
		must(strcmp(safetensors_tensors(head)[i].name, safetensors_tensors(again)[i].name) == 0);
	safetensors_free(again);
	free(text);
}

static void try_head(const uint8_t *data, size_t size)
{
	struct safetensors *head;
	uint64_t data_bytes = 0;

	if (size < 2)
		return;
	memcpy(&data_bytes, data, 2);
	if (safetensors_decode(data + 2, size - 2, data_bytes, 1000, 100, &head, why, sizeof why) < 0)
		return;
	round_trip(head, data_bytes);
	safetensors_free(head);
}

static void try_checkpoint(const uint8_t *data, size_t size)
{
	struct checkpoint_file *file;

	why[0] = '\0';
	if (checkpoint_open_memory(data, size, &file, why, sizeof why) < 0) {
		must(*why != '\0');
		return;
	}
	must(checkpoint_about(file)->layout != NULL);
	checkpoint_close(file);
}

/* Gives a checkpoint the seal that fits its head and tables. */
static void reseal(uint8_t *data, size_t size)
{
	const struct safetensors_tensor *shapes, *seal;
	struct safetensors *head;
	struct digest *digest;
	uint64_t text_bytes, value;
	uint8_t *begin;

	if (size < 8 || safetensors_text_bytes(data, size, UINT32_MAX, &text_bytes, why, sizeof why) < 0 ||
	    safetensors_decode(data + 8, text_bytes, size - 8 - text_bytes, 1000, 100, &head, why, sizeof why) < 0)
		return;
	shapes = safetensors_find(head, "optd.layout");
	seal = safetensors_find(head, "optd.seal");
	digest = digest_new();
	if (shapes && seal && digest && seal->end - seal->begin == 8 && shapes->begin <= seal->begin) {
		begin = data + 8 + text_bytes;
		digest_add(digest, data, 8 + text_bytes);
		digest_add(digest, begin + shapes->begin, seal->begin - shapes->begin);
		value = digest_value(digest);
		memcpy(begin + seal->begin, &value, sizeof value);
	}
	digest_free(digest);
	safetensors_free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size == 0)
		return 0;
	if (data[0] & 1) {
		try_head(data + 1, size - 1);
		return 0;
	}
	copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	try_checkpoint(copy, size - 1);
	reseal(copy, size - 1);
	try_checkpoint(copy, size - 1);
	free(copy);
	return 0;
}

/* Tensor w under nadam, which carries a number, and b frozen. */
static void add_groups(struct checkpoint *about)
{
	must(group_begin(&about->groups.list[0], "w*", &about->optim, "nadam", NULL, why, sizeof why) == 0);
	must(group_begin(&about->groups.list[1], "*", &about->optim, NULL, NULL, why, sizeof why) == 0);
	about->groups.list[1].frozen = true;
	about->groups.count = 2;
}

/* A checkpoint to begin with: a few tensors, an optimizer by number, zeros; the last third
 * with groups, some with a limit on a norm, a policy, a loss scale, or an average.  Two look at
 * whole tensors. */
static size_t write_sample(uint8_t *out, size_t room, unsigned number)
{
	static const char *const optimizers[] = { "sgd", "momentum", "adagrad", "rmsprop", "adam", "nadam", "asgd",
		                                 "lars", "adafactor" };
	static const float zeros[32];
	static const uint64_t counts[8];
	static const struct optim_carry carries[8];
	const float *slots[OPTIM_SLOTS_MAX] = { zeros, zeros, zeros, zeros };
	struct checkpoint about = { .model = "m", .run = "r", .run_id = number, .mode = number % 2 ? MSG_SYNC : MSG_ASYNC,
		                    .reduce = MSG_MEAN, .workers = 1, .seats = number % 3, .daemons = 1 };
	struct checkpoint_part part = { 0, 1, zeros, slots, counts, counts, carries, NULL, zeros };
	char dir[] = "/tmp/optd-fuzz-XXXXXX", path[400], name[CHECKPOINT_NAME_BYTES];
	struct layout *layout = layout_new();
	size_t n;

	must(layout && mkdtemp(dir) != NULL);
	must(layout_add(layout, "w", 1, (uint64_t[]){ 2, 3 }, 2, 0) == 0);
	must(layout_add(layout, "b", 1, NULL, 0, 1) == 0);
	about.layout = layout;
	must(optim_init(&about.optim, optim_find(optimizers[number % 9]), OPTIM_TORCH2, why, sizeof why) == 0);
	if (number >= 18)
		add_groups(&about);
	must(whole_cut(&about.groups, &about.optim, layout) == 0);
	part.block_count = layout_block_count(layout);
	if (number % 6 == 1)
		about.clip = (struct msg_clip){ .norm = 0.5, .norm_type = number % 4 == 1 ? 2 : INFINITY };
	if (number % 4 == 2)
		about.nonfinite = MSG_ZERO;
	if (number % 4 == 3) {
		about.loss_scale = (struct msg_loss_scale){ true, 1024, 2, 0.5, 10 };
		about.scaler = (struct scaler){ 512, 3, 7 };
	}
	if (number % 4 == 1)
		must(average_begin(&about.average, number % 8 == 1 ? "ema" : "swa", why, sizeof why) == 0);
	must(checkpoint_write(dir, &about, &part, 1, why, sizeof why) == 0);
	checkpoint_name(about.model, name);
	snprintf(path, sizeof path, "%s/models/%s", dir, name);
	FILE *file = fopen(path, "rb");
	must(file != NULL);
	n = fread(out, 1, room, file);
	fclose(file);
	unlink(path);
	snprintf(path, sizeof path, "%s/models", dir);
	rmdir(path);
	rmdir(dir);
	layout_free(layout);
	return n;
}

/* Now and then the input is a fresh checkpoint, or a digit or letter of it
 * changed, which keeps more of the grammar than any random byte. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	static uint8_t samples[27][8000];
	static size_t sizes[27];
	unsigned number = seed % 27;

	if (seed % 64 == 0 && max_size > sizeof samples[0]) {
		if (sizes[number] == 0)
			sizes[number] = write_sample(samples[number], sizeof samples[0], number);
		data[0] = 0;
		memcpy(data + 1, samples[number], sizes[number]);
		return sizes[number] + 1;
	}
	if (seed % 4 == 1 && size > 20) {
		size_t at = 1 + seed / 64 % (size - 1);
		if (data[at] >= ' ' && data[at] < 0x7f)
			data[at] = (uint8_t)((data[at] & 0xf0) | (seed >> 28));
		return size;
	}
	return LLVMFuzzerMutate(data, size, max_size);
}
