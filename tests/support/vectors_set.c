/*
 * Reading a set of test vectors: two tables of tab-separated text, and raw
 * numbers at the offsets that the second one names.  Trusted input: a damaged
 * set gives missing tensors, hence failed cases.
 */
#include "tests/support/vectors_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file of lines of tab-separated cells, the first one the header. */
struct table {
	char *bytes;
	char **cells; /* rows * columns */
	uint32_t rows, columns;
};

struct vectors {
	char *folder;
	struct table manifest, tensors;
};

/* The file's bytes and a NUL, or NULL. */
static char *read_all(const char *path)
{
	FILE *file = fopen(path, "rb");
	char *bytes = NULL;
	long length;

	if (file == NULL)
		return NULL;
	if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0 &&
	    fseek(file, 0, SEEK_SET) == 0 && (bytes = calloc(1, (size_t)length + 1)) != NULL &&
	    fread(bytes, 1, (size_t)length, file) != (size_t)length) {
		free(bytes);
		bytes = NULL;
	}
	fclose(file);
	return bytes;
}

static uint32_t count_until(const char *text, char what, char end)
{
	uint32_t count = 0;

	for (; *text != '\0' && *text != end; text++)
		count += *text == what;
	return count;
}

/* Cuts a line at its tabs, in place; missing cells are empty. */
static void cut_line(char *line, char **cells, uint32_t columns)
{
	for (uint32_t i = 0; i < columns; i++) {
		size_t length = strcspn(line, "\t");

		cells[i] = line;
		line += length;
		if (*line == '\t')
			*line++ = '\0';
	}
}

static int table_read(struct table *table, const char *path)
{
	char *line, *next;

	table->bytes = read_all(path);
	if (table->bytes == NULL)
		return -1;
	table->columns = count_until(table->bytes, '\t', '\n') + 1;
	table->cells = calloc((size_t)(count_until(table->bytes, '\n', '\0') + 1) * table->columns,
	                      sizeof(*table->cells));
	if (table->cells == NULL)
		return -1;
	for (line = table->bytes; *line != '\0'; line = next) {
		size_t length = strcspn(line, "\n");

		next = line + length + (line[length] == '\n');
		line[length] = '\0';
		cut_line(line, table->cells + (size_t)table->rows * table->columns, table->columns);
		table->rows++;
	}
	return table->rows > 0 ? 0 : -1;
}

/* The cell under a header's name, "" where there is no such column. */
static const char *table_cell(const struct table *table, uint32_t row, const char *column)
{
	for (uint32_t i = 0; i < table->columns; i++) {
		if (strcmp(table->cells[i], column) == 0)
			return table->cells[(size_t)row * table->columns + i];
	}
	return "";
}

static int read_tables(struct vectors *set, char *why, size_t why_bytes)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/manifest.tsv", set->folder);
	if (table_read(&set->manifest, path) == 0) {
		snprintf(path, sizeof(path), "%s/tensors.tsv", set->folder);
		if (table_read(&set->tensors, path) == 0)
			return 0;
	}
	snprintf(why, why_bytes,
	         "cannot read %s; a set of vectors has manifest.tsv and tensors.tsv", path);
	return -1;
}

struct vectors *vectors_open(const char *folder, char *why, size_t why_bytes)
{
	struct vectors *set = calloc(1, sizeof(*set));

	if (set == NULL || (set->folder = strdup(folder)) == NULL) {
		snprintf(why, why_bytes, "out of memory");
		free(set);
		return NULL;
	}
	if (read_tables(set, why, why_bytes) < 0) {
		vectors_close(set);
		return NULL;
	}
	return set;
}

void vectors_close(struct vectors *set)
{
	if (set == NULL)
		return;
	free(set->manifest.bytes);
	free(set->manifest.cells);
	free(set->tensors.bytes);
	free(set->tensors.cells);
	free(set->folder);
	free(set);
}

