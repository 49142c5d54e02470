#!/usr/bin/env python3
"""bench/job: from a request produced to its reply readable, on loopback Kafka and S3, with a tiny model.

usage: ~/.cache/onnxferry-tests/venv/bin/python bench/job.py [--jobs 30] [--case qwen2] [--verify none] [--json FILE]

Starts its own broker, SeaweedFS and worker (build/release, or ONNXFERRY_BINARY). Jobs run one after another, each to a
destination of its own. The clock runs from the request handed to a connected Java producer until the reply comes out of a
waiting Java consumer with read_committed. The floor is the same round trip of a plain record that nobody works on.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
os.environ.setdefault("ONNXFERRY_BINARY", str(ROOT / "build/release/worker/onnxferry"))

from harness.archives import make_archive  # noqa: E402
from harness.auditor import Auditor  # noqa: E402
from harness.servers import S3, Kafka  # noqa: E402
from harness.worker import Worker  # noqa: E402

WARM_UP = 3


class Topics:
    requests, replies, group, plain = "requests", "replies", "bench", "plain"


def milliseconds(text):
    """RFC 3339 as milliseconds since 1970."""
    seconds = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return seconds.astimezone(timezone.utc).timestamp() * 1000


def run_jobs(auditor, source, bucket, arguments):
    samples = []
    for number in range(WARM_UP + arguments.jobs):
        request = {
            "minio_tar_uri": source,
            "output_dir": bucket.uri(f"out-{number}/"),
            "verify": {"level": arguments.verify},
        }
        text = json.dumps(request, separators=(",", ":"))
        record, total, sent = auditor.exchange(Topics.requests, Topics.replies, text)
        reply = record.json()
        if "result" not in reply:
            sys.exit(f"a job failed: {reply}")
        begin = milliseconds(reply["started_at"])
        sample = {"total": total, "until the job starts": begin - sent}
        for stage in reply["stages"]:
            sample[f"stage {stage['stage']}"] = float(stage.get("ms", 0))
        finished = milliseconds(reply["finished_at"])
        sample["until the reply is readable"] = sent + total - finished
        measured = sum(value for name, value in sample.items() if name != "total")
        sample["between the stages"] = sample["total"] - measured
        samples.append(sample)
    return samples[WARM_UP:]


def report(samples, floor, arguments):
    print(f"bench/job: {arguments.case}, verify {arguments.verify}, {len(samples)} jobs, milliseconds")
    print(f"{'':32} {'median':>8} {'p95':>8}")
    medians = {}
    for name in samples[0]:
        values = sorted(sample.get(name, 0.0) for sample in samples)
        medians[name] = statistics.median(values)
        p95 = values[min(len(values) - 1, int(len(values) * 0.95))]
        print(f"{name:32} {medians[name]:8.1f} {p95:8.1f}")
    print(f"{'floor: a plain record':32} {floor:8.1f}")
    print(f"total / floor {medians['total'] / floor:.1f}")
    if arguments.json:
        result = {"case": arguments.case, "verify": arguments.verify, "floor": floor}
        Path(arguments.json).write_text(json.dumps({**result, "medians": medians}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--case", default="qwen2", help="a folder of tests/fixtures")
    parser.add_argument("--verify", default="none")
    parser.add_argument("--json", help="write the medians to this file")
    arguments = parser.parse_args()
    # A time limit from outside must not leave servers behind: SIGTERM unwinds like any exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bench-job-", dir=ROOT / "build") as folder:
        kafka, s3 = Kafka(Path(folder) / "kafka"), S3(Path(folder) / "s3")
        closing = [kafka.kill, s3.stop]
        try:
            kafka.start()
            s3.start()
            auditor = Auditor(kafka.bootstrap)
            closing.insert(0, auditor.close)
            auditor.create(Topics.requests, Topics.requests + ".dlq", Topics.replies, Topics.plain)
            bucket = s3.bucket("bench")
            source = bucket.put("model.tar", make_archive(arguments.case))
            worker = Worker(Path(folder) / "worker", kafka.bootstrap, s3.endpoint, Topics)
            closing.insert(0, worker.kill)
            worker.start()
            plain = [auditor.exchange(Topics.plain, Topics.plain, "record")[1] for _ in range(33)]
            floor = statistics.median(plain[WARM_UP:])
            report(run_jobs(auditor, source, bucket, arguments), floor, arguments)
        finally:
            for close in closing:
                close()


if __name__ == "__main__":
    main()
