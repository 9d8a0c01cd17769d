/* A locked list and a wake-up, which may stand for several messages. */
#include "server/net/hearing.h"

#include <stdlib.h>

static struct lane_message *take_all(struct hearing *hearing)
{
	pthread_mutex_lock(&hearing->lock);
	struct lane_message *first = hearing->first;
	hearing->first = hearing->last = NULL;
	pthread_mutex_unlock(&hearing->lock);
	return first;
}

static void on_async(uv_async_t *async)
{
	struct hearing *hearing = async->data;
	struct lane_message *message = take_all(hearing), *next;

	for (; message != NULL; message = next) {
		next = message->next;
		hearing->hear(hearing->user, message);
	}
}

void hearing_init(struct hearing *hearing)
{
	*hearing = (struct hearing){0};
	pthread_mutex_init(&hearing->lock, NULL);
}

void hearing_deinit(struct hearing *hearing)
{
	pthread_mutex_destroy(&hearing->lock);
}

void hearing_open(struct hearing *hearing, uv_loop_t *loop,
                  void (*hear)(void *user, struct lane_message *message), void *user)
{
	hearing->hear = hear;
	hearing->user = user;
	uv_async_init(loop, &hearing->async, on_async);
	hearing->async.data = hearing;
	pthread_mutex_lock(&hearing->lock);
	hearing->open = true;
	pthread_mutex_unlock(&hearing->lock);
}

void hearing_close(struct hearing *hearing)
{
	struct lane_message *message, *next;

	pthread_mutex_lock(&hearing->lock);
	hearing->open = false;
	pthread_mutex_unlock(&hearing->lock);
	for (message = take_all(hearing); message != NULL; message = next) {
		next = message->next;
		free(message);
	}
	uv_close((uv_handle_t *)&hearing->async, NULL);
}

void hearing_tell(struct hearing *hearing, struct lane_message *message)
{
	message->next = NULL;
	pthread_mutex_lock(&hearing->lock);
	bool open = hearing->open;
	if (open && hearing->last != NULL)
		hearing->last->next = message;
	else if (open)
		hearing->first = message;
	if (open) {
		hearing->last = message;
		/* Under the lock: the handle is not closed meanwhile. */
		uv_async_send(&hearing->async);
	}
	pthread_mutex_unlock(&hearing->lock);
	if (!open)
		free(message);
}
