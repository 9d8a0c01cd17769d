#!/bin/bash
# What `make check` and `make check-long` do, step by step; all steps run even
# after a failure.  The last line is the sum over all of them.
#
#     tests/check.sh [long]
#
# FUZZ_SECONDS  for each fuzz target (15; long: 600)
# OPTD_RUNS     random histories for each simulation and reference test (200; long:
#               5000; the sanitizers run the tests' own, smaller number)
set -u
cd "$(dirname "$0")/.." || exit 1
length=${1:-short}
RESULTS=$(mktemp)
export RESULTS
trap 'rm -f "$RESULTS"' EXIT
SECONDS=0

# step NAME COMMAND...: a command that fails without having counted anything (a
# build, say) is one failure.
step() {
	local name=$1 before after began=$SECONDS
	shift
	echo "== $name"
	before=$(wc -l <"$RESULTS")
	if ! "$@"; then
		after=$(wc -l <"$RESULTS")
		[ "$after" != "$before" ] || echo "0 1" >>"$RESULTS"
		echo "== $name: FAILED"
	fi
	echo "== $name: $((SECONDS - began)) s"
	echo
}

suite() {
	make FLAVOUR="$1" SUITE="${2:-}" suite
}

# gcc 12's ThreadSanitizer does not start where the kernel spreads addresses
# further than it knows of; a fixed layout does no harm.
tsan() {
	if setarch -R true 2>/dev/null; then
		setarch -R make FLAVOUR=tsan SUITE="${1:-}" suite
	else
		suite tsan "${1:-}"
	fi
}

# End-to-end tests that fork workers, or that do not, as names for SUITE.
end_to_end() { # -l or -L
	grep "$1" '"tests/e2e/crew.h"' tests/e2e/test_*.c | sed 's|tests/||; s|\.c$||' | tr '\n' ' '
}

# ThreadSanitizer does not follow the fork of a process that has threads, which a test
# with a client is: there only the daemon is under it.
tsan_daemon() {
	TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp:halt_on_error=1:second_deadlock_stack=1" \
		setarch -R make SUITE="$(end_to_end -l)" OPTD_BIN="$PWD/build/tsan/optd" suite
}

short() {
	step "layers" tests/run.sh tests/layers.sh "tests/layers.sh --self-test"
	step "mutants find their places" tests/run.sh "tests/sim/mutants.sh --stale"
	step "lint" make FLAVOUR=asan lint
	step "suite under AddressSanitizer and UndefinedBehaviorSanitizer" suite asan
	step "lanes under ThreadSanitizer" tsan "base net server client e2e/test_lane e2e/test_clipping"
	step "random histories" env OPTD_RUNS="${OPTD_RUNS:-200}" make SUITE="core/test_re sim" suite
	step "warnings of clang" make FLAVOUR=clang all
	step "fuzzing" make FLAVOUR=fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-15}" fuzz
}

long() {
	local flavour
	for flavour in o3 clang clang-o3; do
		step "suite: $flavour" suite $flavour
	done
	step "random histories" env OPTD_RUNS="${OPTD_RUNS:-5000}" TEST_TIMEOUT=3600 \
		make SUITE="core/test_re sim" suite
	step "all that has threads, under ThreadSanitizer" tsan "base net server client $(end_to_end -L)"
	step "daemons under ThreadSanitizer, where workers are processes" tsan_daemon
	step "mutants" tests/run.sh tests/optim/mutants.sh tests/sim/mutants.sh
	step "fuzzing" make FLAVOUR=fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-600}" fuzz
}

$length
echo "check: $((SECONDS / 60)) min $((SECONDS % 60)) s"
awk '{ pass += $1; fail += $2 }
     END { printf "%d passed, %d failed\n", pass, fail; exit fail > 0 }' "$RESULTS"
