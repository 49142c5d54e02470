# Debian packages by purpose; sourced by quickstart.sh, tests/run.sh and the Dockerfile's build stage.
# shellcheck shell=bash disable=SC2034
BUILD_PACKAGES=(g++ cmake ninja-build ccache pkg-config protobuf-compiler libprotobuf-dev libonnx-dev librdkafka-dev
  libcurl4-openssl-dev libssl-dev libarchive-dev libisal-dev libzstd-dev libutf8proc-dev zlib1g-dev nlohmann-json3-dev libspdlog-dev libfmt-dev
  libcli11-dev libhwy-dev libcpp-httplib-dev prometheus-cpp-dev libpugixml-dev libsystemd-dev)
TEST_PACKAGES=(libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev kcat unzip curl openssl python3 python3-pip python3-venv default-jdk-headless maven procps iproute2)
FUZZ_PACKAGES=(clang-19 libclang-rt-19-dev)
LINT_PACKAGES=(clang-format-19 clang-tidy-19)

# install_packages PACKAGE...: only what is missing; needs root or sudo.
install_packages() {
  local missing=() package sudo=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  echo "installing: ${missing[*]}"
  "${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}" >/dev/null
}
