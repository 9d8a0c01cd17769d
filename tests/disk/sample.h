/* Sample: a directory and a model full of awkward bits for the tests of disk/. */
#ifndef OPTD_TESTS_DISK_SAMPLE_H
#define OPTD_TESTS_DISK_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/safetensors.h"
#include "server/disk/checkpoint.h"

/* An empty directory; sample_dir_remove removes it with what is in it. */
void sample_dir(char dir[64]);
void sample_dir_remove(const char *dir);

/* splitmix64: the same numbers for the same seed everywhere. */
uint64_t sample_random(uint64_t *seed);

/* A whole model in memory, with every array of a checkpoint. */
struct sample {
	struct checkpoint about;
	struct layout *layout;
	float *weights, *slots[OPTIM_SLOTS_MAX], *average;
	uint64_t *versions, *updates, **seen;
	struct optim_carry *carries;
};

/* Takes the layout, uncut.  optimizer: "sgd", "adam", ...; arrays are random bits,
 * NaN payloads, infinities and negative zeros among them. */
void sample_init(struct sample *sample, struct layout *layout, const char *optimizer, uint32_t seats,
                 uint64_t seed);
void sample_deinit(struct sample *sample);
/* Two tensors and a scalar, 14 elements, adam. */
void sample_small(struct sample *sample, uint64_t seed);
/* Those and "bn.mean" of four elements, in four groups: biases under nadam, the rest of fc
 * under adam, the scalar frozen, bn under average. */
void sample_grouped(struct sample *sample, uint64_t seed);
/* Has the model keep an average of this kind. */
void sample_average(struct sample *sample, const char *kind);
/* Adds a group: under this rule's defaults, or for NULL the sample's own optimizer. */
struct group *sample_group(struct sample *sample, const char *tensors, const char *name);
/* Tensors of all sizes, up to a few blocks. */
struct layout *sample_layout(uint64_t *seed);
void sample_add(struct layout *layout, const char *name, const uint64_t *shape, uint32_t rank);

uint32_t sample_slot_count(const struct sample *sample);
/* What a tensor is under, or NULL: it is frozen. */
const struct optim *sample_optim(const struct sample *sample, uint32_t tensor);
uint64_t sample_begin(const struct sample *sample, uint32_t block);
/* The part of these blocks; `slots` and `seen` are room for its pointers. */
struct checkpoint_part sample_part(const struct sample *sample, uint32_t first, uint32_t count,
                                   const float *slots[OPTIM_SLOTS_MAX], const uint64_t *seen[16]);
/* Writes the daemon's whole run; the status. */
int sample_write(const struct sample *sample, const char *dir, char *why, size_t why_bytes);
/* Whether reading these blocks from the file gives the sample's bits. */
bool sample_same(const struct sample *sample, const struct checkpoint_file *file, uint32_t first, uint32_t count);

/* The file's path; and its bytes, which the caller frees. */
void sample_path(const struct sample *sample, const char *dir, char path[512]);
uint8_t *sample_bytes(const char *path, size_t *size);
/* The head of such a file; the caller frees both. */
struct safetensors *sample_head(const char *path, uint8_t **bytes, size_t *size);
/* Writes the sample and opens its file, whose path it fills in; fails the test where it cannot. */
struct checkpoint_file *sample_saved(const struct sample *sample, const char *dir, char path[512]);
/* Writes `to` over `from`, of the same length, in the head of a file, and the seal that then
 * fits: as whoever made such a file would have. */
void sample_change(uint8_t *bytes, size_t size, const char *from, const char *to);

#endif
