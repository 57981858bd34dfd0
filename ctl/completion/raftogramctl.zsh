#compdef raftogramctl
# Completion of raftogramctl for zsh, printed by `raftogramctl completion zsh`.
#
# Channels, keys and nodes come from the cluster that -addr on the line (or RAFTOGRAM_ADDR) names,
# within one second.

# Each line: a verb, its first operand (- none), its summary.
typeset -g _raftogramctl_verb_rows='
@VERBS@
'

# Each line: a flag's names, the verbs that take it (* all, - only without a verb), its value
# (- none), its summary.
typeset -g _raftogramctl_flag_rows='
@FLAGS@
'

# Sets `value` to what the flag in $1 has as its value: - for none.
_raftogramctl_find_value() {
    local names verbs summary name=${1#-}
    name=${name#-}
    while read -r names verbs value summary; do
        if [[ -n $names && ,$names, == *,$name,* ]]; then
            return
        fi
    done <<<$_raftogramctl_flag_rows
    value=-
}

# Sets `verb`, `operands` (their number before the cursor), `address`, and `value`: what the flag
# before the cursor has as its value, - when there is no such flag.
_raftogramctl_parse() {
    local word
    local -i i
    verb= operands=0 address= value=-
    for ((i = 2; i < CURRENT; i++)); do
        word=${(Q)words[i]}
        case $word in
        -addr=* | --addr=*) address=${word#*=} ;;
        -*=*) ;;
        -?*)
            _raftogramctl_find_value $word
            if [[ $value != - ]]; then
                ((++i < CURRENT)) || return
                if [[ $word == -addr || $word == --addr ]]; then
                    address=${(Q)words[i]}
                fi
                value=-
            fi
            ;;
        *)
            if [[ -z $verb ]]; then
                verb=$word
            else
                ((++operands))
            fi
            ;;
        esac
    done
}

_raftogramctl_ask() {
    local program=${(Q)words[1]}
    "${program/#\~/$HOME}" "$@" ${address:+-addr} ${address:+$address} -timeout 1s 2>/dev/null
}

# Prints the choices for a value or an operand, one a line, with a summary after a tab where there
# is one. Ids that need escapes are left out.
_raftogramctl_values() {
    local name operand summary
    case $1 in
    *'|'*) print -rl -- ${(s:|:)1} ;;
    verb)
        while read -r name operand summary; do
            if [[ -n $name ]]; then
                printf '%s\t%s\n' $name $summary
            fi
        done <<<$_raftogramctl_verb_rows
        ;;
    channel)
        _raftogramctl_ask channels -prefix "$2" -o json |
            grep -o '"channelId":"[^"\\]*"' | sed 's/^[^:]*:"//; s/"$//'
        ;;
    key)
        # A hundred at most: there may be very many.
        _raftogramctl_ask keys -prefix "$2" -limit 100 -o table | sed 1d | grep -vF '\'
        ;;
    node)
        _raftogramctl_ask status -o json |
            grep -o '"nodeId":"[^"\\]*"' | sed 's/^[^:]*:"//; s/"$//' | sort -u
        ;;
    esac
}

# Prints the flags of `verb`, with the dashes in $1.
_raftogramctl_flags() {
    local names verbs value summary
    while read -r names verbs value summary; do
        if [[ -n $names && ($verbs == '*' || ,$verbs, == *,${verb:--},*) ]]; then
            printf '%s%s\t%s\n' $1 ${names%%,*} $summary
        fi
    done <<<$_raftogramctl_flag_rows
}

# Prints the choices for the word at the cursor, one a line.
_raftogramctl_choices() {
    local current=$1 name operand summary
    if [[ $value != - ]]; then
        _raftogramctl_values $value "$current"
        return
    fi
    case $current in
    -*=*)
        _raftogramctl_find_value ${current%%=*}
        _raftogramctl_values $value "${current#*=}" | sed "s/^/${current%%=*}=/"
        ;;
    --*) _raftogramctl_flags -- ;;
    -*) _raftogramctl_flags - ;;
    *)
        if [[ -z $verb ]]; then
            _raftogramctl_values verb
        elif ((operands == 0)); then
            while read -r name operand summary; do
                if [[ $name == $verb ]]; then
                    _raftogramctl_values $operand "$current"
                fi
            done <<<$_raftogramctl_verb_rows
        fi
        ;;
    esac
}

_raftogramctl() {
    emulate -L zsh
    local verb operands address value choice
    local -a names lines
    _raftogramctl_parse
    while IFS= read -r choice; do
        names+=("${choice%%$'\t'*}")
        lines+=("${choice/$'\t'/  -- }")
    done < <(_raftogramctl_choices "${(Q)PREFIX}")
    compadd -l -d lines -a names
}

# The file is either the function's own, loaded by compinit, or read by `source`.
if [[ $funcstack[1] == _raftogramctl ]]; then
    _raftogramctl "$@"
elif (($+functions[compdef])); then
    compdef _raftogramctl raftogramctl
fi
