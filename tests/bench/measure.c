/* A clock, medians, /proc, /tmp. */
#include "tests/bench/measure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	/* Not exit: a forked child must not flush what its parent has written. */
	fflush(stderr);
	_Exit(2);
}

double measure_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

double measure_now(void)
{
	return measure_ns() * 1e-9;
}

#define HUGE_PAGE ((size_t)2 << 20)

float *measure_floats(size_t n)
{
	size_t bytes = n * sizeof(float) + HUGE_PAGE;
	char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		die("no memory for %zu bytes", bytes);
	madvise(start, bytes, MADV_HUGEPAGE);
	start += HUGE_PAGE - (size_t)start % HUGE_PAGE;
	memset(start, 0, n * sizeof(float));
	return (float *)(void *)start;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct spread measure_spread(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_size);
	return (struct spread){ values[count / 2], values[0], values[count - 1] };
}

uint64_t measure_status_kib(int pid, const char *field)
{
	char path[64], line[256];
	size_t length = strlen(field);
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *file = fopen(path, "r");
	if (file == NULL)
		die("cannot read %s: has the process ended?", path);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, field, length) == 0 && line[length] == ':')
			kib = strtoull(line + length + 1, NULL, 10);
	}
	fclose(file);
	return kib;
}

void scratch_new(char *path)
{
	static const char template[] = "/tmp/optd-bench-XXXXXX";

	memcpy(path, template, sizeof(template));
	if (mkdtemp(path) == NULL)
		die("cannot make %s", path);
}

void scratch_remove(const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}
