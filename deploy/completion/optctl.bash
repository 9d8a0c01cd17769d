# bash completion for optctl(1)

# The names of the models that the daemon in question holds, if it answers.
_optctl_models()
{
	optctl --timeout 1 "$@" status --json 2>/dev/null |
		sed -n 's/.*"name": *"\([^"\\]*\)".*/\1/p'
}

_optctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local command= place=0 i server=() options="--server --timeout --help --version -s -t -h"

	# Which command stands before the cursor, and how many of its words follow;
	# an option takes its value along.
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s | --server)
			server=(--server "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		-t | --timeout) ((i++)) ;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=${COMP_WORDS[i]}
			else
				((place++))
			fi
			;;
		esac
	done
	case $command in
	status) options+=" --json" ;;
	drop) options+=" --yes -y" ;;
	rules) options+=" --markdown" ;;
	esac
	if [[ $previous == -s || $previous == --server ]]; then
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -W "tcp:// ipc://" -- "$word")
	elif [[ $previous == -t || $previous == --timeout ]]; then
		COMPREPLY=()
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
	elif [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "status export save drop rules" -- "$word")
	elif [[ $command == export && $place == 1 ]]; then
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	elif [[ $place == 0 && $command == rules ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(optctl rules 2>/dev/null | awk 'NF == 0 { exit } NR > 1 { print $1 }')" -- "$word")
	elif [[ $place == 0 && $command =~ ^(export|save|drop)$ ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_optctl_models "${server[@]}")" -- "$word")
	fi
}

complete -F _optctl optctl
