/*
 * vectors: replays a set of recorded optimizer runs.
 *
 *     vectors FOLDER [--isa NAME]
 *
 * A line a case; the last line is "N passed, N failed, N skipped".  Runs on all
 * instruction sets that the machine has, unless one is named.  Exit status: 0,
 * 1 when a case failed, 2 when nothing could be run.
 */
#include <stdio.h>
#include <string.h>

#include "tests/optim/vectors_replay.h"

int main(int argc, char **argv)
{
	uint32_t passed = 0, failed = 0, skipped = 0, isas;
	struct vectors *set;
	char why[512];

	if (argc != 2 && !(argc == 4 && strcmp(argv[2], "--isa") == 0)) {
		fprintf(stderr, "usage: vectors FOLDER [--isa base|avx2|avx512]\n");
		return 2;
	}
	isas = vectors_isas(argc == 4 ? argv[3] : NULL);
	if (isas == 0) {
		fprintf(stderr, "vectors: this machine has no instruction set '%s'\n", argv[3]);
		return 2;
	}
	set = vectors_open(argv[1], why, sizeof(why));
	if (set == NULL) {
		fprintf(stderr, "vectors: %s\n", why);
		return 2;
	}
	for (uint32_t i = 0; i < vectors_count(set); i++) {
		struct vectors_case row = vectors_case(set, i);
		const char *reason = vectors_skip_reason(&row);

		if (reason != NULL) {
			printf("skip %s: %s: %s\n", row.name, row.rule, reason);
			skipped++;
		} else if (vectors_run_case(set, &row, isas, why, sizeof(why)) == 0) {
			printf("pass %s\n", row.name);
			passed++;
		} else {
			printf("FAIL %s: %s\n", row.name, why);
			failed++;
		}
	}
	vectors_close(set);
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	if (passed + failed == 0)
		return 2;
	return failed > 0 ? 1 : 0;
}
