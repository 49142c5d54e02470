"""Exactly one reply per request, whatever dies and whoever comes back."""

import json
import os
import signal

import pytest

from harness.auditor import Auditor
from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for
from harness.worker import process_lives


@pytest.fixture
def starts(tmp_path):
    return Starts(tmp_path / "starts")


@pytest.mark.parametrize(
    ("failpoint", "aborted_copies", "starts_expected"),
    [
        ("after-produce", 1, 2),
        ("before-commit", 1, 2),
        ("after-commit", 0, 1),
    ],
)
def test_killed_around_the_commit(
    make_worker, send, replies, auditor, topics, starts, failpoint, aborted_copies, starts_expected
):
    worker = make_worker(fake_flags(), environment={"ONNXFERRY_FAILPOINT": failpoint}).start()
    send(fake_request("ok", starts, request_id="one"))
    assert worker.wait() == -9
    del worker.environment["ONNXFERRY_FAILPOINT"]
    worker.start()
    (reply,) = replies(1)
    assert reply.key == b"one"
    assert len(auditor.read_uncommitted(topics.replies)) == 1 + aborted_copies
    assert len(starts) == starts_expected
    wait_for(lambda: worker.scratch_entries() == [], 10, "scratch is empty")


def test_killed_during_the_job(make_worker, send, replies, starts):
    worker = make_worker(fake_flags()).start()
    send(fake_request("sleep:2000", starts, request_id="one"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    worker.kill()
    wait_for(lambda: not process_lives(starts.pids()[0]), 10, "its process is gone")
    worker.start()
    (reply,) = replies(1)
    assert reply.json()["attempt"] == 2
    assert len(starts) == 2
    wait_for(lambda: worker.scratch_entries() == [], 10, "scratch is empty")


def test_a_request_that_kills_its_worker_is_given_up(make_worker, send, replies, auditor, topics):
    worker = make_worker(fake_flags(), environment={"ONNXFERRY_FAILPOINT": "after-attempt"})
    worker.start()
    send(fake_request("ok", request_id="poison"))
    for _ in range(2):
        assert worker.wait() == -9
        worker.start(ready=False)
    assert worker.wait() == -9
    worker.start()
    (reply,) = replies(1)
    assert reply.json()["failure"]["code"] == "CRASHED"
    assert len(auditor.read(topics.dlq)) == 1


def test_a_stale_worker_publishes_nothing(make_worker, send, replies, auditor, topics, starts):
    stale = make_worker(**named("a")).start()
    send(fake_request("sleep:2500", starts, request_id="one"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    stale.pause()
    other = make_worker(**named("b")).start()
    auditor.wait_for_records(topics.replies, 1)
    stale.resume()
    stale.wait_for_log("partitions lost")
    stale.wait_for_log("job done")
    send(fake_request("ok", request_id="two"))
    assert [reply.key for reply in replies(2)] == [b"one", b"two"]
    assert len(starts) == 2
    assert stale.stop() == 0
    assert other.stop() == 0


def named(name, *flags):
    """A worker of a fixed place in an eager group: member ids start with client.id, and the range assignor sorts them."""
    eager = "--kafka=partition.assignment.strategy=range"
    return {
        "flags": fake_flags(f"--kafka=client.id={name}", eager, *flags),
        "environment": {"POD_NAME": name},
    }


def test_a_rebalance_does_not_run_the_job_again(make_worker, send, replies, topics, starts):
    first = make_worker(**named("a")).start()
    send(fake_request("sleep:9000", starts, request_id="zero"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    second = make_worker(**named("b")).start()  # the only partition goes back to the first
    first.wait_for_log("taken up again after a rebalance")
    assert second.stop() == 0
    (reply,) = replies(1)
    assert reply.json()["attempt"] == 1
    assert len(starts) == 1
    assert first.log().count("partitions revoked") >= 2
    assert process_lives(first.pid)


def test_a_job_survives_its_partition_going_away_and_coming_back(
    make_worker, send, replies, topics, starts
):
    first = make_worker(**named("b")).start()
    send(fake_request("sleep:8000", starts, request_id="zero"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    # The newcomer gets the partition, starts the job too, and leaves at once: its start is not counted.
    second = make_worker(**named("a", "--drain-grace-ms=0")).start(ready=False)
    second.wait_for_log("job started")
    wait_for(lambda: len(starts) == 2, 30, "the newcomer started the job")
    assert second.stop() == 0
    (reply,) = replies(1)
    assert reply.json()["attempt"] == 1
    assert "taken up again after a rebalance" in first.log()
    assert len(starts) == 2


def test_sigterm_finishes_the_job_and_leaves(make_worker, send, replies, starts):
    worker = make_worker(fake_flags()).start()
    send(fake_request("sleep:2000", starts, request_id="running"))
    send(fake_request("ok", starts, request_id="waiting"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    assert worker.stop() == 0
    assert len(starts) == 1, "a job that waited must not start during the drain"
    assert worker.scratch_entries() == []
    make_worker(fake_flags()).start()
    assert [reply.key for reply in replies(2)] == [b"running", b"waiting"]


def test_the_second_signal_cancels_and_takes_the_attempt_back(
    make_worker, send, replies, auditor, topics, starts
):
    worker = make_worker(fake_flags()).start()
    send(fake_request("sleep:20000", starts, request_id="one"))
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait_for_log("draining")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait() == 0
    committed = auditor.group(topics.group).committed[(topics.requests, 0)]
    assert (committed.offset, committed.metadata) == (0, "onnxferry1;d=;a=")


def test_the_broker_restarts_during_a_job(make_kafka, make_worker, make_topics, starts):
    broker = make_kafka()
    reader = Auditor(broker.bootstrap)
    topics = make_topics(reader=reader)
    worker = make_worker(fake_flags(), bootstrap=broker.bootstrap, topics_=topics).start()
    broker.produce(
        topics.requests, json.dumps(fake_request("sleep:3000", starts, request_id="one")).encode()
    )
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    broker.kill()
    worker.wait_for_log("stage done")
    broker.start()
    reader.wait_for_records(topics.replies, 1, 120)
    reader.wait_for_no_lag(topics.group, topics.requests, 120)
    assert len(reader.read(topics.replies)) == 1
    assert worker.alive()
    reader.close()