uint32_t vectors_count(const struct vectors *set)
{
	return set->manifest.rows - 1;
}

struct vectors_case vectors_case(const struct vectors *set, uint32_t index)
{
	const struct table *table = &set->manifest;
	uint32_t row = index + 1;
	double tolerance = strtod(table_cell(table, row, "tol_sulp"), NULL);

	return (struct vectors_case){
		.name = table_cell(table, row, "case"),
		.kind = table_cell(table, row, "kind"),
		.rule = table_cell(table, row, "rule"),
		.dtype = table_cell(table, row, "dtype"),
		.shape = table_cell(table, row, "shape"),
		.hyper = table_cell(table, row, "hyper"),
		.events = table_cell(table, row, "events"),
		.record = table_cell(table, row, "record"),
		.grads_file = table_cell(table, row, "grads_file"),
		.case_file = table_cell(table, row, "case_file"),
		.state = table_cell(table, row, "state"),
		.steps = (uint32_t)strtoul(table_cell(table, row, "steps"), NULL, 10),
		.bitexact = strcmp(table_cell(table, row, "bitexact"), "1") == 0,
		.tol_sulp = isnan(tolerance) ? 0 : tolerance,
	};
}

/* Linear: a set has some thousand tensors. */
static uint32_t tensor_row(const struct vectors *set, const char *file, const char *tensor)
{
	for (uint32_t row = 1; row < set->tensors.rows; row++) {
		char **cells = set->tensors.cells + (size_t)row * set->tensors.columns;

		if (strcmp(cells[1], tensor) == 0 && strcmp(cells[0], file) == 0)
			return row;
	}
	return 0;
}

bool vectors_has(const struct vectors *set, const char *file, const char *tensor)
{
	return tensor_row(set, file, tensor) != 0;
}

/* The bytes of a tensor of this dtype, or NULL. */
static void *tensor_bytes(const struct vectors *set, const char *file, const char *tensor,
                          const char *dtype, size_t *bytes)
{
	uint32_t row = tensor_row(set, file, tensor);
	char path[4096];
	FILE *stream;
	void *data;

	if (row == 0 || strcmp(table_cell(&set->tensors, row, "dtype"), dtype) != 0)
		return NULL;
	*bytes = strtoul(table_cell(&set->tensors, row, "nbytes"), NULL, 10);
	snprintf(path, sizeof(path), "%s/%s", set->folder, file);
	stream = fopen(path, "rb");
	if (stream == NULL)
		return NULL;
	data = malloc(*bytes + 1);
	if (data != NULL &&
	    (fseek(stream, strtol(table_cell(&set->tensors, row, "offset"), NULL, 10), SEEK_SET) !=
	             0 ||
	     fread(data, 1, *bytes, stream) != *bytes)) {
		free(data);
		data = NULL;
	}
	fclose(stream);
	return data;
}

float *vectors_floats(const struct vectors *set, const char *file, const char *tensor,
                      size_t *count)
{
	size_t bytes;
	float *floats = tensor_bytes(set, file, tensor, "F32", &bytes);
	double *doubles;

	if (floats != NULL) {
		*count = bytes / sizeof(*floats);
		return floats;
	}
	doubles = tensor_bytes(set, file, tensor, "F64", &bytes);
	if (doubles == NULL)
		return NULL;
	*count = bytes / sizeof(*doubles);
	floats = malloc((*count + 1) * sizeof(*floats));
	for (size_t i = 0; floats != NULL && i < *count; i++)
		floats[i] = (float)doubles[i];
	free(doubles);
	return floats;
}

bool vectors_integer(const struct vectors *set, const char *file, const char *tensor, int64_t *out)
{
	size_t bytes;
	int64_t *numbers = tensor_bytes(set, file, tensor, "I64", &bytes);
	bool found = numbers != NULL && bytes == sizeof(*numbers);

	if (found)
		*out = numbers[0];
	free(numbers);
	return found;
}
