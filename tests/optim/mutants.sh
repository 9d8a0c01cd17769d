#!/bin/bash
# Plants bugs in the update rules, one at a time, in a copy of the sources, and
# demands that replaying tests/vectors notices each.  A bug that no longer applies
# fails too: then the code has changed and the bug must be written anew.
#
#     tests/optim/mutants.sh        prints a line a bug, then "N caught, N missed"
#
# CC  the compiler (gcc)
set -u
cd "$(dirname "$0")/../.." || exit 1
top=$PWD
: "${CC:=gcc}"
work=$(mktemp -d "${TMPDIR:-/tmp}/optd-mutants.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fno-common -w"
caught=0
missed=0

f16c=-mf16c # as in the Makefile
case $CC in *clang*) f16c= ;; esac
isas=base
case $($CC -dumpmachine) in x86_64*) isas="base avx2 avx512" ;; esac
isa_flags() {
	case $1 in
	avx2) echo "-mavx2 -mfma $f16c" ;;
	avx512) echo "-mavx512f -mavx512vl -mavx512dq -mavx512bw -mavx2 -mfma $f16c" ;;
	esac
}

# compile SOURCE OBJECTS [FLAG...]: one file of the tree in the current folder.
# -O2: what matters here is the bits, and they do not depend on it.
compile() {
	local source=$1 objects=$2 name isa
	shift 2
	name=${source//\//_}
	name=$objects/${name%.c}
	case $source in
	optim/*_kernel.c)
		for isa in $isas; do
			$CC $flags -O2 "$@" $(isa_flags "$isa") -DOPTIM_ISA="$isa" -I. -c "$source" -o "$name.$isa.o" ||
				return 1
		done
		;;
	*) $CC $flags -O2 "$@" -I. -c "$source" -o "$name.o" ;;
	esac
}

# verdict NAME PROGRAM: 1 from the program is what we want to see.
verdict() {
	"$2" "$top/tests/vectors" >"$work/log" 2>&1
	case $? in
	1)
		caught=$((caught + 1))
		printf 'caught  %-44s %s\n' "$1" "$(grep -c '^FAIL' "$work/log") cases fail"
		;;
	0)
		missed=$((missed + 1))
		printf 'MISSED  %s\n' "$1"
		;;
	*)
		missed=$((missed + 1))
		printf 'MISSED  %s: the program did not run:\n' "$1"
		tail -n 3 "$work/log"
		;;
	esac
}

# plant NAME FILE OLD NEW: the first OLD in FILE becomes NEW, both as they stand.
plant() {
	local name=$1 file=$2 old=$3 new=$4 before after
	before=$(<"$top/$file")
	after=${before/"$old"/"$new"}
	if [ "$before" = "$after" ]; then
		missed=$((missed + 1))
		printf 'MISSED  %s: %s no longer has\n        %s\n' "$name" "$file" "$old"
		return
	fi
	rm -rf "$work/objects"
	cp -r "$work/clean" "$work/objects"
	printf '%s\n' "$after" >"$file"
	case $file in
	*.h) for source in optim/*.c; do compile "$source" "$work/objects" || exit 1; done ;;
	*) compile "$file" "$work/objects" || exit 1 ;;
	esac
	cp "$top/$file" "$file"
	$CC -o "$work/vectors" "$work"/objects/*.o -lm || exit 1
	verdict "$name" "$work/vectors"
}

# plant_flags NAME COMPILE_FLAG LINK_FLAG: a bug in the build.
plant_flags() {
	rm -rf "$work/objects"
	cp -r "$work/clean" "$work/objects"
	for source in optim/*_kernel.c; do
		compile "$source" "$work/objects" $2 || exit 1
	done
	$CC $3 -o "$work/vectors" "$work"/objects/*.o -lm || exit 1
	verdict "$1" "$work/vectors"
}

mkdir -p "$work/tree/tests" "$work/clean"
cp -r optim proto "$work/tree/"
cp -r tests/optim tests/support "$work/tree/tests/"
cd "$work/tree" || exit 1
for source in optim/*.c proto/nearest.c tests/optim/vectors*.c tests/support/vectors_*.c; do
	compile "$source" "$work/clean" || exit 1
done
$CC -o "$work/vectors" "$work"/clean/*.o -lm || exit 1
if ! "$work/vectors" "$top/tests/vectors" >"$work/log"; then
	echo "the rules fail without any bug planted:"
	grep '^FAIL' "$work/log" | head
	exit 1
fi

if grep -q ' fma ' /proc/cpuinfo 2>/dev/null; then
	plant_flags "contraction to fma" -ffp-contract=fast ""
else
	echo "skipped contraction to fma: this machine has none"
fi
case $CC in *gcc*) plant_flags "denormals flushed to zero" "" -ffast-math ;; esac

plant "lerp as multiply and add" optim/kernel.h \
	'return fmaf(lerp, g - m, mean == MEAN_LERP_FAR ? g : m);' 'return fmaf(g, take, m * keep);'
plant "lerp from the near end where the far one is due" optim/kernel.h \
	'mean == MEAN_LERP_FAR ? g : m' 'm'
plant "lerp of the near end only" optim/kernel.h \
	'return !(fabsf((float)weight) < 0.5f);' 'return weight < 0;'
plant "eps inside the root, adam" optim/adam_kernel.c \
	'sqrtf(xi) / root_bc2 + eps' 'sqrtf(xi + eps) / root_bc2'
plant "eps inside the root, rmsprop" optim/rmsprop_kernel.c \
	'fmaf(-ai, ai, qi) : qi) + eps' 'fmaf(-ai, ai, qi) + eps : qi + eps)'
plant "eps inside the root, adagrad" optim/adagrad_kernel.c \
	'(sqrtf(si) + eps)' 'sqrtf(si + eps)'
plant "dampening on the first update" optim/sgd_kernel.c \
	'bi = first ? g :' 'bi = first ? g * take :'
plant "first update takes a zero buffer" optim/sgd_kernel.c \
	'out[FIRST] = t == 1;' 'out[FIRST] = 0;'
plant "nesterov left out" optim/sgd_kernel.c \
	'nesterov ? fmaf(bi, keep, g) : bi' 'bi'
plant "buffer holds lr times gradients" optim/sgd_kernel.c \
	'out[TAKE] = (float)(1 -' 'out[TAKE] = (float)optim->values[LR][0] * (float)(1 -'
plant "velocity without lr" optim/momentum_kernel.c \
	'keep * v[i] - rate * g[i]' 'keep * v[i] - g[i]'
plant "weight decay before maximize" optim/rmsprop_kernel.c \
	'g = fmaf(wi, weight_decay, g);' 'g = sign * fmaf(wi, weight_decay, grad[i]);'
plant "no weight decay" optim/adam_kernel.c \
	'bool decay = optim->values[WEIGHT_DECAY][0] != 0 &&' 'bool decay = false &&'
plant "a maximum that drops NaN" optim/kernel.h \
	'((a > b) | (a != a)) ? a : b' 'fmaxf(a, b)'
plant "1 - beta in float" optim/adam_kernel.c \
	'(float)(1 - beta2)' '1.0f - (float)beta2'
plant "bias correction in float" optim/adam_kernel.c \
	'bc2 = 1 - pow(beta2, t)' 'bc2 = 1 - powf((float)beta2, (float)t)'
plant "updates counted from 0" optim/optim.c \
	'row->scalars(optim, (double)t, out' 'row->scalars(optim, (double)(t - 1), out'
plant "division by a reciprocal" optim/adam_kernel.c \
	'sqrtf(xi) / root_bc2' 'sqrtf(xi) * (1.0f / root_bc2)'
plant "addcdiv as fma" optim/adam_kernel.c \
	'wi + (rate * mi) / d' 'fmaf(rate, mi / d, wi)'
plant "fma in the NumPy formulas" optim/adam_kernel.c \
	'float mi = keep1 * m[i] + take1 * gi;' 'float mi = fmaf(take1, gi, keep1 * m[i]);'
plant "lr_decay from the second update on" optim/adagrad_kernel.c \
	'(1 + (t - 1) * optim' '(1 + t * optim'
plant "initial accumulator ignored" optim/adagrad_kernel.c \
	'(float)optim->values[INITIAL][0] };' '0 };'
plant "decoupled decay in the gradient too" optim/adam_kernel.c \
	'common_step(optim, s, w, slot, g, n, false);' 'common_step(optim, s, w, slot, g, n, true);'
plant "decay decoupled from lr" optim/adam_kernel.c \
	'decoupled ? 1 - lr * weight_decay : 1' 'decoupled ? 1 - weight_decay : 1'
plant "nadam's product of 1.13 under torch2" optim/nadam_kernel.c \
	'optim->match == OPTIM_TORCH1 ?' 'true ?'
plant "nadam's product forgotten" optim/nadam_kernel.c \
	'carry[0] = product;' ''
plant "nadam corrects outside the root" optim/nadam_kernel.c \
	'sqrtf(vi / bc2) + eps' 'sqrtf(vi) / sqrtf(bc2) + eps'
plant "radam never rectified" optim/radam_kernel.c \
	'if (!(rho > 5))' 'if (true)'
plant "radam divides instead of taking a reciprocal" optim/radam_kernel.c \
	'(1.0f / (sqrtf(vi) + eps)) * root_bc2' 'root_bc2 / (sqrtf(vi) + eps)'
plant "adamax adds eps outside the maximum" optim/adamax_kernel.c \
	'kernel_max(ui * keep2, fabsf(g) + eps)' 'kernel_max(ui * keep2, fabsf(g)) + eps'
plant "adadelta adds eps outside the roots" optim/adadelta_kernel.c \
	'(sqrtf(ai + eps) / sqrtf(qi + eps))' '((sqrtf(ai) + eps) / (sqrtf(qi) + eps))'
plant "adadelta takes the new accumulator" optim/adadelta_kernel.c \
	'd = (sqrtf(ai + eps)' 'd = (sqrtf(fmaf(take * g, g, ai * keep) + eps)'
plant "asgd uses the new eta at once" optim/asgd_kernel.c \
	'out[MINUS_ETA] = -carry[ETA];' \
	'out[MINUS_ETA] = (float)-(lr / pow(1 + lambd * lr * t, optim->values[ALPHA][0]));'
plant "asgd averages from the first update" optim/asgd_kernel.c \
	's[AVERAGE] == 1, LOOP' 'false, LOOP'
plant "rprop keeps a gradient that turned" optim/rprop_kernel.c \
	'g = product < 0 ? 0.0f : g;' ''
plant "rprop's step sizes unbounded" optim/rprop_kernel.c \
	'di = di < lowest ? lowest : di;' ''
plant "lion's betas swapped" optim/lion_kernel.c \
	'keep1 * mi + take1 * gi' 'keep2 * mi + take2 * gi'
plant "yogi's sign turned" optim/yogi_kernel.c \
	'vi - take2 * kernel_signum' 'vi + take2 * kernel_signum'
plant "ftrl without its power" optim/ftrl_kernel.c \
	'kernel_pow(next, power)' 'sqrtf(next)'
plant "a delta taken for a gradient" optim/sgd_kernel.c \
	'out[SIGN] = -1;' ''
plant "fedadam corrects its bias" optim/fed_kernel.c \
	'out[RATE] = (float)optim->values[LR][0];' \
	'out[RATE] = (float)(optim->values[LR][0] / (1 - pow(beta1, t)));'
plant "easgd moves its answer the wrong way" optim/easgd_kernel.c \
	'xi - pull * (xi - w[i])' 'xi + pull * (xi - w[i])'
plant "lamb without its ratio" optim/lamb_kernel.c \
	'(weights > 0 && length > 0 ? weights / length : 1)' '1'
plant "lamb's norms of pieces" optim/lamb_kernel.c \
	'u->sums[WAY] = piece_sum_of_squares(u->sums[WAY], r, n);' 'u->sums[WAY] = piece_sum_of_squares(0, w, n);'
plant "lars without weight decay in its norm" optim/lars_kernel.c \
	'gradient + v[WEIGHT_DECAY][0] * weights + v[EPS][0]' 'gradient + v[EPS][0]'
plant "adafactor's limit left out" optim/adafactor_kernel.c \
	'way > 1 ? rate / way : rate' 'rate'
plant "adafactor divides by the sum of rows" optim/adafactor_kernel.c \
	'power_sum(r, u->shape.rows, 1) / (double)u->shape.rows' 'power_sum(r, u->shape.rows, 1)'
plant "a column's mean over its rows forgotten" optim/adafactor_kernel.c \
	'(float)(columns[i] / (double)u->shape.rows)' '(float)columns[i]'
plant "muon one iteration short" optim/muon_kernel.c \
	'u->pass < ITERATE + iterations * STAGES' 'u->pass < ITERATE + (iterations - 1) * STAGES'
plant "muon without its factor" optim/muon_kernel.c \
	'sqrt(ratio > 1 ? ratio : 1)' '1'
plant "a norm clipped without its root" optim/clip.c \
	'return p == 2 ? sqrt(parts)' 'return p == 2 ? parts'
plant "ema by the rest" optim/average_kernel.c \
	'keep * w[i] + take * x[i]' 'take * w[i] + keep * x[i]'
plant "momentum of rmsprop as an fma" optim/rmsprop_kernel.c \
	'bi = bi * velocity + g / d;' 'bi = fmaf(bi, velocity, g / d);'

echo "$caught caught, $missed missed"
[ "$missed" = 0 ]
