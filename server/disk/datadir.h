/*
 * Datadir: the directory that a daemon keeps its state in.
 *
 *     DIR/LOCK    held by flock while a daemon runs; its text is the holder's pid
 *     DIR/meta    the daemon's id and epoch
 *     DIR/models  checkpoints (server/disk/checkpoint)
 *
 * The id is drawn once and tells this directory from all others.  The epoch
 * rises at each opening and is on the disk before anyone hears of it, so no two
 * lives of a daemon have the same.
 */
#ifndef OPTD_DISK_DATADIR_H
#define OPTD_DISK_DATADIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct datadir;

/* Whether a daemon ever began to keep state there: then there is a lock to take,
 * and opening makes no new directory. */
bool datadir_is_there(const char *path);

/* Makes the directory (0700) and its missing parents, locks it, and raises the
 * epoch.  Negative status and a sentence in why: OPTD_BUSY with the holder's pid
 * when another daemon has it, OPTD_DENIED when this user may not use it, OPTD_IO,
 * OPTD_CORRUPT when meta makes no sense. */
int datadir_open(const char *path, struct datadir **out, char *why, size_t why_bytes);
void datadir_close(struct datadir *datadir);

uint64_t datadir_id(const struct datadir *datadir); /* never 0 */
uint64_t datadir_epoch(const struct datadir *datadir); /* at least 1 */
/* Raises the epoch far beyond this one, which a checkpoint names: meta was lost, or the
 * checkpoint comes from another directory, and starts that it does not know of may have
 * come after it.  path: the directory's, for the sentence.  OPTD_IO. */
int datadir_raise(struct datadir *datadir, const char *path, uint64_t epoch, char *why,
                  size_t why_bytes);

#endif
