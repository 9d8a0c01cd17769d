# bash completion for optctl(1)

# The names of the models that the daemon in question holds, if it answers.
_optctl_models()
{
	optctl --timeout 1 "$@" status --json 2>/dev/null |
		sed -n 's/.*"name": *"\([^"\\]*\)".*/\1/p'
}

# Bash takes the part of the word behind the last ":" or "=" for the word.
_optctl_cut()
{
	local breaks=${COMP_WORDBREAKS//[^:=]/}
	if [[ -n $breaks ]]; then
		COMPREPLY=("${COMPREPLY[@]#"${1%"${1##*["$breaks"]}"}"}")
	fi
}

_optctl()
{
	local words word before= previous last i line=${COMP_LINE:0:COMP_POINT}
	local command= place=0 server=() options="--server --timeout --help --version -s -t -h"

	# COMP_WORDS has endpoints in pieces.
	read -ra words <<<"$line"
	if [[ $line == *[[:space:]] ]]; then
		words+=("")
	fi
	last=$((${#words[@]} - 1))
	word=${words[last]}
	previous=${words[last - 1]}
	# Which command stands before the cursor, and how many of its words follow;
	# an option takes its value along.
	for ((i = 1; i < last; i++)); do
		case ${words[i]} in
		-s | --server)
			server=(--server "${words[i + 1]//[\"\']/}")
			((i++))
			;;
		--server=*) server=("${words[i]//[\"\']/}") ;;
		-t | --timeout | -g | --group | -f | --from) ((i++)) ;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=${words[i]}
			else
				((place++))
			fi
			;;
		esac
	done
	case $command in
	status) options+=" --json" ;;
	export) options+=" --average" ;;
	drop) options+=" --yes -y" ;;
	rules) options+=" --markdown" ;;
	set) options+=" --group --from -g -f" ;;
	esac
	if [[ $word == --*=* ]]; then
		previous=${word%%=*}
		before=$previous=
		word=${word#"$before"}
	fi
	if [[ $previous == -s || $previous == --server ]]; then
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -P "$before" -W "tcp:// ipc://" -- "$word")
	elif [[ $previous =~ ^(-t|--timeout|-g|--group|-f|--from)$ ]]; then
		COMPREPLY=()
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
	elif [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "status export save set drop rules" -- "$word")
	elif [[ $command == export && $place == 1 ]]; then
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	elif [[ $place == 0 && $command == rules ]]; then
		# The first column up to an empty line, and the schedules behind it.
		mapfile -t COMPREPLY < <(compgen -W "$(optctl rules 2>/dev/null | awk 'NF == 0 { behind = 1 }
			!behind && NR > 1 { print $1 }
			sub(/^Schedules: /, "") { gsub(/,/, ""); print }')" -- "$word")
	elif [[ $place == 0 && $command =~ ^(status|export|save|set|drop)$ ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_optctl_models "${server[@]}")" -- "$word")
	fi
	_optctl_cut "$before$word"
}

complete -F _optctl optctl
