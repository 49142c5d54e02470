#!/usr/bin/env bash
# versity-up.sh WORKDIR PORT ACCESSKEY SECRET: start versitygw, a real S3 server over a directory, on 127.0.0.1:PORT.
# The binary (Apache-2.0) is built once through the Go module proxy, pinned; needs go 1.25 or newer for that (about two
# CPU minutes), nothing afterwards. Last line: "endpoint=URL pid=PID". WORKDIR needs a file system with user xattrs.
# Stricter than SeaweedFS: it verifies the payload hash of plain signed PUTs. Stop it with versity-down.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -eq 4 ] || { echo "usage: versity-up.sh WORKDIR PORT ACCESSKEY SECRET" >&2; exit 2; }
work=$1 port=$2 access_key=$3 secret=$4
binary=$ONNXFERRY_TEST_CACHE/versitygw-1.8.0
exec 9>"$ONNXFERRY_TEST_CACHE/.versity.lock"
flock 9
if [ ! -x "$binary" ]; then
  build=$(mktemp -d "$ONNXFERRY_TEST_CACHE/.versity.XXXX")
  trap 'rm -rf "$build"' EXIT
  GOBIN=$build CGO_ENABLED=0 GOTOOLCHAIN=local nice go install -trimpath -ldflags '-s -w' \
    github.com/versity/versitygw/cmd/versitygw@v1.8.0 >&2
  mv "$build/versitygw" "$binary"
fi
exec 9>&-
mkdir -p "$work/data" "$work/iam"
work=$(cd "$work" && pwd)
cd "$work"
# Keep-alive is off by default.
nohup setsid "$binary" --port "127.0.0.1:$port" --access "$access_key" --secret "$secret" --iam-dir "$work/iam" \
  --keep-alive --quiet posix "$work/data" >"$work/log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$work/pid"
# Ready when a signed ListBuckets answers 200; the hash is that of the empty body.
for _ in $(seq 600); do
  kill -0 "$pid" 2>/dev/null || { echo "versitygw died:" >&2; tail -20 "$work/log" >&2; exit 5; }
  status=$(curl -s -o /dev/null -w '%{http_code}' --max-time 2 --aws-sigv4 aws:amz:us-east-1:s3 \
    -H x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \
    -u "$access_key:$secret" "http://127.0.0.1:$port/" || true)
  [ "$status" != 200 ] || { echo "endpoint=http://127.0.0.1:$port pid=$pid"; exit 0; }
  sleep 0.05
done
echo "versitygw is not ready after 30 s:" >&2
tail -20 "$work/log" >&2
kill -KILL "$pid" 2>/dev/null || true
exit 6
