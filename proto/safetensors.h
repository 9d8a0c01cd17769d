/*
 * Safetensors: the head of a safetensors file, from memory and back.
 *
 * A file is a head and data.  The head is eight bytes with the length of a JSON
 * text, little-endian, then the text: for each tensor its name, element type,
 * shape and place in the data; and under "__metadata__" words of the writer's
 * own.  The data follow without holes.
 *
 * Files are written by tools everywhere, so decoding trusts nothing: it reads
 * the text in one pass without recursion, takes memory in proportion to its
 * length (at most about six times it), and refuses what the format does not
 * allow with a sentence.  Reading and writing the file itself is the caller's.
 */
#ifndef OPTD_PROTO_SAFETENSORS_H
#define OPTD_PROTO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

/* The head of a file that is written here takes a multiple of so many bytes, so
 * that the data can be read into aligned memory and mapped. */
#define SAFETENSORS_ALIGN 64u

/* Bounds of every file, whoever wrote it. */
#define SAFETENSORS_RANK_MAX 16u
#define SAFETENSORS_NAME_MAX 1024u

/* The element types that optd writes, and therefore all that it reads. */
enum safetensors_dtype {
	SAFETENSORS_F32,
	SAFETENSORS_F64,
	SAFETENSORS_I64,
	SAFETENSORS_U8,
};

struct safetensors_tensor {
	const char *name; /* NUL-terminated UTF-8, unique in the file */
	enum safetensors_dtype dtype;
	uint32_t rank;         /* 0: a scalar */
	const uint64_t *shape; /* rank numbers */
	uint64_t begin, end;   /* bytes, counted from the start of the data */
};

/* One entry of "__metadata__". */
struct safetensors_text {
	const char *key;
	const char *value;
};

/* Bytes of one element. */
uint32_t safetensors_dtype_bytes(enum safetensors_dtype dtype);
/* "F32". */
const char *safetensors_dtype_name(enum safetensors_dtype dtype);

/* Sets begin and end of each tensor so that they follow one another in the
 * given order, and *data_bytes to the end of the last.  OPTD_TOO_LARGE when a
 * size does not fit 63 bits. */
int safetensors_place(struct safetensors_tensor *tensors, uint32_t count, uint64_t *data_bytes);

/* The head of a file with these tensors, placed, in this order, padded with
 * spaces to a multiple of SAFETENSORS_ALIGN.  The caller frees *out.
 * OPTD_INVALID for a name or text that is not UTF-8, too long, or given twice,
 * with a sentence in why; OPTD_TOO_LARGE beyond limit_bytes; OPTD_NO_MEMORY. */
int safetensors_encode(const struct safetensors_tensor *tensors, uint32_t count,
                       const struct safetensors_text *metadata, uint32_t metadata_count,
                       uint64_t limit_bytes, char **out, size_t *out_bytes,
                       char *why, size_t why_bytes);

/* Bytes that the entry of a tensor that is not placed yet takes in a head, if the
 * data end at last_byte: so many at most, since places are decimal numbers. */
size_t safetensors_entry_bytes(const struct safetensors_tensor *tensor, uint64_t last_byte);

/* Reads the first eight bytes of a file of file_bytes: *text_bytes is the
 * length of the text that follows.  OPTD_CORRUPT, with a sentence in why, when
 * it is longer than the file; OPTD_TOO_LARGE when longer than limit_bytes. */
int safetensors_text_bytes(const void *eight, uint64_t file_bytes, uint64_t limit_bytes,
                           uint64_t *text_bytes, char *why, size_t why_bytes);

struct safetensors;

/* Decodes the text of a head.  data_bytes is what follows it in the file and
 * must be exactly what the tensors take.  At most tensors_max tensors and
 * metadata_max texts.  OPTD_CORRUPT, OPTD_UNSUPPORTED (an element type),
 * OPTD_TOO_LARGE or OPTD_NO_MEMORY; why says which tensor and what was found,
 * and never holds a control character. */
int safetensors_decode(const void *text, size_t text_bytes, uint64_t data_bytes,
                       uint32_t tensors_max, uint32_t metadata_max,
                       struct safetensors **out, char *why, size_t why_bytes);
void safetensors_free(struct safetensors *head);

/* The tensors in the order of their data.  Good until safetensors_free. */
uint32_t safetensors_count(const struct safetensors *head);
const struct safetensors_tensor *safetensors_tensors(const struct safetensors *head);
/* The tensor with this name, or NULL. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *head, const char *name);
/* The text under this key of "__metadata__", or NULL. */
const char *safetensors_metadata(const struct safetensors *head, const char *key);
/* All of them, in the order of the file; their values are those of safetensors_metadata. */
const struct safetensors_text *safetensors_texts(const struct safetensors *head, uint32_t *count);

#endif
