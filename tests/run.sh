#!/usr/bin/env bash
# tests/run.sh [--only unit|deploy|contract|integration|chaos]... [--build-dir DIR] [-k EXPRESSION]
#
# From a fresh Debian 12 or 13 to a tested build: installs packages (root or sudo), fetches ONNX Runtime and the test
# servers, builds the preset dev, runs the unit tests, checks the manifests of deploy/ against their consumers' schemas,
# runs the contract suites against a real S3 server, the integration tests against a real Kafka broker and a real S3
# server, and a chaos run. Everything fetched is kept in the cache folder (~/.cache/onnxferry, ~/.cache/onnxferry-tests), so later runs
# need no network.
#
#   --only PHASE      build everything, run only this phase; can be repeated
#   --build-dir DIR   default: build/dev
#   -k EXPRESSION     only integration tests whose names match (pytest's -k)
#   ONNXFERRY_LONG=1  outages and pauses as long as in production (adds minutes)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. deploy/packages.sh

build_dir=build/dev phases=() pytest_args=()
while [ $# -gt 0 ]; do
  case $1 in
    --only) phases+=("${2:?--only needs unit, deploy, contract, integration or chaos}"); shift 2 ;;
    --build-dir) build_dir=${2:?--build-dir needs a directory}; shift 2 ;;
    -k) pytest_args+=(-k "${2:?-k needs an expression}"); shift 2 ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "unknown argument $1; see tests/run.sh --help" >&2; exit 2 ;;
  esac
done
for phase in "${phases[@]}"; do
  case $phase in unit | deploy | contract | integration | chaos) ;; *) echo "unknown phase $phase" >&2; exit 2 ;; esac
done
[ ${#phases[@]} -gt 0 ] || phases=(unit deploy contract integration chaos)

cache=${XDG_CACHE_HOME:-$HOME/.cache}
export ONNXFERRY_TEST_CACHE=${ONNXFERRY_TEST_CACHE:-$cache/onnxferry-tests}
mkdir -p "$ONNXFERRY_TEST_CACHE"
run_dir=$(mktemp -d "$ONNXFERRY_TEST_CACHE/run.XXXXXX")
export ONNXFERRY_TEST_RUN_DIR=$run_dir

# Whatever ends this script, no server outlives it: every server keeps its pid file below the run folder.
stop_servers() {
  local pid_file
  while IFS= read -r pid_file; do
    case $pid_file in
      */kafka*/pid) tests/tools/kafka-down.sh "$(dirname "$pid_file")" KILL || true ;;
      */s3/pid) tests/tools/weed-down.sh "$(dirname "$pid_file")" || true ;;
      */versity/pid) tests/tools/versity-down.sh "$(dirname "$pid_file")" || true ;;
      */proxy/pid) kill "$(cat "$pid_file")" 2>/dev/null || true ;;
    esac
  done < <(find "$run_dir" -maxdepth 4 -name pid)
  # A chaos run gives one worker a small disk of its own.
  awk -v root="$run_dir/" 'index($2, root) == 1 { print $2 }' /proc/mounts | xargs -r umount --lazy || true
  rm -rf "$run_dir"
}
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

summary=() failures=0
# phase NAME COMMAND...: run it in a subshell, remember its duration and whether it failed. Must be called plainly, not
# in a condition: there bash would ignore set -e inside the command.
phase() {
  local name=$1 begin=$SECONDS verdict=ok status
  shift
  echo "==== $name"
  set +e
  (
    set -e
    "$@"
  )
  status=$?
  set -e
  if [ $status != 0 ]; then
    verdict=FAILED
    failures=$((failures + 1))
  fi
  summary+=("$(printf '%-12s %4d s  %s' "$name" $((SECONDS - begin)) "$verdict")")
}

finish() {
  echo "==== summary"
  printf '%s\n' "${summary[@]}"
  if [ $failures -gt 0 ]; then
    echo "tests/run.sh: FAILED"
    exit 1
  fi
  echo "tests/run.sh: install, build, ${phases[*]}: all passed"
  exit 0
}

install_everything() {
  install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
  deploy/get-ort.sh "$cache/onnxferry/ort"
  make_venv "$ONNXFERRY_TEST_CACHE/venv" tests/tools/requirements.txt
  make_venv "$ONNXFERRY_TEST_CACHE/deploy-venv" tests/deploy/requirements.txt
  tests/tools/kafka-jars.sh >/dev/null
  tests/tools/strimzi-jars.sh >/dev/null
}

# make_venv FOLDER REQUIREMENTS: a Python environment with exactly these packages; made anew when they change.
make_venv() {
  cmp -s "$2" "$1/requirements.txt" && return
  rm -rf "$1"
  python3 -m venv "$1"
  "$1/bin/pip" install -q --disable-pip-version-check --no-deps -r "$2"
  cp "$2" "$1/requirements.txt"
}

build() {
  cmake --preset dev -B "$build_dir" >"$run_dir/configure.log" || { cat "$run_dir/configure.log"; return 1; }
  cmake --build "$build_dir"
}

run_ctest() {
  ctest --test-dir "$build_dir" --output-on-failure --no-tests=error "$@"
}

