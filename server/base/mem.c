/* Large arrays by mmap, small ones by the allocator. */
#include "server/base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

static size_t mapped_bytes(size_t bytes)
{
	return (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

static void *map_aligned(size_t bytes)
{
	size_t whole = mapped_bytes(bytes) + HUGE_PAGE;
	char *map = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	                 -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	size_t before = (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
	if (before > 0)
		munmap(map, before);
	munmap(map + before + mapped_bytes(bytes), HUGE_PAGE - before);
	/* Where huge pages are off this fails, and ordinary pages serve. */
	madvise(map + before, mapped_bytes(bytes), MADV_HUGEPAGE);
	return map + before;
}

void *mem_new(size_t bytes)
{
	if (bytes == 0 || bytes > SIZE_MAX - 2 * HUGE_PAGE)
		return NULL;
	if (bytes >= HUGE_PAGE)
		return map_aligned(bytes);
	void *memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
	if (memory != NULL)
		memset(memory, 0, bytes);
	return memory;
}

size_t mem_bytes(size_t bytes)
{
	if (bytes > SIZE_MAX - 2 * HUGE_PAGE)
		return SIZE_MAX;
	return bytes >= HUGE_PAGE ? mapped_bytes(bytes) : (bytes + 63) & ~(size_t)63;
}

void mem_free(void *memory, size_t bytes)
{
	if (memory == NULL)
		return;
	if (bytes >= HUGE_PAGE)
		munmap(memory, mapped_bytes(bytes));
	else
		free(memory);
}
