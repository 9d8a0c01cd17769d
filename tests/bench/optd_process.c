/* Starting and stopping a daemon. */
#include "tests/bench/optd_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/measure.h"

#define PATH_BYTES 1024

/* build/FLAVOUR/optd, from build/FLAVOUR/tests/bench/bench_round. */
static void find_daemon(char *path)
{
	const char *given = getenv("OPTD_BIN");

	if (given != NULL) {
		snprintf(path, PATH_BYTES, "%s", given);
		return;
	}
	ssize_t length = readlink("/proc/self/exe", path, PATH_BYTES - 1);
	path[length > 0 ? length : 0] = '\0';
	for (int i = 0; i < 3; i++) {
		char *slash = strrchr(path, '/');
		if (slash != NULL)
			*slash = '\0';
	}
	strncat(path, "/optd", PATH_BYTES - strlen(path) - 1);
}

static void write_config(const struct optd_process *process, const char *listen,
                         size_t window_bytes)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/optd.yaml", process->directory);
	FILE *file = fopen(path, "w");
	if (file == NULL)
		die("cannot write %s", path);
	fprintf(file,
	        "listen: \"%s\"\ndata_dir: %s/data\n"
	        "limits: {window: %zuKiB, message: %zuKiB}\n"
	        "checkpoint: {interval: off, on_exit: false}\n",
	        listen, process->directory, window_bytes / 1024,
	        (window_bytes / 2 < LIMIT_MESSAGE_BYTES ? window_bytes / 2 : LIMIT_MESSAGE_BYTES) /
	                1024);
	if (fclose(file) != 0)
		die("cannot write %s", path);
}

static void run_daemon(const struct optd_process *process, int output)
{
	char daemon[PATH_BYTES], config[PATH_BYTES], log[PATH_BYTES];

	find_daemon(daemon);
	snprintf(config, sizeof(config), "%s/optd.yaml", process->directory);
	snprintf(log, sizeof(log), "%s/log", process->directory);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int errors = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(output, STDOUT_FILENO);
	dup2(errors, STDERR_FILENO);
	execl(daemon, daemon, "--config", config, (char *)NULL);
	_exit(127);
}

static void await_ready(struct optd_process *process, int output)
{
	char line[1024];
	FILE *lines = fdopen(output, "r");

	while (lines != NULL && fgets(line, sizeof(line), lines) != NULL) {
		if (sscanf(line, "READY %255s", process->endpoint) == 1) {
			fclose(lines);
			return;
		}
	}
	die("the daemon did not start: see %s/log", process->directory);
}

void optd_process_start(struct optd_process *process, const char *listen, const char *parent,
                        size_t window_bytes)
{
	int output[2];

	snprintf(process->directory, sizeof(process->directory), "%s/optd-XXXXXX", parent);
	if (mkdtemp(process->directory) == NULL || pipe(output) != 0)
		die("cannot make %s", process->directory);
	write_config(process, listen, window_bytes);
	process->pid = fork();
	if (process->pid < 0)
		die("cannot fork");
	if (process->pid == 0)
		run_daemon(process, output[1]);
	close(output[1]);
	await_ready(process, output[0]);
}

void optd_process_stop(struct optd_process *process)
{
	int status = 0;

	kill(process->pid, SIGTERM);
	waitpid(process->pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die("the daemon ended with status %d: see %s/log", status, process->directory);
}
