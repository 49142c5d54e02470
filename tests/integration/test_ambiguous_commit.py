"""An answer of the broker gets lost at the worst moment: whether the transaction is committed is then unknown."""

import json

import pytest

from harness.auditor import Auditor
from harness.environment import free_port
from harness.fake import Starts, fake_flags, fake_request
from harness.kafka_proxy import (
    END_TXN,
    NOT_COORDINATOR,
    OFFSET_FETCH,
    TXN_OFFSET_COMMIT,
    KafkaProxy,
    Loss,
    offset_fetch_error,
)
from harness.servers import Kafka
from harness.wait import wait_for

# One process: they share a broker behind a proxy.
pytestmark = pytest.mark.xdist_group("ambiguous_commit")


@pytest.fixture(scope="module")
def proxied(run_folder):
    """(broker, proxy, auditor): the worker under test reaches the broker through the proxy only."""
    behind, front = free_port(), free_port()
    broker = Kafka(
        run_folder / "kafka-proxied",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
        f"PROXIED:PLAINTEXT:{behind}:{front}",
    )
    try:
        broker.start()
        proxy = KafkaProxy(front, behind)
        reader = Auditor(broker.bootstrap)
        yield broker, proxy, reader
        reader.close()
        proxy.stop()
    finally:
        broker.kill()


class Scene:
    """Topics, a worker behind the proxy, and a job whose next transaction carries the reply."""

    def __init__(self, proxied, make_worker, make_topics, starts, *flags):
        self.broker, self.proxy, self.reader = proxied
        self.topics = make_topics(reader=self.reader)
        self.starts = starts
        self.worker = make_worker(
            fake_flags(*flags), bootstrap=self.proxy.bootstrap, topics_=self.topics
        ).start()
        # Both partitions are known to be at their ends, so the worker has no other transaction to make.
        done = {(self.topics.requests, 0), (self.topics.retry, 0)}
        wait_for(lambda: set(self._group().committed) >= done, 30, "the ends are committed")
        self.send(fake_request("sleep:1500", starts, request_id="one"))
        self.worker.wait_for_child()  # its attempt is committed

    def _group(self):
        return self.reader.group(self.topics.group)

    def send(self, request):
        self.broker.produce(self.topics.requests, json.dumps(request).encode())

    def check(self):
        """The reply stands there once, and the worker goes on."""
        self.reader.wait_for_records(self.topics.replies, 1, 120)
        self.send(fake_request("ok", request_id="two"))
        self.reader.wait_for_records(self.topics.replies, 2, 120)
        self.reader.wait_for_no_lag(self.topics.group, self.topics.requests, 120)
        replies = self.reader.read(self.topics.replies)
        assert [reply.key for reply in replies] == [b"one", b"two"]
        assert len(self.starts) == 1
        assert not self.reader.transaction_open(self.topics.replies)
        assert self.worker.stop() == 0


@pytest.fixture
def make_scene(proxied, make_worker, make_topics, tmp_path):
    def make(*flags):
        return Scene(proxied, make_worker, make_topics, Starts(tmp_path / "starts"), *flags)

    return make


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
@pytest.mark.parametrize("loss", Loss, ids=lambda loss: loss.name.lower())
@pytest.mark.parametrize(
    "api_key", [END_TXN, TXN_OFFSET_COMMIT], ids=["end_txn", "txn_offset_commit"]
)
def test_one_loss(make_scene, api_key, loss, cut):
    scene = make_scene()
    lost_before = scene.proxy.lost
    scene.proxy.lose(api_key, loss, cut)
    scene.check()
    assert scene.proxy.lost == lost_before + 1
    # After a cut librdkafka asks again by itself and learns the outcome; a silent loss of EndTxn it cannot settle in time.
    if api_key == END_TXN and not cut:
        log = scene.worker.log()
        assert "making a new producer: a step had to be repeated" in log
        assert "a commit's outcome is unknown" in log
        assert "changes=1 committed=1 the committed offsets tell" in log


def test_the_broker_gave_the_transaction_up(make_scene):
    """No EndTxn arrives until the broker has aborted the transaction: the reply must be sent again."""
    times = {"transaction": 4000, "message": 3000, "socket": 3000}
    scene = make_scene(*(f"--kafka={name}.timeout.ms={ms}" for name, ms in times.items()))
    replies = scene.topics.replies
    scene.proxy.lose(END_TXN, Loss.REQUEST, times=1_000_000)
    wait_for(lambda: scene.reader.read_uncommitted(replies), 30, "the reply is in the log")
    wait_for(lambda: not scene.reader.transaction_open(replies), 60, "the broker aborts it")
    assert scene.reader.read(replies) == []
    scene.proxy.lose(END_TXN, Loss.REQUEST, times=0)
    scene.check()
    log = scene.worker.log()
    assert "a commit's outcome is unknown" in log
    assert "changes=1 committed=0 the committed offsets tell" in log
    assert len(scene.reader.read_uncommitted(replies)) == 3


def test_the_coordinator_moves_while_partitions_are_assigned(proxied, make_worker, make_topics):
    """What the old coordinator answers when asked for committed offsets. librdkafka does not ask again by itself
    (its issue 5586), and a partition whose start it asked for is then never read."""
    broker, proxy, reader = proxied
    topics = make_topics(reader=reader)
    proxy.replace(OFFSET_FETCH, offset_fetch_error(topics.group, NOT_COORDINATOR), times=1_000_000)
    worker = make_worker(fake_flags(), bootstrap=proxy.bootstrap, topics_=topics).start()
    broker.produce(topics.requests, json.dumps(fake_request("ok", request_id="one")).encode())
    wait_for(lambda: "an assigned partition is not read yet" in worker.log(), 30, "the warning")
    assert proxy.replaced > 2  # both of the worker's consumers have been assigned one
    proxy.replace(OFFSET_FETCH, None, times=0)
    reader.wait_for_records(topics.replies, 1, 60)
    assert worker.stop() == 0
