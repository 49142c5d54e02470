#!/usr/bin/env bash
# try-image.sh: builds the Dockerfile's image without a container engine and converts checkpoints in it, verified by the
# image's ONNX Runtime. Shows what a build on Debian 12 cannot: Debian 13's compiler and libraries. Needs root; 10 minutes.
#   The cache folder (~/.cache/onnxferry/images) keeps the image and the root it is built on: delete it for a newer Debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. deploy/packages.sh
install_packages buildah debootstrap

store=${XDG_CACHE_HOME:-$HOME/.cache}/onnxferry/images
base=docker.io/library/debian:trixie-slim
work=$(mktemp -d)
export BUILDAH_ISOLATION=chroot
images() { buildah --storage-driver vfs --root "$store" --runroot "$work/run" "$@"; }
trap 'images rm --all >/dev/null; images rmi --prune >/dev/null; rm -rf "$work"' EXIT

if ! images inspect --type image "$base" >/dev/null 2>&1; then
  echo "==> a Debian 13 of the mirror's packages, in place of a registry's"
  debootstrap --variant=minbase trixie "$work/root" >"$work/log" || { cat "$work/log"; exit 1; }
  container=$(images from scratch)
  images add --quiet "$container" "$work/root" / >/dev/null
  images commit --quiet --rm "$container" "$base" >/dev/null
fi

echo "==> deploy/Dockerfile"
images bud --format docker --pull-never -f deploy/Dockerfile -t onnxferry .

container=$(images from --pull-never onnxferry)
for fixture in bert-text-classification distilbert-fill-mask qwen2; do
  echo "==> $fixture"
  images run --volume "$PWD/tests/fixtures/$fixture/checkpoint:/checkpoint:ro" "$container" -- \
    onnxferry export /checkpoint "/tmp/$fixture" --verify full 2>"$work/log" || { tail -20 "$work/log"; exit 1; }
done
echo "try-image.sh: the image builds and converts"
