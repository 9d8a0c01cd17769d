#!/bin/bash
# The update rules against their limit and, where Debian's python3-torch is installed,
# against torch.optim: on one thread and on two, beyond the caches and in L2.
#
#     tests/bench/optim.sh BENCH_KERNELS [ROUNDS]
#
# torch.optim runs twice, as it is and with glibc's malloc told to keep and to use huge
# pages; a rule is compared with the better one.  The machine drifts between two programs: a
# rule that is not at least twice as fast there is decided by pairs, two runs of each in
# alternation, the better one counting.  Where both copy at the speed of memory every other
# pair is lost; a rule is slower when it loses eight of nine, which chance does in 2 % of
# cases.  Exit 1 when, beyond the caches, a rule is below 0.9 of the copy-like loop, slower
# than torch.optim, or, of those with a root in them, less than 2.5 times as fast.
set -eu
cd "$(dirname "$0")/../.."
bench=${1:?the path of bench_kernels}
rounds=${2:-11}
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
python=/usr/bin/python3
large=67108864
pairs=9
may_win=1 # of those, one that is slower

torch_plain() { # threads [, label]: "label TAB ns/parameter"
	$python tests/bench/torch_optim.py $large "$1" 3 "${@:2}"
}

torch_tuned() {
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 \
		MALLOC_TOP_PAD_=268435456 $python tests/bench/torch_optim.py $large "$1" 3 "${@:2}"
}

for threads in 1 2; do
	"$bench" --all --tsv --rounds "$rounds" --threads $threads >"$dir/rules.$threads"
	: >"$dir/torch.$threads"
	if $python -c 'import torch' 2>/dev/null; then
		torch_plain $threads >"$dir/plain"
		torch_tuned $threads >"$dir/tuned"
		join -t "$(printf '\t')" <(sort "$dir/plain") <(sort "$dir/tuned") >"$dir/torch.$threads"
	else
		echo "python3-torch is not installed: no comparison with torch.optim"
	fi
done

ours() { # threads, label: ns/parameter
	"$bench" --all --tsv --rounds 3 --threads "$1" --only "$2" |
		awk -F '\t' -v large=$large '$1 == large { print "ours\t" $4 }'
}

pair() { # threads, label: how many times as fast as torch.optim, in one pair
	{ torch_plain "$@"; ours "$@"; torch_tuned "$@"; ours "$@"; } |
		awk -F '\t' '{ side = $1 == "ours" ? 1 : 0 }
			!(side in best) || $2 < best[side] { best[side] = $2 }
			END { printf "%.3f\n", best[0] / best[1] }'
}

# "label TAB median lowest highest won" of the pairs of those that are near.
for threads in 1 2; do
	: >"$dir/pairs.$threads"
	awk -F '\t' -v large=$large 'FNR == NR { best[$1] = $2 < $3 ? $2 : $3; next }
		$1 == large && $3 in best && best[$3] < 2 * $4 { print $3 }' \
		"$dir/torch.$threads" "$dir/rules.$threads" |
		while read -r label; do
			for ((i = 0; i < pairs; i++)); do
				pair $threads "$label"
			done | sort -n | awk -v label="$label" '{ x[NR] = $1; won += $1 >= 1 }
				END { printf "%s\t%s\t%s\t%s\t%d\n", label, x[int((NR + 1) / 2)], x[1], x[NR], won }' >>"$dir/pairs.$threads"
		done
done

status=0
for threads in 1 2; do
	awk -F '\t' -v threads=$threads -v large=$large -v pairs=$pairs -v may_win=$may_win '
	function adaptive(name) { return name ~ /^(ada|rms|nadam|radam)/ }
	FILENAME ~ /torch/ { plain[$1] = $2; tuned[$1] = $3; next }
	FILENAME ~ /pairs/ { paired[$1] = $2; range[$1] = $3 " to " $4; won[$1] = $5; next }
	FNR == 1 {
		printf "\n%d thread%s        ns/param  copy-like  ratio   in L2  ratio   torch  tuned  times as fast\n",
			threads, threads == 1 ? " " : "s"
	}
	$1 != large { small[$3] = $4; small_ratio[$3] = $6; next }
	{
		name = $3
		known = name in plain
		best = !known ? 0 : plain[name] < tuned[name] ? plain[name] : tuned[name]
		printf "%-18s %7.3f %10.3f %6.2f %7.3f %6.2f", name, $4, $5, $6, small[name], small_ratio[name]
		if (known)
			printf " %7.3f %6.3f %6.1f", plain[name], tuned[name], best / $4
		times = best / $4
		why = ""
		if (name in paired) {
			times = paired[name]
			printf "  (%.2f in pairs, %s, won %d of %d)", times, range[name], won[name], pairs
		}
		# The loop beside a shorter gradient reads a float32 one: it is no limit there.
		if ($6 < 0.9 && name !~ /f16$/)
			why = why "  below 0.9 of the copy-like loop"
		if (name in paired ? won[name] <= may_win : known && times < 1)
			why = why "  slower than torch.optim"
		else if (known && adaptive(name) && times < 2.5)
			why = why "  less than 2.5 times as fast"
		print why
		failed = failed || why != ""
	}
	END { exit failed }' "$dir/torch.$threads" "$dir/pairs.$threads" "$dir/rules.$threads" || status=1
done
exit $status
