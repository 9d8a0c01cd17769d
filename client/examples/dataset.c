/* The idx format: two magic bytes, a type, a rank, big-endian sizes, bytes. */
#include "client/examples/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Of Fashion-MNIST's training images, in units of a byte. */
#define PIXEL_MEAN 72.94f
#define PIXEL_DEVIATION 90.02f

static uint32_t big_endian(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Reads a whole idx file: its sizes and its bytes.  NULL after a message. */
static uint8_t *read_idx(const char *path, uint32_t rank, uint32_t *sizes)
{
	uint8_t head[16];
	uint8_t *bytes = NULL;
	size_t size = 1;
	gzFile file = gzopen(path, "rb");

	if (file == NULL) {
		fprintf(stderr, "%s: %s (Debian package dataset-fashion-mnist)\n", path, strerror(errno));
		return NULL;
	}
	if (gzread(file, head, 4 + 4 * rank) == (int)(4 + 4 * rank) && head[2] == 8 && head[3] == rank) {
		for (uint32_t i = 0; i < rank; i++) {
			sizes[i] = big_endian(head + 4 + 4 * i);
			size *= sizes[i];
		}
		bytes = malloc(size);
	}
	if (bytes == NULL || gzread(file, bytes, (unsigned)size) != (int)size) {
		fprintf(stderr, "%s: not an idx file of bytes with %u dimensions\n", path, rank);
		free(bytes);
		bytes = NULL;
	}
	gzclose(file);
	return bytes;
}

int dataset_read(struct dataset *set, const char *dir, const char *name)
{
	char path[4096];
	uint32_t image_sizes[3], label_sizes[1];

	memset(set, 0, sizeof(*set));
	snprintf(path, sizeof(path), "%s/%s-images-idx3-ubyte.gz", dir, name);
	uint8_t *pixels = read_idx(path, 3, image_sizes);
	if (pixels == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/%s-labels-idx1-ubyte.gz", dir, name);
	set->labels = read_idx(path, 1, label_sizes);
	set->count = image_sizes[0];
	set->pixels = image_sizes[1] * image_sizes[2];
	size_t values = (size_t)set->count * set->pixels;
	set->images = malloc(values * sizeof(float));
	if (set->labels == NULL || set->images == NULL || label_sizes[0] != set->count) {
		fprintf(stderr, "%s: %u images and another number of labels\n", path, set->count);
		free(pixels);
		dataset_free(set);
		return -1;
	}
	for (size_t i = 0; i < values; i++)
		set->images[i] = ((float)pixels[i] - PIXEL_MEAN) / PIXEL_DEVIATION;
	free(pixels);
	return 0;
}

void dataset_free(struct dataset *set)
{
	free(set->images);
	free(set->labels);
	memset(set, 0, sizeof(*set));
}
