/*
 * ZMTP peer: the ZeroMQ wire protocol by hand, so that a test can break it.
 *
 * A peer is a plain TCP or Unix socket.  Each function does one piece of ZMTP
 * 3.0 with the NULL mechanism (https://rfc.zeromq.org/spec/23), right or wrong
 * as the caller asks.  Whoever is being tested may hang up at any time, so
 * functions return false once the connection is gone and nothing here fails a
 * test by itself but connecting.  No call waits longer than ZMTP_PATIENCE_MS.
 */
#ifndef OPTD_TEST_ZMTP_PEER_H
#define OPTD_TEST_ZMTP_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZMTP_PATIENCE_MS 10000

#define ZMTP_MORE 1
#define ZMTP_LONG 2
#define ZMTP_COMMAND 4

/* A connected socket to "tcp://127.0.0.1:port" or "ipc://path"; closed by
 * close(2).  -1 with errno. */
int zmtp_connect(const char *endpoint);

/* Sends all bytes. */
bool zmtp_send(int fd, const void *bytes, size_t size);
/* Receives exactly so many. */
bool zmtp_receive(int fd, void *bytes, size_t size);
/* Waits until the other side has hung up, throwing away what it still says. */
bool zmtp_wait_cut(int fd, int timeout_ms);
/* Whether something has come, or the end has. */
bool zmtp_readable(int fd, int timeout_ms);

/* The 64 bytes that open a connection: signature, version 3.0, a mechanism of
 * at most 20 bytes, as a client. */
void zmtp_greeting(const char *mechanism, unsigned char out[64]);
/* A frame's head: flags, and a length of 1 byte, or of 8 with ZMTP_LONG. */
bool zmtp_frame_head(int fd, unsigned flags, uint64_t size);
/* A whole frame; long if it must be. */
bool zmtp_frame(int fd, unsigned flags, const void *bytes, size_t size);
/* READY with Socket-Type and, if identity_bytes > 0, Identity. */
bool zmtp_ready(int fd, const char *type, const void *identity, size_t identity_bytes);

/* The whole opening as a DEALER, with the other side's read and thrown away;
 * then the peer may send messages. */
bool zmtp_open(int fd, const void *identity, size_t identity_bytes);
/* zmtp_connect and zmtp_open without an identity; -1. */
int zmtp_dealer(const char *endpoint);

/* A message of two frames, as optd takes them. */
bool zmtp_message(int fd, const void *header, size_t header_bytes, const void *payload,
                  size_t payload_bytes);
/* The next frame that is no command (a PING gets its PONG); at most `room`
 * bytes of it are kept.  Its size in *size and whether more follow in *more. */
bool zmtp_next(int fd, void *bytes, size_t room, size_t *size, bool *more);

#endif
