#!/usr/bin/env bash
# deploy/quickstart.sh [OUTPUT]: from a fresh Debian 12 or 13 to an exported model, in one command.
#
# Installs what the build needs (root or sudo), fetches ONNX Runtime, builds onnxferry, and runs one job through a small
# broker inside the program: request → archive → ONNX directory → reply. The first run takes minutes, later ones seconds.
# Output: OUTPUT, or build/quickstart.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. deploy/packages.sh
output=${1:-build/quickstart}
begin=$SECONDS
mkdir -p "$output"
output=$(cd "$output" && pwd)

ort=${XDG_CACHE_HOME:-$HOME/.cache}/onnxferry/ort
packages=("${BUILD_PACKAGES[@]}" tar)
if grep -q '^VERSION_ID="1[0-2]"' /etc/os-release; then
  packages+=(python3 python3-pip unzip)  # the runtime comes out of a Python wheel
else
  packages+=(libonnxruntime-dev)
fi
echo "==> packages"
install_packages "${packages[@]}"
deploy/get-ort.sh "$ort"
export ONNXRUNTIME_INCLUDE=$ort/include ONNXFERRY_ONNXRUNTIME=$ort/lib/libonnxruntime.so.1

echo "==> build"
mkdir -p build
cmake --preset release >build/quickstart-configure.log || { cat build/quickstart-configure.log; exit 1; }
cmake --build build/release --target onnxferry
onnxferry=build/release/worker/onnxferry

echo "==> one job: the tiny Qwen2 checkpoint of tests/fixtures, as a tar archive"
rm -rf "$output/model" "$output/qwen2.tar"
tar -C tests/fixtures/qwen2/checkpoint -cf "$output/qwen2.tar" .
"$onnxferry" demo --source "$output/qwen2.tar" --output "$output/model" --verify full

(cd "$output/model" && sha256sum --quiet -c SHA256SUMS)
echo "==> SHA256SUMS: all files of $output/model match"
cat <<T

Done in $((SECONDS - begin)) s. The broker of this demo lives inside the program and has no transactions: it shows how a job
flows, not the exactly-once guarantee. That comes with a real Kafka. What to try next:

  export ONNXFERRY_ONNXRUNTIME=$ort/lib/libonnxruntime.so.1
  $onnxferry export DIR-OR-ARCHIVE OUT          a checkpoint of yours, without any queue
  $onnxferry models                             what can be converted
  $onnxferry serve --brokers HOST:9092 --s3-endpoint http://HOST:9000
                                       a worker; every setting is in deploy/worker.env.example
  $onnxferry submit --brokers HOST:9092 --source s3://bucket/model.tar -o s3://bucket/out/
                                       a request to it, waiting for the reply
T
