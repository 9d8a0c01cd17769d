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

















	lars lr=1 momentum=0.9
	lars lr=0.5 momentum=0.9 trust_coefficient=0.02



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
