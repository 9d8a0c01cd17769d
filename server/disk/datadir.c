/* Datadir: one daemon at a time, and a number for each of its lives. */
#include "server/disk/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/status.h"
#include "server/disk/file.h"

#define META_BYTES_MAX 128
/* More than a daemon will ever have been started while nobody counted. */
#define STARTS_UNCOUNTED (UINT64_C(1) << 20)

#define LOCK_MS 1000
#define LOCK_PAUSE_MS 20

struct datadir {
	int dir, lock;
	uint64_t id, epoch;
};

bool datadir_is_there(const char *path)
{
	char lock[PATH_MAX];
	int n = snprintf(lock, sizeof lock, "%s/LOCK", path);

	if (n < 0 || (size_t)n >= sizeof lock)
		return false;
	/* What may not be looked at is there, and opening it says why it cannot be used. */
	return access(lock, F_OK) == 0 || errno == EACCES;
}

/* Makes what is missing of the path. */
static int make_path(const char *path, char *why, size_t why_bytes)
{
	char part[PATH_MAX];
	size_t size = strlen(path);

	if (size == 0 || size >= sizeof part)
		return disk_fail(OPTD_INVALID, why, why_bytes, "data directory: a path has 1 to %d bytes", PATH_MAX - 1);
	memcpy(part, path, size + 1);
	for (size_t i = 1; i <= size; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return disk_fail(OPTD_IO, why, why_bytes, "cannot make the directory '%s': %m", part);
		part[i] = path[i];
	}
	return OPTD_OK;
}

/* Who has the lock, by the text it keeps for people: "process 123". */
static void lock_holder(int fd, char holder[32])
{
	char text[24] = "";
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	long pid = n > 0 ? strtol(text, NULL, 10) : 0;

	if (pid > 0)
		snprintf(holder, 32, "process %ld", pid);
	else
		snprintf(holder, 32, "another process");
}

/* A daemon that was just killed may hold its lock for a moment yet. */
static int lock_patiently(int fd)
{
	const struct timespec pause = {0, LOCK_PAUSE_MS * 1000000};
	int rc = flock(fd, LOCK_EX | LOCK_NB);

	for (int i = 0; rc < 0 && errno == EWOULDBLOCK && i < LOCK_MS / LOCK_PAUSE_MS; i++) {
		nanosleep(&pause, NULL);
		rc = flock(fd, LOCK_EX | LOCK_NB);
	}
	return rc;
}

