/*
 * Config: what an operator may set, as one table of knobs and one plain struct.
 *
 * The YAML file, the command line, --print-config, the man page and the tables
 * in deploy/OPERATIONS.md all follow the table in config.c: adding a knob is one
 * row there and one field here (tests then ask for its line in the docs).
 *
 * To use it: config_init; config_read, if there is a file; config_set for what
 * the command line says; config_finish.  After that the struct is complete and
 * nobody changes it.  All errors are one sentence that names the place
 * ("optd.yaml:7: "), the value, and what is allowed; the first one ends it.
 */
#ifndef OPTD_SERVER_CONFIG_H
#define OPTD_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "optim/optim.h"
#include "proto/limits.h"
#include "proto/msg.h"
#include "server/core/average.h"
#include "server/core/group.h"
#include "server/log.h"

/* Room for any of config's error sentences. */
#define CONFIG_WHY_BYTES 1024u
/* A path, with room for the names of files below it within PATH_MAX. */
#define CONFIG_PATH_BYTES 3072u
/* A socket's path has 108 bytes on Linux; a lane's suffix needs three and NUL one. */
#define CONFIG_IPC_PATH_BYTES 104u
/* Nesting and values of a file: six levels and a few hundred values are real.  The
 * milestones of a group's schedule are on the ninth, and all groups of all models that
 * may be configured can be printed and read back. */
#define CONFIG_DEPTH 10u
#define CONFIG_NODES 65536u
/* Knobs, of models too; the table is checked against it when it is compiled. */
#define CONFIG_KNOBS 32u
/* Where a knob was set: no line of the file, or the command line. */
#define CONFIG_LINE_DEFAULT 0u
#define CONFIG_LINE_COMMAND UINT32_MAX
/* How an error begins whose value came from the command line. */
#define CONFIG_COMMAND "command line: "

struct config_endpoints {
	uint32_t count;
	char text[LIMIT_LANES][LIMIT_ENDPOINT_BYTES + 1];
};

/* Settings of one model by name, used when a worker creates it.  What is not
 * given is left to that worker. */
struct config_model {
	char name[LIMIT_NAME_BYTES]; /* with its NUL: 511 bytes, as in the library */
	bool optimizer_given;
	struct optim optimizer;   /* complete and checked, when given */
	struct groups groups;     /* of the optimizer */
	struct average average;   /* none: not given */
	enum msg_mode mode;       /* MSG_MODE_UNSET: not given */
	uint32_t workers;         /* 0: not given */
	enum msg_reduce reduce;   /* MSG_REDUCE_UNSET: not given */
	uint32_t step_timeout_ms; /* 0: not given */
	struct msg_clip clip;     /* 0: not given */
	enum msg_nonfinite nonfinite;     /* MSG_NONFINITE_UNSET: not given */
	struct msg_loss_scale loss_scale; /* complete, when given */
	uint32_t line;            /* of the file */
};

/* Owns nothing: copy it freely (it is about a MiB: not on a small stack). */
struct config {
	struct config_endpoints listen;    /* at least one */
	struct config_endpoints advertise; /* none, or one a lane */
	uint32_t lanes;                    /* >= listen.count */
	char data_dir[CONFIG_PATH_BYTES + 1];

	uint64_t memory_bytes;  /* for all models */
	uint64_t window_bytes;  /* under way from one worker to one lane */
	uint64_t message_bytes; /* largest payload; at most half a window */
	uint32_t connections;
	uint32_t models_max;
	uint32_t workers_max; /* ranks of one model */

	uint32_t step_timeout_ms;
	uint32_t waiting_notice_ms;
	uint32_t init_lease_ms;
	uint32_t drain_timeout_ms;

	uint32_t checkpoint_interval_ms; /* 0: never */
	bool checkpoint_on_exit;

	enum log_format log_format;
	enum log_level log_level;

	bool insecure;

	uint32_t model_count;
	struct config_model models[LIMIT_MODELS];

	/* Where it all came from, for error texts. */
	const char *file;             /* borrowed for the struct's life; NULL: no file */
	const char *data_dir_reason;  /* a constant: "data_dir", "$STATE_DIRECTORY", ... */
	uint32_t lines[CONFIG_KNOBS]; /* by index of the knob */
};

