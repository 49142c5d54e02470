#!/usr/bin/env python3
"""Does a fleet scale, and does changing it cost a job? Jobs are bound by a slow store (the fault proxy delays downloads).

    tests/chaos/scaling.py [--jobs 24] [--delay-ms 3000]

Times the same number of jobs with 1, 2 and 3 workers and prints jobs/s against the linear expectation. Then, while jobs
run, a worker joins, and one that was there leaves; every reply must say attempt 1, every archive must have been downloaded
once and every job started once, and a hand-over must have waited for a job, else nothing was shown.
Exit status 0: at least 0.9 of linear, nothing run twice.
"""

import argparse
import json
import re
import sys
import time

from cluster import PARTITIONS, Cluster, run_folder
from harness.archives import make_archive
from harness.wait import wait_for

MEMBERSHIPS = 2  # of a worker: one for the request topic, one for the retry topic
ROUNDS = 3  # of a worker joining and one leaving: not every partition that moves has a running job
WAITS = "partitions are to move to another worker; they stay until their jobs have ended"


class Run:
    def __init__(self, cluster, options):
        self.cluster, self.options, self.sent = cluster, options, 0
        self.archive = make_archive("distilbert-fill-mask")

    def send(self, count):
        """Evenly over the partitions, each with an archive of its own."""
        for _ in range(count):
            name = f"m{self.sent}"
            request = {
                "request_id": name,
                "minio_tar_uri": self.cluster.bucket.put(f"{name}.tar", self.archive),
                "output_dir": self.cluster.bucket.uri(f"out/{name}/"),
                "verify": {"level": "none"},
            }
            self.cluster.kafka.produce(self.cluster.topics.requests, json.dumps(request).encode(), partition=self.sent % PARTITIONS)
            self.sent += 1

    def slow(self):
        self.cluster.proxy.rules([{"match": "^GET .*tar", "action": "delay", "ms": self.options.delay_ms, "times": 10**6}])

    def wait(self):
        self.cluster.auditor.wait_for_records(self.cluster.topics.replies, self.sent, 600)

    def seconds(self, count):
        """From the first start of a job to the last reply; the requests wait on the topic before."""
        start = time.monotonic()
        self.send(count)
        self.wait()
        return time.monotonic() - start

    def joined(self, members):
        """The group is stable with so many members and every partition is being read."""

        def stable():
            group = self.cluster.auditor.group(self.cluster.topics.group)
            return group and group.state.lower() == "stable" and group.members == members * MEMBERSHIPS

        wait_for(stable, 60, f"{members} workers in the group")
        # A round of jobs: everybody is at work.
        self.send(PARTITIONS)
        self.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--delay-ms", type=int, default=3000)
    options = parser.parse_args()
    worst, rerun = 1.0, []
    with run_folder() as folder:
        cluster = Cluster(folder, 1, ())
        try:
            run = Run(cluster, options)
            run.slow()
            base = None
            for members in (1, 2, 3):
                if members > 1:
                    cluster.add_worker().start()
                run.joined(members)
                rate = options.jobs / run.seconds(options.jobs)
                base = base or rate
                worst = min(worst, rate / (base * members))
                print(f"{members} workers: {rate:.2f} jobs/s, {rate / (base * members):.2f} of linear", flush=True)
            begin = run.sent
            waits = sum(worker.log().count(WAITS) for worker in (*cluster.workers, *cluster.guests))
            run.slow()  # forgets the log
            for leaver in range(ROUNDS):
                run.send(options.jobs)
                time.sleep(1)
                cluster.add_worker().start()
                time.sleep(options.delay_ms / 1000)
                cluster.guests[leaver].stop()
                run.wait()
            replies = {reply.json()["request_id"]: reply.json() for reply in cluster.auditor.read(cluster.topics.replies)}
            logs = "".join(worker.log() for worker in (*cluster.workers, *cluster.guests))
            waits = logs.count(WAITS) - waits
            downloads = [request for request, _, _ in cluster.proxy.log() if request.startswith("GET ") and ".tar" in request]
            for number in range(begin, run.sent):
                name = f"m{number}"
                fetched = sum(f"/{name}.tar" in request for request in downloads)
                starts = len(re.findall(rf"request_id={name} .*job started$", logs, re.MULTILINE))
                if "result" not in replies[name] or replies[name]["attempt"] != 1 or (fetched, starts) != (1, 1):
                    rerun.append(f"{name}: attempt {replies[name]['attempt']}, {fetched} downloads, {starts} starts")
            if waits < 1:
                rerun.append("no partition with a running job was to move: nothing was shown")
            print(f"{ROUNDS} times a worker joined and one left, {run.sent - begin} jobs: {waits} hand-overs waited, {len(rerun)} jobs run more than once")
        finally:
            cluster.close()
    for line in rerun:
        print("  " + line)
    good = worst >= 0.9 and not rerun
    print(f"scaling: {'passed' if good else 'FAILED'}, worst {worst:.2f} of linear")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
