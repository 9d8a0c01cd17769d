# bash completion for optd(8)

_optd()
{
	local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}

	# "--lanes=" is split at the "=".
	if [[ $word == = ]]; then
		word=
	elif [[ $previous == = ]]; then
		previous=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	case $previous in
	-c | --config)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		;;
	--data-dir)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		;;
	--log-level)
		mapfile -t COMPREPLY < <(compgen -W "error warn info" -- "$word")
		;;
	--isa)
		mapfile -t COMPREPLY < <(compgen -W "$(optd --version 2>/dev/null |
			sed -n 's/^instruction sets://p')" -- "$word")
		;;
	--listen)
		compopt -o nospace
		mapfile -t COMPREPLY < <(compgen -W "tcp:// ipc://" -- "$word")
		;;
	--lanes) ;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "--config --check-config --print-config --version
			--help --listen --lanes --data-dir --log-level --isa" -- "$word")
		;;
	esac
}

complete -F _optd optd
