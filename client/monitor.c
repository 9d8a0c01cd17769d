/*
 * An event is two frames: number and value, then the endpoint.
 */
#include "client/monitor.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

void *monitor_open(void *context, void *socket)
{
	char name[64];
	int none = 0;
	/* Unique while both live: a client has no two sockets at one address. */
	snprintf(name, sizeof(name), "inproc://monitor-%" PRIxPTR, (uintptr_t)socket);
	if (zmq_socket_monitor(socket, name, ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED) != 0)
		return NULL;
	void *monitor = zmq_socket(context, ZMQ_PAIR);
	/* Without a bound: ZeroMQ's thread would wait for a program that computes, and
	 * with it every connection.  A connection comes and goes a few times a second
	 * at most. */
	if (monitor && zmq_setsockopt(monitor, ZMQ_RCVHWM, &none, sizeof(none)) == 0 &&
	    zmq_setsockopt(monitor, ZMQ_LINGER, &none, sizeof(none)) == 0 &&
	    zmq_connect(monitor, name) == 0)
		return monitor;
	zmq_socket_monitor(socket, NULL, 0);
	monitor_close(monitor);
	return NULL;
}

void monitor_close(void *monitor)
{
	if (monitor)
		zmq_close(monitor);
}

int monitor_fd(void *monitor)
{
	int fd = -1;
	size_t size = sizeof(fd);
	zmq_getsockopt(monitor, ZMQ_FD, &fd, &size);
	return fd;
}

/* Reads one event's number and value; 0 if there is none. */
static unsigned read_event(void *monitor, int *value)
{
	unsigned char frame[6];
	char endpoint[1];
	uint16_t number = 0;
	if (zmq_recv(monitor, frame, sizeof(frame), ZMQ_DONTWAIT) < (int)sizeof(frame))
		return 0;
	/* Cut to fit: nobody asks which endpoint, a link has one. */
	zmq_recv(monitor, endpoint, sizeof(endpoint), ZMQ_DONTWAIT);
	int32_t four;
	memcpy(&number, frame, sizeof(number));
	memcpy(&four, frame + 2, sizeof(four));
	*value = four;
	return number;
}

enum monitor_event monitor_next(void *monitor, int *fd)
{
	unsigned number;
	while (monitor && (number = read_event(monitor, fd)) != 0) {
		if (number == ZMQ_EVENT_CONNECTED)
			return MONITOR_CONNECTED;
		if (number == ZMQ_EVENT_DISCONNECTED)
			return MONITOR_LOST;
	}
	return MONITOR_NOTHING;
}
