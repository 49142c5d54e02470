#!/usr/bin/env bash
# auditor.sh BOOTSTRAP read|group|create|- ARGUMENTS: run Auditor.java (see its head comment).
set -euo pipefail
jars=$("$(dirname "${BASH_SOURCE[0]}")/kafka-jars.sh")
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Xmx128m -Djava.net.preferIPv4Stack=true \
  -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$jars/auditor:$jars/*" Auditor "$@"
