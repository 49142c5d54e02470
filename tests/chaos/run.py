#!/usr/bin/env python3
"""A seeded chaos run: N workers, real brokers, a real S3 server, faults all the time, and a verdict.

    tests/chaos/run.py [--jobs 100] [--workers 3] [--brokers 3] [--seed N] [--pace 0.5] [--report FILE]

Prints what goes wrong as it happens, then the report. Exit status 0: every request has exactly one right answer, nothing
is left anywhere, every kind of fault (in a short run all but two) has really happened, and the control (a reader without read_committed) saw
duplicates, so that the oracle is known to see them. The seed fixes requests and faults, not how they interleave.
tests/run.sh --only chaos runs it with everything it needs in place.
"""

import argparse
import collections
import os
import random
import sys
import threading
import time
from pathlib import Path

from cluster import PARTITIONS, Cluster, run_folder
from harness.auditor import AuditError
from harness.environment import BINARY
from harness.fake import FAKE_JOB
from harness.wait import wait_for
from hosts import Clock, SmallDisk
from nemesis import Nemesis
from oracle import Oracle
from workload import MAX_MESSAGE_BYTES, Workload, make_checkpoints, reference_digests

CHAOS_FLAGS = (
    # Requests of the kind "crash" die in the fake job; it hands all others on to the real one.
    f"--job-command={FAKE_JOB},{BINARY},job",
    "--retry-backoff-ms=100",
    "--retry-delay-ms=300",
    # Kills are faults here, not the requests' own doing: enough attempts that only "crash" runs out of them.
    "--max-attempts=8",
    "--max-jobs=2",
    "--drain-grace-ms=20000",
    "--reply-topic-allow=chaos-.*",
    "--weights-cache-bytes=50000000",
    # The least: the large file of some archives goes in two parts.
    "--s3-part-bytes=5242880",
)


class Sender(threading.Thread):
    """Sends the requests at a steady pace, and cancellations a moment after some of them. Where the faults take long, it
    slows down to a third, so that the last fault still meets jobs."""

    def __init__(self, cluster, workload, nemesis, pace, rng):
        super().__init__(daemon=True)
        self.cluster, self.workload, self.nemesis, self.pace, self.rng = cluster, workload, nemesis, pace, rng
        self.problem = None

    def run(self):
        try:
            for number, request in enumerate(self.workload.requests):
                if request.kind == "short deadline":
                    self.workload.refresh_deadline(request)
                for _ in range(2 if request.kind == "duplicate" else 1):
                    self._send(self.cluster.topics.requests, request.value, request.headers, None)
                is_ahead = number / len(self.workload.requests) > self.nemesis.share_of_round()
                time.sleep(self.pace * (3 if is_ahead else 1))
                if request.cancel:
                    self._send(self.cluster.cancel_topic, b"{}", {"ce_type": "dev.onnxferry.export.cancel.requested.v1"}, request.id)
        except Exception as problem:  # the main thread fails with it
            self.problem = problem

    def _send(self, topic, value, headers, key):
        # The broker may be away: again until it is back. Twice is once more than asked, and the oracle counts the topic.
        for attempt in range(20):
            try:
                return self.cluster.kafka.produce(topic, value, headers, key, self.rng.randrange(PARTITIONS) if key is None else None)
            except RuntimeError:
                if attempt == 19:
                    raise
                time.sleep(1)


def prepare_hosts(cluster):
    cluster.disk = SmallDisk(cluster.workers[0])
    cluster.clock = Clock(cluster.workers[-1])


def settle(cluster, oracle, seconds):
    """Wait until every record is answered and the group has nothing left to do."""

    def done():
        try:
            group = cluster.auditor.group(cluster.topics.group)
            return oracle.is_answered() and group and all(group.lag(topic) == 0 for topic in (cluster.topics.requests, cluster.topics.retry))
        except AuditError:
            return False  # the broker is coming back

    try:
        wait_for(done, seconds, "every request is answered", interval=0.5)
        wait_for(lambda: not any(worker.children() for worker in cluster.workers), 30, "no job runs")
        wait_for(lambda: cluster.bucket.uploads() == [], 30, "no upload is open")
    except AssertionError as late:
        return [str(late)]
    return []


