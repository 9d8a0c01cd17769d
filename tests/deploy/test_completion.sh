#!/bin/bash
# What bash completes for optctl: the function is called with COMP_* as bash sets them, in
# which ":" and "=" are words.  Prints TAP.
# shellcheck disable=SC2317 # functions are called by the completion
set -u

source deploy/completion/optctl.bash
number=0
failed=0

# A daemon at port 1 has two models, one at port 2 has another; the default has none.
optctl() {
	case "$*" in
	*tcp://127.0.0.1:1*status*) printf '      "name": "%s",\n' fashion feathers ;;
	*tcp://127.0.0.1:2*status*) printf '      "name": "%s",\n' other ;;
	rules) printf 'rule\nadam x\nadamw x\n\nNAME: x\nSchedules: cosine, cosine_restarts\n' ;;
	esac
}
compopt() { :; }

# The line up to the cursor, cut as bash cuts it.
split() {
	local rest=$1
	COMP_WORDS=()
	while [ -n "$rest" ]; do
		if [[ $rest =~ ^([:=]+|[^:=\ ]+) ]]; then
			COMP_WORDS+=("${BASH_REMATCH[1]}")
			rest=${rest#"${BASH_REMATCH[1]}"}
		elif [[ $rest =~ ^\ +$ ]]; then
			COMP_WORDS+=("")
			rest=
		else
			rest=${rest# }
		fi
	done
}

completes() { # line, words
	COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
	COMP_LINE=$1
	COMP_POINT=${#1}
	split "$1"
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	_optctl optctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
	[ "${COMPREPLY[*]-}" = "$2" ] && return 0
	echo "# \"$1\" gives \"${COMPREPLY[*]-}\", not \"$2\""
	return 1
}

result() { # status, name
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		failed=1
	fi
}

echo "1..5"

completes "optctl s" "status save set" && completes "optctl status --j" "--json" &&
	completes "optctl rules adam" "adam adamw" && completes "optctl rules cos" "cosine cosine_restarts" && completes "optctl save " "" &&
	completes "optctl set --f" "--from" && completes "optctl set --group a fashion" "" &&
	completes "optctl export --a" "--average"
result $? "test_commands_options_and_rules_are_completed"

completes "optctl -s tcp://127.0.0.1:1 st" "status" && completes "optctl --server=tcp://127.0.0.1:1 dr" "drop" &&
	completes "optctl --server tcp://127.0.0.1:1,tcp://127.0.0.1:2 drop --y" "--yes"
result $? "test_an_endpoint_before_the_command_is_one_word"

completes "optctl -s tcp://127.0.0.1:1 save f" "fashion feathers" &&
	completes "optctl --server=tcp://127.0.0.1:2 drop --yes " "other" &&
	completes "optctl -s 'tcp://127.0.0.1:1' export fe" "feathers" &&
	completes "optctl -s tcp://127.0.0.1:1 status --json fa" "fashion" &&
	completes "optctl -s tcp://127.0.0.1:1 status fashion " ""
result $? "test_models_are_those_of_the_daemon_that_is_named"

completes "optctl -s " "tcp:// ipc://" && completes "optctl --server=t" "tcp://" &&
	completes "optctl --server=tcp:" "//" && completes "optctl --timeout=" ""
result $? "test_values_behind_an_equals_sign_are_completed"

completes "optctl save m -s tcp://127.0.0.1:1 --t" "--timeout"
result $? "test_an_endpoint_behind_the_command_is_one_word"
exit $failed
