/* Fork, exec, a pipe for READY and for the end, a file for the log. */
#include "tests/support/daemon_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS_MAX 32

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

bool daemon_sanitized(void)
{
	return SANITIZED;
}

uint64_t daemon_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What is left until a deadline, as poll wants it. */
static int left_ms(uint64_t deadline_ms)
{
	uint64_t now_ms = daemon_now_ms();
	return now_ms < deadline_ms ? (int)(deadline_ms - now_ms) : 0;
}

/* ---- directory ---------------------------------------------------------- */

void daemon_init(struct daemon_process *daemon)
{
	const char *parent = getenv("TMPDIR");

	memset(daemon, 0, sizeof(*daemon));
	daemon->output = -1;
	/* An ipc socket's path may have 107 bytes: a long TMPDIR is not used. */
	if (parent == NULL || strlen(parent) > 32)
		parent = "/tmp";
	snprintf(daemon->directory, sizeof(daemon->directory), "%s/optd-e2e.XXXXXX", parent);
	assert_non_null(mkdtemp(daemon->directory));
	snprintf(daemon->data, sizeof(daemon->data), "%s/data", daemon->directory);
	snprintf(daemon->log, sizeof(daemon->log), "%s/stderr", daemon->directory);
}

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *walk)
{
	(void)about;
	(void)type;
	(void)walk;
	return remove(path);
}

void daemon_deinit(struct daemon_process *daemon)
{
	if (daemon->pid > 0)
		daemon_kill(daemon);
	if (daemon->directory[0] != '\0')
		nftw(daemon->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	memset(daemon, 0, sizeof(*daemon));
	daemon->output = -1;
}

/* ---- starting ----------------------------------------------------------- */

static const char *program(void)
{
	const char *path = getenv("OPTD_BIN");
	if (path == NULL || access(path, X_OK) != 0)
		fail_msg("OPTD_BIN (%s) names no program: run this by make", path != NULL ? path : "");
	return path;
}

static void limit_descriptors(const struct daemon_process *daemon)
{
	const struct rlimit limit = { daemon->soft_descriptors, daemon->hard_descriptors };
	if (limit.rlim_max > 0)
		setrlimit(RLIMIT_NOFILE, &limit);
}

/* In the child: only what may be done between fork and exec. */
static void become_daemon(const struct daemon_process *daemon, const char *path, char *const *argv,
                          int output, int log, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	limit_descriptors(daemon);
	if (daemon->plain) {
		/* For who has no such rights this fails, and need not be. */
		prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE);
		prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH);
	}
	if (getppid() != parent)
		_exit(127); /* the test died before that took hold */
	dup2(output, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	execv(path, argv);
	_exit(127);
}

static void spawn(struct daemon_process *daemon, char *const *argv)
{
	const char *path = program();
	pid_t parent = getpid();
	int pipe_ends[2];

	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(log >= 0);
	fflush(NULL);
	daemon->pid = fork();
	assert_true(daemon->pid >= 0);
	if (daemon->pid == 0)
		become_daemon(daemon, path, argv, pipe_ends[1], log, parent);
	close(pipe_ends[1]);
	close(log);
	daemon->output = pipe_ends[0];
}

/* Appends what the daemon says; false at its end or after the deadline. */
static bool read_output(struct daemon_process *daemon, uint64_t deadline_ms)
{
	struct pollfd poll_fd = { .fd = daemon->output, .events = POLLIN };
	size_t used = strlen(daemon->said);

	if (poll(&poll_fd, 1, left_ms(deadline_ms)) <= 0)
		return false;
	ssize_t n = read(daemon->output, daemon->said + used, sizeof(daemon->said) - 1 - used);
	if (n <= 0)
		return false;
	daemon->said[used + (size_t)n] = '\0';
	return true;
}

/* The endpoints behind READY, if the whole line is there. */
static bool find_ready(struct daemon_process *daemon)
{
	char line[DAEMON_TEXT_BYTES], *rest = NULL;
	const char *ready = strstr(daemon->said, "READY");

	if (ready == NULL || strchr(ready, '\n') == NULL)
		return false;
	snprintf(line, sizeof(line), "%s", ready + strlen("READY"));
	line[strcspn(line, "\n")] = '\0';
	daemon->endpoint_count = 0;
	for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
		assert_true(daemon->endpoint_count < DAEMON_LANES);
		snprintf(daemon->endpoints[daemon->endpoint_count++], sizeof(daemon->endpoints[0]), "%s",
		         word);
	}
	return true;
}

bool daemon_start_with(struct daemon_process *daemon, const char *const *arguments)
{
	char *argv[ARGUMENTS_MAX] = { (char *)"optd", (char *)"--data-dir", daemon->data };
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;
	int count = 3;

	assert_int_equal(daemon->pid, 0);
	for (int i = 0; arguments[i] != NULL; i++) {
		assert_true(count < ARGUMENTS_MAX - 1);
		if (strcmp(arguments[i], "--data-dir") == 0) {
			memmove(argv + 1, argv + 3, (size_t)(count - 3) * sizeof(*argv));
			count -= 2;
		}
		argv[count++] = (char *)arguments[i];
	}
	argv[count] = NULL;
	daemon->said[0] = '\0';
	spawn(daemon, argv);
	while (!find_ready(daemon)) {
		if (read_output(daemon, deadline_ms))
			continue;
		if (daemon_now_ms() >= deadline_ms) {
			daemon_kill(daemon);
			fail_msg("no READY line within %d ms, but: %s", DAEMON_DEADLINE_MS, daemon->said);
		}
		daemon_wait(daemon);
		return false;
	}
	return true;
}

