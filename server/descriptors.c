/* Arithmetic about RLIMIT_NOFILE. */
#include "server/descriptors.h"

#include <sys/resource.h>

#include "proto/limits.h"

static uint64_t reserve(uint32_t lanes)
{
	return LIMIT_SPARE_DESCRIPTORS + (uint64_t)lanes * LIMIT_LANE_DESCRIPTORS;
}

uint64_t descriptors_needed(uint32_t lanes, uint32_t connections)
{
	return reserve(lanes) + (uint64_t)lanes * connections;
}

uint32_t descriptors_share(uint64_t descriptors, uint32_t lanes, uint32_t connections)
{
	uint64_t room = descriptors > reserve(lanes) ? descriptors - reserve(lanes) : 0;
	uint64_t share = room / lanes;

	return share < connections ? (uint32_t)share : connections;
}

uint64_t descriptors_raise(uint64_t needed)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return needed;
	rlim_t before = limit.rlim_cur;
	/* RLIM_INFINITY is the largest number. */
	if (limit.rlim_cur < needed)
		limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
	if (limit.rlim_cur > before && setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return before;
	return limit.rlim_cur;
}
