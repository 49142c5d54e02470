"""Brokers, an S3 server behind a fault proxy, and workers: what the chaos run and its relatives run on."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from conftest import Topics
from harness.auditor import Auditor
from harness.environment import CACHE
from harness.servers import S3, FaultProxy, KafkaCluster
from harness.worker import Worker

PARTITIONS = 6
# Failure detection as fast as the broker allows.
FAST_GROUP = ("--kafka=session.timeout.ms=6000", "--kafka=heartbeat.interval.ms=1500")


class CountingProxy(FaultProxy):
    """Knows how many faults were really applied."""

    def clear(self):
        """Back to normal; the number of requests that met the rules since they were set."""
        applied = sum(1 for _, action, _ in self.log() if action)
        self.rules([])
        return applied


class Cluster:
    def __init__(self, folder, workers, flags, brokers=1, broker_properties="", prepare=lambda cluster: None):
        """`prepare` sees the workers before they start."""
        self.folder = folder
        self.flags = (*FAST_GROUP, *flags)
        self.disk = self.clock = None  # of some worker's host: hosts.py
        self.kafka = KafkaCluster(folder / "kafka", brokers, broker_properties).start()
        self.s3 = S3(folder / "s3").start()
        self.bucket = self.s3.bucket("chaos")
        self.proxy = CountingProxy(self.s3.port).start()
        self.auditor = Auditor(self.kafka.bootstrap)
        self.topics = Topics("chaos-requests", "chaos-replies", "chaos")
        self.cancel_topic = "chaos-cancel"
        spread = [f"{topic}:{PARTITIONS}" for topic in (self.topics.requests, self.topics.retry)]
        self.auditor.create(*spread, self.topics.dlq, self.topics.replies, self.cancel_topic)
        self.guests = []
        self.workers = [self._worker(f"w{number}") for number in range(workers)]
        prepare(self)
        for worker in self.workers:
            worker.start()

    def add_worker(self):
        """One more, not started."""
        self.guests.append(self._worker(f"guest{len(self.guests)}"))
        return self.guests[-1]

    def close(self):
        for worker in (*self.workers, *self.guests):
            worker.kill()
        if self.disk:
            self.disk.close()
        self.auditor.close()
        self.proxy.stop()
        self.s3.stop()
        self.kafka.close()

    def _worker(self, name):
        flags = (*self.flags, f"--cancel-topic={self.cancel_topic}", f"--kafka=client.id={name}")
        return Worker(
            self.folder / name,
            self.kafka.bootstrap,
            self.proxy.endpoint,
            self.topics,
            flags,
            {"POD_NAME": name},
        )


@contextlib.contextmanager
def run_folder():
    """A folder for one run, removed at its end unless ONNXFERRY_KEEP is set."""
    base = Path(os.environ.get("ONNXFERRY_TEST_RUN_DIR", CACHE))
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=base))
    try:
        yield folder
    finally:
        if not os.environ.get("ONNXFERRY_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
