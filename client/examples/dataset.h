/*
 * Dataset: images and labels in the idx format of MNIST and its kin, gzipped.
 */
#ifndef DATASET_H
#define DATASET_H

#include <stdint.h>

struct dataset {
	uint32_t count;
	uint32_t pixels;  /* of an image */
	float *images;    /* [count][pixels], normalised to mean 0, deviation 1 */
	uint8_t *labels;  /* [count] */
};

/* Reads DIR/NAME-images-idx3-ubyte.gz and DIR/NAME-labels-idx1-ubyte.gz.  0, or -1
 * after saying on stderr which file failed and why. */
int dataset_read(struct dataset *set, const char *dir, const char *name);
void dataset_free(struct dataset *set);

#endif
