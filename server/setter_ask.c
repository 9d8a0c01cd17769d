/* SET as peers ask for it: from a lane to the queue, and the answer back. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/setter_parts.h"

/* ---- places --------------------------------------------------------------- */

/* On the lane's thread; NULL: none is free. */
static struct set_asked *take_place(struct setter *setter, struct lane *lane)
{
	struct set_asked *free = NULL;

	pthread_mutex_lock(&setter->lock);
	for (uint32_t i = 0; i < LIMIT_SETS && free == NULL; i++)
		free = setter->places[i].lane == NULL ? &setter->places[i] : NULL;
	if (free != NULL)
		*free = (struct set_asked){.setter = setter, .lane = lane};
	pthread_mutex_unlock(&setter->lock);
	return free;
}

static void give_back(struct set_asked *asked)
{
	struct setter *setter = asked->setter;

	pthread_mutex_lock(&setter->lock);
	asked->lane = NULL;
	pthread_mutex_unlock(&setter->lock);
}

/* ---- answers -------------------------------------------------------------- */

/* On the lane's thread. */
static void answer(void *user, void *argument)
{
	struct lane *lane = user;
	struct set_asked *asked = argument;
	struct outbox *out = lane_outbox(lane);
	struct outbox_entry *entry = outbox_add(out, asked->peer);

	entry->head.verb = MSG_SET;
	entry->head.status = asked->status;
	entry->head.request = asked->request;
	entry->head.session = asked->session;
	entry->head.epoch = engine_epoch(lane_engine(lane));
	entry->head.version = asked->version;
	entry->head.version_max = asked->version_max;
	entry->head.text = outbox_printf(out, "%s", asked->why);
	/* First the place: who has the answer may ask again. */
	give_back(asked);
	lane_send(lane, out);
}

void set_answer(struct set_asked *asked, int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(asked->why, sizeof(asked->why), format, args);
	va_end(args);
	asked->status = status;
	lane_post_kept(asked->lane, &asked->mail, answer, asked);
}

/* ---- questions ------------------------------------------------------------ */

static struct msg_text copy_text(struct msg_text text, char *to, size_t room)
{
	if (text.size >= room)
		text.size = (uint32_t)room - 1; /* what is cut matches nothing */
	if (text.size > 0)
		memcpy(to, text.bytes, text.size);
	to[text.size] = '\0';
	return (struct msg_text){to, text.size};
}

static void queue(void *user, void *argument)
{
	setter_queue(user, argument);
}

void setter_ask(void *user, struct lane *lane, const struct msg *request, uint32_t peer)
{
	struct setter *setter = user;
	struct set_asked *asked = take_place(setter, lane);
	char why[120];

	if (asked == NULL) {
		snprintf(why, sizeof(why), "%u SETs of all sessions wait and no more may: try again later", LIMIT_SETS);
		lane_answer(lane, peer, request, OPTD_BUSY, why);
		return;
	}
	asked->peer = peer;
	asked->request = request->request;
	asked->session = request->session;
	asked->set = request->set;
	asked->set.model = copy_text(request->set.model, asked->model, sizeof(asked->model));
	asked->set.tensors = copy_text(request->set.tensors, asked->tensors, sizeof(asked->tensors));
	for (uint32_t i = 0; i < request->set.hyper_count; i++)
		asked->set.hypers[i].name =
		        copy_text(request->set.hypers[i].name, asked->names[i], sizeof(asked->names[i]));
	mailbox_post_kept(&setter->mailbox, &asked->mail, queue, setter, asked);
}
