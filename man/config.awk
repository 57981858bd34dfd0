# Makes raftogram.yaml(5) from conf/config.yaml.dist: the comments above a key explain it.
#
#   awk -v version=0.1.0 -f config.awk config.yaml.dist > raftogram.yaml.5

function escaped(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    return text ~ /^[.']/ ? "\\&" text : text
}

# Prints the comment that was collected. An empty comment line begins a new paragraph.
function flush(    i) {
    for (i = 1; i <= count; i++) {
        print comment[i] == "" ? (in_key ? ".IP" : ".PP") : escaped(comment[i])
    }
    count = 0
}

BEGIN {
    printf ".TH RAFTOGRAM.YAML 5 \"\" \"raftogram %s\" \"File Formats\"\n", version
    print ".SH NAME\nraftogram.yaml \\- the configuration of one raftogram node\n.SH DESCRIPTION"
}

/^ *#/ {
    sub(/^ *# ?/, "")
    comment[++count] = $0
    next
}

/^[ \t]*$/ {
    if (count > 0 && section == "") {
        flush()
        print ".PP"
    }
    next
}

# A section, with its only key behind it or its keys below.
/^[a-z_]+:/ {
    section = $1
    sub(/:$/, "", section)
    in_key = 0
    print ".SH " toupper(section)
    flush()
    next
}

# A key of a section.
/^  [a-z_]+:/ {
    name = $1
    sub(/:$/, "", name)
    value = $0
    sub(/^ *[a-z_]+: */, "", value)
    remark = ""
    if (match(value, / +# /)) {
        remark = substr(value, RSTART + RLENGTH)
        value = substr(value, 1, RSTART - 1)
    }
    print ".TP"
    printf "\\fB%s.%s\\fR", section, escaped(name)
    if (value != "") {
        printf " = \\fI%s\\fR", escaped(value)
    }
    print ""
    in_key = 1
    if (count == 0 && remark == "") {
        print "See above."
    }
    flush()
    if (remark != "") {
        print escaped(remark) "."
    }
    next
}

# A key of the first member, which explains those of all.
/^ +- [a-z_]+:|^      [a-z_]+:/ {
    line = $0
    sub(/^ +(- )?/, "", line)
    name = line
    sub(/:.*/, "", name)
    if (name in members) {
        next
    }
    members[name] = 1
    remark = ""
    if (match(line, / +# /)) {
        remark = ": " substr(line, RSTART + RLENGTH)
    }
    print ".IP"
    printf "\\fB%s\\fR%s\n", escaped(name), escaped(remark)
    flush()
}

END {
    print ".SH SEE ALSO\n.BR raftogram (1),\n.BR raftogramctl (1)"
}
