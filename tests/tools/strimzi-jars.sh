#!/usr/bin/env bash
# strimzi-jars.sh: print the folder with Strimzi's own Java classes of its resources and the compiled CheckStrimzi,
# made once. Pinned.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
version=0.49.1
jars=$ONNXFERRY_TEST_CACHE/strimzi-$version
exec 9>"$ONNXFERRY_TEST_CACHE/.strimzi.lock"
flock 9
if [ ! -e "$jars/.complete" ]; then
  rm -rf "$jars"
  mkdir -p "$jars"
  sed -e "s/@VERSION@/$version/" "$here/strimzi-pom.xml.in" >"$jars/pom.xml"
  mvn -B -q -f "$jars/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$jars" >&2
  touch "$jars/.complete"
fi
if ! cmp -s "$here/CheckStrimzi.java" "$jars/check/CheckStrimzi.java"; then
  rm -rf "$jars/check"
  mkdir -p "$jars/check"
  javac -cp "$jars/*" -proc:none -d "$jars/check" "$here/CheckStrimzi.java" >&2
  cp "$here/CheckStrimzi.java" "$jars/check/"
fi
echo "$jars"
