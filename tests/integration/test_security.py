"""A broker that wants TLS and a password: every client of the worker uses them, and none tells the password."""

import json
import re
import time
import uuid

import pytest

from harness import cli, secure
from harness.auditor import Auditor
from harness.environment import free_port
from harness.fake import Starts, fake_flags, fake_request
from harness.servers import Kafka
from harness.wait import wait_for

# One process: they share a broker with TLS and passwords.
pytestmark = pytest.mark.xdist_group("security")

SCRAM = "SCRAM-SHA-512"


def librdkafka(worker):
    """The version that a started worker runs with, as a tuple."""
    worker.wait_for_log("worker started")
    version = re.search(r"librdkafka=(\d+)\.(\d+)\.(\d+)", worker.log())
    return tuple(map(int, version.groups()))


class Cluster:
    """A broker with a plain listener for the test and a secure one for the program under test."""

    def __init__(self, broker, port, authority, topics, reader):
        self.broker = broker
        self.bootstrap = f"127.0.0.1:{port}"
        self.authority = authority
        self.topics = topics
        self.auditor = reader
        self.cancels = topics.requests + ".cancel"
        self.progress = topics.requests + ".progress"
        reader.create(self.cancels, self.progress)

    def send(self, request):
        self.broker.produce(self.topics.requests, json.dumps(request).encode())

    def replies(self, count):
        """That many replies and no lag, as the fixture of that name."""
        self.auditor.wait_for_records(self.topics.replies, count)
        self.auditor.wait_for_no_lag(self.topics.group, self.topics.requests)
        records = self.auditor.read(self.topics.replies)
        assert len(records) == count, [record.json() for record in records]
        return records


@pytest.fixture(scope="module")
def secure_broker(run_folder):
    authority = secure.make_authority(run_folder / "authority")
    port = free_port()
    broker = Kafka(
        run_folder / "kafka-secure",
        secure.broker_properties(authority),
        f"SECURE:SASL_SSL:{port}",
        f"{secure.USER}:{secure.PASSWORD}",
    )
    try:
        broker.start()
        reader = Auditor(broker.bootstrap)
        yield broker, port, authority, reader
        reader.close()
    finally:
        broker.kill()


@pytest.fixture
def cluster(secure_broker, make_topics):
    broker, port, authority, reader = secure_broker
    return Cluster(broker, port, authority, make_topics(reader=reader), reader)


@pytest.fixture
def make_secure_worker(make_worker, cluster):
    """make_secure_worker(properties, *flags, environment=None): as make_worker, on the secure listener."""

    def make(properties, *flags, environment=None):
        return make_worker(
            fake_flags(
                f"--cancel-topic={cluster.cancels}",
                f"--progress-topic={cluster.progress}",
                *secure.as_flags(properties),
                *flags,
            ),
            environment=environment,
            bootstrap=cluster.bootstrap,
            topics_=cluster.topics,
        )

    return make


@pytest.mark.parametrize("source", ["flags", "environment"])
def test_every_client_of_the_worker_is_secure(make_secure_worker, cluster, tmp_path, source):
    starts = Starts(tmp_path / "starts")
    properties = secure.client_properties(cluster.authority)
    if source == "flags":
        worker = make_secure_worker(properties, "--log-level=debug")
    else:
        environment = secure.as_environment(properties)
        worker = make_secure_worker({}, "--log-level=debug", environment=environment)
    worker.start()
    worker.wait_for_log("reading the cancel topic")
    cluster.send(fake_request("progress:15", request_id="watched"))
    cluster.send(fake_request("fail-until:2:UNAVAILABLE", starts, request_id="retried"))
    cluster.send(fake_request("crash", request_id="dead"))
    cluster.auditor.wait_for_records(cluster.topics.replies, 3)
    cluster.send(fake_request("sleep:60000", request_id="cancelled"))
    worker.wait_for_child()
    cluster.broker.produce(cluster.cancels, b"{}", key="cancelled")
    replies = {reply.key.decode(): reply.json() for reply in cluster.replies(4)}
    assert "result" in replies["watched"]
    assert replies["retried"]["attempt"] == 2
    assert replies["dead"]["failure"]["code"] == "CRASHED"
    assert replies["cancelled"]["failure"]["code"] == "CANCELLED"
    assert len(cluster.auditor.read(cluster.topics.dlq)) == 1
    assert len(cluster.auditor.read(cluster.topics.retry)) == 3  # one of "retried", two of "dead"
    assert len(cluster.auditor.read(cluster.progress)) >= 2
    assert worker.stop() == 0
    assert secure.PASSWORD not in worker.log()


