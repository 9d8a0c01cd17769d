/*
 * Monitor: what becomes of a ZeroMQ socket's connection.
 *
 * ZeroMQ connects in the background and tells of it only on a second socket.
 * A monitor is that socket: events wait in it until they are read, and its
 * descriptor wakes who waits for them.
 */
#ifndef OPTD_CLIENT_MONITOR_H
#define OPTD_CLIENT_MONITOR_H

enum monitor_event { MONITOR_NOTHING = 0, MONITOR_CONNECTED, MONITOR_LOST };

/* Watches `socket`, which must not be connecting yet.  Returns a socket of the
 * same context, or NULL: then nothing is told of the connection. */
void *monitor_open(void *context, void *socket);
/* Close the watched socket first.  May be NULL. */
void monitor_close(void *monitor);

/* For epoll: readable until monitor_next has returned MONITOR_NOTHING. */
int monitor_fd(void *monitor);

/* The next event, oldest first; MONITOR_NOTHING when all are read, and for NULL.  With
 * MONITOR_CONNECTED *fd is the connection's, to be looked at only. */
enum monitor_event monitor_next(void *monitor, int *fd);

#endif
