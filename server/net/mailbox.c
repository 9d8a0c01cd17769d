/* A locked list and a wake-up. */
#include "server/net/mailbox.h"

#include <stdlib.h>

#include "proto/status.h"

struct mail {
	struct mail *next;
	void (*run)(void *user, void *argument);
	void *user;
	void *argument;
};

static struct mail *take_all(struct mailbox *mailbox)
{
	pthread_mutex_lock(&mailbox->lock);
	struct mail *first = mailbox->first;
	mailbox->first = mailbox->last = NULL;
	pthread_mutex_unlock(&mailbox->lock);
	return first;
}

/* One wake-up may stand for several posts: all of them are done. */
static void on_async(uv_async_t *async)
{
	struct mail *mail = take_all(async->data);
	while (mail != NULL) {
		struct mail *next = mail->next;
		mail->run(mail->user, mail->argument);
		free(mail);
		mail = next;
	}
}

void mailbox_open(struct mailbox *mailbox, uv_loop_t *loop)
{
	*mailbox = (struct mailbox){0};
	pthread_mutex_init(&mailbox->lock, NULL);
	uv_async_init(loop, &mailbox->async, on_async);
	mailbox->async.data = mailbox;
}

void mailbox_close(struct mailbox *mailbox)
{
	struct mail *mail = take_all(mailbox);
	while (mail != NULL) {
		struct mail *next = mail->next;
		free(mail);
		mail = next;
	}
	uv_close((uv_handle_t *)&mailbox->async, NULL);
}

int mailbox_post(struct mailbox *mailbox, void (*run)(void *user, void *argument), void *user,
                 void *argument)
{
	struct mail *mail = malloc(sizeof(*mail));
	if (mail == NULL)
		return OPTD_NO_MEMORY;
	*mail = (struct mail){NULL, run, user, argument};
	pthread_mutex_lock(&mailbox->lock);
	if (mailbox->last != NULL)
		mailbox->last->next = mail;
	else
		mailbox->first = mail;
	mailbox->last = mail;
	pthread_mutex_unlock(&mailbox->lock);
	uv_async_send(&mailbox->async);
	return OPTD_OK;
}
