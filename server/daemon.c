/*
 * Up: data directory, sockets, engines, checkpoints, threads.  Down: the same
 * backwards.  A data directory that has to be made comes after the sockets.
 */
#include "server/daemon.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>
#include <zmq.h>

#include "server/core/settings.h"
#include "server/descriptors.h"
#include "server/disk/checkpoint.h"
#include "server/disk/datadir.h"
#include "server/net/lane.h"
#include "server/options.h"
#include "server/port.h"
#include "server/restore.h"
#include "server/saver.h"
#include "server/setter.h"

struct daemon {
	const struct config *config;
	enum optim_isa isa;
	struct log log;
	struct datadir *data;
	void *context;
	struct lane *lanes[LIMIT_LANES];
	const char *endpoints[LIMIT_LANES];
	struct engine_preset presets[LIMIT_MODELS];
	struct saver *saver;
	struct setter *setter;
	uv_loop_t loop;
	uv_signal_t term, interrupt, usr1;
	uv_timer_t checkpoint;
	uint32_t connections; /* of a lane, that the system's limit allows */
	bool stopping;
	bool saved; /* all checkpoints at the end were written, or none was wanted */
};

static int complain(struct daemon *daemon, const char *event, const char *why, int code)
{
	log_event(&daemon->log, LOG_ERROR, event, log_str("why", why));
	return code;
}

/* Of the data directory's and the checkpoints' statuses. */
static int exit_code(int status)
{
	switch (status) {
	case OPTD_BUSY:
		return EXIT_DATA_DIR;
	case OPTD_DENIED:
		return EXIT_PERMISSIONS;
	case OPTD_NO_MEMORY:
	case OPTD_INTERNAL:
		return EXIT_SYSTEM;
	default:
		return EXIT_STORAGE;
	}
}

/* ---- up ----------------------------------------------------------------- */

/* Received messages are taken from and given back to the allocator: it must not
 * give their pages back to the system in between, nor keep a heap a thread. */
