#!/usr/bin/env bash
# weed-down.sh WORKDIR: stop SeaweedFS. By force: a graceful stop takes 2-5 s and the data is throw-away.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
work=$(cd "${1:?usage: weed-down.sh WORKDIR}" && pwd)
[ -e "$work/pid" ] || exit 0
pid=$(cat "$work/pid")
if process_is "$pid" "$work/data"; then
  kill -KILL "$pid"
fi
rm -f "$work/pid"
# It leaves its unix sockets behind.
read -r master volume filer s3 filer_http s3_http admin <"$work/ports"
rm -f /tmp/seaweedfs-{master,volume,filer,s3,admin}-grpc-{"$master","$volume","$filer","$s3","$admin"}.sock \
  "/tmp/seaweedfs-filer-$filer_http.sock" "/tmp/seaweedfs-s3-$s3_http.sock"
