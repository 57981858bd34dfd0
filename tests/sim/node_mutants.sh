#!/bin/sh
# Breaks the node on purpose, one defect of mutants/node_*.patch at a time (and those of the core
# that are named in core_mutants below), in a copy of the sources, and expects the simulator of whole
# nodes to notice each. What it would not notice it does not test.
#   node_mutants.sh [-r RUNS] [SOURCE_DIR [NAME...]]
set -eu
runs=8000
if [ "${1:-}" = -r ]; then
    runs=$2
    shift 2
fi
source_dir=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
[ $# -gt 0 ] && shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0
total=0
compiler=${CC:-cc}

core_mutants="admit_counted_with_the_node_itself commit_beyond_match
founding_by_majority no_noop old_incarnations_match_kept
old_term_counted prev_term_not_compared read_before_own_term_commit
read_without_round recovering_ack_counted recovering_node_votes_and_campaigns
recovering_vote_counted vote_twice_in_a_term vote_without_log_check"

# As in CMakeLists.txt.
flags="-std=c11 -O2 -D_GNU_SOURCE -DRAFTOGRAM_VERSION=\"0\" -include $source_dir/tests/sim/node_sim_bounds.h"
cd "$source_dir"
sources=$(ls node/base/*.c node/raft/*.c node/storage/*.c node/store/*.c node/chat/*.c node/driver/*.c \
    node/peer/wire.c tests/lib/fs_memory.c tests/lib/store_memory.c \
    tests/lib/store_digest.c tests/sim/node_sim*.c | grep -v '^node/base/mailbox.c$')

# compile TREE SOURCE OBJECT: TREE has what is changed, the rest is the source directory's.
compile() {
    # shellcheck disable=SC2086
    $compiler $flags -I "$1/node" -I "$source_dir/node" -I "$source_dir/tests" \
        -I "$source_dir/tests/sim" -c "$1/$2" -o "$3"
}

object_of() {
    echo "$1" | tr / _ | sed 's/c$/o/'
}

mkdir "$work/objects"
export compiler flags source_dir work
echo "$sources" | xargs -P "$(nproc)" -I {} sh -c '
    name=$(echo {} | tr / _ | sed "s/c\$/o/")
    $compiler $flags -I node -I tests -I tests/sim -c {} -o "$work/objects/$name"'

# What fails by itself would count for a defect that was noticed.
$compiler "$work"/objects/*.o -o "$work/sim" -llmdb -lxxhash -lpthread
if ! timeout 300 "$work/sim" --no-trace --runs 500 >"$work/out" 2>&1; then
    echo "without a defect: $(tail -1 "$work/out")"
    exit 1
fi

try() {
    name=$1
    rm -rf "$work/copy" "$work/changed"
    mkdir -p "$work/copy/node" "$work/changed"
    cp -r node/base node/raft node/storage node/store node/chat node/driver node/peer "$work/copy/node/"
    total=$((total + 1))
    if ! patch -s -p1 -d "$work/copy" <"tests/sim/mutants/$name.patch"; then
        echo "STALE   $name: the node has changed; make the patch anew"
        missed=$((missed + 1))
        return
    fi
    cp "$work"/objects/*.o "$work/changed/"
    for source in $(sed -n 's|^+++ b/\([^ 	]*\).*|\1|p' "tests/sim/mutants/$name.patch"); do
        compile "$work/copy" "$source" "$work/changed/$(object_of "$source")"
    done
    $compiler "$work"/changed/*.o -o "$work/sim" -llmdb -lxxhash -lpthread
    # A patch may begin with "# runs: N", for a defect that few runs show.
    needed=$(sed -n '1s/^# runs: //p' "tests/sim/mutants/$name.patch")
    [ "${needed:-0}" -gt "$runs" ] || needed=$runs
    if timeout 600 "$work/sim" --no-trace --runs "$needed" >"$work/out" 2>&1; then
        echo "MISSED  $name: $(tail -1 "$work/out")"
        missed=$((missed + 1))
    else
        echo "caught  $name: $(tail -1 "$work/out" | cut -c1-150)"
    fi
}

if [ $# -eq 0 ]; then
    set -- $core_mutants $(ls tests/sim/mutants | sed -n 's/^\(node_.*\)\.patch$/\1/p')
fi
for mutant in "$@"; do
    try "$mutant"
done
echo "$((total - missed)) of $total caught"
[ "$missed" -eq 0 ]