static void must_start(struct daemon_process *daemon, const char *const *arguments)
{
	if (daemon_start_with(daemon, arguments))
		return;
	char *text = daemon_log_text(daemon);
	print_error("%s", text);
	free(text);
	fail_msg("optd did not start: exit %d", daemon->exit_code);
}

static void start_on(struct daemon_process *daemon, const char *endpoint, uint32_t lanes)
{
	char number[16];
	snprintf(number, sizeof(number), "%u", lanes);
	must_start(daemon, (const char *[]){ "--listen", endpoint, "--lanes", number, NULL });
	assert_int_equal(daemon->endpoint_count, lanes);
}

void daemon_start_tcp(struct daemon_process *daemon, uint32_t lanes)
{
	start_on(daemon, "tcp://127.0.0.1:0", lanes);
}

void daemon_start_ipc(struct daemon_process *daemon, uint32_t lanes)
{
	char endpoint[128];
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/socket", daemon->directory);
	start_on(daemon, endpoint, lanes);
}

void daemon_restart(struct daemon_process *daemon, uint32_t lanes)
{
	char endpoint[128];
	memcpy(endpoint, daemon->endpoints[0], sizeof(endpoint));
	start_on(daemon, endpoint, lanes);
}

/* ---- ending ------------------------------------------------------------- */

void daemon_signal(const struct daemon_process *daemon, int signal_number)
{
	assert_true(daemon->pid > 0);
	assert_int_equal(kill(daemon->pid, signal_number), 0);
	/* Its threads may run on for a moment: the kernel tells when all stand still. */
	if (signal_number == SIGSTOP)
		assert_int_equal(waitpid(daemon->pid, NULL, WUNTRACED), daemon->pid);
}

static void reap(struct daemon_process *daemon)
{
	int status = 0;

	while (waitpid(daemon->pid, &status, 0) < 0 && errno == EINTR)
		;
	daemon->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	close(daemon->output);
	daemon->output = -1;
	daemon->pid = 0;
}

/* Its end is the end of its standard output, which nobody else holds. */
int daemon_wait(struct daemon_process *daemon)
{
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;

	assert_true(daemon->pid > 0);
	while (read_output(daemon, deadline_ms))
		;
	if (daemon_now_ms() >= deadline_ms) {
		daemon_kill(daemon);
		fail_msg("optd did not end within %d ms", DAEMON_DEADLINE_MS);
	}
	reap(daemon);
	return daemon->exit_code;
}

int daemon_stop(struct daemon_process *daemon)
{
	daemon_signal(daemon, SIGTERM);
	return daemon_wait(daemon);
}

void daemon_kill(struct daemon_process *daemon)
{
	kill(daemon->pid, SIGKILL);
	reap(daemon);
}

/* ---- memory ------------------------------------------------------------- */

static uint64_t status_bytes(const struct daemon_process *daemon, const char *key)
{
	char path[64], line[256];
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon->pid);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %llu", &kib);
	}
	fclose(file);
	assert_true(kib > 0);
	return kib * 1024;
}

/* The kernel counts status in batches, the rollup one by one: that is the true
 * figure where there is one. */
uint64_t daemon_rss(const struct daemon_process *daemon)
{
	char path[64], line[256];
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)daemon->pid);
	FILE *file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL && kib == 0)
		sscanf(line, "Rss: %llu", &kib);
	if (file != NULL)
		fclose(file);
	return kib > 0 ? kib * 1024 : status_bytes(daemon, "VmRSS");
}

uint64_t daemon_peak_rss(const struct daemon_process *daemon)
{
	return status_bytes(daemon, "VmHWM");
}

void daemon_reset_peak(const struct daemon_process *daemon)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", (int)daemon->pid);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return; /* not ours: the peak is then of its whole life, too strict at worst */
	ssize_t n = write(fd, "5", 1);
	(void)n;
	close(fd);
}

/* ---- log ---------------------------------------------------------------- */

char *daemon_log_text(const struct daemon_process *daemon)
{
	FILE *file = fopen(daemon->log, "re");
	char *text = NULL;
	size_t room = 0;

	if (file == NULL || getdelim(&text, &room, '\0', file) < 0) {
		free(text);
		text = strdup("");
	}
	if (file != NULL)
		fclose(file);
	assert_non_null(text);
	return text;
}

uint32_t daemon_log_count(const struct daemon_process *daemon, const char *text)
{
	char *log = daemon_log_text(daemon), *rest = NULL;
	uint32_t count = 0;

	for (char *line = strtok_r(log, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		count += strstr(line, text) != NULL;
	free(log);
	return count;
}

bool daemon_wait_log(const struct daemon_process *daemon, const char *text, uint32_t count)
{
	uint64_t deadline_ms = daemon_now_ms() + DAEMON_DEADLINE_MS;
	char events[1024];
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	assert_true(fd >= 0);
	assert_true(inotify_add_watch(fd, daemon->log, IN_MODIFY) >= 0);
	bool found;
	while (!(found = daemon_log_count(daemon, text) >= count) && left_ms(deadline_ms) > 0) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		poll(&poll_fd, 1, left_ms(deadline_ms));
		while (read(fd, events, sizeof(events)) > 0)
			;
	}
	close(fd);
	return found;
}
