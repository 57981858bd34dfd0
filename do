#!/usr/bin/env bash
# The project's tasks in one place: `./do help`.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # as after `sh ./do`
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

# The build directories of the presets in CMakePresets.json.
BUILD=build
BUILD_ASAN=build-asan
BUILD_TSAN=build-tsan
BUILD_FUZZ=build-fuzz
TOOLS=build-tools

DAEMON_PACKAGES=(
    build-essential cmake ninja-build pkg-config
    liblmdb-dev libgrpc-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
    libprotobuf-dev libwebsockets-dev libjansson-dev libyaml-dev libcmocka-dev libxxhash-dev
    libsystemd-dev uthash-dev libjwt-dev libargon2-dev libssl-dev
)
RUN_PACKAGES=(curl)
TEST_PACKAGES=(
    clang clang-format libclang-rt-14-dev python3 python3-venv ca-certificates git chromium
    jq systemd util-linux mount groff-base zsh fish openssl argon2
)
# The foreign clients of README's examples, which Debian has not, or too old; see setup_tools.
GO_VERSION=1.26.8
GO_TOOLS=(
    github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
    google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
    google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1
)
PYTHON_PACKAGES=tests/integration/requirements.txt

usage() {
    cat <<'END'
usage: ./do VERB [ARGUMENT...]

  setup            install what is missing: Debian packages (as root, or through sudo), and into
                   build-tools/ the foreign clients that the tests use
  build            build the daemon, raftogramctl and the tests into build/
  run              build, then start the local three-node cluster; Ctrl-C stops it. A node that ends
                   is started again after some seconds
  test [STAGE]     everything, or one of: unit layers format asan tsan integration
                   integration_asan chaos e2e
  test --in RELEASE [--user] [STAGE]
                   the same from nothing in a chroot of Debian bookworm or trixie, as root or as a
                   user with sudo (needs root and debootstrap)
  sim [ARG...]     the simulator of whole nodes: the seeds that once failed and 500 new ones, or as
                   its arguments say (--seed N --runs N --trace); --core: that of the Raft core
                   alone; --mutants: break node and core on purpose, and expect both to notice
  fuzz [--seconds S]  build all fuzz targets and run each one for S seconds (60)
  fuzz NAME [ARG...]  one of them, tests/fuzz/NAME_fuzz.c (--seconds S or libFuzzer's arguments)
  chaos [ARG...]   real clusters under faults: --minutes M --seed N; see docs/durability.md
  bench [ARG...]   the load generator
  format [--check] clang-format over our sources; with --check only tell what is not formatted
  clean            remove what the other verbs built (not data/)
  help             this text
END
}

say() {
    printf '==> %s\n' "$*"
}

fail() {
    printf './do: %s\n' "$*" >&2
    exit 1
}

# ---- setup --------------------------------------------------------------------------------------

is_installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "neither root nor sudo; as root, run: $*"
    fi
}

missing_packages() {
    local package
    for package in "$@"; do
        is_installed "$package" || echo "$package"
    done
}

