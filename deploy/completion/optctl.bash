# bash completion for optctl(1)

# The names of the models that the daemon in question holds, if it answers.
_optctl_models()
{
	optctl "$@" status --json 2>/dev/null |
		sed -n 's/.*"name": *"\([^"\\]*\)".*/\1/p'
}

_optctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local command= place=0 i server=()

	# Which command stands before the cursor, and how many words follow it.
	for ((i = 1; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == --server ]]; then
			server=(--server "${COMP_WORDS[i + 1]}")
			((i++))
		elif [[ ${COMP_WORDS[i]} != -* && -z $command ]]; then
			command=${COMP_WORDS[i]}
		elif [[ ${COMP_WORDS[i]} != -* ]]; then
			((place++))
		fi
	done
	if [[ $previous == --server ]]; then
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -W "tcp:// ipc://" -- "$word")
	elif [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "status export save drop --server --help --version" -- "$word")
	elif [[ $command == status ]]; then
		mapfile -t COMPREPLY < <(compgen -W "--json" -- "$word")
	elif [[ $command == export && $place == 1 ]]; then
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	elif [[ $place == 0 && $command =~ ^(export|save|drop)$ ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_optctl_models "${server[@]}")" -- "$word")
	fi
}

complete -F _optctl optctl
