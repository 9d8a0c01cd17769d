#!/bin/bash
# Trains Fashion-MNIST with one optimizer after the other against one daemon and prints
# the table of optim/README.md: settings, and the test accuracy after the last epoch.
#
#     tests/bench/fashion_optimizers.sh BIN [EPOCHS]
#
# BIN is the folder of the built programs.  Exit 1 when fewer than ten reach 85 %.
set -eu
cd "$(dirname "$0")/../.."
bin=${1:?the folder of the built programs}
epochs=${2:-5}
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-fashion.XXXXXX")
daemon=
trap '[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null; wait; rm -rf "$dir"' EXIT

# muon takes matrices only; the example has no words for groups.
cat >"$dir/optd.yaml" <<'END'
models:
- name: muon
  optimizer:
    name: muon
    lr: 0.02
    weight_decay: 0
    groups:
    - {tensors: "*.bias", name: adamw, lr: 0.001}
END
mkfifo "$dir/said"
"$bin/optd" --config "$dir/optd.yaml" --listen tcp://127.0.0.1:0 --data-dir "$dir/state" >"$dir/said" 2>"$dir/log" &
daemon=$!
server=
while read -r word rest; do
	[ "$word" != READY ] || { server=$rest; break; }
done <"$dir/said"
[ -n "$server" ] || { cat "$dir/log" >&2; exit 1; }

runs() {
	cat <<-'END'
	sgd lr=0.05 momentum=0.9
	sgd lr=0.05 momentum=0.9 nesterov=1 weight_decay=0.0001
	momentum lr=0.05 momentum=0.9
	adagrad lr=0.02
	rmsprop lr=0.001
	rmsprop lr=0.0003 centered=1 momentum=0.9
	adam lr=0.001
	adam lr=0.001 amsgrad=1
	adamw lr=0.001 weight_decay=0.01
	nadam lr=0.001
	radam lr=0.001
	adamax lr=0.002
	adadelta lr=1
	asgd lr=0.3
	lion lr=0.0002 weight_decay=0.01
	yogi lr=0.003
	ftrl lr=0.1
	lars lr=1 momentum=0.9
	lamb lr=0.003
	adafactor lr=0.01
	muon lr=0.02 weight_decay=0
	END
}

good=0
echo "| optimizer | settings | test accuracy after $epochs epochs |"
echo "|---|---|---|"
number=0
while read -r name settings; do
	number=$((number + 1))
	words=()
	for setting in $settings; do
		words+=(--set "$setting")
	done
	model=run$number
	[ "$name" != muon ] || { model=muon; settings+=" *.bias:adamw lr=0.001"; }
	line=$("$bin/examples/fashion_mnist" --server "$server" --model "$model" --epochs "$epochs" \
		--optimizer "$name" "${words[@]}" 2>>"$dir/log" | grep "^epoch $epochs/") || { cat "$dir/log" >&2; exit 1; }
	accuracy=$(sed -n 's/.*test accuracy \([0-9.]*\) %.*/\1/p' <<<"$line")
	echo "| $name | ${settings// /, } | $accuracy % |"
	awk -v a="$accuracy" 'BEGIN { exit !(a >= 85) }' && good=$((good + 1))
done < <(runs)
echo
echo "$good runs reach 85 %"
[ "$good" -ge 10 ]
