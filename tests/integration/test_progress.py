"""Progress events: what they say, and that a job does not notice whether anybody listens."""

import uuid

import pytest

from harness.fake import fake_flags, fake_request

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NAMESPACE = uuid.UUID("b379bae4-09e2-508b-b469-fe34356cdd33")
TYPE = "dev.onnxferry.export.progress.v1"


@pytest.fixture
def progress_topic(auditor):
    name = f"progress-{uuid.uuid4().hex[:8]}"
    auditor.create(name)
    return name


def test_progress_grows_and_names_the_job(make_worker, send, replies, auditor, progress_topic):
    worker = make_worker(fake_flags(f"--progress-topic={progress_topic}")).start()
    headers = {"kafka_correlationId": "c-1", "traceparent": TRACEPARENT}
    send(fake_request("progress:20", request_id="r"), headers)
    replies(1)
    events = auditor.read(progress_topic)
    assert len(events) >= 3
    bodies = [event.json() for event in events]
    assert {body["request_id"] for body in bodies} == {"r"}
    assert {body["stage"] for body in bodies} == {"download"}
    assert {body["attempt"] for body in bodies} == {1}
    assert all(body["worker"]["host"] for body in bodies)
    percents = [body["percent"] for body in bodies if "percent" in body]
    assert len(percents) >= 2 and percents == sorted(set(percents))
    assert [int(body["bytes_done"]) for body in bodies if "percent" in body] == [
        round(percent / 100 * 20) for percent in percents
    ]
    for event in events:
        assert event.key == b"r"
        assert event.header("ce_type") == TYPE
        assert event.header("kafka_correlationId") == "c-1"
        assert event.header("traceparent") == TRACEPARENT
        sequence = event.header("ce_sequence")
        assert event.header("ce_id") == str(uuid.uuid5(NAMESPACE, f"r/{TYPE}/{sequence}"))
    sequences = [int(event.header("ce_sequence")) for event in events]
    assert all(later - earlier >= 900 for earlier, later in zip(sequences, sequences[1:]))
    assert f'onnxferry_progress_total{{fate="sent"}} {len(events)}' in worker.http("/metrics")[1]


def test_an_outage_is_seen_in_the_progress(make_worker, send, replies, auditor, progress_topic):
    make_worker(fake_flags(f"--progress-topic={progress_topic}")).start()
    send(fake_request("wait:2500", request_id="r"))
    replies(1)
    waiting = [event.json() for event in auditor.read(progress_topic) if event.json()["waiting"]]
    assert waiting and waiting[0]["reason"] == "the test said so"


@pytest.mark.parametrize("topic", ["", "progress-nobody-made"])
def test_jobs_do_not_need_the_topic(make_worker, send, replies, topic):
    worker = make_worker(fake_flags("--progress-topic", topic)).start()
    send(fake_request("progress:4"))
    (reply,) = replies(1)
    assert "result" in reply.json()
    assert worker.log().count("no progress topic") == (1 if topic else 0)
