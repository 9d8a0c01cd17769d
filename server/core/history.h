/*
 * History: to which versions a model was taken back, and when.
 *
 * Each start of a daemon restores a model as its newest checkpoint has it; what was
 * served after that one is gone.  A client says up to which version it has seen the
 * model, and in which epoch it last heard that this still holds: if a later epoch began
 * below that version, the client has seen what is lost, however far others have trained
 * since.
 *
 * An epoch that began with all that the one before had served makes no mark.  One that
 * a later one undercuts tells nothing more, so the versions rise; of more marks than fit
 * the two oldest become one, which may tell a client too much that was away for that
 * long, never too little.
 */
#ifndef OPTD_CORE_HISTORY_H
#define OPTD_CORE_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define HISTORY_MARKS 16u

struct history {
	struct history_mark {
		uint64_t epoch;   /* that began */
		uint64_t version; /* with the model's furthest block there */
	} marks[HISTORY_MARKS]; /* both rise */
	uint32_t count;
};

/* An epoch has begun with this version; it is later than all that are there. */
void history_add(struct history *history, uint64_t epoch, uint64_t version);
/* Whether something is lost of what was seen; then *version is what was left of it. */
bool history_lost(const struct history *history, uint64_t seen_epoch, uint64_t seen_version,
                  uint64_t *version);

#endif