static int take_lock(struct datadir *datadir, const char *path, char *why, size_t why_bytes)
{
	char text[24], holder[32];
	int n, fd = openat(datadir->dir, "LOCK", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot open '%s/LOCK': %m", path);
	datadir->lock = fd;
	if (lock_patiently(fd) < 0) {
		if (errno != EWOULDBLOCK)
			return disk_fail(OPTD_IO, why, why_bytes, "cannot lock '%s/LOCK': %m", path);
		lock_holder(fd, holder);
		return disk_fail(OPTD_BUSY, why, why_bytes, "the data directory '%s' is in use by %s: stop it, or give "
		                 "this daemon another directory", path, holder);
	}
	/* The text is only for people: the lock is what counts. */
	n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || file_write_at(fd, text, (size_t)n, 0) < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot write '%s/LOCK': %m", path);
	return OPTD_OK;
}

static void meta_text(const struct datadir *datadir, char text[META_BYTES_MAX])
{
	snprintf(text, META_BYTES_MAX, "optd 1\ndaemon %016" PRIx64 "\nepoch %" PRIu64 "\nend\n", datadir->id,
	         datadir->epoch);
}

/* Takes only what meta_text writes: read, written again, it must be the same. */
static int meta_parse(struct datadir *datadir, const char *text)
{
	char again[META_BYTES_MAX];

	if (sscanf(text, "optd 1\ndaemon %16" SCNx64 "\nepoch %20" SCNu64 "\nend\n", &datadir->id, &datadir->epoch) != 2)
		return OPTD_CORRUPT;
	meta_text(datadir, again);
	return strcmp(text, again) == 0 && datadir->id != 0 && datadir->epoch != 0 && datadir->epoch < UINT64_MAX
	       ? OPTD_OK : OPTD_CORRUPT;
}

/* What the last life wrote; nothing is changed where there is none. */
static int meta_read(struct datadir *datadir, const char *path, char *why, size_t why_bytes)
{
	char text[META_BYTES_MAX] = "";
	int fd = openat(datadir->dir, "meta", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return OPTD_OK;
	if (fd < 0)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot open '%s/meta': %m", path);
	n = pread(fd, text, sizeof text - 1, 0);
	if (n < 0)
		disk_fail(OPTD_IO, why, why_bytes, "cannot read '%s/meta': %m", path);
	close(fd);
	if (n < 0)
		return OPTD_IO;
	if (strlen(text) == (size_t)n && meta_parse(datadir, text) == OPTD_OK)
		return OPTD_OK;
	return disk_fail(OPTD_CORRUPT, why, why_bytes, "'%s/meta' is damaged: remove it to begin with a new id (workers "
	                 "of the old one will be told), or restore it", path);
}

/* Removes what is only half there, and leaves errno to the error that made it so. */
static void forget_quietly(int dir, const char *name)
{
	int error = errno;

	unlinkat(dir, name, 0);
	errno = error;
}

static int meta_write(struct datadir *datadir, const char *path, char *why, size_t why_bytes)
{
	char text[META_BYTES_MAX];
	int fd, rc;

	/* One that a crash left; nobody else is here, we hold the lock. */
	if (unlinkat(datadir->dir, "meta.tmp", 0) < 0 && errno != ENOENT)
		return disk_fail(OPTD_IO, why, why_bytes, "cannot remove '%s/meta.tmp': %m", path);
	fd = file_create(datadir->dir, "meta.tmp", why, why_bytes);
	if (fd < 0)
		return fd;
	meta_text(datadir, text);
	rc = file_write_at(fd, text, strlen(text), 0);
	if (rc < 0)
		disk_fail(rc, why, why_bytes, "cannot write '%s/meta.tmp': %m", path);
	else
		rc = file_publish(datadir->dir, fd, "meta.tmp", "meta", why, why_bytes);
	if (rc < 0)
		forget_quietly(datadir->dir, "meta.tmp");
	close(fd);
	return rc;
}

static int draw_id(uint64_t *id, char *why, size_t why_bytes)
{
	while (*id == 0)
		if (getrandom(id, sizeof *id, 0) != (ssize_t)sizeof *id && errno != EINTR)
			return disk_fail(OPTD_IO, why, why_bytes, "cannot draw a random number: %m");
	return OPTD_OK;
}

static int open_all(struct datadir *datadir, const char *path, char *why, size_t why_bytes)
{
	int models, rc = make_path(path, why, why_bytes);

	if (rc < 0)
		return rc;
	datadir->dir = dir_open(AT_FDCWD, path, 0, why, why_bytes);
	if (datadir->dir < 0)
		return datadir->dir;
	rc = take_lock(datadir, path, why, why_bytes);
	if (rc == OPTD_OK)
		rc = meta_read(datadir, path, why, why_bytes);
	if (rc == OPTD_OK)
		rc = draw_id(&datadir->id, why, why_bytes);
	if (rc < 0)
		return rc;
	datadir->epoch++;
	rc = meta_write(datadir, path, why, why_bytes);
	if (rc < 0)
		return rc;
	models = dir_open(datadir->dir, "models", 1, why, why_bytes);
	if (models < 0)
		return models;
	close(models);
	return OPTD_OK;
}

int datadir_open(const char *path, struct datadir **out, char *why, size_t why_bytes)
{
	struct datadir *datadir = calloc(1, sizeof *datadir);
	int rc;

	if (!datadir)
		return disk_fail(OPTD_NO_MEMORY, why, why_bytes, "no memory to open the data directory");
	datadir->dir = datadir->lock = -1;
	rc = open_all(datadir, path, why, why_bytes);
	/* The sentence is written already; the status tells who has to act. */
	if (rc == OPTD_IO && (errno == EACCES || errno == EPERM))
		rc = OPTD_DENIED;
	if (rc < 0) {
		datadir_close(datadir);
		return rc;
	}
	*out = datadir;
	return OPTD_OK;
}

int datadir_raise(struct datadir *datadir, const char *path, uint64_t epoch, char *why,
                  size_t why_bytes)
{
	datadir->epoch = epoch + STARTS_UNCOUNTED;
	return meta_write(datadir, path, why, why_bytes);
}

void datadir_close(struct datadir *datadir)
{
	if (!datadir)
		return;
	if (datadir->lock >= 0)
		close(datadir->lock);
	if (datadir->dir >= 0)
		close(datadir->dir);
	free(datadir);
}

uint64_t datadir_id(const struct datadir *datadir)
{
	return datadir->id;
}

uint64_t datadir_epoch(const struct datadir *datadir)
{
	return datadir->epoch;
}
