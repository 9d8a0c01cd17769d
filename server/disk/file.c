/* File: create aside, write, sync, rename, sync the directory. */
#include "server/disk/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/status.h"

int disk_fail(int status, char *why, size_t why_bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, why_bytes, format, args);
	va_end(args);
	return status;
}

int file_write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t n = pwrite(fd, at, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n == 0 ? ENOSPC : errno;
			return OPTD_IO;
		}
		at += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return OPTD_OK;
}

int file_read_at(int fd, void *bytes, size_t size, uint64_t offset)
{
	char *at = bytes;

	while (size > 0) {
		ssize_t n = pread(fd, at, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return OPTD_IO;
		if (n == 0)
			return OPTD_CORRUPT;
		at += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return OPTD_OK;
}

/* openat(2) that waits a while for a free descriptor. */
static int open_patiently(int dir, const char *name, int flags)
{
	static const struct timespec step = {.tv_nsec = LIMIT_DESCRIPTOR_STEP_MS * 1000000L};
	int fd = openat(dir, name, flags, 0600);

	for (unsigned waited = 0; fd < 0 && (errno == EMFILE || errno == ENFILE) &&
	                          waited < LIMIT_DESCRIPTOR_WAIT_MS; waited += LIMIT_DESCRIPTOR_STEP_MS) {
		nanosleep(&step, NULL);
		fd = openat(dir, name, flags, 0600);
	}
	return fd;
}

/* Makes the directory and makes that last. */
static int dir_make(int parent, const char *name, char *why, size_t why_bytes)
{
	int fd, rc;

	if (mkdirat(parent, name, 0700) < 0) {
		if (errno == EEXIST)
			return OPTD_OK;
		return disk_fail(OPTD_IO, why, why_bytes, "cannot make the directory '%s': %m", name);
	}
	if (parent == AT_FDCWD)
		return OPTD_OK; /* its parent is not ours to sync: a lost one is made again */
	fd = open_patiently(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -1 : fsync(fd);
	if (rc < 0)
		disk_fail(OPTD_IO, why, why_bytes, "cannot sync the directory of '%s': %m", name);
	if (fd >= 0)
		close(fd);
	return rc < 0 ? OPTD_IO : OPTD_OK;
}

int dir_open(int parent, const char *name, int make, char *why, size_t why_bytes)
{
	int fd, rc;

	if (make) {
		rc = dir_make(parent, name, why, why_bytes);
		if (rc < 0)
			return rc;
	}
	fd = open_patiently(parent, name,
	                    O_RDONLY | O_DIRECTORY | O_CLOEXEC | (parent == AT_FDCWD ? 0 : O_NOFOLLOW));
	if (fd >= 0)
		return fd;
	return disk_fail(OPTD_IO, why, why_bytes, "cannot open the directory '%s': %m", name);
}

int file_create(int dir, const char *name, char *why, size_t why_bytes)
{
	int fd = open_patiently(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EEXIST)
		return disk_fail(OPTD_BUSY, why, why_bytes, "'%s' is being written already; if it is not, remove it",
		                 name);
	return disk_fail(OPTD_IO, why, why_bytes, "cannot make the file '%s': %m", name);
}

int file_publish(int dir, int fd, const char *from, const char *to, char *why, size_t why_bytes)
{
	if (fsync(fd) < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot sync the file '%s': %m", from);
	if (renameat(dir, from, dir, to) < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot rename '%s' to '%s': %m", from, to);
	if (fsync(dir) < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "'%s' is written, but its directory cannot be synced: %m", to);
	return OPTD_OK;
}
