"""Cancel records: what they stop, what they leave alone, and that every request still gets one reply."""

import json
import subprocess
import time
import uuid

import pytest

from harness.auditor import Auditor
from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for
from harness.worker import process_lives


@pytest.fixture
def starts(tmp_path):
    return Starts(tmp_path / "starts")


@pytest.fixture
def cancel_topic(auditor):
    name = f"cancel-{uuid.uuid4().hex[:8]}"
    auditor.create(f"{name}:3")
    return name


@pytest.fixture
def flags(cancel_topic):
    return fake_flags(f"--cancel-topic={cancel_topic}")


@pytest.fixture
def cancel(kafka, cancel_topic):
    """cancel(id, value={}): a cancel record."""

    def produce(request_id, value=None, headers=()):
        data = json.dumps(value or {}).encode()
        kafka.produce(cancel_topic, data, headers, key=request_id)

    return produce


@pytest.fixture
def take_back(kafka, cancel_topic):
    """take_back(id): a null value for this key."""

    def produce(request_id):
        subprocess.run(
            ["kcat", "-P", "-b", kafka.bootstrap, "-t", cancel_topic, "-K", "=", "-Z"],
            input=f"{request_id}=\n".encode(),
            check=True,
        )

    return produce


def failure(reply):
    return reply.json().get("failure", {})


def assert_cancelled(reply, request_id):
    assert reply.key.decode() == request_id
    assert reply.header("ce_type") == "dev.onnxferry.export.cancelled.v1"
    assert failure(reply)["code"] == "CANCELLED"
    assert failure(reply)["retryable"] is False


@pytest.mark.parametrize("manner", ["", "stubborn;"])
def test_a_running_job_is_stopped(
    make_worker, flags, send, cancel, replies, auditor, topics, starts, manner
):
    worker = make_worker((*flags, "--kill-grace-ms=500")).start()
    send(fake_request(manner + "sleep:60000", starts, request_id="r"))
    worker.wait_for_child()
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    cancel("r", {"reason": "no longer needed"})
    (reply,) = replies(1)
    assert_cancelled(reply, "r")
    assert failure(reply)["stage"] == "download"
    assert failure(reply)["message"].endswith("reason given: no longer needed")
    (pid,) = starts.pids()
    assert not process_lives(pid)
    assert worker.scratch_entries() == []
    assert auditor.read(topics.dlq) == []
    assert 'onnxferry_job_crashes_total 0' in worker.http("/metrics")[1]


def test_a_waiting_job_is_not_started(make_worker, flags, send, cancel, replies, starts):
    worker = make_worker(flags).start()
    send(fake_request("sleep:4000", request_id="first"))
    send(fake_request("ok", starts, request_id="second"))
    send(fake_request("ok", request_id="third"))
    worker.wait_for_log("request_id=third")
    cancel("second")
    got = {reply.key.decode(): reply for reply in replies(3)}
    assert_cancelled(got["second"], "second")
    assert "before the first stage" in failure(got["second"])["message"]
    assert "result" in got["first"].json() and "result" in got["third"].json()
    assert len(starts) == 0


@pytest.mark.parametrize(
    ("waiting", "sign"),
    [
        (["--retry-delay-ms=60000"], "received again for its next attempt"),
        (["--retry-topic=none", "--retry-backoff-ms=60000"], "the next attempt waits in place"),
    ],
    ids=["retry-topic", "in-place"],
)
def test_a_job_between_two_attempts_is_not_tried_again(
    make_worker, flags, send, cancel, replies, starts, waiting, sign
):
    others = [flag for flag in flags if not flag.startswith("--retry-")]
    worker = make_worker((*others, *waiting)).start()
    send(fake_request("fail:UNAVAILABLE", starts, request_id="r"))
    worker.wait_for_log(sign)
    cancel("r")
    (reply,) = replies(1)
    assert_cancelled(reply, "r")
    assert len(starts) == 1


def test_a_cancel_is_known_before_its_request_is_read(
    make_worker, flags, send, cancel, replies, starts
):
    send(fake_request("ok", starts, request_id="r"))
    send(fake_request("ok", request_id="other"))
    cancel("r")
    make_worker(flags).start()
    got = {reply.key.decode(): reply for reply in replies(2)}
    assert_cancelled(got["r"], "r")
    assert "result" in got["other"].json()
    assert len(starts) == 0


