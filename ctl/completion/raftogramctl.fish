# Completion of raftogramctl for fish, printed by `raftogramctl completion fish`.
#
# Channels, keys and nodes come from the cluster that -addr on the line (or RAFTOGRAM_ADDR) names,
# within one second.

# Each line: a verb, its first operand (- none), its summary.
function __raftogramctl_verb_rows
    string match -v '' -- (string split \n -- '
@VERBS@
')
end

# Each line: a flag's names, the verbs that take it (* all, - only without a verb), its value
# (- none), its summary.
function __raftogramctl_flag_rows
    string match -v '' -- (string split \n -- '
@FLAGS@
')
end

# Prints what the flag has as its value: - for none.
function __raftogramctl_value -a flag
    set -l name (string replace -r '^--?' '' -- $flag)
    for row in (__raftogramctl_flag_rows)
        set -l columns (string split -m 3 ' ' -- $row)
        if contains -- $name (string split , -- $columns[1])
            echo $columns[3]
            return
        end
    end
    echo -
end

# Asks the cluster of -addr, which is in $__raftogramctl_address.
function __raftogramctl_ask
    set -l program (string replace -r '^~' $HOME -- (commandline -opc)[1])
    set -l flags -timeout 1s
    if test -n "$__raftogramctl_address"
        set flags $flags -addr $__raftogramctl_address
    end
    command $program $argv $flags 2>/dev/null
end

# Prints the choices for a value or an operand, one a line, with a summary after a tab where there
# is one. Ids that need escapes are left out.
function __raftogramctl_values -a kind current
    switch $kind
        case '*|*'
            string split '|' -- $kind
        case verb
            for row in (__raftogramctl_verb_rows)
                set -l columns (string split -m 2 ' ' -- $row)
                printf '%s\t%s\n' $columns[1] $columns[3]
            end
        case channel
            __raftogramctl_ask channels -prefix "$current" -o json |
                grep -o '"channelId":"[^"\\\\]*"' | sed 's/^[^:]*:"//; s/"$//'
        case key
            # A hundred at most: there may be very many.
            __raftogramctl_ask keys -prefix "$current" -limit 100 -o table |
                sed 1d | grep -vF '\\'
        case node
            __raftogramctl_ask status -o json |
                grep -o '"nodeId":"[^"\\\\]*"' | sed 's/^[^:]*:"//; s/"$//' | sort -u
    end
end

# Prints the flags of the verb, with the dashes.
function __raftogramctl_flags -a verb dashes
    for row in (__raftogramctl_flag_rows)
        set -l columns (string split -m 3 ' ' -- $row)
        if contains -- $columns[2] '*' || contains -- "$verb" (string split , -- $columns[2])
            printf '%s%s\t%s\n' $dashes (string split , -- $columns[1])[1] $columns[4]
        end
    end
end

# Prints the choices for the word at the cursor, one a line.
function __raftogramctl_choices
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l verb -
    set -l operands 0
    set -l flag
    set -g __raftogramctl_address
    set -e words[1]
    for word in $words
        if set -q flag[1]
            # The value of the flag before it.
            if contains -- $flag -addr --addr
                set -g __raftogramctl_address $word
            end
            set flag
        else if string match -qr '^--?addr=' -- $word
            set -g __raftogramctl_address (string replace -r '^[^=]*=' '' -- $word)
        else if string match -qr '^-.*=' -- $word
            continue
        else if string match -qr '^-.' -- $word
            if test (__raftogramctl_value $word) != -
                set flag $word
            end
        else if test $verb = -
            set verb $word
        else
            set operands (math $operands + 1)
        end
    end
    if set -q flag[1]
        __raftogramctl_values (__raftogramctl_value $flag) $current
    else if string match -qr '^-.*=' -- $current
        set -l name (string split -m 1 = -- $current)[1]
        printf "$name=%s\n" (__raftogramctl_values (__raftogramctl_value $name))
    else if string match -q -- '--*' $current
        __raftogramctl_flags $verb --
    else if string match -q -- '-*' $current
        __raftogramctl_flags $verb -
    else if test $verb = -
        __raftogramctl_values verb
    else if test $operands = 0
        for row in (__raftogramctl_verb_rows)
            set -l columns (string split -m 2 ' ' -- $row)
            if test $columns[1] = $verb
                __raftogramctl_values $columns[2] $current
            end
        end
    end
end

complete -c raftogramctl -f -a '(__raftogramctl_choices)'
