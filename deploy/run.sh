#!/bin/sh
# What `make run` shows: a daemon, two workers that train a classifier on
# Fashion-MNIST through it, and the file of weights they made.  Ends what it
# started, also on Ctrl-C.
set -eu

bin=${BIN:?BIN is the folder of the built programs}
workers=${WORKERS:-2}
epochs=${EPOCHS:-10}
out=${OUT:-fashion.safetensors}
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-run.XXXXXX")
daemon=
jobs=

finish() {
	trap - EXIT INT TERM HUP
	# shellcheck disable=SC2086
	[ -z "$jobs" ] || kill $jobs 2>/dev/null || true
	[ -z "$daemon" ] || kill -TERM "$daemon" 2>/dev/null || true
	wait
	rm -rf "$dir"
}
trap 'finish' EXIT
trap 'finish; exit 130' INT TERM HUP

say() { printf '\n== %s\n' "$*"; }

say "optd --config deploy/optd.yaml, on a free port"
mkfifo "$dir/daemon"
"$bin/optd" --config deploy/optd.yaml --listen tcp://127.0.0.1:0 --data-dir "$dir/state" \
	>"$dir/daemon" 2>"$dir/log" &
daemon=$!
# The daemon prints READY and its endpoint when it can be reached.  Its standard output
# stays open.
exec 3<"$dir/daemon"
server=
while [ -z "$server" ] && read -r line <&3; do
	printf '%s\n' "$line"
	case $line in
	'READY '*) server=${line#READY } ;;
	esac
done
[ -n "$server" ] || {
	cat "$dir/log" >&2
	exit 1
}
server=${server%% *}

set -- --server "$server" --workers "$workers" --epochs "$epochs" --mode sync --optimizer adam --set lr=0.001
say "fashion_mnist, $workers of them: 60,000 images, each worker takes its part"
rank=1
while [ "$rank" -lt "$workers" ]; do
	"$bin/examples/fashion_mnist" "$@" --rank "$rank" --quiet &
	jobs="$jobs $!"
	rank=$((rank + 1))
done
# In the background as well, so that Ctrl-C reaches this script at once.
"$bin/examples/fashion_mnist" "$@" --rank 0 &
jobs="$jobs $!"
for job in $jobs; do
	wait "$job"
done
jobs=

say "optctl status"
"$bin/optctl" --server "$server" status
say "optctl export fashion $out"
"$bin/optctl" --server "$server" export fashion "$out"
sha256sum "$out"

say "stopping the daemon"
kill -TERM "$daemon"
wait "$daemon"
daemon=
tail -n 3 "$dir/log"

cat <<TXT

Next:
  $bin/optd --config deploy/optd.yaml     run the daemon yourself, in another terminal
  $bin/examples/fashion_mnist --optimizer sgd --set lr=0.1 --set momentum=0.9
  $bin/optctl status                      what the daemon holds; optctl --help has the rest
TXT
