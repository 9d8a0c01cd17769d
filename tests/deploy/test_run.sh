#!/bin/bash
# What `make run` does, shortened to one pass over the images: the same weights twice,
# bit for bit, and on Ctrl-C nothing is left; and its worker alone.  Prints TAP; all of it
# is skipped where the images are not installed.
set -u

: "${OPTD_BIN:?}"
BIN=$(dirname "$OPTD_BIN")
export BIN EPOCHS=1 WORKERS=2
data=/usr/share/datasets/fashion-mnist
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-test-run.XXXXXX")
export TMPDIR=$dir/tmp # run.sh's own files
mkdir "$TMPDIR"
session=
daemon=
number=0
failed=0

# shellcheck disable=SC2317 # called by the trap
finish() {
	[ -z "$session" ] || kill -KILL -- "-$session" 2>/dev/null
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap finish EXIT

result() { # status, name, log
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		sed 's/^/# /' "$3"
		failed=1
	fi
}

echo "1..5"
if [ ! -d "$data" ]; then
	for name in test_two_runs_give_the_same_weights test_a_run_leaves_nothing_behind \
		test_an_interrupted_run_says_so_by_its_status test_an_interrupted_run_leaves_no_process \
		test_a_worker_goes_on_when_only_another_one_is_late; do
		number=$((number + 1))
		echo "ok $number - $name # SKIP $data is not there (dataset-fashion-mnist)"
	done
	exit 0
fi

run() { OUT=$dir/$1 deploy/run.sh >"$dir/$1.log" 2>&1; }

run first && run second && [ -s "$dir/first" ] &&
	[ "$(sha256sum <"$dir/first")" = "$(sha256sum <"$dir/second")" ]
result $? test_two_runs_give_the_same_weights "$dir/first.log"

[ -z "$(ls -A "$TMPDIR")" ]
result $? test_a_run_leaves_nothing_behind "$dir/first.log"

# In a session of its own, whose processes can be counted, and with the signal that a
# shell takes from what it starts in the background.  Rank 0 trains when it has said
# what the model is; that takes far longer than the signal.
mkfifo "$dir/said"
EPOCHS=1000 OUT=$dir/third setsid env --default-signal=INT deploy/run.sh >"$dir/said" 2>&1 &
session=$!
exec 3<"$dir/said"
: >"$dir/third.log"
while read -r line <&3; do
	echo "$line" >>"$dir/third.log"
	[[ $line != "model 'fashion'"* ]] || break
done
kill -INT "$session"
# To the end of the last process that can still say something.
timeout 30 cat <&3 >>"$dir/third.log" || kill -KILL -- "-$session"
wait "$session"
status=$?
[ "$status" = 130 ] || echo "# exit status $status"
[ "$status" = 130 ]
result $? test_an_interrupted_run_says_so_by_its_status "$dir/third.log"

# run.sh waits for those that it ended, so that they are gone and not just going.
left=$(ps -o pid=,args= -s "$session")
[ -z "$left" ] || echo "# left: $left"
[ -z "$left" ] && [ ! -e "$dir/third" ] && [ -z "$(ls -A "$TMPDIR")" ]
result $? test_an_interrupted_run_leaves_no_process "$dir/third.log"
session=
exec 3<&-

# A worker whose calls may take less than a step waits for another one: its timeout is
# no reason to stop, as long as the daemon is there.
mkfifo "$dir/ready" "$dir/late"
"$OPTD_BIN" --listen tcp://127.0.0.1:0 --data-dir "$dir/state" >"$dir/ready" 2>"$dir/log" &
daemon=$!
exec 3<"$dir/ready"
while read -r word server _ <&3 && [ "$word" != READY ]; do :; done
set -- "$BIN/examples/fashion_mnist" --server "$server" --workers 2 --steps 5 --quiet
"$@" --rank 0 --timeout 1 >"$dir/late" 2>&1 &
early=$!
exec 4<"$dir/late"
: >"$dir/late.log"
while read -r line <&4; do
	echo "$line" >>"$dir/late.log"
	[[ $line != *"was not done in time"* ]] || break
done
timeout 20 "$@" --rank 1 >>"$dir/late.log" 2>&1
late=$?
timeout 30 cat <&4 >>"$dir/late.log" || kill "$early"
wait "$early" && [ $late = 0 ]
result $? test_a_worker_goes_on_when_only_another_one_is_late "$dir/late.log"
exit $failed
