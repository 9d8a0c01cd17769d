/* Entries in one growing array, their texts in a chain of chunks. */
#include "server/core/outbox.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/lane_message.h"

#define CHUNK_BYTES 16384
/* An entry takes 3 KB: those of an unusual turn are given back. */
#define KEEP_ENTRIES 128

struct outbox_text {
	struct outbox_text *next;
	uint32_t used;
	_Alignas(8) char bytes[CHUNK_BYTES];
};

void outbox_init(struct outbox *outbox)
{
	memset(outbox, 0, sizeof(*outbox));
}

void outbox_clear(struct outbox *outbox)
{
	for (uint32_t i = 0; i < outbox->count; i++)
		buf_drop(outbox->entries[i].payload);
	outbox->count = 0;
	if (outbox->room > KEEP_ENTRIES) {
		free(outbox->entries);
		outbox->entries = NULL;
		outbox->room = 0;
	}
	buf_drop(outbox->spare.payload);
	outbox->spare.payload = NULL;
	/* One chunk stays: it serves nearly every turn. */
	while (outbox->texts != NULL && outbox->texts->next != NULL) {
		struct outbox_text *chunk = outbox->texts;
		outbox->texts = chunk->next;
		free(chunk);
	}
	if (outbox->texts != NULL)
		outbox->texts->used = 0;
}

void outbox_deinit(struct outbox *outbox)
{
	struct lane_message *message;

	outbox_clear(outbox);
	while ((message = outbox_take_told(outbox)) != NULL)
		free(message);
	free(outbox->texts);
	free(outbox->entries);
	outbox_init(outbox);
}

static bool outbox_grow(struct outbox *outbox)
{
	uint32_t room = outbox->room == 0 ? 16 : outbox->room * 2;
	struct outbox_entry *entries = realloc(outbox->entries, room * sizeof(*entries));
	if (entries == NULL)
		return false;
	outbox->entries = entries;
	outbox->room = room;
	return true;
}

struct outbox_entry *outbox_add(struct outbox *outbox, uint32_t peer)
{
	struct outbox_entry *entry = &outbox->spare;

	if (outbox->count < outbox->room || outbox_grow(outbox))
		entry = &outbox->entries[outbox->count++];
	else
		outbox->lost++;
	if (entry == &outbox->spare)
		buf_drop(entry->payload);
	memset(entry, 0, sizeof(*entry));
	entry->peer = peer;
	entry->head.reply = true;
	entry->head.rank = MSG_NO_RANK;
	return entry;
}

void outbox_tell(struct outbox *outbox, struct lane_message *message)
{
	message->next = NULL;
	if (outbox->told != NULL)
		outbox->last_told->next = message;
	else
		outbox->told = message;
	outbox->last_told = message;
}

struct lane_message *outbox_take_told(struct outbox *outbox)
{
	struct lane_message *message = outbox->told;

	if (message != NULL)
		outbox->told = message->next;
	return message;
}

static char *text_room(struct outbox *outbox, uint32_t size)
{
	struct outbox_text *chunk = outbox->texts;
	if (chunk == NULL || CHUNK_BYTES - chunk->used < size) {
		chunk = malloc(sizeof(*chunk));
		if (chunk == NULL)
			return NULL;
		chunk->next = outbox->texts;
		chunk->used = 0;
		outbox->texts = chunk;
	}
	return chunk->bytes + chunk->used;
}

struct msg_text outbox_printf(struct outbox *outbox, const char *format, ...)
{
	struct msg_text text = {NULL, 0};
	char *room = text_room(outbox, LIMIT_TEXT_BYTES);
	if (room == NULL)
		return text;
	va_list args;
	va_start(args, format);
	int size = vsnprintf(room, LIMIT_TEXT_BYTES, format, args);
	va_end(args);
	if (size <= 0)
		return text;
	text.bytes = room;
	text.size = size < (int)LIMIT_TEXT_BYTES ? (uint32_t)size : LIMIT_TEXT_BYTES - 1;
	outbox->texts->used += text.size;
	return text;
}

const uint8_t *outbox_bytes(struct outbox *outbox, const void *bytes, uint32_t size)
{
	char *room = text_room(outbox, size);
	if (room == NULL)
		return NULL;
	memcpy(room, bytes, size);
	outbox->texts->used += size;
	return (const uint8_t *)room;
}

const void *outbox_structs(struct outbox *outbox, const void *structs, uint32_t size)
{
	static const char zeros[8];

	assert(size <= CHUNK_BYTES / 2);
	/* Chunks begin aligned. */
	if (outbox->texts != NULL && outbox->texts->used % 8 != 0)
		outbox_bytes(outbox, zeros, 8 - outbox->texts->used % 8);
	return outbox_bytes(outbox, structs, size);
}