static void keep_memory_warm(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

/* Before the lanes: they make room for as many descriptors as there may be. */
static int count_descriptors(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	uint64_t needed = descriptors_needed(config->lanes, config->connections);
	uint64_t limit = descriptors_raise(needed);
	char why[256];

	daemon->connections = descriptors_share(limit, config->lanes, config->connections);
	if (daemon->connections == 0) {
		snprintf(why, sizeof(why),
		         "RLIMIT_NOFILE allows %llu descriptors, %u lanes need %llu for one connection "
		         "each: raise it (ulimit -Hn, LimitNOFILE)",
		         (unsigned long long)limit, config->lanes,
		         (unsigned long long)descriptors_needed(config->lanes, 1));
		return complain(daemon, "descriptors", why, EXIT_SYSTEM);
	}
	if (daemon->connections < config->connections)
		log_event(&daemon->log, LOG_WARN, "descriptors", log_u64("allowed", limit),
		          log_u64("needed", needed), log_u64("connections", daemon->connections),
		          log_u64("configured", config->connections),
		          log_str("why", "fewer connections are let in than limits.connections says: "
		                         "raise RLIMIT_NOFILE (ulimit -Hn, LimitNOFILE)"));
	return 0;
}

static int open_lanes(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	char why[512], text[CONFIG_WHY_BYTES];

	for (uint32_t i = 0; i < config->lanes; i++) {
		char endpoint[LIMIT_ENDPOINT_BYTES + 1];
		struct lane_options options = {
		        .context = daemon->context,
		        .log = &daemon->log,
		        .index = i,
		        .listen = endpoint,
		        .message_bytes = (uint32_t)config->message_bytes,
		        .window_bytes = (uint32_t)config->window_bytes,
		        .connections = daemon->connections,
		        .lanes = daemon->lanes,
		        .admin = saver_admin,
		        .user = daemon->saver,
		        .set = setter_ask,
		        .set_user = daemon->setter,
		};
		config_lane_endpoint(config, i, endpoint);
		if (port_ipc_taken(endpoint, text, sizeof(text)))
			return complain(daemon, "listen", text, EXIT_SYSTEM);
		if (lane_open(&options, &daemon->lanes[i], why, sizeof(why)) < 0) {
			port_explain(endpoint, why, text, sizeof(text));
			return complain(daemon, "listen", text, EXIT_SYSTEM);
		}
		daemon->endpoints[i] = lane_endpoint(daemon->lanes[i]);
		if (config->advertise.count > 0)
			daemon->endpoints[i] = config->advertise.text[i];
	}
	return 0;
}

static uint64_t random_seed(void)
{
	uint64_t seed = 0;
	while (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		;
	return seed;
}

static void fill_presets(struct daemon *daemon)
{
	for (uint32_t i = 0; i < daemon->config->model_count; i++) {
		const struct config_model *model = &daemon->config->models[i];
		daemon->presets[i] = (struct engine_preset){
		        .model = model->name,
		        .optim_given = model->optimizer_given,
		        .settings = {.optim = model->optimizer,
		                     .groups = model->groups,
		                     .average = model->average,
		                     .mode = model->mode,
		                     .reduce = model->reduce,
		                     .workers = model->workers,
		                     .step_timeout_ms = model->step_timeout_ms,
		                     .clip = model->clip,
		                     .nonfinite = model->nonfinite,
		                     .loss_scale = model->loss_scale},
		};
	}
}

static uint64_t head_bytes(const struct model_settings *settings, const struct layout *layout,
                           struct model_place place)
{
	const struct checkpoint about = {.layout = layout,
	                                 .optim = settings->optim,
	                                 .groups = settings->groups,
	                                 .average = settings->average,
	                                 .daemon = place.daemon,
	                                 .daemons = place.daemons};
	return checkpoint_head_bytes(&about);
}

static int start_engines(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	uint64_t seed = random_seed();

	fill_presets(daemon);
	for (uint32_t i = 0; i < config->lanes; i++) {
		struct engine_options options = {
		        .lane = i,
		        .lanes = config->lanes,
		        .endpoints = daemon->endpoints,
		        .daemon_id = datadir_id(daemon->data),
		        .epoch = datadir_epoch(daemon->data),
		        .seed = seed + i,
		        .isa = daemon->isa,
		        .memory_bytes = config->memory_bytes / config->lanes,
		        .message_bytes = (uint32_t)config->message_bytes,
		        .window_bytes = (uint32_t)config->window_bytes,
		        .models = config->models_max,
		        .workers = config->workers_max,
		        .step_timeout_ms = config->step_timeout_ms,
		        .notice_ms = config->waiting_notice_ms,
		        .lease_ms = config->init_lease_ms,
		        .presets = daemon->presets,
		        .preset_count = config->model_count,
		        .head_bytes = head_bytes,
		};
		if (lane_start(daemon->lanes[i], &options) < 0)
			return complain(daemon, "start", "no memory for a lane", EXIT_SYSTEM);
	}
	return 0;
}

static const struct shard *find_shard(const struct daemon *daemon, const char *model)
{
	const struct shard *shard = NULL;

	for (uint32_t i = 0; shard == NULL && i < daemon->config->lanes; i++)
		shard = engine_find(lane_engine(daemon->lanes[i]), model);
	return shard;
}

/* The config is for models that are made: one that came back has what it was made with. */
static void warn_of_averages(const struct daemon *daemon)
{
	char has[AVERAGE_TEXT_BYTES], wants[AVERAGE_TEXT_BYTES];

	for (uint32_t i = 0; i < daemon->config->model_count; i++) {
		const struct config_model *model = &daemon->config->models[i];
		const struct shard *shard = find_shard(daemon, model->name);
		if (shard == NULL || !average_is_kept(&model->average) ||
		    average_equal(&shard->model->settings.average, &model->average))
			continue;
		average_text(&shard->model->settings.average, has, sizeof(has));
		average_text(&model->average, wants, sizeof(wants));
		log_event(&daemon->log, LOG_WARN, "average", log_str("model", model->name), log_str("has", has),
		          log_str("config", wants),
		          log_str("text", "a model from a checkpoint keeps the average it was made with: drop it and "
		                          "make it anew for that of the config"));
	}
}

static void warn_of_settings(const struct daemon *daemon)
{
	char why[CONFIG_WHY_BYTES];

	for (uint32_t i = 0; i < daemon->config->model_count; i++) {
		const struct engine_preset *preset = &daemon->presets[i];
		const struct shard *shard = find_shard(daemon, preset->model);
		if (shard == NULL || settings_compare_preset(preset, shard->model, why, sizeof(why)) == OPTD_OK)
			continue;
		log_event(&daemon->log, LOG_WARN, "settings", log_str("model", preset->model), log_str("why", why),
		          log_str("text", "a model from a checkpoint keeps what it was made with, not what the config "
		                          "says: optctl set changes hyper-parameters"));
	}
}

static int restore(struct daemon *daemon)
{
	char why[CONFIG_WHY_BYTES + CONFIG_PATH_BYTES];
	const char *dir = daemon->config->data_dir;
	uint64_t epoch = 0;
	int rc = restore_all(dir, daemon->lanes, daemon->config->lanes, daemon->config->memory_bytes,
	                     &epoch, &daemon->log, why, sizeof(why));
	if (rc == OPTD_BUSY || rc == OPTD_TOO_LARGE)
		return complain(daemon, "restore", why, EXIT_BAD_CONFIG); /* limits.* is too low */
	if (rc >= 0 && epoch >= datadir_epoch(daemon->data))
		rc = datadir_raise(daemon->data, dir, epoch, why, sizeof(why));
	if (rc < 0)
		return complain(daemon, "restore", why, exit_code(rc));
	warn_of_averages(daemon);
	warn_of_settings(daemon);
	for (uint32_t i = 0; i < daemon->config->lanes; i++)
		lane_begin_epoch(daemon->lanes[i], datadir_epoch(daemon->data));
	return 0;
}

static void introduce(const struct daemon *daemon)
{
	const struct config *config = daemon->config;
	const char *on_exit = config->checkpoint_on_exit ? "at exit" : "not at exit";

	printf("optd %s, epoch %llu\n", OPTIONS_VERSION,
	       (unsigned long long)datadir_epoch(daemon->data));
	printf("  lanes    %u, kernels for %s\n", config->lanes, optim_isa_name(daemon->isa));
	printf("  memory   models may take %.1f GiB\n", (double)config->memory_bytes / (1 << 30));
	if (config->checkpoint_interval_ms > 0)
		printf("  state    %s, checkpoints every %u s and %s\n", config->data_dir,
		       config->checkpoint_interval_ms / 1000, on_exit);
	else
		printf("  state    %s, checkpoints %s and when asked\n", config->data_dir, on_exit);
	printf("  auth     off, %s\n", config_loopback(config)
	                                       ? "loopback only"
	                                       : "INSECURE: anyone who reaches this address may do "
	                                         "anything (security.insecure)");
	printf("READY");
	for (uint32_t i = 0; i < config->lanes; i++)
		printf(" %s", lane_endpoint(daemon->lanes[i]));
	printf("\n");
	fflush(stdout);
}

/* ---- while it runs ------------------------------------------------------ */

static void after_saving(void *user, bool well)
{
	struct daemon *daemon = user;
	daemon->saved = well;
	uv_stop(&daemon->loop);
}

/* No change is under way that a file could have on some lanes only. */
static void after_changes(void *user)
{
	struct daemon *daemon = user;
	saver_stop(daemon->saver, daemon->config->checkpoint_on_exit, after_saving, daemon);
}

static void on_end(uv_signal_t *handle, int signal_number)
{
	struct daemon *daemon = handle->data;

	if (daemon->stopping)
		_exit(128 + signal_number);
	daemon->stopping = true;
	uv_timer_stop(&daemon->checkpoint);
	setter_stop(daemon->setter, after_changes, daemon);
	log_event(&daemon->log, LOG_INFO, "stop", log_str("signal", signal_number == SIGTERM ? "TERM" : "INT"));
}

static void on_usr1(uv_signal_t *handle, int signal_number)
{
	struct daemon *daemon = handle->data;
	(void)signal_number;
	saver_all(daemon->saver);
}

static void on_checkpoint(uv_timer_t *timer)
{
	struct daemon *daemon = timer->data;
	saver_all(daemon->saver);
}

static void watch(struct daemon *daemon)
{
	uint64_t interval_ms = daemon->config->checkpoint_interval_ms;

	uv_signal_init(&daemon->loop, &daemon->term);
	uv_signal_init(&daemon->loop, &daemon->interrupt);
	uv_signal_init(&daemon->loop, &daemon->usr1);
	uv_timer_init(&daemon->loop, &daemon->checkpoint);
	daemon->term.data = daemon->interrupt.data = daemon->usr1.data = daemon;
	daemon->checkpoint.data = daemon;
	uv_signal_start(&daemon->term, on_end, SIGTERM);
	uv_signal_start(&daemon->interrupt, on_end, SIGINT);
	uv_signal_start(&daemon->usr1, on_usr1, SIGUSR1);
	if (interval_ms > 0)
		uv_timer_start(&daemon->checkpoint, on_checkpoint, interval_ms, interval_ms);
}

/* ---- down --------------------------------------------------------------- */

static void unwatch(struct daemon *daemon)
{
	uv_close((uv_handle_t *)&daemon->term, NULL);
	uv_close((uv_handle_t *)&daemon->interrupt, NULL);
	uv_close((uv_handle_t *)&daemon->usr1, NULL);
	uv_close((uv_handle_t *)&daemon->checkpoint, NULL);
}

static void close_all(struct daemon *daemon)
{
	uint32_t lanes = daemon->config->lanes;

	if (daemon->setter != NULL)
		setter_end(daemon->setter);
	for (uint32_t i = 0; i < lanes; i++) {
		if (daemon->lanes[i] != NULL)
			lane_stop(daemon->lanes[i]);
	}
	for (uint32_t i = 0; i < lanes; i++) {
		if (daemon->lanes[i] != NULL)
			lane_close_socket(daemon->lanes[i]);
	}
	if (daemon->context != NULL)
		zmq_ctx_term(daemon->context);
	/* Requests that came after the end are taken, so that they are freed. */
	uv_run(&daemon->loop, UV_RUN_NOWAIT);
	if (daemon->saver != NULL)
		saver_close(daemon->saver);
	if (daemon->setter != NULL)
		setter_close(daemon->setter);
	uv_run(&daemon->loop, UV_RUN_DEFAULT);
	for (uint32_t i = 0; i < lanes; i++)
		lane_free(&daemon->lanes[i]);
	saver_free(daemon->saver);
	setter_free(daemon->setter);
	uv_loop_close(&daemon->loop);
	datadir_close(daemon->data);
}

static int open_data(struct daemon *daemon)
{
	char why[CONFIG_WHY_BYTES + CONFIG_PATH_BYTES];
	int rc = datadir_open(daemon->config->data_dir, &daemon->data, why, sizeof(why));
	return rc < 0 ? complain(daemon, "data_dir", why, exit_code(rc)) : 0;
}

/* One that is there is locked first: whoever holds it may be listening here, and an
 * ipc path would be taken from under it.  A new one is made last: a start that
 * fails because the port is in use then leaves nothing on the disk. */
static int open_world(struct daemon *daemon)
{
	bool there = datadir_is_there(daemon->config->data_dir);
	int rc = there ? open_data(daemon) : 0;

	if (rc == 0)
		rc = open_lanes(daemon);
	if (rc == 0 && !there)
		rc = open_data(daemon);
	return rc;
}

static int bring_up(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	struct saver_options options = {&daemon->loop,  daemon->lanes, config->lanes,
	                                config->data_dir, &daemon->log,  config->drain_timeout_ms};

	daemon->context = zmq_ctx_new();
	daemon->saver = saver_new(&options);
	daemon->setter = setter_new(&daemon->loop, daemon->lanes, config->lanes, &daemon->log);
	if (daemon->context == NULL || daemon->saver == NULL || daemon->setter == NULL)
		return complain(daemon, "start", "no memory", EXIT_SYSTEM);
	int rc = count_descriptors(daemon);
	if (rc == 0)
		rc = open_world(daemon);
	if (rc == 0)
		rc = start_engines(daemon);
	if (rc == 0)
		rc = restore(daemon);
	for (uint32_t i = 0; rc == 0 && i < config->lanes; i++) {
		if (lane_run(daemon->lanes[i]) < 0)
			rc = complain(daemon, "start", "cannot start a lane's thread", EXIT_SYSTEM);
	}
	return rc;
}

int daemon_run(const struct config *config, enum optim_isa isa)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	if (daemon == NULL)
		return EXIT_SYSTEM;
	signal(SIGPIPE, SIG_IGN);
	/* A limit on the size of files is then an error of the write. */
	signal(SIGXFSZ, SIG_IGN);
	keep_memory_warm();
	daemon->config = config;
	daemon->isa = isa;
	daemon->log = (struct log){STDERR_FILENO, config->log_format, config->log_level};
	uv_loop_init(&daemon->loop);
	int rc = bring_up(daemon);
	if (rc == 0) {
		watch(daemon);
		introduce(daemon);
		uv_run(&daemon->loop, UV_RUN_DEFAULT);
		unwatch(daemon);
		rc = daemon->saved ? 0 : EXIT_STORAGE;
	}
	close_all(daemon);
	log_event(&daemon->log, rc == 0 ? LOG_INFO : LOG_ERROR, "stopped", log_i64("exit", rc));
	free(daemon);
	return rc;
}