# Whatever brought node and npm will do; only when they are absent Debian's are taken.
missing_node() {
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

# ensure [PACKAGE...]: installs what is missing, and says nothing when nothing is.
ensure() {
    (($# > 0)) || return 0
    command -v dpkg-query >/dev/null ||
        fail "setup knows Debian only; install the likes of: $*"
    say "setup: installing $*"
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

ensure_run() {
    # shellcheck disable=SC2046
    ensure $(missing_packages "${DAEMON_PACKAGES[@]}" "${RUN_PACKAGES[@]}")
}

# Go of our version or a later one: README's example uses the newest grpc-go.
has_go() {
    local version
    version=$(go env GOVERSION 2>/dev/null) || return 1
    printf 'go%s\n%s\n' "$GO_VERSION" "$version" | sort -C -V
}

missing_go() {
    has_go || [[ -x $TOOLS/bin/go ]] || echo golang-go
}

# use_tools: what setup_tools has brought comes first, and Go keeps its modules there.
use_tools() {
    export PATH=$PWD/$TOOLS/bin:$PWD/$TOOLS/python/bin:$PATH
    export GOPATH=$PWD/$TOOLS/go GOCACHE=$PWD/$TOOLS/go-build
    # Without the first, rm could not remove the modules.
    GOFLAGS="-modcacherw $(go env GOFLAGS 2>/dev/null || true)"
    export GOFLAGS
}

# Debian's Go is too old, but can fetch a newer one, checked by Go's checksum database. What that one
# does with itself at its first start is done here: programs may be run, go.mod gets its name.
setup_go() {
    ! has_go || return 0
    say "setup: Go $GO_VERSION"
    local module dir file
    module=golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-$(dpkg --print-architecture)
    go mod download "$module"
    dir=$GOPATH/pkg/mod/$module
    chmod -R u+w "$dir"
    find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod +x {} +
    find "$dir" -name _go.mod | while IFS= read -r file; do
        mv "$file" "${file%/_go.mod}/go.mod"
    done
    ln -sf "$dir/bin/go" "$TOOLS/bin/go"
    hash -r
    has_go || fail "setup: the Go of $module does not run"
}

setup_go_tools() {
    local stamp=$TOOLS/go-tools tool
    [[ $(cat "$stamp" 2>/dev/null) != "${GO_TOOLS[*]}" ]] || return 0
    for tool in "${GO_TOOLS[@]}"; do
        say "setup: $tool"
        GOBIN=$PWD/$TOOLS/bin go install "$tool"
    done
    printf '%s\n' "${GO_TOOLS[*]}" >"$stamp"
}

setup_python() {
    ! cmp -s "$PYTHON_PACKAGES" "$TOOLS/python/installed.txt" || return 0
    say "setup: $PYTHON_PACKAGES"
    python3 -m venv --clear "$TOOLS/python"
    "$TOOLS/python/bin/pip" install --quiet --disable-pip-version-check -r "$PYTHON_PACKAGES"
    cp "$PYTHON_PACKAGES" "$TOOLS/python/installed.txt"
}

# Of Debian's prometheus only promtool: to install it would start a server.
setup_promtool() {
    ! command -v promtool >/dev/null || return 0
    say "setup: promtool"
    local dir=$TOOLS/prometheus
    rm -rf "$dir"
    mkdir -p "$dir"
    (cd "$dir" && apt-get -q -o APT::Sandbox::User=root download prometheus && dpkg -x prometheus_*.deb .)
    mv "$dir/usr/bin/promtool" "$TOOLS/bin/"
    rm -rf "$dir"
}

setup_tools() {
    mkdir -p "$TOOLS/bin"
    use_tools
    setup_go
    setup_go_tools
    setup_python
    setup_promtool
}

do_setup() {
    # shellcheck disable=SC2046
    ensure $(missing_packages "${DAEMON_PACKAGES[@]}" "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
        missing_node
        missing_go)
    setup_tools
    say "setup: everything is installed"
}

# ---- build --------------------------------------------------------------------------------------

# configure PRESET: configures the build directory of a preset of CMakePresets.json.
configure() {
    local preset=$1 options=() log
    if command -v ccache >/dev/null; then
        options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    fi
    log=$(cmake --preset "$preset" "${options[@]}" 2>&1) || {
        printf '%s\n' "$log" >&2
        fail "cmake failed; ./do setup installs what is missing"
    }
}

do_build() {
    ensure_run
    say "build: $BUILD/"
    configure dev
    ninja -C "$BUILD" "$@"
    local program
    for program in raftogram raftogramctl; do
        [[ -x $BUILD/$program ]] || fail "the build made no $BUILD/$program"
    done
}

# ---- run ----------------------------------------------------------------------------------------

RUN_NODES=(node1 node2 node3)
RUN_STOP_SECONDS=30
# A node that ended is started again after so many seconds, doubled by each start that failed.
RUN_RESTART_SECONDS=${RAFTOGRAM_RESTART_SECONDS:-3}
RUN_RESTART_SECONDS_MAX=30
RUN_FAILED_STARTS_MAX=4
RUN_START_SECONDS=5 # a node that ended earlier has failed to start

# Marks each line with the node's name. Signals are ignored so that the last lines get through.
prefix_lines() {
    trap '' INT TERM HUP
    exec {lock}>&-
    local line
    while IFS= read -r line || [[ -n $line ]]; do
        printf '%s | %s\n' "$1" "$line"
    done
}

# True once the node whose HTTP address is given answers and knows a leader.
knows_leader() {
    curl -fsS -m 1 "http://$1/health" 2>/dev/null | grep -Eq '"leader_id": ?"[^"]'
}

# own_address NODE KEY: the value of a bind address in the node's local configuration.
own_address() {
    sed -n "s/^ *$2: *//p" "conf/local/$1.yaml"
}

print_addresses() {
    local node
    say "the cluster is up; Ctrl-C stops it"
    for node in "${RUN_NODES[@]}"; do
        local http
        http=$(own_address "$node" health_bind_addr)
        printf '    %s   gRPC %s   page http://%s/   health http://%s/health   process %s\n' \
            "$node" "$(own_address "$node" grpc_bind_addr)" "$http" "$http" "${pids[$node]:-none}"
    done
}

# One cluster at a time in this folder. The lock is on this file and ends with the script; its
# descriptor is do_run's `lock`.
lock_run() {
    exec {lock}<"${BASH_SOURCE[0]##*/}"
    flock -n "$lock" ||
        fail "run: the cluster runs already, by another ./do run in $PWD: http://$(own_address node1 health_bind_addr)/"
}

# Ends the script when something listens where a node of ours is to.
ensure_free_addresses() {
    local node key address
    for node in "${RUN_NODES[@]}"; do
        for key in raft_bind_addr grpc_bind_addr health_bind_addr; do
            address=$(own_address "$node" "$key")
            if (exec {probe}<>"/dev/tcp/${address%:*}/${address##*:}") 2>/dev/null; then
                fail "run: $address is in use, and $node needs it (conf/local/$node.yaml, $key); stop what listens there, such as another cluster"
            fi
        done
    done
}

# What follows shares do_run's arrays, by node: `pids` of those that run, `started` and `restart_at` in
# $SECONDS, `failed_starts` in a row, and `awaited`: those that have been started and not yet answered.

start_node() {
    # A session of its own: Ctrl-C is for this script, which then stops the nodes. If the script is
    # killed they stop, too.
    setsid setpriv --pdeathsig TERM "$BUILD/raftogram" -config "conf/local/$1.yaml" -dev \
        > >(prefix_lines "$1") 2>&1 {lock}>&- &
    pids[$1]=$!
    started[$1]=$SECONDS
    awaited[$1]=1
    unset "restart_at[$1]"
}

# how_ended CODE: the end of a sentence about a process, from what `wait` says of it.
how_ended() {
    if (($1 > 128)); then
        echo "was killed (SIG$(kill -l $(($1 - 128))))"
    elif (($1 > 0)); then
        echo "ended with exit code $1 (its last lines say why)"
    else
        echo "has stopped (exit code 0)"
    fi
}

# note_end NODE CODE: says what happened to a node that ended, and when it is started again, if ever.
note_end() {
    local node=$1 code=$2 delay=$RUN_RESTART_SECONDS tries
    # Killing a node is no failure of its start.
    if ((code == 128 + 9 || code == 128 + 15)); then
        failed_starts[$node]=0
    elif [[ -n ${awaited[$node]:-} ]] || ((SECONDS - started[$node] < RUN_START_SECONDS)); then
        failed_starts[$node]=$((failed_starts[$node] + 1))
    else
        failed_starts[$node]=0
    fi
    tries=${failed_starts[$node]}
    unset "pids[$node]" "awaited[$node]"
    if ((tries >= RUN_FAILED_STARTS_MAX)); then
        say "$node $(how_ended "$code"); $tries starts in a row have failed, so it is not started again. The others go on"
        return
    fi
    while ((--tries > 0)); do
        delay=$((delay * 2))
    done
    ((delay <= RUN_RESTART_SECONDS_MAX)) || delay=$RUN_RESTART_SECONDS_MAX
    restart_at[$node]=$((SECONDS + delay))
    say "$node $(how_ended "$code"); the others go on, and it is started again in $delay s"
}

# Looks after one node: notes that it ended or is back, and starts it again when it is time.
look_after() {
    local node=$1 code=0
    if [[ -n ${restart_at[$node]:-} ]]; then
        ((SECONDS < restart_at[$node])) || start_node "$node"
    elif [[ -n ${pids[$node]:-} ]]; then
        local answers=0
        if [[ -n ${awaited[$node]:-} ]] &&
            knows_leader "$(own_address "$node" health_bind_addr)"; then
            answers=1
        fi
        # After the question: the answer may have come from another program on our port.
        if ! kill -0 "${pids[$node]}" 2>/dev/null; then
            wait "${pids[$node]}" || code=$?
            note_end "$node" "$code"
        elif ((answers)); then
            unset "awaited[$node]"
            ((!is_up)) || say "$node is back (process ${pids[$node]})"
        fi
    fi
}

# Asks what still runs to stop and waits for it; false if anything ended badly.
stop_nodes() {
    local node status=0 deadline=$((SECONDS + RUN_STOP_SECONDS))
    ((${#pids[@]} == 0)) || kill -TERM "${pids[@]}" 2>/dev/null || true
    for node in "${!pids[@]}"; do
        while kill -0 "${pids[$node]}" 2>/dev/null && ((SECONDS < deadline)); do
            sleep 0.1
        done
        if kill -0 "${pids[$node]}" 2>/dev/null; then
            say "$node did not stop within $RUN_STOP_SECONDS s; killing it"
            kill -KILL "${pids[$node]}"
        fi
        local code=0
        wait "${pids[$node]}" || code=$?
        if ((code != 0)); then
            say "$node $(how_ended "$code")"
            status=1
        fi
    done
    return $status
}

do_run() {
    local lock
    lock_run
    ensure_free_addresses
    do_build raftogram raftogramctl
    local -A pids=() started=() restart_at=() failed_starts=() awaited=()
    local node is_stopping=0 is_up=0 status=0
    trap 'is_stopping=1' INT TERM HUP
    for node in "${RUN_NODES[@]}"; do
        failed_starts[$node]=0
        start_node "$node"
    done
    while ((!is_stopping)); do
        for node in "${RUN_NODES[@]}"; do
            look_after "$node"
        done
        if ((!is_up && ${#pids[@]} > 0 && ${#awaited[@]} == 0 && ${#restart_at[@]} == 0)); then
            is_up=1
            print_addresses
        fi
        if ((${#pids[@]} == 0 && ${#restart_at[@]} == 0)); then
            say "no node can be started"
            status=1
            break
        fi
        sleep 0.3 || true
    done 2>/dev/null # bash reports killed processes in its own words there
    say "stopping the nodes"
    trap '' INT TERM HUP
    stop_nodes || status=1
    for node in "${RUN_NODES[@]}"; do
        ((failed_starts[$node] < RUN_FAILED_STARTS_MAX)) || status=1
    done
    say "all nodes have stopped"
    return $status
}

# ---- test ---------------------------------------------------------------------------------------

run_ctest() {
    local dir=$1
    shift
    ctest --test-dir "$dir" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
}

stage_unit() {
    run_ctest "$BUILD" -LE layers
}

stage_layers() {
    run_ctest "$BUILD" -L layers --verbose
}

stage_format() {
    do_format --check
}

stage_asan() {
    configure asan
    ninja -C "$BUILD_ASAN"
    run_ctest "$BUILD_ASAN" -LE layers
}

stage_tsan() {
    configure tsan
    ninja -C "$BUILD_TSAN" thread_tests
    # clang 14's runtime cannot place its shadow when the kernel randomises addresses widely.
    local fixed_addresses=()
    if setarch -R true 2>/dev/null; then
        fixed_addresses=(setarch -R)
    fi
    TSAN_OPTIONS="suppressions=$PWD/tests/lib/tsan.supp halt_on_error=1" \
        "${fixed_addresses[@]}" ctest --test-dir "$BUILD_TSAN" --output-on-failure \
        --no-tests=error -L threads
}

stage_integration() {
    (
        cd tests/integration
        npm ci --no-audit --no-fund
        RAFTOGRAM_BUILD=$OLDPWD/$BUILD npm test
    )
}

# The daemon under AddressSanitizer: its life, the walk, kills, HTTP and the WebSocket.
stage_integration_asan() {
    configure asan
    ninja -C "$BUILD_ASAN" raftogram raftogramctl
    (
        cd tests/integration
        RAFTOGRAM_BUILD=$OLDPWD/$BUILD_ASAN node --test --test-concurrency=1 \
            walk.test.mjs kill.test.mjs errors.test.mjs encodings.test.mjs wire.test.mjs bounds.test.mjs ws_protocol.test.mjs \
            http_smuggling.test.mjs http.test.mjs
    )
}

# Its own tests first; then new faults each time, by the seed that it prints.
stage_chaos() {
    ensure_node_modules
    RAFTOGRAM_BUILD=$BUILD node --test tests/chaos/checker/ tests/chaos/disk/
    RAFTOGRAM_BUILD=$BUILD node tests/chaos/run.mjs --minutes 0.6
}

# The page in Chromium.
stage_e2e() {
    (
        cd tests/e2e
        npm ci --no-audit --no-fund
        RAFTOGRAM_BUILD=$OLDPWD/$BUILD npm test
    )
}

known_stages() {
    echo unit layers format asan tsan integration integration_asan chaos e2e
}

run_stage() {
    local stage=$1 begin=$SECONDS status
    say "test: $stage"
    # `set -e` would not hold inside a stage that stands in a condition.
    set +e
    (
        set -e
        "stage_$stage"
    )
    status=$?
    set -e
    if ((status != 0)); then
        say "test: $stage FAILED after $((SECONDS - begin)) s; passed before it: ${PASSED[*]:-none}"
        exit 1
    fi
    PASSED+=("$stage ($((SECONDS - begin)) s)")
}

# Some tests mount a disk, and the stages take longer than sudo remembers a password.
keep_sudo() {
    [[ $(id -u) != 0 ]] && command -v sudo >/dev/null || return 0
    sudo -v || fail "test: the tests of full disks mount small ones: sudo has to let you"
    while sleep 60 && kill -0 $$ 2>/dev/null; do
        sudo -n -v || true
    done </dev/null >/dev/null 2>&1 &
    SUDO_KEEPER=$!
    trap 'kill "$SUDO_KEEPER" 2>/dev/null || true' EXIT
}

do_test() {
    local stages known
    if [[ ${1:-} == --in ]]; then
        (($# >= 2)) || fail "test: --in needs a release: bookworm or trixie"
        local release=$2 who=root
        shift 2
        if [[ ${1:-} == --user ]]; then
            who=user
            shift
        fi
        exec tests/chroot "$release" "$who" "$@"
    fi
    read -r -a known < <(known_stages | xargs)
    stages=("${known[@]}")
    if (($# > 0)); then
        stages=("$@")
    fi
    local stage
    for stage in "${stages[@]}"; do
        [[ " ${known[*]} " == *" $stage "* ]] ||
            fail "no test stage '$stage' in this tree; there are: ${known[*]}"
    done
    do_setup
    keep_sudo
    do_build
    # Everything is there: a test that would be skipped for want of it fails.
    export RAFTOGRAM_TEST_ALL=1
    PASSED=()
    for stage in "${stages[@]}"; do
        run_stage "$stage"
    done
    say "test: passed"
    printf '    %s\n' "${PASSED[@]}"
}

# ---- the rest -----------------------------------------------------------------------------------

do_sim() {
    local program=raftogram-sim arguments=("$@")
    case ${1:-} in
    --mutants)
        tests/sim/mutants.sh
        exec tests/sim/node_mutants.sh
        ;;
    --core)
        program=raftogram-core-sim
        arguments=("${@:2}")
        ;;
    '') arguments=(--kept tests/sim/kept_seeds --seed new --runs 500) ;;
    esac
    configure dev
    ninja -C "$BUILD" "$program"
    exec "$BUILD/$program" "${arguments[@]}"
}

# run_fuzz NAME [ARG...]: what it finds is kept in the build directory, the corpus in the tree is only
# read. Inputs that end the target are written to build-fuzz/found_NAME-*.
run_fuzz() {
    local name=$1 kept=$BUILD_FUZZ/corpus_$1
    shift
    mkdir -p "$kept"
    "$BUILD_FUZZ/${name}_fuzz" -artifact_prefix="$BUILD_FUZZ/found_$name-" "$@" "$kept" \
        "tests/fuzz/corpus/$name"
}

do_fuzz() {
    local names seconds=60 arguments=() failed=()
    read -r -a names < <(cd tests/fuzz && ls -- *_fuzz.c | sed 's/_fuzz\.c$//' | xargs)
    if (($# > 0)) && [[ $1 != -* ]]; then
        [[ " ${names[*]} " == *" $1 "* ]] ||
            fail "no fuzz target '$1'; there are: ${names[*]}"
        names=("$1")
        seconds=
        shift
    fi
    while (($# > 0)); do
        if [[ $1 == --seconds ]]; then
            [[ ${2:-} =~ ^[0-9]+$ ]] || fail "fuzz: --seconds wants a number"
            seconds=$2
            shift 2
        else
            arguments+=("$1")
            shift
        fi
    done
    configure fuzz
    ninja -C "$BUILD_FUZZ" "${names[@]/%/_fuzz}"
    if [[ -n $seconds ]]; then
        arguments+=(-max_total_time="$seconds" -print_final_stats=1)
    fi
    local name
    for name in "${names[@]}"; do
        say "fuzz: $name"
        run_fuzz "$name" "${arguments[@]}" || failed+=("$name")
    done
    ((${#failed[@]} == 0)) || fail "fuzz: failed: ${failed[*]}"
    say "fuzz: passed: ${names[*]}"
}

# The stock clients of the integration tests serve here too.
ensure_node_modules() {
    # shellcheck disable=SC2046
    ensure $(missing_node)
    [[ -d tests/integration/node_modules ]] ||
        (cd tests/integration && npm ci --no-audit --no-fund)
}

do_chaos() {
    do_build
    ensure_node_modules
    RAFTOGRAM_BUILD=$BUILD exec node tests/chaos/run.mjs "$@"
}

do_bench() {
    do_build
    RAFTOGRAM_BUILD=$PWD/$BUILD exec bench/run "$@"
}

do_format() {
    local files
    mapfile -t files < <(
        find node frontends ctl tests bench -name '*.[ch]' -not -path '*/node_modules/*' 2>/dev/null |
            sort
    )
    if [[ ${1:-} == --check ]]; then
        clang-format --dry-run -Werror "${files[@]}"
    else
        clang-format -i "${files[@]}"
    fi
}

do_clean() {
    rm -rf "$BUILD" "$BUILD_ASAN" "$BUILD_TSAN" "$BUILD_FUZZ" "$TOOLS"
    rm -rf tests/integration/node_modules tests/e2e/node_modules
}

verb=${1:-help}
(($# == 0)) || shift
case $verb in
setup | build | run | test | sim | fuzz | chaos | bench | format | clean) "do_$verb" "$@" ;;
help | -h | --help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
