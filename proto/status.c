/* Status codes as words. */
#include "proto/status.h"

const char *status_text(int status)
{
	switch (status) {
#define STATUS_CASE(name, number, text) \
	case number: \
		return text;
	STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
	default:
		return "a status this version does not know";
	}
}

const char *status_name(int status)
{
	switch (status) {
#define STATUS_CASE(name, number, text) \
	case number: \
		return #name;
	STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
	default:
		return "UNKNOWN";
	}
}
