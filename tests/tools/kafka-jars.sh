#!/usr/bin/env bash
# kafka-jars.sh: print the folder with Apache Kafka's jars (broker and Java client) and the compiled Auditor, made
# once. The version is pinned: 4.4.0 does not resolve, and a floating one would change the tests under us.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
version=${KAFKA_VERSION:-4.3.1}
jars=$ONNXFERRY_TEST_CACHE/kafka_2.13-$version
exec 9>"$ONNXFERRY_TEST_CACHE/.kafka.lock"
flock 9
if [ ! -e "$jars/.complete" ]; then
  rm -rf "$jars"
  mkdir -p "$jars"
  sed -e "s/@VERSION@/$version/" "$here/pom.xml.in" >"$jars/pom.xml"
  mvn -B -q -f "$jars/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$jars" >&2
  touch "$jars/.complete"
fi
# Recompiled whenever the source differs from the one that was compiled.
if ! cmp -s "$here/Auditor.java" "$jars/auditor/Auditor.java"; then
  rm -rf "$jars/auditor"
  mkdir -p "$jars/auditor"
  javac -Xlint:all,-classfile,-processing -Werror -cp "$jars/*" -d "$jars/auditor" "$here/Auditor.java" >&2
  cp "$here/Auditor.java" "$jars/auditor/"
fi
echo "$jars"
