/*
 * Mem: large arrays that stay warm.
 *
 * Touching a fresh 4 KiB page costs more than updating the parameters on it, so
 * arrays of 2 MiB and more are aligned to huge pages and ask for them.  Memory
 * comes zeroed.
 */
#ifndef OPTD_BASE_MEM_H
#define OPTD_BASE_MEM_H

#include <stddef.h>

/* What the allocator takes for itself with each piece that it gives. */
#define MALLOC_BYTES 16u

/* Zeroed memory, aligned to at least 64 bytes; NULL without memory or for 0 bytes. */
void *mem_new(size_t bytes);

/* Memory that mem_new takes for so many bytes: from 2 MiB on, whole huge pages. */
size_t mem_bytes(size_t bytes);

/* Gives back what mem_new returned for the same number of bytes; NULL is fine. */
void mem_free(void *memory, size_t bytes);

#endif
