/* Verbs by name, for people. */
#include "proto/msg.h"

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
	};

	return verb < MSG_VERB_COUNT && names[verb] ? names[verb] : "?";
}