def test_a_cancel_after_the_result_changes_nothing(make_worker, flags, send, cancel, replies):
    worker = make_worker(flags).start()
    send(fake_request("ok", request_id="r"))
    replies(1)
    cancel("r")
    send(fake_request("ok", request_id="next"))
    got = replies(2)
    assert all("result" in reply.json() for reply in got)
    assert worker.alive()


def test_a_null_value_takes_the_cancel_back(
    make_worker, flags, send, cancel, take_back, replies, starts
):
    send(fake_request("ok", starts, request_id="r"))
    cancel("r")
    take_back("r")
    make_worker(flags).start()
    (reply,) = replies(1)
    assert "result" in reply.json()
    assert len(starts) == 1


def test_a_request_sent_after_the_cancel_runs_also_on_a_restarted_worker(
    make_worker, flags, send, cancel, replies, starts
):
    worker = make_worker(flags).start()
    send(fake_request("sleep:60000", starts, request_id="r"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    cancel("r")
    assert_cancelled(replies(1)[0], "r")
    send(fake_request("ok", starts, request_id="r"))
    assert "result" in replies(2)[1].json()
    assert worker.stop() == 0
    worker.start()
    time.sleep(0.01)  # another millisecond than the cancel's
    send(fake_request("ok", starts, request_id="r"))
    assert "result" in replies(3)[2].json()
    assert len(starts) == 3


def test_records_that_cancel_nothing_are_left_out(make_worker, flags, send, kafka, cancel, cancel_topic, replies):
    worker = make_worker(flags).start()
    send(fake_request("sleep:3000", request_id="r"))
    worker.wait_for_child()
    kafka.produce(cancel_topic, b"{}", (), key="bad\x07id")
    cancel("r", {"request_id": "another"})
    cancel("r", headers={"ce_type": "dev.onnxferry.export.requested.v1"})
    wait_for(lambda: worker.log().count("cancels nothing") == 3, 30, worker.log)
    assert "result" in replies(1)[0].json()


def test_without_the_topic_jobs_run_and_a_topic_made_later_is_found(
    make_worker, send, replies, auditor
):
    missing = f"cancel-{uuid.uuid4().hex[:8]}"
    worker = make_worker(fake_flags(f"--cancel-topic={missing}")).start()
    send(fake_request("ok"))
    replies(1)
    assert worker.log().count("no cancel topic") == 1
    auditor.create(missing)
    worker.wait_for_log("reading the cancel topic", timeout=60)


def test_submit_sends_a_cancel(
    make_worker, binary, kafka, flags, send, replies, cancel_topic, auditor
):
    worker = make_worker(flags).start()
    send(fake_request("sleep:60000", request_id="r"))
    worker.wait_for_child()
    subprocess.run(
        [
            binary,
            "submit",
            f"--brokers={kafka.bootstrap}",
            f"--cancel-topic={cancel_topic}",
            "--cancel=r",
            "--reason=changed my mind",
        ],
        check=True,
    )
    (reply,) = replies(1)
    assert_cancelled(reply, "r")
    assert "changed my mind" in failure(reply)["message"]
    (record,) = auditor.read(cancel_topic)
    assert record.key == b"r"
    assert record.header("ce_type") == "dev.onnxferry.export.cancel.requested.v1"


def test_cancels_are_read_again_after_the_broker_was_away(make_kafka, make_worker, make_topics, starts):
    broker = make_kafka()
    reader = Auditor(broker.bootstrap)
    topics = make_topics(reader=reader)
    reader.create("cancels")
    worker = make_worker(
        fake_flags("--cancel-topic=cancels"), bootstrap=broker.bootstrap, topics_=topics
    ).start()
    request = fake_request("sleep:60000", starts, request_id="r")
    broker.produce(topics.requests, json.dumps(request).encode())
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    broker.kill()
    time.sleep(2)
    broker.start()
    broker.produce("cancels", b"{}", key="r")
    reader.wait_for_records(topics.replies, 1, 120)
    (reply,) = reader.read(topics.replies)
    assert_cancelled(reply, "r")
    assert worker.alive()
    assert worker.stop() == 0
    reader.close()
