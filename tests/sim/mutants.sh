#!/bin/bash
# Plants bugs, one at a time, and sees whether the tests notice: a harness is
# trusted only after it has caught what was put there on purpose.
#
#     tests/sim/mutants.sh [NAME...]
#     tests/sim/mutants.sh --stale     only whether each still finds its place
#
# A mutant is a copy of one source file, changed by sed, compiled without
# assertions (an assertion would make it too easy) and linked before the archives
# of a usual build.  Exit 1 if one survives.
#
# OPTD_RUNS  runs of a random test for each mutant (default 150), from seed 5000.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=build/release
dir=$(mktemp -d "${TMPDIR:-/tmp}/optd-mutants.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
export OPTD_SEED=5000 OPTD_RUNS=${OPTD_RUNS:-150}
survived=0
caught=0

# name | test | file | sed script
mutants() {
	cat <<-'END'
	push-folded-twice|sim/test_cluster|server/core/gate.c|s/return gate_seat(gate, block, rank)->came ? GATE_HAS : GATE_DUE;/return GATE_DUE;/
	push-of-old-step-counts|sim/test_cluster|server/core/gate.c|s/if (step < due)/if (step + 1 < due)/; s/if (step > due)$/if (step > due \&\& step != due)/
	fold-by-arrival|sim/test_cluster|server/core/gate_fold.c|s/(gate->direct \|\| (\*at)->rank < c->rank)/true/; s/while (b->next_rank < gate->workers && gate_seat(gate, block, b->next_rank)->came) {/while (b->waiting != NULL) {/
	resend-answered-early|sim/test_cluster|server/core/watch.c|s/return wait->step + 1;/return wait->unfolded == 0 ? 0 : wait->step + 1;/
	pull-answered-early|core/test_pull|server/core/watch.c|s/return wait->min_version;/return 0;/
	rank-never-free|sim/test_cluster|server/core/engine.c|s/shard->holders\[rank\].held = false;/(void)0;/
	init-token-of-the-dead|sim/test_cluster|server/core/verb_push.c|s/return token >= grant->token;/return !shard->ready \&\& token >= grant->token;/
	step-after-the-one-under-way|sim/test_cluster|server/core/run.c|s/		return lowest;/		return lowest + (model->owned.count > 0 \&\& gate_standing(shard->gate, model->owned.first, rank, lowest) == GATE_HAS);/
	timed-out-push-is-lost|sim/test_cluster|server/core/gate_wait.c|/^static void forget_block/,/^}/s/c->wait = NULL;/c->wait = NULL, c->values = NULL;/
	sums-not-cleared|sim/test_cluster|server/core/gate_commit.c|/^void gate_committed/,/^}/s/b->touched = TOUCHED_NONE;/(void)0;/
	absent-count-as-present|sim/test_cluster|server/core/model.c|s/if (!commit_has(commit->present, i))$/if (false)/
	counter-of-the-block|core/test_reference|server/core/model.c|s/if (!commit_has(commit->present, i))$/if (!commit_has(commit->present, i) \&\& ++model->updates[segment_index(model, commit->block, i)] > 0)/
	lost-requests-stay-lost|sim/test_cluster|client/inflight.c|/^static void send_again/,/^}/s/if (r->owner)/if (false)/
	no-probe|sim/test_cluster|client/session.c|/^static uint64_t probe_due/,/^}/s/return last + SESSION_PROBE_MS/return last ? SESSION_NEVER : SESSION_NEVER/
	open-never-asked-again|sim/test_cluster|client/session.c|/^void session_restart/,/^}/s/s->state = SESSION_OPENING;/(void)0;/
	wait-not-released-with-its-session|core/test_engine|server/core/engine.c|s/if (wait->peer == peer)$/if (false)/
	folded-not-told|core/test_push|server/core/answer.c|s/wait_reply(engine, shard, wait, OPTD_FOLDED, out);/(void)0;/
	stale-incarnation-pushes|core/test_push|server/core/verb_push.c|s/ && holder->incarnation == request->incarnation//
	held-block-commits|core/test_cut|server/core/gate_commit.c|s/if (b->held \|\| /if (/
	rollback-not-said|core/test_open|server/core/run.c|s/open->expect_run != 0 \&\& reached(call, shard) < open->seen_step/false/
	factor-rounded-early|core/test_reference|server/core/gate_fold.c|s/share = (b->weighted ? c->weight : 1.0) \/ whole_weight;/share = (float)(b->weighted ? c->weight : 1.0) * (1.0f \/ (float)whole_weight);/
	counters-shared-by-a-run|core/test_reference|server/core/model.c|s/model->updates\[first + end\] == model->updates\[first + i\] &&$/true \&\&/
	groups-share-scalars|core/test_reference|server/core/model.c|s/ && scalars\[i\].group == group / /
	groups-share-a-kernel-call|core/test_reference|server/core/model.c|s/model_group(model, first + end) == model_group(model, first + i) &&$/true \&\&/
	change-a-version-late|sim/test_cluster|server/core/change.c|s/changes->list\[i\].from <= version; i++/changes->list[i].from < version; i++/
	change-holds-nobody|sim/test_cluster|server/core/committing.c|s/return shard->setting \&\& model_version/return false \&\& model_version/
	held-by-a-change-for-ever|core/test_set|server/core/set.c|/^void engine_set_end/,/^}/s/shard_run_all(engine, shard);/(void)engine;/
	frozen-counts|sim/test_cluster|server/core/model.c|s/	if (optim == NULL)$/	for (uint32_t e = index; optim == NULL \&\& e < index + run; e++) model->updates[e]++;\n&/
	half-taken-for-float|core/test_reference|server/core/gate_fold.c|s/dtype_at(values.values, values.type, s->count)/dtype_at(values.values, DTYPE_F32, s->count)/
	own-answer-from-another-place|core/test_own|server/core/own.c|s/at += shard_part_elements(shard, \*part, why, sizeof(why));/at += model_block(shard->model, (*part)->first)->count;/
	own-answer-of-a-resend-is-none|core/test_own|server/core/verb_push.c|s/own_repeat(call->engine, call->shard, push);/(void)0;/
	parts-joined-by-arrival|core/test_reference|server/core/lead.c|/^static void take_parts/,/^}/s/&lead->came\[parts->from\]/\&lead->came[*(\&lead->came[parts->from]) == NULL ? lead->came_count : parts->from]/
	decision-of-the-step-before-used|sim/test_cluster|server/core/gate_decide.c|s/return model_version(gate->model, block) < gate->decide->step;/return gate->decide->decision != NULL;/
	parts-of-any-step-count|core/test_lead|server/core/lead.c|s/model->run_id != message->run_id \|\|/false \|\|/
	decision-for-any-shard|core/test_lead|server/core/lead.c|s/return shard->handle == message->handle \&\& shard->lead->message == NULL;/return true;/
	overflowed-step-updates|core/test_lead|server/core/gate_decide.c|s/commit->empty |= decision->skip;/(void)0;/
	closed-segments-have-parts|core/test_reference|server/core/gate_decide.c|s/bool has = !poisoned \&\& (b->touched == TOUCHED_ALL \|\| .*;/bool has = true;/
	frozen-count-in-the-norm|core/test_reference|server/core/model.c|s/return optim != NULL \&\& optim_rule_push(optim->rule) != OPTIM_WEIGHTS;/return true;/
	factors-share-a-kernel-call|core/test_reference|server/core/model.c|s/factor_of(commit, end) == factor_of(commit, i) \&\&$/true \&\&/
	tensor-norm-ends-with-its-block|core/test_reference|server/core/lead.c|/^static struct finding look_at_tensor/,/^}/s/->tensor == tensor; ++\*at)/->tensor == tensor \&\& (sum == 0 \|\| layout_segment(layout, *at)->offset > 0); ++*at)/
	factors-of-another-daemon|core/test_reference|server/core/lead.c|s/i < at \&\& i < end; i++/i < at; i++/
	daemons-parts-in-the-first-place|core/test_reference|server/core/lead.c|/^static void collect/,/^}/s/own.first)->first_segment;/own.first)->first_segment * 0;/
	decided-without-the-others|sim/test_cluster|server/core/norms.c|s/return norms->collected \&\& (norms->missing == 0 .*;/return norms->collected;/
	told-of-the-step-before|sim/test_cluster|server/core/norms.c|/^void norms_next/,/^}/s/	memset(norms->told, 0, .*//
	told-of-the-step-before-counts|sim/test_cluster|server/core/verb_norm.c|s/	if (request->step < norms->step)$/	if (false)/
	told-twice-counts-twice|core/test_norm|server/core/norms.c|s/norms->missing -= !guessed \&\& \*told != NORM_TOLD;/norms->missing -= !guessed;/
	told-in-the-wrong-place|sim/test_cluster|server/core/norms.c|s/memcpy(norms_parts(norms, norms->step) + b->first_segment, parts/memcpy(norms_parts(norms, norms->step) + block, parts/
	step-before-forgotten|sim/test_cluster|server/core/norms.c|s/norms->has_last = true;/(void)0;/
	parts-of-two-steps-in-one|core/test_norm|server/core/norms.c|s/norms->told != NULL ? step % 2 : 0/0/
	ask-forgotten-by-the-decision|core/test_norm_wait|server/core/norms.c|s/if (!ask->waits \|\| !norms_has(norms, ask->step))/if (!ask->waits \|\| ask->step != norms->step \|\| !norms->collected)/
	who-asks-and-leaves-is-answered|core/test_norm_wait|server/core/norms.c|s/if (!ask->waits \|\| ask->peer != peer)$/if (true)/
	guess-of-one-rank-decides|core/test_norm_guess|server/core/norms.c|s/norms->unknown == 0 \&\& norms->guessing == norms->workers;/norms->unknown == 0;/
	guess-takes-the-place-of-better|core/test_norm_guess|server/core/norms.c|s/if (guessed \&\& \*told == NORM_TOLD)/if (false)/
	told-before-all-were-heard|sim/test_cluster|client/relay.c|s/if (--relay->asks_left == 0)/if (relay->asks_left-- == relay->ask_count)/
	numbers-of-the-step-before|sim/test_cluster|client/relay.c|s/relay->step_plus_one == step + 1 \&\& relay->asks_left == 0/relay->step_plus_one != 0 \&\& relay->asks_left == 0/
	told-once-for-all-lives|client/test_relay|client/relay.c|s/return relay->asks_left == 0 \&\& m->tells \&\& m->daemon == daemon;/return false;/
	others-blocks-left-out|sim/test_cluster|client/relay.c|s/(struct layout_run){end, blocks - end}, i, true/(struct layout_run){end, 0}, i, true/
	cut-forced-before-the-decision|core/test_lead|server/core/cut.c|s/if (gate_decides(shard->gate))$/if (false)/
	poisoned-step-is-applied|sim/test_cluster|server/core/gate_commit.c|s/commit->empty = commit->skipped \|\| /commit->empty = /
	poisoned-block-forgotten-on-a-resend|sim/test_cluster|server/core/gate_wait.c|/^void gate_rejoin/,/^}/s/	if (!gate->direct)/	gate_block(gate, block)->poison_rank_plus_one = 0;\n&/
	poison-outlives-its-step|sim/test_cluster|server/core/gate_commit.c|s/	b->poison_rank_plus_one = 0;//
	skipped-for-the-highest-rank|sim/test_cluster|server/core/gate_poison.c|s/push->rank + 1 < b->poison/push->rank + 1 > b->poison/
	skip-told-to-who-waited-only|sim/test_cluster|server/core/verb_push.c|s/wait_finish(call->engine, shard, wait, call->out);/wait->step += 1, &/
	scale-changes-with-every-block|sim/test_cluster|server/core/model.c|s/ && commit->version > model->scaler.steps)/)/
	scale-rounded-early|core/test_reference|server/core/gate_scale.c|s/(float)(share \/ loss_scale)/(float)share \/ (float)loss_scale/
	scale-divides-values|core/test_reference|server/core/group.c|s/return optim == NULL \|\| optim_rule_push(optim->rule) == OPTIM_GRADIENT;/return true;/
	scale-divides-deltas|core/test_reference|server/core/group.c|s/optim_rule_push(optim->rule) == OPTIM_GRADIENT;/optim_rule_push(optim->rule) != OPTIM_WEIGHTS;/
	scale-of-a-blocks-first-segment|core/test_reference|server/core/gate_scale.c|s/if (!model->mixed \|\| /if (true || /
	own-answer-is-divided|core/test_own|server/core/own.c|s/float factor = model_is_scaled(.*;/float factor = x.factor;/
	zeroed-before-it-is-due|core/test_verdict|server/core/verb_push.c|s/	switch (gate_standing(gate, push->block, push->rank, push->step)) {/	push->wait->zeroed += verdict_zero(call, push);\n&/
	init-not-recorded|core/test_replay|server/core/committing.c|s/if (engine->options.on_commit != NULL)/if (engine->options.on_commit != NULL \&\& commit->kind != COMMIT_INIT)/
	tensor-without-its-last-block|core/test_reference|server/core/gate_tensor.c|s/tensor->complete == tensor->run.count;/tensor->complete > 0;/
	tensor-without-its-last-block-in-the-sim|sim/test_cluster|server/core/gate_tensor.c|s/tensor->complete == tensor->run.count;/tensor->complete > 0;/
	tensor-read-in-the-middle|core/test_work|server/core/work.c|s/if (!model->update.running)$/if (true)/
	tensor-saved-in-the-middle|core/test_work|server/core/cut.c|s/if (!busy && (/if ((/
	held-tensor-commits|core/test_work|server/core/gate_tensor.c|s/if (held(gate, run))$/if (false)/
	old-sums-for-parts-not-given|core/test_work|server/core/gate_tensor.c|/^static void fill_folded/,/^}/s/== TOUCHED_NONE)$/== TOUCHED_SOME)/
	tensors-blocks-count-apart|core/test_reference|server/core/model_tensor.c|s/model->updates\[index + i\]++;/model->updates[index]++;/
	tensor-forgets-its-factor|core/test_reference|server/core/model_tensor.c|s/u->commit.factors != NULL/false/
	tensor-before-the-decision|core/test_reference|server/core/gate_tensor.c|s/!gate_decide_allows(gate, block))$/false)/
	next-async-push-forgotten|core/test_reference|server/core/work.c|s/	gate_due(shard->gate, run.first);$//
	average-of-the-weights-before-the-update|sim/test_cluster|server/core/model.c|/^static void apply_run/,/^}/{ /^\toptim_step_from(/d; s/^\tfor (uint32_t end = index + run/\toptim_step_from(optim, isa, \&scalars->scalars, model->weights + base, slots, g, n);\n&/ }
	average-moved-twice|core/test_reference|server/core/model.c|s/^\tif (model->average != NULL) .* while they are in the cache .*$/\tfor (int i = 0; model->average != NULL \&\& i < 2; i++)/
	average-begins-late|core/test_reference|server/core/average.c|s/updates <= average->start/updates <= average->start + 1/
	average-shared-with-weights|core/test_average|server/core/share.c|s/ && copy->key.source == key.source//
	first-weights-are-no-average|sim/test_cluster|server/core/model.c|/^static void apply_init/,/^}/s/if (model->average != NULL)/if (false)/
	END
}

plant() { # name test file script
	local object=$dir/mutant.o program=$dir/mutant folder=${2%/*}
	sed "$4" "$3" >"$dir/mutant.c"
	if cmp -s "$3" "$dir/mutant.c"; then
		echo "STALE    $1: its sed script changes nothing in $3"
		return 1
	fi
	gcc -std=c11 -D_GNU_SOURCE -I. -O1 -w -DNDEBUG -ffp-contract=off -fno-math-errno \
		-c -o "$object" "$dir/mutant.c" || return 1
	local helpers=()
	for source in tests/"$folder"/*.c; do
		case ${source##*/} in test_*) ;; *) helpers+=("$build/${source%.c}.o") ;; esac
	done
	gcc -pie -o "$program" "$build/tests/$2.o" ${helpers[@]+"${helpers[@]}"} "$object" -Wl,--start-group \
		"$build"/lib{support,core,clientcore,proto,base,optim}.a -Wl,--end-group \
		-lcmocka -lm -pthread || return 1
	if timeout 300 "$program" >"$dir/output" 2>&1; then
		echo "SURVIVED $1 ($2)"
		return 1
	fi
	echo "caught   $1 ($2): $(grep -m1 -aoE 'ERROR: .{0,110}|ERROR .*--- .{0,80}' "$dir/output" || echo "it crashed")"
}

if [ "${1:-}" = --stale ]; then
	plant() {
		sed "$4" "$3" | cmp -s "$3" - || return 0
		echo "STALE    $1: its sed script changes nothing in $3"
		return 1
	}
	set --
else
	tests=$(mutants | cut -d'|' -f2 | sort -u)
	make DEPS=skip $(printf "$build/tests/%s " $tests) >"$dir/make" 2>&1 || { cat "$dir/make"; exit 1; }
fi
while IFS= read -r line; do
	# A script may hold the separator behind a backslash.
	name=${line%%|*}; rest=${line#*|}
	test=${rest%%|*}; rest=${rest#*|}
	file=${rest%%|*}; script=${rest#*|}
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	if plant "$name" "$test" "$file" "${script//\\|\\|/||}"; then
		caught=$((caught + 1))
	else
		survived=$((survived + 1))
	fi
done < <(mutants)
echo "$caught passed, $survived failed"
[ "$survived" = 0 ]
