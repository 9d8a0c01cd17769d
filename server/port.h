/*
 * Port: whether an address is taken, and what to tell the operator then.
 */
#ifndef OPTD_SERVER_PORT_H
#define OPTD_SERVER_PORT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether somebody answers at this ipc endpoint: to bind it would take the path
 * from under them, which no error tells.  Writes who it is.  False for TCP. */
bool port_ipc_taken(const char *endpoint, char *text, size_t text_bytes);

/* Writes why, and if a TCP port is in use also which process holds it, as far as
 * this user may know, and a port that is free. */
void port_explain(const char *endpoint, const char *why, char *text, size_t text_bytes);

#endif
