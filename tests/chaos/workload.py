"""What the chaos run asks for: requests whose right answers are known before anything goes wrong."""

import datetime
import hashlib
import json
import subprocess
from dataclasses import dataclass, field

from harness.archives import checkpoint, copy_checkpoint, make_archive, pack
from harness.environment import BINARY, clean_environment

# The last one comes with a side file that is uploaded in parts.
FIXTURES = ("bert-fill-mask", "distilbert-fill-mask", "qwen2", "qwen2-tied-bf16", "qwen2-large")
LARGE_FILE = ("notes.txt", b"a line of a file that goes along\n" * 200_000)
DTYPES = ("fp32", "fp16")

# Kind of request → its share of the run, in percent.
SHARES = {
    "good": 54,
    "duplicate": 8,
    "corrupt": 5,
    "missing": 5,
    "garbage": 5,
    "invalid": 4,
    "expired": 3,
    "short deadline": 4,
    "cancelled": 4,
    "crash": 4,
    "missing reply topic": 2,
    "oversized reply": 2,
}
# The broker takes records up to here. A reply repeats the request's labels, and holds a lot more.
MAX_MESSAGE_BYTES = 65_536
LARGE_LABELS = {f"label-{number}": "x" * 1_000 for number in range(63)}

# Kind → the codes that may answer it; None is a result.
ANSWERS = {
    "good": {None},
    "duplicate": {None},
    "corrupt": {"CORRUPT_ARCHIVE"},
    "missing": {"SOURCE_NOT_FOUND"},
    "garbage": {"INVALID_REQUEST"},
    "invalid": {"INVALID_REQUEST"},
    "expired": {"DEADLINE_EXCEEDED"},
    "short deadline": {None, "DEADLINE_EXCEEDED"},
    "cancelled": {None, "CANCELLED"},
    "crash": {"CRASHED"},
    "missing reply topic": {None},
    "oversized reply": {None},
}


@dataclass
class Request:
    id: str
    kind: str
    value: bytes
    headers: dict = field(default_factory=dict)
    output: str = ""
    digest: str = ""  # sha256 of the model.onnx that a result must hold
    cancel: bool = False


def make_checkpoints(folder):
    """{fixture: folder}"""
    folders = {fixture: checkpoint(fixture) for fixture in FIXTURES[:-1]}
    folders[FIXTURES[-1]] = copy_checkpoint("qwen2", folder / FIXTURES[-1])
    name, data = LARGE_FILE
    (folder / FIXTURES[-1] / name).write_bytes(data)
    return folders


def reference_digests(checkpoints, folder):
    """{(fixture, dtype): sha256 of model.onnx}, made by `onnxferry export` where nothing goes wrong."""
    digests = {}
    for fixture, source in checkpoints.items():
        for dtype in DTYPES:
            output = folder / f"{fixture}-{dtype}"
            subprocess.run(
                [BINARY, "export", source, output, "-p", dtype, "--verify", "none"],
                check=True,
                capture_output=True,
                env=clean_environment(),
            )
            digests[fixture, dtype] = hashlib.sha256((output / "model.onnx").read_bytes()).hexdigest()
    return digests


class Workload:
    def __init__(self, bucket, count, rng, checkpoints, digests):
        self.bucket = bucket
        self.rng = rng
        self.digests = digests
        for fixture, source in checkpoints.items():
            for kind in ("tar", "tar.gz"):
                bucket.put(f"{fixture}.{kind}", pack(source, kind))
        damaged = bytearray(make_archive("qwen2", "tar.gz"))
        damaged[len(damaged) // 2] ^= 0xFF
        bucket.put("corrupt.tar.gz", bytes(damaged))
        kinds = [kind for kind, share in SHARES.items() for _ in range(round(count * share / 100))]
        kinds += ["good"] * (count - len(kinds))
        rng.shuffle(kinds)
        self.requests = [self._make(kind, f"r{number:05d}") for number, kind in enumerate(kinds)]

    def _make(self, kind, identity):
        if kind == "garbage":
            return Request(identity, kind, self.rng.randbytes(64) + b"\xff")
        fixture, dtype = self.rng.choice(FIXTURES), self.rng.choice(DTYPES)
        source = f"{fixture}.{self.rng.choice(('tar', 'tar.gz'))}"
        body = {
            "request_id": identity,
            "minio_tar_uri": self.bucket.uri({"corrupt": "corrupt.tar.gz", "missing": "none.tar"}.get(kind, source)),
            "output_dir": self.bucket.uri(f"out/{identity}/"),
            "dtype": dtype,
            "verify": {"level": "none"},
            "model_id": "crash" if kind == "crash" else "real",
            "keep_weights": self.rng.random() < 0.8,
        }
        if kind == "oversized reply":
            body["labels"] = LARGE_LABELS
        if kind == "invalid":
            body["dtype"] = "fp23"
        if kind == "expired":
            body["expires_at"] = "2020-01-01T00:00:00Z"
        if kind == "short deadline":
            body["expires_at"] = _in_seconds(60 + self.rng.randrange(120))
        headers = {"kafka_replyTopic": "chaos-no-such-topic"} if kind == "missing reply topic" else {}
        return Request(identity, kind, json.dumps(body).encode(), headers, body["output_dir"], self.digests[fixture, dtype], kind == "cancelled")

    def refresh_deadline(self, request):
        """A short deadline counts from the moment of sending."""
        body = json.loads(request.value)
        body["expires_at"] = _in_seconds(self.rng.randrange(1, 4))
        request.value = json.dumps(body).encode()


def _in_seconds(seconds):
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
