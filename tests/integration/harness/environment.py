"""Where things are, and what processes under test are started with."""

import os
import random
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "tests" / "tools"
FIXTURES = ROOT / "tests" / "fixtures"
BINARY = Path(os.environ.get("ONNXFERRY_BINARY", ROOT / "build" / "dev" / "worker" / "onnxferry"))
_CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE = Path(os.environ.get("ONNXFERRY_TEST_CACHE") or _CACHES / "onnxferry-tests")
ONNXRUNTIME = os.environ.get(
    "ONNXFERRY_ONNXRUNTIME", str(_CACHES / "onnxferry" / "ort" / "lib" / "libonnxruntime.so.1")
)
# Set for a nightly run: outages and pauses as long as in production.
LONG = os.environ.get("ONNXFERRY_LONG") == "1"


# Below the range of outgoing connections. Programs that run at the same time have a part each, so that none takes what
# another has chosen and not yet bound; tests/tools/lib.sh reads the same variable.
PORTS = "ONNXFERRY_TEST_PORTS"


def port_range():
    low, high = os.environ.get(PORTS, "20000-32000").split("-")
    return int(low), int(high)


def take_part_of_ports(index, count):
    """Choose ports from the part `index` of `count` equal ones from now on, in this process and what it starts."""
    low, high = port_range()
    size = (high - low) // count
    os.environ[PORTS] = f"{low + index * size}-{low + (index + 1) * size - 1}"


def free_port(span=1):
    """A port on 127.0.0.1 with `span` free ones from it on."""
    low, high = port_range()
    for _ in range(1000):
        port = random.randint(low, high - span + 1)
        probes = [socket.socket() for _ in range(span)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", port + offset))
            return port
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise RuntimeError("no free port found")


def clean_environment():
    """Ours, less everything that could configure the program behind a test's back."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ONNXFERRY_", "AWS_", "KAFKA_", "OTEL_"))
    }
    return kept | {"ONNXFERRY_ONNXRUNTIME": ONNXRUNTIME}
