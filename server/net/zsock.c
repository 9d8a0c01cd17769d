/* The prepare, check and idle handles behind one ZeroMQ socket. */
#include "server/net/zsock.h"

#include <zmq.h>

bool zsock_readable(const struct zsock *zsock)
{
	int events = 0;
	size_t size = sizeof(events);
	if (zmq_getsockopt(zsock->socket, ZMQ_EVENTS, &events, &size) != 0)
		return false;
	return (events & ZMQ_POLLIN) != 0;
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* its presence keeps the loop from sleeping */
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	(void)poll;
	(void)status;
	(void)events; /* only wakes the loop */
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct zsock *zsock = prepare->data;
	if (zsock_readable(zsock))
		uv_idle_start(&zsock->idle, on_idle);
}

static void on_check(uv_check_t *check)
{
	struct zsock *zsock = check->data;
	uv_idle_stop(&zsock->idle);
	if (zsock_readable(zsock))
		zsock->turn(zsock->user);
}

int zsock_open(struct zsock *zsock, uv_loop_t *loop, void *socket, void (*turn)(void *user),
               void *user)
{
	uv_os_sock_t fd;
	size_t size = sizeof(fd);

	*zsock = (struct zsock){.socket = socket, .turn = turn, .user = user};
	if (zmq_getsockopt(socket, ZMQ_FD, &fd, &size) != 0)
		return UV_EINVAL;
	int rc = uv_poll_init_socket(loop, &zsock->poll, fd);
	if (rc < 0)
		return rc;
	uv_prepare_init(loop, &zsock->prepare);
	uv_check_init(loop, &zsock->check);
	uv_idle_init(loop, &zsock->idle);
	zsock->prepare.data = zsock->check.data = zsock;
	uv_prepare_start(&zsock->prepare, on_prepare);
	uv_check_start(&zsock->check, on_check);
	return uv_poll_start(&zsock->poll, UV_READABLE, on_poll);
}

void zsock_close(struct zsock *zsock)
{
	uv_poll_stop(&zsock->poll);
	uv_close((uv_handle_t *)&zsock->poll, NULL);
	uv_close((uv_handle_t *)&zsock->prepare, NULL);
	uv_close((uv_handle_t *)&zsock->check, NULL);
	uv_close((uv_handle_t *)&zsock->idle, NULL);
}
