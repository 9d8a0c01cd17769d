/*
 * Port: what to tell an operator whose address is taken.
 */
#ifndef OPTD_SERVER_PORT_H
#define OPTD_SERVER_PORT_H

#include <stddef.h>

/* Writes why, and if a TCP port is in use also which process holds it, as far as
 * this user may know, and a port that is free. */
void port_explain(const char *endpoint, const char *why, char *text, size_t text_bytes);

#endif
