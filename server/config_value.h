/*
 * Config values: one knob's value between text and struct.  Private to config.
 */
#ifndef OPTD_SERVER_CONFIG_VALUE_H
#define OPTD_SERVER_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config.h"

/* Room for a number as text: a size, a duration, a double. */
#define VALUE_TEXT_BYTES 40u

/* Sets the knob's field in base (a config or a config_model) from text of
 * `size` bytes.  A list knob is appended to.  quoted: the text stood in quotes,
 * which numbers and booleans may not.  OPTD_INVALID and why, without a place. */
int value_set(const struct config_knob *knob, void *base, const char *text, size_t size,
              bool quoted, char *why, size_t why_bytes);

/* A hyper-parameter's number: decimal digits with at most a point and an
 * exponent, finite; for a flag true or false, or 1 or 0 as in the library.  False for anything else. */
bool value_real(const char *text, size_t size, bool flag, double *out);

/* "16MiB", "5min": with the largest unit that divides it; "0" for nothing. */
void value_bytes_text(uint64_t bytes, char out[VALUE_TEXT_BYTES]);
void value_duration_text(uint64_t ms, char out[VALUE_TEXT_BYTES]);
/* The fewest digits that read back the same; whole numbers up to nine digits in full. */
void value_real_text(double value, char out[VALUE_TEXT_BYTES]);

/* Writes a schedule as YAML that reads back the same (config_schedule.c). */
void config_print_schedule(FILE *out, const struct schedule *schedule);

/* Writes a loss scale likewise (config_loss_scale.c). */
void config_print_loss_scale(FILE *out, const struct msg_loss_scale *settings);
/* Likewise an average (config_average.c). */
void config_print_average(FILE *out, const struct average *average);

/* Whether text is an endpoint to bind, or (to_connect) one that a client can
 * connect to.  OPTD_INVALID and why. */
int endpoint_check(const char *text, bool to_connect, char *why, size_t why_bytes);
/* Whether only this machine can reach it.  It has passed endpoint_check. */
bool endpoint_loopback(const char *text);
/* The endpoint of the n-th lane beyond a list whose first entry is text: n from
 * 1; with n 0 text itself; both as ZeroMQ wants them.  See config_lane_endpoint. */
void endpoint_lane(const char *text, uint32_t n, char out[LIMIT_ENDPOINT_BYTES + 1]);

/* Memory this process may use: the machine's, or its control group's if less. */
uint64_t host_memory_bytes(void);

#endif