# contract_against FOLDER UP_SCRIPT ROLE: the suites against one S3 server, kept in $run_dir/FOLDER. ROLE: a role that
# the server's security token service gives; empty: it has none.
contract_against() {
  local folder=$1 up=$2 role=$3 access_key=testkey secret=testsecret port proxy_port endpoint
  read -r port proxy_port <<<"$(. tests/tools/lib.sh && free_ports 2)"
  endpoint=http://127.0.0.1:$port
  S3_STS=${role:+1} "$up" "$run_dir/$folder" "$port" "$access_key" "$secret"
  # The hash is that of the empty body.
  curl -sSf -X PUT --aws-sigv4 aws:amz:us-east-1:s3 -u "$access_key:$secret" \
    -H x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 "$endpoint/contract"
  python3 tests/tools/faultproxy.py "$proxy_port" "$port" &
  mkdir -p "$run_dir/$folder-front/proxy"
  echo $! >"$run_dir/$folder-front/proxy/pid"
  for _ in $(seq 100); do
    curl -sf "http://127.0.0.1:$proxy_port/__fault" >/dev/null && break
    sleep 0.05
  done
  ONNXFERRY_TEST_S3_ENDPOINT=$endpoint ONNXFERRY_TEST_S3_ACCESS_KEY=$access_key \
    ONNXFERRY_TEST_S3_SECRET_KEY=$secret ONNXFERRY_TEST_S3_BUCKET=contract ONNXFERRY_TEST_S3_ROLE=$role \
    ONNXFERRY_TEST_S3_PROXY_ENDPOINT=http://127.0.0.1:$proxy_port run_ctest -L contract
}

# The same server over TLS, with a certificate that only AWS_CA_BUNDLE makes trusted.
contract_over_tls() {
  local access_key=testkey secret=testsecret port endpoint
  port=$(. tests/tools/lib.sh && free_ports 1)
  endpoint=https://127.0.0.1:$port
  S3_TLS=1 tests/tools/weed-up.sh "$run_dir/tls/s3" "$port" "$access_key" "$secret"
  curl -sSf --cacert "$run_dir/tls/s3/cert.pem" -X PUT --aws-sigv4 aws:amz:us-east-1:s3 -u "$access_key:$secret" \
    -H x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 "$endpoint/contract"
  AWS_CA_BUNDLE=$run_dir/tls/s3/cert.pem ONNXFERRY_TEST_S3_ENDPOINT=$endpoint \
    ONNXFERRY_TEST_S3_ACCESS_KEY=$access_key ONNXFERRY_TEST_S3_SECRET_KEY=$secret \
    ONNXFERRY_TEST_S3_BUCKET=contract ONNXFERRY_TEST_S3_ROLE= run_ctest -R '^contract_storage$'
}

run_contract() {
  contract_against s3 tests/tools/weed-up.sh arn:aws:iam::000000000000:role/test
  contract_over_tls
}

# The second, stricter server is built with Go, which Debian 12 does not have in the version that it takes.
has_versity() {
  [ -x "$ONNXFERRY_TEST_CACHE/versitygw-1.8.0" ] ||
    [ "$(printf '%s\n' go1.25 "$(go env GOVERSION 2>/dev/null)" | sort -V | head -1)" = go1.25 ]
}

run_contract_versity() {
  contract_against versity tests/tools/versity-up.sh ""
}

# Without plugins: the one that a package brings along wants packages of its own.
run_deploy() {
  ONNXFERRY_BINARY=$(cd "$build_dir" && pwd)/worker/onnxferry PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
    "$ONNXFERRY_TEST_CACHE/deploy-venv/bin/python" -B -m pytest -p no:cacheprovider -q tests/deploy
}

# Most of these tests wait most of the time, so more of them run at once than there are processors; each process has a
# broker and an S3 server of its own. What -k chooses runs in one, with its output in order.
run_integration() {
  local parallel=(-n $(($(nproc) + 2)) --dist loadgroup)
  [ ${#pytest_args[@]} = 0 ] || parallel=()
  ONNXFERRY_BINARY=$(cd "$build_dir" && pwd)/worker/onnxferry "$ONNXFERRY_TEST_CACHE/venv/bin/python" -B -m pytest \
    -p no:cacheprovider -q --durations=10 "${parallel[@]}" "${pytest_args[@]}" tests/integration
}

run_chaos() {
  ONNXFERRY_BINARY=$(cd "$build_dir" && pwd)/worker/onnxferry "$ONNXFERRY_TEST_CACHE/venv/bin/python" -B tests/chaos/run.py \
    --jobs 110 --pace 0.7 --seed 20261
}

export ONNXRUNTIME_INCLUDE=$cache/onnxferry/ort/include
export ONNXFERRY_ONNXRUNTIME=$cache/onnxferry/ort/lib/libonnxruntime.so.1
phase install install_everything
[ $failures = 0 ] || finish
phase build build
[ $failures = 0 ] || finish
for name in "${phases[@]}"; do
  case $name in
    unit) phase unit run_ctest -L unit -j "$(nproc)" ;;
    deploy) phase deploy run_deploy ;;
    contract)
      phase contract run_contract
      if has_versity; then
        phase versitygw run_contract_versity
      else
        echo "==== versitygw: SKIPPED, go 1.25 or newer is not installed: the contract ran against SeaweedFS only"
        summary+=("versitygw       SKIPPED: needs go 1.25 or newer")
      fi
      ;;
    integration) phase integration run_integration ;;
    chaos) phase chaos run_chaos ;;
  esac
done
finish
