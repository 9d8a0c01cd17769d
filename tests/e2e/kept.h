/*
 * Kept: what a checkpoint file on the disk holds.
 */
#ifndef OPTD_TEST_KEPT_H
#define OPTD_TEST_KEPT_H

#include <stdint.h>

/* Versions over all blocks. */
struct kept {
	uint64_t lowest, highest;
};

/* Opens and checks the whole file; fails the test if it is missing or damaged, or
 * has fewer than two blocks, which could not differ. */
struct kept kept_versions(const char *path);
/* The version of one block, likewise. */
uint64_t kept_version(const char *path, uint32_t block);
/* Fails the test unless the file's versions are these. */
void kept_assert_at(const char *path, uint64_t lowest, uint64_t highest);

#endif