def run(options, folder):
    start = time.monotonic()

    def log(text):
        print(f"{time.monotonic() - start:7.1f} s  {text}", flush=True)

    rng = random.Random(options.seed)
    checkpoints = make_checkpoints(folder)
    digests = reference_digests(checkpoints, folder / "reference")
    cluster = Cluster(folder, options.workers, CHAOS_FLAGS, options.brokers, f"message.max.bytes={MAX_MESSAGE_BYTES}", prepare_hosts)
    try:
        workload = Workload(cluster.bucket, options.jobs, rng, checkpoints, digests)
        oracle = Oracle(cluster.auditor, cluster.topics, cluster.bucket, workload)
        nemesis = Nemesis(cluster, rng, log)
        sender = Sender(cluster, workload, nemesis, options.pace, random.Random(options.seed + 1))
        log(f"{options.jobs} requests, {options.workers} workers, seed {options.seed}")
        sender.start()
        while sender.is_alive() or not nemesis.went_round:
            nemesis.strike()
        sender.join()
        if sender.problem:
            raise sender.problem
        nemesis.heal()
        log("healed; waiting for the last answers")
        violations = settle(cluster, oracle, options.settle)
        violations += oracle.judge()
        oracle.workers_left_nothing(cluster.workers)
        count_awkward_requests(cluster, oracle, nemesis.fired)
        report = make_report(options, cluster, oracle, nemesis, time.monotonic() - start)
        missing = [name for name, count in nemesis.fired.items() if count == 0]
        # In one round a fault or two may find nothing to hit; the report shows which.
        if len(missing) > (2 if options.jobs < 500 else 0):
            violations += [f"a fault never happened: {name}" for name in missing]
        if report["control"] <= 0:
            violations.append("the control saw no duplicate: this run proves nothing")
        return report, violations
    except BaseException:
        for worker in cluster.workers:
            print(f"---- end of {worker.folder.name}'s log ----\n{worker.log()[-3000:]}")
        raise
    finally:
        cluster.close()


def every_log(cluster):
    return "".join(worker.log() for worker in (*cluster.workers, *cluster.guests))


def count_awkward_requests(cluster, oracle, fired):
    """The faults that come with requests. A result is shortened only after the broker has refused it thrice."""
    bodies = [reply.json() for reply in oracle.replies() if reply.header("content-type") == "application/json"]
    fired["reply larger than the broker takes"] += sum(bool(body.get("result", {}).get("truncated")) for body in bodies)
    fired["reply topic missing"] += every_log(cluster).count("the reply goes to the default topic")


def make_report(options, cluster, oracle, nemesis, seconds):
    replies = oracle.replies()
    bodies = [reply.json() for reply in replies if reply.header("content-type") == "application/json"]
    codes = collections.Counter(body.get("failure", {}).get("code", "completed") for body in bodies)
    logs = every_log(cluster)
    return {
        "seed": options.seed,
        "workers": options.workers,
        "brokers": options.brokers,
        "seconds": round(seconds),
        "records": sum(oracle.expected().values()),
        "replies": len(replies),
        "unreadable requests": len(replies) - len(bodies),
        "codes": codes,
        "attempts above 1": sum(int(body.get("attempt", 1)) > 1 for body in bodies),
        "answered from a manifest": sum(bool(body.get("result", {}).get("answered_from_manifest")) for body in bodies),
        "control": oracle.duplicates_without_protection(),
        "faults": nemesis.fired,
        "disk": cluster.disk.is_mounted,
        "seen": {text: logs.count(text) for text in ("partitions revoked", "partitions lost", "taken up again after a rebalance", "the store is unavailable, waiting", "transaction not committed", "making a new producer")},
    }


def print_report(report, violations, file):
    def line(name, value):
        print(f"{name:34s} {value}", file=file)

    for name in ("seed", "workers", "brokers", "seconds", "records", "replies", "unreadable requests", "attempts above 1", "answered from a manifest"):
        line(name, report[name])
    for code, count in report["codes"].most_common():
        line(f"  {code}", count)
    if not report["disk"]:
        line("not tried: disk full", "a file system for it could not be mounted (needs root)")
    line("faults that happened", sum(report["faults"].values()))
    for name, count in sorted(report["faults"].items()):
        line(f"  {name}", count)
    for name, count in report["seen"].items():
        line(f"log lines: {name}", count)
    line("control: replies too many without read_committed", report["control"])
    line("lost, duplicate, wrong or left over", len(violations))
    for violation in violations[:50]:
        print("  " + violation, file=file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--brokers", type=int, default=3, help="1: every fault of the broker is an outage")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--pace", type=float, default=0.5, help="seconds between requests")
    parser.add_argument("--settle", type=float, default=180, help="seconds for the last answers after the faults end")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with run_folder() as folder:
        report, violations = run(options, folder)
    print_report(report, violations, sys.stdout)
    if options.report:
        with open(options.report, "w") as file:
            print_report(report, violations, file)
    print(f"chaos: {'FAILED' if violations else 'passed'} (repeat with --seed {options.seed})")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
