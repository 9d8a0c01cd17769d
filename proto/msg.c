/* Verbs and policies by name. */
#include "proto/msg.h"

#include <string.h>

const char *msg_verb_name(uint32_t verb)
{
	static const char *const names[MSG_VERB_COUNT] = {
	        [MSG_HELLO] = "HELLO",
	        [MSG_OPEN] = "OPEN",
	        [MSG_INIT] = "INIT",
	        [MSG_PUSH] = "PUSH",
	        [MSG_PULL] = "PULL",
	        [MSG_PUSH_PULL] = "PUSH_PULL",
	        [MSG_CLOSE_STEP] = "CLOSE_STEP",
	        [MSG_STATUS] = "STATUS",
	        [MSG_SAVE] = "SAVE",
	        [MSG_DROP] = "DROP",
	        [MSG_GOODBYE] = "GOODBYE",
	        [MSG_SET] = "SET",
	        [MSG_NORM] = "NORM",
	};

	return verb < MSG_VERB_COUNT && names[verb] ? names[verb] : "?";
}

static const char *const policies[] = {
        [MSG_SKIP_STEP] = "skip_step", [MSG_REJECT] = "reject", [MSG_ZERO] = "zero"};

const char *msg_nonfinite_name(enum msg_nonfinite policy)
{
	return policy >= MSG_SKIP_STEP && policy <= MSG_ZERO ? policies[policy] : "?";
}

enum msg_nonfinite msg_nonfinite_find(struct msg_text name)
{
	for (enum msg_nonfinite i = MSG_SKIP_STEP; i <= MSG_ZERO; i++) {
		if (strlen(policies[i]) == name.size && memcmp(policies[i], name.bytes, name.size) == 0)
			return i;
	}
	return MSG_NONFINITE_UNSET;
}
