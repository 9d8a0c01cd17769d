/*
 * Digest: the checks that cover every byte of a checkpoint, XXH3 of 64 bits.
 * They find accidents, not forgeries: whoever can write the file can also write
 * its checks.
 */
#ifndef OPTD_DISK_DIGEST_H
#define OPTD_DISK_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Of any bytes, in pieces. */
struct digest;
struct digest *digest_new(void); /* NULL without memory */
void digest_free(struct digest *digest);
void digest_reset(struct digest *digest);
void digest_add(struct digest *digest, const void *bytes, size_t size);
uint64_t digest_value(const struct digest *digest);

/* 128 bits of a name as 32 hexadecimal digits and NUL. */
void digest_name(const char *name, size_t size, char hex[33]);

#endif
