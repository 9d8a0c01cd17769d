/*
 * Measure: what the benchmarks share: a clock, medians, a place for
 * files, and giving up.
 */
#ifndef OPTD_BENCH_MEASURE_H
#define OPTD_BENCH_MEASURE_H

#include <stddef.h>
#include <stdint.h>

/* Prints a sentence and ends the program with status 2. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Seconds since some moment in the past; and nanoseconds. */
double measure_now(void);
double measure_ns(void);
/* So many zeros in warm memory of huge pages, as a large model has them; never given back. */
float *measure_floats(size_t n);

/* Sorts values; count is at least 1. */
struct spread {
	double median, min, max;
};
struct spread measure_spread(double *values, size_t count);

/* Kilobytes of a field of /proc/PID/status: "VmRSS" (resident now), "VmHWM" (at
 * most, ever). */
uint64_t measure_status_kib(int pid, const char *field);

/* A new directory, its path written to 64 bytes at *path; and its end with all
 * that is in it.  A program that dies leaves it to be looked at. */
void scratch_new(char *path);
void scratch_remove(const char *path);

#endif