enum config_type {
	CONFIG_BOOL,
	CONFIG_INT,
	CONFIG_BYTES,
	CONFIG_MEMORY,   /* bytes, or "80%" of the machine's memory */
	CONFIG_DURATION, /* held in milliseconds */
	CONFIG_REAL,     /* above 0, and at least min; where max is CONFIG_REAL_INF also inf */
	CONFIG_STRING,
	CONFIG_ENUM,
	CONFIG_ENDPOINTS, /* one, or a list */
	CONFIG_LOSS_SCALE, /* {init_scale, growth_factor, backoff_factor, growth_interval} */
	CONFIG_OPTIMIZER, /* a name, or {name, match, hyper-parameters, schedule, groups} */
	CONFIG_AVERAGE,   /* a kind, or {kind, settings} */
};

#define CONFIG_REAL_INF UINT64_MAX

/* One row of the table.  Paths that begin with "models." are those of an entry
 * of the list of models, and their offsets are in struct config_model. */
struct config_knob {
	const char *path; /* "limits.memory" */
	enum config_type type;
	size_t offset;
	const char *initial;      /* the default as one would write it; NULL: see about */
	uint64_t min, max;        /* of the number, in bytes or ms; of the string, in bytes */
	const char *const *words; /* enum: by value; NULL words are not offered */
	uint32_t word_count;
	bool may_be_off; /* duration: off is allowed as well, held as 0 */
	const char *about;
};

uint32_t config_knob_count(void);
const struct config_knob *config_knob(uint32_t index);
/* The knob with this path, or NULL. */
const struct config_knob *config_knob_find(const char *path);
/* Its allowed values in words: "a size from 1MiB to 1GiB". */
void config_knob_allowed(const struct config_knob *knob, char *out, size_t out_bytes);

/* All defaults, no file. */
void config_init(struct config *config);

/* Reads a file over what config holds.  OPTD_DENIED when it may not be read,
 * OPTD_INVALID for every other reason; *config is then unspecified. */
int config_read(struct config *config, const char *file, char *why, size_t why_bytes);

/* The same from memory: `file` only names it in errors.  Never looks at
 * anything but the bytes, and takes any bytes. */
int config_parse(struct config *config, const char *file, const char *bytes, size_t size, char *why,
                 size_t why_bytes);

/* Sets one knob from the command line; endpoints take several values, others
 * one.  OPTD_INVALID and why, without a place: the caller knows its flag. */
int config_set(struct config *config, const char *path, const char *const *values, uint32_t count,
               char *why, size_t why_bytes);

/* Checks what depends on several knobs and fills in what has no constant
 * default: lanes, data_dir.  OPTD_INVALID and why, which begins with
 * CONFIG_COMMAND when it is the command line that said the wrong thing. */
int config_finish(struct config *config, char *why, size_t why_bytes);

/* What lane `lane` binds: its own entry of listen; for lanes beyond the list the
 * first entry with any free port, or with ".1", ".2", ... behind its ipc path.
 * As ZeroMQ wants it: 127.0.0.1 for localhost, "*" for port 0. */
void config_lane_endpoint(const struct config *config, uint32_t lane,
                          char out[LIMIT_ENDPOINT_BYTES + 1]);

/* Whether only this machine can reach all of listen. */
bool config_loopback(const struct config *config);

/* Writes a finished config as YAML, every knob with what it is and its range;
 * reading it back gives the same config. */
void config_print(const struct config *config, FILE *out);

/* Writes what memory each configured model will take, in plain words. */
void config_print_memory(const struct config *config, FILE *out);

/* Puts $HOME in place of a leading "~/", in place.  OPTD_INVALID and why for
 * every other path that begins with "~", and when there is no $HOME. */
int config_expand_home(char path[CONFIG_PATH_BYTES + 1], char *why, size_t why_bytes);

/* The directory for state when data_dir is not set, chosen from the environment:
 * systemd's $STATE_DIRECTORY, /var/lib/optd where that can be written, else the
 * user's own.  OPTD_INVALID when there is none.  *reason is a constant. */
int config_data_dir(char out[CONFIG_PATH_BYTES + 1], const char **reason, char *why,
                    size_t why_bytes);

#endif
