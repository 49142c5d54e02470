#!/usr/bin/env python3
"""A week compressed: many tiny jobs through one worker, which must end as it began.

    tests/chaos/soak.py [--jobs 5000] [--jobs-at-a-time 2]

Prints memory, descriptors, threads and scratch of the worker every tenth of the way. Exit status 0: every job has its one
result; after the first tenth memory has grown by less than 10 %, descriptors and threads by none, and scratch is empty.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from cluster import PARTITIONS, Cluster, run_folder
from harness.archives import make_archive
from harness.wait import wait_for


def measure(worker):
    process = Path(f"/proc/{worker.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return {
        "anonymous KiB": int(status["RssAnon"].split()[0]),
        "descriptors": len(os.listdir(process / "fd")),
        "threads": int(status["Threads"]),
        "scratch entries": len(worker.scratch_entries()),
    }


def send_all(cluster, source, first, last):
    """One kcat for many records: partition by key."""
    lines = []
    for number in range(first, last):
        request = {
            "request_id": f"s{number}",
            "minio_tar_uri": source,
            "output_dir": cluster.bucket.uri(f"out/{number}/"),
            "verify": {"level": "none"},
        }
        lines.append(f"s{number}\t{json.dumps(request)}")
    command = ["kcat", "-P", "-b", cluster.kafka.bootstrap, "-t", cluster.topics.requests, "-K", "\t", "-X", "acks=all"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--jobs-at-a-time", type=int, default=2)
    options = parser.parse_args()
    step = max(1, options.jobs // 10)
    with run_folder() as folder:
        cluster = Cluster(folder, 1, (f"--max-jobs={options.jobs_at_a_time}",))
        try:
            (worker,) = cluster.workers
            source = cluster.bucket.put("model.tar", make_archive("distilbert-fill-mask"))
            rows, start = [], time.monotonic()
            print(f"{'jobs':>6s} {'seconds':>8s}  {PARTITIONS} partitions, {options.jobs_at_a_time} jobs at a time")
            for first in range(0, options.jobs, step):
                last = min(first + step, options.jobs)
                send_all(cluster, source, first, last)
                cluster.auditor.wait_for_records(cluster.topics.replies, last, 600)
                cluster.auditor.wait_for_no_lag(cluster.topics.group, cluster.topics.requests, 60)
                wait_for(lambda: not worker.scratch_entries(), 10, "scratch is empty")
                rows.append(measure(worker))
                print(f"{last:6d} {time.monotonic() - start:8.1f}  {rows[-1]}", flush=True)
            replies = cluster.auditor.read(cluster.topics.replies)
        finally:
            cluster.close()
    keys = {reply.key for reply in replies}
    results = sum("result" in reply.json() for reply in replies)
    print(f"{len(replies)} replies, {len(keys)} ids, {results} results")
    begin, end = rows[0], rows[-1]
    good = (
        len(replies) == len(keys) == results == options.jobs
        and end["anonymous KiB"] < 1.1 * begin["anonymous KiB"]
        and end["descriptors"] <= begin["descriptors"]
        and end["threads"] <= begin["threads"]
        and end["scratch entries"] == 0
    )
    print(f"soak: {'passed' if good else 'FAILED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
