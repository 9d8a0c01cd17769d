/* Fork and a pipe. */
#include "tests/e2e/crew.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon_process.h"

struct task {
	const char *endpoints;
	const struct plan *plan;
	int32_t rank;
	uint64_t until;
};

static int train(const void *argument, int steps)
{
	const struct task *task = argument;
	struct trainer trainer;

	int rc = trainer_open(&trainer, task->endpoints, task->plan, task->rank);
	while (rc >= OPTD_OK && trainer.step < task->until) {
		rc = trainer_step(&trainer);
		if (rc >= OPTD_OK && write(steps, "", 1) != 1)
			return 2;
	}
	if (rc < 0)
		fprintf(stderr, "# rank %d: %s: %s\n", task->rank, optd_status_name(rc),
		        trainer_error(&trainer));
	trainer_close(&trainer);
	return rc < 0 ? 1 : 0;
}

void crew_fork(struct crew *crew, int (*work)(const void *argument, int steps),
               const void *argument)
{
	pid_t parent = getpid();
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	crew->pid = fork();
	assert_true(crew->pid >= 0);
	if (crew->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(3);
		_exit(work(argument, ends[1]));
	}
	close(ends[1]);
	crew->steps = ends[0];
}

void crew_start(struct crew *crew, const char *endpoints, const struct plan *plan, int32_t rank,
                uint64_t until)
{
	const struct task task = { endpoints, plan, rank, until };
	crew_fork(crew, train, &task);
}

void crew_wait_steps(struct crew *crew, uint32_t steps)
{
	struct pollfd poll_fd = { .fd = crew->steps, .events = POLLIN };
	char byte;

	for (uint32_t i = 0; i < steps; i++) {
		assert_int_equal(poll(&poll_fd, 1, DAEMON_DEADLINE_MS), 1);
		assert_int_equal(read(crew->steps, &byte, 1), 1);
	}
}

void crew_signal(const struct crew *crew, int signal_number)
{
	assert_int_equal(kill(crew->pid, signal_number), 0);
	if (signal_number == SIGSTOP)
		assert_int_equal(waitpid(crew->pid, NULL, WUNTRACED), crew->pid);
}

int crew_wait(struct crew *crew)
{
	int status = 0;

	waitpid(crew->pid, &status, 0);
	close(crew->steps);
	crew->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void crew_kill(struct crew *crew)
{
	crew_signal(crew, SIGKILL);
	crew_wait(crew);
}
