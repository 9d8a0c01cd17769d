#!/bin/bash
# Static analysis: headers that stand alone, cppcheck over everything, clang-tidy
# over what ships, and shellcheck over scripts.  Findings as file:line, exit 1.  A
# tool that is not installed is named and left out.
#
#     tests/lint.sh GENERATED      GENERATED: the folder of generated headers
#
# A finding that is wrong is answered with the reason, in tests/cppcheck.supp or
# beside the line:
# /* NOLINT(check): why */ or /* cppcheck-suppress id ; why */.
set -u
cd "$(dirname "$0")/.." || exit 1
generated=${1:?the folder of generated headers}
output=$(mktemp)
trap 'rm -f "$output"' EXIT
rc=0

if [ -e .git ]; then
	files=$(git ls-files --cached --others --exclude-standard)
else
	files=$(find . -path ./build -prune -o -type f -printf '%P\n')
fi
files=$(grep -v '^tests/vectors/' <<<"$files" | sort | while read -r file; do
	[ ! -f "$file" ] || echo "$file"
done)
sources=$(grep '\.c$' <<<"$files")
scripts=$(grep -E '\.sh$|^\.ci/run$' <<<"$files")

have() {
	command -v "$1" >/dev/null && return
	echo "lint: no $1 here, left out"
	return 1
}

# Each header brings what it needs; optd.h is C++ as well.
while read -r header; do
	gcc -std=c11 -D_GNU_SOURCE -I. -I"$generated" -DOPTIM_ISA=base -Wall -Wextra \
		-fsyntax-only -x c "$header" || rc=1
done < <(grep '\.h$' <<<"$files")
if have clang-14; then
	clang-14 -x c++ -Wall -Wextra -fsyntax-only - <<<'#include "client/optd.h"' -I. || rc=1
fi
if have cppcheck; then
	# The generated types are missing on purpose: cppcheck reads only our code.
	# normalCheckLevel and the like are remarks about itself.
	xargs cppcheck -q -j "$(nproc)" --std=c11 -I. -D_GNU_SOURCE -DOPTIM_ISA=base \
		--enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
		--suppressions-list=tests/cppcheck.supp --suppress=missingInclude \
		--suppress=missingIncludeSystem <<<"$sources" || rc=1
fi
if have clang-tidy-14; then
	# One file a process: clang-tidy 14 carries va_list state from file to file.
	# shellcheck disable=SC2016  # $1 is the inner shell's
	grep -v '^tests/' <<<"$sources" | xargs -P "$(nproc)" -n 1 sh -c \
		'clang-tidy-14 --quiet "$1" -- -std=c11 -D_GNU_SOURCE -I. -I"$0" -DOPTIM_ISA=base' \
		"$generated" >"$output" 2>&1 || rc=1
	grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed |^Use -header-filter' "$output"
fi
if have shellcheck; then
	xargs shellcheck -x -S warning -e SC2046 <<<"$scripts" || rc=1
fi
exit $rc
