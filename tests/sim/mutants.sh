#!/bin/sh
# Breaks the core on purpose, one defect of mutants/*.patch at a time, in a copy of the sources, and
# expects the simulator to notice each. What it would not notice it does not test.
#   mutants.sh [SOURCE_DIR [RUNS [NAME…]]]
set -eu
source_dir=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
runs=${2:-20000}
[ $# -gt 2 ] && shift 2 || shift $#
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0

build() {
    ${CC:-cc} -std=c11 -O2 -D_GNU_SOURCE -I "$1/node" -I "$1/tests" "$1"/tests/sim/raft_sim.c \
        "$1"/tests/lib/raft_cluster.c "$1"/tests/lib/raft_cluster_check.c "$1"/node/raft/*.c \
        "$1"/node/base/*.c -lxxhash -lpthread -o "$2"
}

for patch in "$source_dir"/tests/sim/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    case $name in node_*) continue ;; esac # those are for node_mutants.sh
    if [ $# -gt 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    rm -rf "$work/copy"
    mkdir -p "$work/copy/tests/lib" "$work/copy/tests/sim" "$work/copy/node"
    cp -r "$source_dir/node/raft" "$source_dir/node/base" "$work/copy/node/"
    cp "$source_dir"/tests/lib/raft_cluster* "$work/copy/tests/lib/"
    cp "$source_dir/tests/sim/raft_sim.c" "$work/copy/tests/sim/"
    if ! patch -s -p1 -d "$work/copy" <"$patch"; then
        echo "STALE   $name: the core has changed; make the patch anew"
        missed=$((missed + 1))
        continue
    fi
    build "$work/copy" "$work/sim"
    if timeout 300 "$work/sim" --runs "$runs" >"$work/out" 2>&1; then
        echo "MISSED  $name: $(tail -1 "$work/out")"
        missed=$((missed + 1))
    else
        echo "caught  $name: $(tail -1 "$work/out" | cut -c1-150)"
    fi
done
echo "$missed missed"
[ "$missed" -eq 0 ]
