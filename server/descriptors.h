/*
 * Descriptors: how many connections the system's limit on them allows.
 *
 * A system's usual limit is below what limits.connections allows.  When it is
 * reached, no file can be opened for a checkpoint, and whoever waits to be
 * accepted keeps ZeroMQ's thread busy.  So it is raised as far as it may be, and
 * where that is not enough fewer connections are let in.
 */
#ifndef OPTD_SERVER_DESCRIPTORS_H
#define OPTD_SERVER_DESCRIPTORS_H

#include <stdint.h>

/* Descriptors that so many lanes with so many connections each need, the reserve for
 * all else among them. */
uint64_t descriptors_needed(uint32_t lanes, uint32_t connections);

/* Connections a lane may have with this many descriptors, at most `connections`; 0
 * where there is no room for one. */
uint32_t descriptors_share(uint64_t descriptors, uint32_t lanes, uint32_t connections);

/* Raises this process' limit to what is needed, or as far as may be.  Returns the
 * limit. */
uint64_t descriptors_raise(uint64_t needed);

#endif
