#!/usr/bin/env bash
# tests/fuzz/run.sh [SECONDS=60] [TARGET...]
#
# Builds the preset fuzz (clang-19, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer) and runs every target, or
# those named, for SECONDS each. New inputs stay in build/fuzz/corpus; an input that crashes is left in
# build/fuzz/crash-TARGET-*: fix the bug, then put it into tests/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. deploy/packages.sh

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(safetensors index torch config tar compressed zip request s3_xml offsets)

program_of() {
  case $1 in
    tar | compressed | zip) echo fuzz_archive ;;
    *) echo "fuzz_$1" ;;
  esac
}

install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${FUZZ_PACKAGES[@]}"
mkdir -p build
cmake --preset fuzz >build/fuzz.log || { cat build/fuzz.log; exit 1; }
programs=()
for target in "${targets[@]}"; do
  programs+=("$(program_of "$target")")
done
cmake --build build/fuzz --target "${programs[@]}"

failed=()
for target in "${targets[@]}"; do
  echo "==== $target"
  mkdir -p "build/fuzz/corpus/$target"
  # A unit may take 10 s and 1 GiB; anything beyond is a finding.
  if ! UBSAN_OPTIONS=print_stacktrace=1 nice "build/fuzz/tests/fuzz/$(program_of "$target")" -max_total_time="$seconds" \
    -max_len=65536 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="build/fuzz/crash-$target-" "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target"; then
    failed+=("$target")
  fi
done
[ ${#failed[@]} = 0 ] || { echo "found something: ${failed[*]}"; exit 1; }
echo "all clean"