def test_scram(make_secure_worker, cluster):
    """Kafka 4 brokers refuse the SCRAM of librdkafka below 2.6.1; then the log must say so."""
    properties = secure.client_properties(cluster.authority, mechanism=SCRAM)
    worker = make_secure_worker(properties).start(ready=False)
    if librdkafka(worker) < (2, 6, 1):
        worker.wait_for_log("cannot log in by SCRAM at Kafka 4 brokers: use 2.6.1 or newer")
        assert worker.http("/readyz")[0] == 503
        return
    worker.wait_ready()
    cluster.send(fake_request("ok", request_id="one"))
    (reply,) = cluster.replies(1)
    assert "result" in reply.json()


def test_the_password_is_not_shown(cluster):
    properties = secure.client_properties(cluster.authority)
    printed = cli.run("serve", "--check-config", *secure.as_flags(properties)).stdout
    assert "sasl.username" in printed and "***" in printed
    assert secure.PASSWORD not in printed
    for slip in (f"sasl.password:{secure.PASSWORD}", f"sasl.pasword={secure.PASSWORD}"):
        refused = cli.run("serve", "--check-config", f"--kafka={slip}", check=False)
        assert refused.returncode == 2
        assert "sasl.pas" in refused.stderr
        assert secure.PASSWORD not in refused.stderr + refused.stdout


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("password", ["_AUTHENTICATION", "check sasl.mechanism, sasl.username and sasl.password"]),
        ("authority", ["error=_SSL", "certificate verify failed", "check ssl.ca.location"]),
    ],
)
def test_a_worker_that_is_not_let_in_says_why_and_is_not_ready(
    make_secure_worker, cluster, tmp_path, wrong, says
):
    other = secure.make_authority(tmp_path / "other")
    properties = secure.client_properties(
        other if wrong == "authority" else cluster.authority,
        "not-" + secure.PASSWORD if wrong == "password" else secure.PASSWORD,
    )
    worker = make_secure_worker(properties).start(ready=False)
    for text in says:
        worker.wait_for_log(text)
    wait_for(lambda: worker.http("/livez")[0] == 200, 30, "it lives")
    time.sleep(8)  # of repeated attempts
    assert worker.alive()
    assert worker.http("/livez")[0] == 200
    assert worker.http("/readyz")[0] == 503
    # Four clients, each says it; not each attempt does. (A slow machine says it more than twice.)
    assert sum(says[0] in line for line in worker.log().splitlines()) <= 16, worker.log()
    assert secure.PASSWORD not in worker.log()
    assert worker.stop() == 0


def submit(cluster, properties, *arguments, **options):
    return cli.run(
        "submit",
        f"--brokers={cluster.bootstrap}",
        f"--topic={cluster.topics.requests}",
        f"--reply-topic={cluster.topics.replies}",
        *secure.as_flags(properties),
        *arguments,
        **options,
    )


def test_submit_over_sasl_ssl(make_secure_worker, cluster, tmp_path):
    properties = secure.client_properties(cluster.authority)
    make_secure_worker(properties).start()
    request = tmp_path / "request.json"
    request.write_text(json.dumps(fake_request("ok", request_id="submitted")))
    done = submit(cluster, properties, request)
    assert json.loads(done.stdout)["request_id"] == "submitted"
    wrong = {**properties, "sasl.password": f"x{uuid.uuid4().hex}"}
    refused = submit(cluster, wrong, request, check=False)
    assert refused.returncode not in (0, 2)
    assert "uthentication" in refused.stderr
    assert wrong["sasl.password"] not in refused.stderr + refused.stdout
