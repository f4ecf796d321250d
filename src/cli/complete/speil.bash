# bash completion for speil: asks `speil complete` what can come next.
_speil() {
    local typed=${COMP_LINE:0:COMP_POINT} line word files= plain=
    local -a words
    # bash cuts words at "=", ":" and "@"; speil does not.
    IFS=$' \t' read -ra words <<<"$typed"
    [[ $typed == *[[:blank:]] ]] && words+=("")
    local whole=${words[${#words[@]} - 1]} piece=${COMP_WORDS[COMP_CWORD]}
    [[ $piece == [=:] ]] && piece=
    [[ $whole == *"$piece" ]] || piece=$whole
    local front=${whole%"$piece"}
    # What readline replaces begins with the "@" before it.
    [[ $front == *@ ]] && front=${front%@} piece=@$piece
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) files=-f ;;
            :dirs) files=-d ;;
            *)
                word=${line%%$'\t'*}
                COMPREPLY+=("${word#"$front"}")
                [[ $word == *[:=] ]] && compopt -o nospace 2>/dev/null
                plain=1
                ;;
        esac
    done < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
    [[ -n $files ]] || return 0
    [[ -n $plain ]] || compopt -o filenames 2>/dev/null
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen $files -- "$piece")
}
complete -F _speil speil
