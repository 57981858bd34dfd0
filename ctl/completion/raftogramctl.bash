# Completion of raftogramctl for bash, printed by `raftogramctl completion bash`.
#
# Channels, keys and nodes come from the cluster that -addr on the line (or RAFTOGRAM_ADDR) names,
# within one second.

# Each line: a verb, its first operand (- none), its summary.
_raftogramctl_verb_rows='
@VERBS@
'

# Each line: a flag's names, the verbs that take it (* all, - only without a verb), its value
# (- none), its summary.
_raftogramctl_flag_rows='
@FLAGS@
'

# Sets `words` and `cword`: the line without bash's breaks at = and :.
_raftogramctl_words() {
    local i word is_joined=
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ -n $is_joined || ($word == [=:]* && i -gt 0) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        is_joined=
        if [[ $word == *[=:] ]]; then
            is_joined=1
        fi
    done
    cword=$((${#words[@]} - 1))
}

# Sets `value` to what the flag in $1 has as its value: - for none.
_raftogramctl_find_value() {
    local names verbs summary name=${1#-}
    name=${name#-}
    while read -r names verbs value summary; do
        if [[ -n $names && ,$names, == *",$name,"* ]]; then
            return
        fi
    done <<<"$_raftogramctl_flag_rows"
    value=-
}

# Sets `verb`, `operands` (their number before the cursor), `address`, and `value`: what the flag
# before the cursor has as its value, - when there is no such flag.
_raftogramctl_parse() {
    local i word
    verb= operands=0 address= value=-
    for ((i = 1; i < cword; i++)); do
        word=${words[i]}
        case $word in
        -addr=* | --addr=*) address=${word#*=} ;;
        -*=*) ;;
        -?*)
            _raftogramctl_find_value "$word"
            if [[ $value != - ]]; then
                ((++i < cword)) || return
                if [[ $word == -addr || $word == --addr ]]; then
                    address=${words[i]}
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
    "${words[0]/#\~/$HOME}" "$@" ${address:+-addr "$address"} -timeout 1s 2>/dev/null
}

# Prints the choices for a value or an operand, one a line. Ids that need escapes are left out.
_raftogramctl_values() {
    local name rest
    case $1 in
    *'|'*) tr '|' '\n' <<<"$1" ;;
    verb)
        while read -r name rest; do
            echo "$name"
        done <<<"$_raftogramctl_verb_rows"
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
        if [[ -n $names && ($verbs == '*' || ,$verbs, == *",${verb:--},"*) ]]; then
            echo "$1${names%%,*}"
        fi
    done <<<"$_raftogramctl_flag_rows"
}

# Prints the choices for the word at the cursor, one a line.
_raftogramctl_choices() {
    local current=$1 name operand summary
    if [[ $value != - ]]; then
        _raftogramctl_values "$value" "$current"
        return
    fi
    case $current in
    -*=*)
        _raftogramctl_find_value "${current%%=*}"
        _raftogramctl_values "$value" "${current#*=}" | sed "s/^/${current%%=*}=/"
        ;;
    --*) _raftogramctl_flags -- ;;
    -*) _raftogramctl_flags - ;;
    *)
        if [[ -z $verb ]]; then
            _raftogramctl_values verb
        elif ((operands == 0)); then
            while read -r name operand summary; do
                if [[ $name == "$verb" ]]; then
                    _raftogramctl_values "$operand" "$current"
                fi
            done <<<"$_raftogramctl_verb_rows"
        fi
        ;;
    esac
}

_raftogramctl() {
    local words cword verb operands address value
    _raftogramctl_words
    _raftogramctl_parse
    local current=${words[cword]} choice broken=
    # bash replaces only what follows its last break.
    if [[ $current == *[:=]* ]]; then
        broken=${current%"${current##*[:=]}"}
    fi
    COMPREPLY=()
    while IFS= read -r choice; do
        if [[ -n $choice && $choice == "$current"* ]]; then
            COMPREPLY+=("$(printf '%q' "${choice#"$broken"}")")
        fi
    done < <(_raftogramctl_choices "$current")
}

complete -F _raftogramctl raftogramctl
