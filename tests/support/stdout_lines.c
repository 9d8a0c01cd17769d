/*
 * Linked into every test program: standard output goes out line by line, also
 * into a file, so that the claims before a crash are on record and keep their
 * place among the sanitizers' words.
 */
#include <stdio.h>

__attribute__((constructor)) static void stdout_by_line(void)
{
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}
