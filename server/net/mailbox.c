/* A locked list and a wake-up. */
#include "server/net/mailbox.h"

#include <stdlib.h>

#include "proto/status.h"

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
		/* A kept one may be posted again as soon as it runs. */
		struct mail now = *mail;
		if (!now.kept)
			free(mail);
		now.run(now.user, now.argument);
		mail = now.next;
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
		if (!mail->kept)
			free(mail);
		mail = next;
	}
	uv_close((uv_handle_t *)&mailbox->async, NULL);
}

static void append(struct mailbox *mailbox, struct mail *mail)
{
	pthread_mutex_lock(&mailbox->lock);
	if (mailbox->last != NULL)
		mailbox->last->next = mail;
	else
		mailbox->first = mail;
	mailbox->last = mail;
	pthread_mutex_unlock(&mailbox->lock);
	uv_async_send(&mailbox->async);
}

int mailbox_post(struct mailbox *mailbox, void (*run)(void *user, void *argument), void *user,
                 void *argument)
{
	struct mail *mail = malloc(sizeof(*mail));
	if (mail == NULL)
		return OPTD_NO_MEMORY;
	*mail = (struct mail){NULL, run, user, argument, false};
	append(mailbox, mail);
	return OPTD_OK;
}

void mailbox_post_kept(struct mailbox *mailbox, struct mail *mail,
                       void (*run)(void *user, void *argument), void *user, void *argument)
{
	*mail = (struct mail){NULL, run, user, argument, true};
	append(mailbox, mail);
}
