#!/usr/bin/env bash
# versity-down.sh WORKDIR: stop versitygw.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
work=$(cd "${1:?usage: versity-down.sh WORKDIR}" && pwd)
[ -e "$work/pid" ] || exit 0
pid=$(cat "$work/pid")
if process_is "$pid" "$work/data"; then
  kill -KILL "$pid"
fi
rm -f "$work/pid"
