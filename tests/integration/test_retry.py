"""Attempts that fail in a way that may pass: the retry topic, the wait in place, deadlines, and lag that reaches zero."""

import json
import struct
import time
from datetime import datetime, timedelta, timezone

import pytest

from harness.auditor import Auditor
from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for

DELAY_MS = 2000


@pytest.fixture
def starts(tmp_path):
    return Starts(tmp_path / "starts")


@pytest.fixture
def retry_worker(make_worker):
    return make_worker(fake_flags(f"--retry-delay-ms={DELAY_MS}")).start()


@pytest.fixture
def no_lag(auditor, topics):
    """Both topics that the worker reads are behind the group's committed offsets."""

    def check(timeout=60):
        def settled():
            group = auditor.group(topics.group)
            topics_seen = {topic for topic, _ in group.committed} if group else set()
            return topics_seen == {topics.requests, topics.retry} and all(
                group.lag(topic) == 0 for topic in topics_seen
            )

        wait_for(settled, timeout, lambda: f"lag 0: {auditor.group(topics.group)}")

    return check


def code(reply):
    return reply.json().get("failure", {}).get("code")


def metric(worker, name):
    """The sum of a metric's series."""
    lines = worker.http("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def in_seconds(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


def test_a_failed_attempt_goes_to_the_retry_topic_and_frees_its_slot(
    retry_worker, send, replies, auditor, topics, starts, no_lag
):
    send(
        fake_request("fail-until:2:UNAVAILABLE", starts, request_id="later"),
        headers={"mine": "kept", "kafka_correlationId": "c-1"},
        key="the-key",
    )
    retry_worker.wait_for_log("moved to the retry topic")
    send(fake_request("ok", request_id="meanwhile"))
    first, second = replies(2)
    assert (first.key, second.key) == (b"meanwhile", b"later")
    assert "result" in second.json()
    assert second.json()["attempt"] == 2
    assert second.header("kafka_correlationId") == "c-1"
    assert len(starts) == 2
    (moved,) = auditor.read(topics.retry)
    (sent,) = [record for record in auditor.read(topics.requests) if record.key == b"the-key"]
    assert (moved.key, moved.value) == (sent.key, sent.value)
    assert moved.headers[: len(sent.headers)] == sent.headers
    assert moved.header("onnxferry-request-id") == "later"
    assert moved.header("onnxferry-attempt") == "1"
    headers = dict(moved.headers)
    assert headers["retry_topic-original-timestamp"] == struct.pack(">q", sent.timestamp)
    (not_before,) = struct.unpack(">q", headers["retry_topic-backoff-timestamp"])
    assert second.timestamp >= not_before >= moved.timestamp + DELAY_MS - 1000
    assert auditor.read(topics.dlq) == []
    no_lag()
    assert metric(retry_worker, "onnxferry_retry_moved_total") == 1


def test_a_request_without_an_id_keeps_that_of_its_first_record(
    retry_worker, send, replies, auditor, topics, starts
):
    send(fake_request("ok"))  # offset 0, so that the places on the two topics differ
    send(fake_request("fail-until:3:RESOURCE_EXHAUSTED", starts))
    _, reply = replies(2)
    moves = auditor.read(topics.retry)
    assert [move.header("onnxferry-attempt") for move in moves] == ["1", "2"]
    assert {move.header("onnxferry-original-offset") for move in moves} == {"1"}
    assert {move.header("onnxferry-request-id") for move in moves} == {reply.key.decode()}
    assert reply.json()["attempt"] == 3


def test_a_crashing_request_is_given_up_across_the_topics(
    retry_worker, send, replies, auditor, topics, starts, no_lag
):
    send(fake_request("ok"))
    send(fake_request("crash", starts, request_id="bad"), headers={"mine": "kept"}, key="the-key")
    reply = replies(2)[1]
    assert (code(reply), reply.json()["attempt"]) == ("CRASHED", 3)
    assert len(starts) == 3
    (letter,) = auditor.read(topics.dlq)
    sent = auditor.read(topics.requests)[1]
    assert (letter.key, letter.value) == (sent.key, sent.value)
    names = [name for name, _ in letter.headers]
    assert not [name for name in names if name.startswith(("retry_topic", "onnxferry-original"))]
    assert letter.header("mine") == "kept"
    headers = dict(letter.headers)
    assert headers["kafka_dlt-original-topic"] == topics.requests.encode()
    assert headers["kafka_dlt-original-offset"] == struct.pack(">q", 1)
    assert headers["kafka_dlt-original-timestamp"] == struct.pack(">q", sent.timestamp)
    no_lag()


@pytest.mark.parametrize(
    ("failpoint", "moves", "starts_expected"), [("after-commit", 1, 2), ("before-commit", 0, 2)]
)
def test_killed_around_the_move(
    make_worker, send, replies, auditor, topics, starts, no_lag, failpoint, moves, starts_expected
):
    worker = make_worker(
        fake_flags(f"--retry-delay-ms={DELAY_MS}"), environment={"ONNXFERRY_FAILPOINT": failpoint}
    ).start()
    send(fake_request("fail-until:2:UNAVAILABLE", starts, request_id="one"))
    assert worker.wait() == -9
    assert len(starts) == 1
    del worker.environment["ONNXFERRY_FAILPOINT"]
    worker.start()
    (reply,) = replies(1)
    assert "result" in reply.json()
    assert reply.json()["attempt"] == 2
    no_lag()
    assert len(auditor.read(topics.replies)) == 1
    assert len(auditor.read(topics.retry)) == moves
    assert len(starts) == starts_expected


def test_without_a_retry_topic_the_next_attempt_waits_in_place(
    make_worker, send, replies, auditor, topics, starts
):
    worker = make_worker(
        fake_flags("--retry-topic=there-is-none", "--retry-backoff-ms=1000")
    ).start()
    send(fake_request("fail-until:2:UNAVAILABLE", starts, request_id="first"))
    worker.wait_for_log("the next attempt waits in place")
    send(fake_request("ok", request_id="second"))
    assert [reply.key for reply in replies(2)] == [b"first", b"second"]
    assert len(starts) == 2
    assert "there is no retry topic" in worker.log()


def test_other_records_of_the_retry_topic_are_requests_of_their_own(
    retry_worker, replies, auditor, topics, starts, no_lag
):
    value = json.dumps(fake_request("fail:UNAVAILABLE", starts, request_id="forged")).encode()
    auditor.produce(
        topics.retry,
        value,
        headers=[("onnxferry-attempt", b"-5"), ("onnxferry-not-before", b"\xff\0")],
    )
    (reply,) = replies_of(auditor, topics, 1)
    assert (code(reply), reply.json()["attempt"]) == ("UNAVAILABLE", 3)
    assert len(starts) == 3
    assert len(auditor.read(topics.retry)) == 3, "the record and two moves"
    assert "not written by a worker of this fleet" in retry_worker.log()
    (letter,) = auditor.read(topics.dlq)
    assert letter.header("onnxferry-attempt") == "-5"
    no_lag()


def replies_of(auditor, topics, count):
    return auditor.wait_for_records(topics.replies, count)


def test_no_lag_behind_a_transactional_requester(retry_worker, auditor, topics, no_lag):
    no_lag()  # also of topics that have never had a record
    for number in range(3):
        value = json.dumps(fake_request("ok", request_id=f"r{number}")).encode()
        auditor.produce(topics.requests, value, transaction="commit")
    auditor.produce(topics.requests, b"{}", transaction="abort")
    assert len(replies_of(auditor, topics, 3)) == 3
    no_lag()
    committed = auditor.group(topics.group).committed[(topics.requests, 0)]
    assert committed.offset == 8, "three requests, an aborted one, and a marker behind each"
    auditor.produce(topics.requests, b"{}", transaction="abort")
    no_lag()
    assert retry_worker.alive()


def test_a_retry_that_would_come_too_late_is_made_in_place(
    make_worker, send, replies, auditor, topics, starts
):
    make_worker(fake_flags("--retry-delay-ms=60000")).start()
    send(fake_request("fail-until:2:UNAVAILABLE", starts, expires_at=in_seconds(30)))
    (reply,) = replies(1)
    assert reply.json()["attempt"] == 2
    assert auditor.read(topics.retry) == []


def test_no_attempt_is_left_when_even_the_wait_in_place_is_too_long(
    make_worker, send, replies, starts
):
    make_worker(fake_flags("--retry-delay-ms=60000", "--retry-backoff-ms=60000")).start()
    send(fake_request("fail:UNAVAILABLE", starts, expires_at=in_seconds(20)))
    (reply,) = replies(1)
    assert code(reply) == "UNAVAILABLE"
    assert "no time for another attempt" in reply.json()["failure"]["message"]
    assert len(starts) == 1


def test_a_deadline_stops_a_running_job(retry_worker, send, replies, starts):
    send(fake_request("sleep:60000", starts, expires_at=in_seconds(3)))
    (reply,) = replies(1, timeout=30)
    assert code(reply) == "DEADLINE_EXCEEDED"
    assert "while the job ran" in reply.json()["failure"]["message"]
    assert len(starts) == 1


def test_a_deadline_that_passes_in_the_queue_starts_no_job(retry_worker, send, replies, starts):
    send(fake_request("sleep:4000", request_id="slow"))
    send(fake_request("ok", starts, request_id="expires", expires_at=in_seconds(2)))
    _, reply = replies(2)
    assert code(reply) == "DEADLINE_EXCEEDED"
    assert len(starts) == 0


def test_a_result_after_the_deadline_is_none(retry_worker, send, replies, starts):
    # The job does not listen to SIGTERM and ends with a result before it would be killed.
    send(fake_request("stubborn;sleep:5000", starts, expires_at=in_seconds(3)))
    (reply,) = replies(1)
    assert code(reply) == "DEADLINE_EXCEEDED"
    assert "the export itself is complete at s3://bucket/out/" in reply.json()["failure"]["message"]


def test_a_result_that_waits_for_the_broker_past_its_deadline_is_none(
    make_kafka, make_worker, make_topics, starts
):
    broker = make_kafka()
    reader = Auditor(broker.bootstrap)
    topics = make_topics(reader=reader)
    worker = make_worker(
        fake_flags("--max-jobs=2"), bootstrap=broker.bootstrap, topics_=topics
    ).start()
    deadline = time.time() + 10
    for name, pause in (("first", 3000), ("second", 4000)):
        request = fake_request(
            f"sleep:{pause}", starts, request_id=name, expires_at=in_seconds(deadline - time.time())
        )
        broker.produce(topics.requests, json.dumps(request).encode())
    wait_for(lambda: len(starts) == 2, 30, "both jobs started")
    broker.pause()
    # The first result is on its way to the broker, the second one waits behind it.
    wait_for(lambda: worker.log().count("job done") == 2, 30, "both jobs done")
    wait_for(lambda: time.time() > deadline, 30, "the deadline")
    broker.resume()
    got = {reply.key: code(reply) for reply in reader.wait_for_records(topics.replies, 2, 120)}
    reader.close()
    assert got[b"second"] == "DEADLINE_EXCEEDED"
    assert "DEADLINE_EXCEEDED" in worker.log()


@pytest.mark.parametrize(("wanted", "found"), [(2, 2), (3, None), (2**31 - 1, None)])
def test_springs_reply_partition(make_worker, auditor, topics, wanted, found):
    name = f"mine-{topics.replies}"
    auditor.create(f"{name}:3")
    worker = make_worker(fake_flags("--reply-topic-allow=mine-.*")).start()
    for request_id in ("r1", "r2"):
        auditor.produce(
            topics.requests,
            json.dumps(fake_request("ok", request_id=request_id)).encode(),
            headers=[
                ("kafka_replyTopic", name.encode()),
                ("kafka_replyPartition", struct.pack(">i", wanted)),
            ],
        )
    got = auditor.wait_for_records(name, 2)
    assert {reply.key for reply in got} == {b"r1", b"r2"}
    if found is None:
        assert "the partition asked for does not exist" in worker.log()
    else:
        assert {reply.partition for reply in got} == {found}
