# fish completion for speil: asks `speil complete` what can come next.
function __speil_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    for line in ($words[1] complete -- $words[2..-1] $typed 2>/dev/null)
        set -l front (string match -r -- '^--[^=]*=' $typed)
        set -l path (string replace -r -- '^--[^=]*=' '' $typed)
        switch $line
            case ':files'
                __fish_complete_path $path | string replace -r -- '^' "$front"
            case ':dirs'
                __fish_complete_directories $path '' | string replace -r -- '^' "$front"
            case '*'
                echo $line
        end
    end
end
complete -c speil -f -a '(__speil_complete)'
