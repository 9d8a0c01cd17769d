/* popen, and reading to the end. */
#include "tests/support/optctl_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static int run(const char *before, const char *arguments, char *out, size_t out_bytes)
{
	char command[4096], rest[4096];
	const char *program = getenv("OPTCTL_BIN");

	if (program == NULL)
		fail_msg("OPTCTL_BIN names no program: run this by make");
	int n = snprintf(command, sizeof(command), "%sexec %s %s 2>&1 </dev/null", before, program,
	                 arguments);
	assert_in_range(n, 1, sizeof(command) - 1);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	out[fread(out, 1, out_bytes - 1, pipe)] = '\0';
	while (fread(rest, 1, sizeof(rest), pipe) > 0)
		;
	int status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

int optctl_run(char *out, size_t out_bytes, const char *format, ...)
{
	char arguments[2048];
	va_list list;

	va_start(list, format);
	vsnprintf(arguments, sizeof(arguments), format, list);
	va_end(list);
	return run("", arguments, out, out_bytes);
}

int optctl_run_under(const char *before, char *out, size_t out_bytes, const char *format, ...)
{
	char arguments[2048];
	va_list list;

	va_start(list, format);
	vsnprintf(arguments, sizeof(arguments), format, list);
	va_end(list);
	return run(before, arguments, out, out_bytes);
}
