# Shared by the scripts of this folder. Downloads are kept under ONNXFERRY_TEST_CACHE and made once.
# shellcheck shell=bash
ONNXFERRY_TEST_CACHE=${ONNXFERRY_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/onnxferry-tests}
mkdir -p "$ONNXFERRY_TEST_CACHE"

# free_ports N: N distinct free ports on 127.0.0.1. Below 32768, so that no outgoing connection takes one between
# this call and the server's bind, and so that SeaweedFS's port + 10000 stays a valid port. ONNXFERRY_TEST_PORTS: from
# another range, LOW-HIGH.
free_ports() {
  python3 - "$1" "${ONNXFERRY_TEST_PORTS:-20000-32000}" <<'P'
import random, socket, sys

low, high = map(int, sys.argv[2].split("-"))
taken = []
while len(taken) < int(sys.argv[1]):
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", random.randint(low, high)))
        taken.append(probe)
    except OSError:
        probe.close()
print(*[probe.getsockname()[1] for probe in taken])
P
}

# process_is PID TEXT: PID lives and its command line contains TEXT (a pid file can outlive its process).
process_is() {
  [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF -- "$2"
}
