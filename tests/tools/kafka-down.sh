#!/usr/bin/env bash
# kafka-down.sh WORKDIR [TERM|KILL|STOP|CONT]: signal the broker of WORKDIR. TERM (default) stops it cleanly, and by
# force after 20 s; STOP and CONT pause and resume it. Only a process that is this broker is ever signalled.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
work=$(cd "${1:?usage: kafka-down.sh WORKDIR [TERM|KILL|STOP|CONT]}" && pwd)
signal=${2:-TERM}
[ -e "$work/pid" ] || exit 0
pid=$(cat "$work/pid")
if ! process_is "$pid" "$work/server.properties"; then
  rm -f "$work/pid"
  exit 0
fi
kill "-$signal" "$pid"
case $signal in STOP | CONT) exit 0 ;; esac
for _ in $(seq 200); do
  kill -0 "$pid" 2>/dev/null || break
  sleep 0.1
done
kill -CONT "$pid" 2>/dev/null || true
kill -KILL "$pid" 2>/dev/null || true
rm -f "$work/pid"
