#!/bin/bash
# Runs test programs one after another and counts what they claim.
#
#     tests/run.sh PROGRAM...
#
# Each argument is a command line, words split at spaces.  Programs report in TAP
# (cmocka does when CMOCKA_MESSAGE_OUTPUT says so); one that prints no TAP counts
# as one test, or as many as its own closing "N passed, N failed" says.  A line
# for each program, the whole output of those that fail, and the sum on the last
# line.  Exit 1 when anything failed.
#
# TEST_TIMEOUT  seconds a program may take (default 300)
# RESULTS       a file to which "PASSED FAILED" is appended, for a sum over runs
set -u
cd "$(dirname "$0")/.." || exit 1
export CMOCKA_MESSAGE_OUTPUT=TAP
# For the sanitizers' flavours; a setting of the caller wins.  Without
# detect_stack_use_after_return: gcc 12 then misaligns what wants 64 bytes, which
# xxhash's state does.
export ASAN_OPTIONS=${ASAN_OPTIONS:-strict_string_checks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/tsan.supp:halt_on_error=1:second_deadlock_stack=1}
limit=${TEST_TIMEOUT:-300}
output=$(mktemp "${TMPDIR:-/tmp}/optd-test.XXXXXX") || exit 1
trap 'rm -f "$output"' EXIT
passed=0
failed=0

# Sets pass, fail, skip from $output and the exit status $1.
count() {
	local status=$1 counts
	counts=$(awk '
		/^ *ok .*# *SKIP/ || /^not ok .*# *SKIP/ { skip++; next }
		/^ok / { pass++ }
		/^not ok / { fail++ }
		/^1\.\.[0-9]+$/ { planned += substr($0, 4) }
		/^[0-9]+ passed, [0-9]+ failed/ { said = 1; said_pass = $1; said_fail = $3 }
		END {
			if (!planned && said) { pass = said_pass; fail = said_fail; planned = pass + fail }
			print pass + 0, fail + 0, skip + 0, planned + 0
		}' "$output")
	read -r pass fail skip planned <<<"$counts"
	if [ "$planned" = 0 ] && [ "$status" = 0 ]; then
		pass=1
	elif [ "$status" != 0 ] && [ "$fail" = 0 ]; then
		fail=1 # it crashed, hung, or failed before the first claim
	elif [ $((pass + fail + skip)) -lt "$planned" ]; then
		fail=$((planned - pass - skip))
		echo "(announced $planned tests, reported fewer)" >>"$output"
	fi
}

for item in "$@"; do
	read -ra command <<<"$item"
	name=${command[0]#"$PWD"/}
	name=${name#build/}
	began=$EPOCHREALTIME
	timeout --kill-after=5 "$limit" "${command[@]}" >"$output" 2>&1 </dev/null
	status=$?
	ended=$EPOCHREALTIME
	count "$status"
	ms=$(((${ended/[.,]/} - ${began/[.,]/}) / 1000))
	word=ok
	[ "$fail" = 0 ] || word=FAIL
	printf '%-4s %-44s %5d passed %3d failed%s %4d.%01d s\n' "$word" "$name" "$pass" "$fail" \
		"$([ "$skip" = 0 ] || printf ' %3d skipped' "$skip")" $((ms / 1000)) $((ms % 1000 / 100))
	if [ "$fail" != 0 ]; then
		echo "---- $item"
		cat "$output"
		if [ "$ms" -ge $((limit * 1000)) ]; then
			echo "---- stopped after $limit s (TEST_TIMEOUT)"
		else
			echo "---- exit status $status"
		fi
	fi
	passed=$((passed + pass))
	failed=$((failed + fail))
done
[ -z "${RESULTS:-}" ] || echo "$passed $failed" >>"$RESULTS"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
