/* The changes of a STATUS: for wire_status.c, which has the rest of it. */
#ifndef OPTD_PROTO_WIRE_SET_H
#define OPTD_PROTO_WIRE_SET_H

#include "proto/optd.pb-c.h"
#include "proto/wire_internal.h"

/* What packing points to until the record is packed.  No rule has more than 16 settings. */
#define WIRE_CHANGE_HYPERS 16u
struct wire_changes {
	Optd__V1__Change changes[LIMIT_CHANGES];
	Optd__V1__Change *pointers[LIMIT_CHANGES];
	Optd__V1__Hyper hypers[LIMIT_CHANGES * WIRE_CHANGE_HYPERS];
	Optd__V1__Hyper *hyper_pointers[LIMIT_CHANGES * WIRE_CHANGE_HYPERS];
	uint32_t hyper_count;
};

/* Adds the last changes that fit, laid out in `room`. */
void wire_changes_write(const struct wire_model_status *status, struct wire_changes *room,
                        Optd__V1__ModelStatus *record);
/* Reads and judges them; they are in the arena.  OPTD_MALFORMED. */
int wire_changes_read(const Optd__V1__ModelStatus *record, struct wire_arena *arena,
                      struct wire_model_status *out);

#endif
