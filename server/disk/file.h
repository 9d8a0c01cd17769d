/*
 * File: the few steps that every durable file takes.
 *
 * A file that replaces another is written under a name of its own, synced,
 * renamed, and its directory synced: only then does it survive a power failure,
 * and at no moment is there half a file under the real name.
 *
 * All of them return 0 or a negative status with a sentence in why that ends in
 * the system's own words, and leave errno as the system set it.  Those that open
 * something wait up to LIMIT_DESCRIPTOR_WAIT_MS for a free descriptor.
 */
#ifndef OPTD_DISK_FILE_H
#define OPTD_DISK_FILE_H

#include <stddef.h>
#include <stdint.h>

/* Writes the sentence and returns the status; %m is errno's text. */
__attribute__((format(printf, 4, 5)))
int disk_fail(int status, char *why, size_t why_bytes, const char *format, ...);

/* All of the bytes at this offset, whatever the system does at a time: 0, or
 * OPTD_IO with errno set; when reading, OPTD_CORRUPT if the file ends before. */
int file_write_at(int fd, const void *bytes, size_t size, uint64_t offset);
int file_read_at(int fd, void *bytes, size_t size, uint64_t offset);

/* Opens a directory within another, never through a symbolic link; or, where
 * parent is AT_FDCWD, the operator's own path, which may be one.  With `make`,
 * makes it (0700) if it is missing and syncs the parent.  Returns a descriptor. */
int dir_open(int parent, const char *name, int make, char *why, size_t why_bytes);

/* A new file of mode 0600 that must not exist yet.  Returns a descriptor;
 * OPTD_BUSY when the name is taken. */
int file_create(int dir, const char *name, char *why, size_t why_bytes);

/* Syncs fd, renames `from` to `to` and syncs the directory. */
int file_publish(int dir, int fd, const char *from, const char *to, char *why, size_t why_bytes);

#endif
