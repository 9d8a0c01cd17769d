/*
 * Access: which role a request takes, and whether who asks has it.
 *
 * Every request comes with a principal: who its connection has shown to be.
 * There are no keys yet, so everyone is "anonymous" and may do everything; the
 * daemon listens on loopback only, unless it is told that this is insecure.
 */
#ifndef OPTD_CORE_ACCESS_H
#define OPTD_CORE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/msg.h"

/* Each may do what those before it may. */
enum role {
	ROLE_NONE = 0, /* nothing */
	ROLE_READER,   /* looks at models and pulls */
	ROLE_WORKER,   /* makes models, holds ranks, pushes */
	ROLE_ADMIN,    /* saves and drops what belongs to all */
};

struct principal {
	const char *name; /* borrowed; for people */
	enum role role;
};

/* Everyone, until there are keys. */
extern const struct principal PRINCIPAL_ANONYMOUS;

const char *role_name(enum role role);

/* The least role that may ask this: the verb's, but that an OPEN with a rank or with
 * a layout, which may make the model, takes a worker.  ROLE_ADMIN for verbs that are
 * not known. */
enum role access_needs(const struct msg *request);

/* Whether the principal may ask this.  If not, why names the verb, both roles and
 * the principal; the answer is OPTD_DENIED. */
bool access_allows(const struct principal *principal, const struct msg *request, char *why,
                   size_t why_bytes);

#endif
