#compdef speil
# zsh completion for speil: asks `speil complete` what can come next.
_speil() {
    local line word files
    local -a said open shown open_shown values open_values
    said=("${(@f)$(_call_program speil ${(q)words[1]} complete -- ${(q)${(Q)words[2,CURRENT-1]}} ${(q)${(Q)PREFIX}} 2>/dev/null)}")
    for line in $said; do
        case $line in
            :files|:dirs) files=$line ;;
            *)
                word=${line%%$'\t'*}
                # After ":" and "=" the word goes on.
                if [[ $word == *[:=] ]]; then
                    open_values+=("$word") open_shown+=("${line/$'\t'/  -- }")
                else
                    values+=("$word") shown+=("${line/$'\t'/  -- }")
                fi
                ;;
        esac
    done
    (( $#values )) && compadd -l -d shown -a values
    (( $#open_values )) && compadd -S '' -l -d open_shown -a open_values
    if [[ -n $files ]]; then
        compset -P '--*='
        if [[ $files == :dirs ]]; then _files -/; else _files; fi
    fi
    return 0
}
if [[ $funcstack[1] == _speil ]]; then
    _speil "$@"
else
    compdef _speil speil
fi
