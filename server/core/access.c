/* One table: verb by role. */
#include "server/core/access.h"

#include <stdio.h>

const struct principal PRINCIPAL_ANONYMOUS = {"anonymous", ROLE_ADMIN};

static const enum role NEEDS[MSG_VERB_COUNT] = {
        [MSG_HELLO] = ROLE_READER,
        [MSG_OPEN] = ROLE_READER,
        [MSG_INIT] = ROLE_WORKER,
        [MSG_PUSH] = ROLE_WORKER,
        [MSG_PULL] = ROLE_READER,
        [MSG_PUSH_PULL] = ROLE_WORKER,
        [MSG_CLOSE_STEP] = ROLE_WORKER,
        [MSG_STATUS] = ROLE_READER,
        [MSG_SAVE] = ROLE_ADMIN,
        [MSG_DROP] = ROLE_ADMIN,
        [MSG_GOODBYE] = ROLE_READER,
        [MSG_SET] = ROLE_ADMIN,
        [MSG_NORM] = ROLE_WORKER,
};

const char *role_name(enum role role)
{
	switch (role) {
	case ROLE_READER:
		return "reader";
	case ROLE_WORKER:
		return "worker";
	case ROLE_ADMIN:
		return "admin";
	case ROLE_NONE:
		break;
	}
	return "none";
}

enum role access_needs(const struct msg *request)
{
	unsigned verb = (unsigned)request->verb;

	if (verb >= MSG_VERB_COUNT || NEEDS[verb] == ROLE_NONE)
		return ROLE_ADMIN;
	if (request->verb == MSG_OPEN &&
	    (request->rank != MSG_NO_RANK || request->open.layout_hash != 0))
		return ROLE_WORKER;
	return NEEDS[verb];
}

bool access_allows(const struct principal *principal, const struct msg *request, char *why,
                   size_t why_bytes)
{
	enum role needs = access_needs(request);

	if (principal->role >= needs)
		return true;
	snprintf(why, why_bytes, "%s%s takes the role %s; '%s' has the role %s",
	         msg_verb_name((uint32_t)request->verb),
	         request->verb == MSG_OPEN && needs > ROLE_READER ? " with a rank or a layout" : "",
	         role_name(needs), principal->name, role_name(principal->role));
	return false;
}
