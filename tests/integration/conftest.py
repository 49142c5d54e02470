"""Fixtures of the integration tests: real Kafka, real S3, the built binary.

Servers start on first use, once per session, on free ports of 127.0.0.1. Topics, groups and prefixes are new for every
test, so tests do not see each other. README.md says what is used how.
"""

import itertools
import json
import os
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.archives import make_archive
from harness.auditor import Auditor
from harness.environment import BINARY, CACHE, take_part_of_ports
from harness.servers import S3, FaultProxy, Kafka
from harness.worker import Worker

_numbers = itertools.count()


def pytest_configure(config):
    """Under pytest-xdist each process has servers of its own, on ports of its own."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        take_part_of_ports(int(worker["workerid"].removeprefix("gw")), worker["workercount"])


@pytest.fixture(scope="session")
def binary():
    """The program under test."""
    assert BINARY.exists(), f"{BINARY} is not built; build the preset dev or set ONNXFERRY_BINARY"
    return BINARY


@pytest.fixture(scope="session")
def run_folder():
    """Files of the servers. tests/run.sh gives the folder and sweeps it; alone, it is removed at the end."""
    given = os.environ.get("ONNXFERRY_TEST_RUN_DIR")
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="integration-", dir=given or CACHE))
    yield folder
    if not given:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(run_folder):
    """The broker of most tests. Whoever kills or pauses a broker starts its own with make_kafka."""
    broker = Kafka(run_folder / "kafka")
    try:
        yield broker.start()
    finally:
        broker.kill()  # its data is throw-away, and a clean stop takes seconds


@pytest.fixture
def make_kafka(run_folder):
    """make_kafka(extra="key=value\\nkey=value", listener="", scram=""): a broker of the test's own, started."""
    brokers = []

    def make(extra="", listener="", scram=""):
        brokers.append(Kafka(run_folder / f"kafka-{next(_numbers)}", extra, listener, scram))
        return brokers[-1].start()

    yield make
    for broker in brokers:
        broker.resume()
        broker.kill()


@pytest.fixture(scope="session")
def auditor(kafka):
    reader = Auditor(kafka.bootstrap)
    yield reader
    reader.close()


@pytest.fixture(scope="session")
def s3(run_folder):
    server = S3(run_folder / "s3")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def bucket(s3):
    return s3.bucket("onnxferry-test")


@pytest.fixture
def proxy(s3):
    """A fault proxy of the test's own in front of S3; workers use it with make_worker(endpoint=proxy.endpoint)."""
    between = FaultProxy(s3.port)
    try:
        yield between.start()
    finally:
        between.stop()


@dataclass(frozen=True)
class Topics:
    requests: str
    replies: str
    group: str

    @property
    def dlq(self):
        return self.requests + ".dlq"

    @property
    def retry(self):
        return self.requests + ".retry"


@pytest.fixture
def make_topics(auditor):
    """make_topics(partitions=1): new topics (requests, its dlq and retry, replies) and a new group name."""

    def make(partitions=1, reader=None):
        name = uuid.uuid4().hex[:8]
        topics = Topics(f"requests-{name}", f"replies-{name}", f"group-{name}")
        (reader or auditor).create(
            f"{topics.requests}:{partitions}", topics.dlq, topics.retry, topics.replies
        )
        return topics

    return make


@pytest.fixture
def topics(make_topics):
    """One request partition, so the order of requests is the order of replies."""
    return make_topics()


@pytest.fixture
def make_worker(binary, kafka, s3, bucket, topics, tmp_path, request):
    """make_worker(flags=(), endpoint=None, environment=None, ...): a worker, not started. All are killed at the end."""
    workers = []

    def make(flags=(), endpoint=None, environment=None, bootstrap=None, topics_=None, folder=None):
        worker = Worker(
            folder or tmp_path / f"worker-{len(workers)}",
            bootstrap or kafka.bootstrap,
            endpoint or s3.endpoint,
            topics_ or topics,
            flags,
            environment,
        )
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.kill()
        if getattr(request.node, "failed", False):
            print(f"---- log of {worker.folder.name} ----\n{worker.log()}")


@pytest.fixture
def worker(make_worker):
    """A worker with the standard flags, ready."""
    return make_worker().start()


class Job:
    """What one test puts into and finds in S3, below a prefix of its own."""

    def __init__(self, bucket, prefix):
        self.bucket = bucket
        self.prefix = prefix

    def source(self, name, data):
        """Store archive bytes; returns their URI."""
        return self.bucket.put(f"{self.prefix}/{name}", data)

    def fixture(self, case, kind="tar"):
        """Store a fixture checkpoint as an archive; returns its URI."""
        return self.source(f"{case}.{kind}", make_archive(case, kind))

    def output(self, name="out"):
        return self.bucket.uri(f"{self.prefix}/{name}/")

    def request(self, source, output=None, **fields):
        """A minimal request. A field of None is left out."""
        request = {"minio_tar_uri": source, "output_dir": output or self.output()}
        request.update({"verify": {"level": "none"}, **fields})
        return {name: value for name, value in request.items() if value is not None}

    def files(self, output=None):
        """{name: bytes} of an output directory."""
        prefix = self.bucket.key(output or self.output())
        return {name: self.bucket.get(prefix + name) for name in self.bucket.names(prefix)}

    def names(self, output=None):
        return self.bucket.names(self.bucket.key(output or self.output()))


@pytest.fixture
def job(bucket, request):
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")
    return Job(bucket, f"{name}-{next(_numbers)}")


@pytest.fixture
def send(kafka, topics):
    """send(request, headers={}, key=None, partition=None, topics_=None): a request as JSON, or bytes as they are."""

    def produce(request, headers=(), key=None, partition=None, topics_=None, broker=None):
        value = request if isinstance(request, bytes) else json.dumps(request).encode()
        target = (topics_ or topics).requests
        (broker or kafka).produce(target, value, headers, key, partition)

    return produce


@pytest.fixture
def replies(auditor, topics):
    """replies(count): that many replies, waited for and exactly that many once the group has no lag."""

    def read(count, timeout=60, topics_=None):
        which = topics_ or topics
        auditor.wait_for_records(which.replies, count, timeout)
        auditor.wait_for_no_lag(which.group, which.requests, timeout)
        records = auditor.read(which.replies)
        assert len(records) == count, [record.json() for record in records]
        return records

    return read


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call" and outcome.get_result().failed:
        item.failed = True
