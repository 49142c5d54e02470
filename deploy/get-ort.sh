#!/usr/bin/env bash
# get-ort.sh PREFIX: ONNX Runtime for C++ below PREFIX (include/ and lib/), from the package registries in use here.
#   Debian 13 and later: links to the system's own libonnxruntime-dev, which must be installed.
#   Debian 12: the library is the official one inside the Python wheel onnxruntime; the headers are those of Debian 13's
#   libonnxruntime-dev, unpacked without touching the system's package state. The C interface only grows, so headers
#   older than the library work.
# Needs on Debian 12: python3-pip, unzip. Nothing is fetched when PREFIX already has this version.
set -euo pipefail
prefix=${1:?usage: get-ort.sh PREFIX}
version=1.31.1
system=/usr/include/onnxruntime
if [ -e "$system/onnxruntime_c_api.h" ]; then stamp="system"; else stamp="$version $(uname -m)"; fi
if [ "$(cat "$prefix/.stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
# Made beside PREFIX and moved there when complete: a broken download leaves nothing half-made.
mkdir -p "$prefix"
new=$(mktemp -d "$prefix.XXXXXX")
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/lib"
finish() {
  echo "$stamp" >"$new/.stamp"
  chmod 755 "$new"
  rm -rf "$prefix"
  mv "$new" "$prefix"
}

if [ "$stamp" = system ]; then
  library=$(find /usr/lib -name 'libonnxruntime.so.*' | sort | sed -n 1p)
  [ -n "$library" ] || { echo "headers in $system, but no libonnxruntime.so.* below /usr/lib" >&2; exit 3; }
  ln -s "$system" "$new/include"
  ln -s "$library" "$new/lib/libonnxruntime.so.1"
  finish
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "$new"' EXIT
echo "fetching ONNX Runtime $version"
python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$work" "onnxruntime==$version"
unzip -qoj "$work"/*.whl 'onnxruntime/capi/libonnxruntime.so*' 'onnxruntime/ThirdPartyNotices.txt' -d "$new/lib"
library=$(basename "$(find "$new/lib" -name 'libonnxruntime.so*' -type f | sed -n 1p)")
ln -sfn "$library" "$new/lib/libonnxruntime.so.1"
ln -sfn libonnxruntime.so.1 "$new/lib/libonnxruntime.so"

# The archive that this machine uses, one release later, in a package state of its own.
site=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sed -n 1p)
[ -n "$site" ] || { echo "no Debian archive is configured here; run apt-get update, or install the headers of ONNX Runtime into $system" >&2; exit 3; }
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=$(dpkg --print-architecture)] $site trixie main" \
  >"$work/sources.list"
apt=(apt-get -qq -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::State::status=$work/status"
  -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o Acquire::Languages=none
  -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download libonnxruntime-dev)
dpkg-deb -x "$work"/libonnxruntime-dev_*.deb "$work/headers"
cp -r "$work/headers/usr/include/onnxruntime" "$new/include"
finish
