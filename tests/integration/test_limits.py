"""A job that uses up its CPU time, its memory or its time is ended, tried again and answered RESOURCE_EXHAUSTED."""

import os
import signal

import pytest

from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for_claim

TWO_ATTEMPTS = ("--max-attempts=2", "--retry-backoff-ms=100", "--retry-delay-ms=100")


@pytest.fixture
def starts(tmp_path):
    return Starts(tmp_path / "starts")


def failure(reply):
    body = reply.json()
    assert body["attempt"] == 2
    assert body["failure"]["code"] == "RESOURCE_EXHAUSTED"
    assert body["failure"]["retryable"]
    return body["failure"]


def test_a_job_ends_at_its_cpu_time(make_worker, send, replies, auditor, topics, starts):
    worker = make_worker(fake_flags("--job-cpu-seconds=1", *TWO_ATTEMPTS)).start()
    send(fake_request("spin", starts))
    (reply,) = replies(1)
    assert "used up its 1 s of CPU time in stage download" in failure(reply)["message"]
    assert failure(reply)["stage"] == "download"
    assert len(starts) == 2
    assert len(auditor.read(topics.dlq)) == 1
    assert worker.scratch_entries() == []
    # Sleeping is not using: a job may last longer than its CPU time.
    send(fake_request("sleep:1500", request_id="sleeps"))
    assert "result" in replies(2)[-1].json()


def test_a_real_job_ends_in_order_at_its_cpu_time(make_worker, send, replies, job, bucket, proxy):
    """The kernel's signal, sent by hand at a known place: the next attempt finds nothing in its way."""
    worker = make_worker(("--job-cpu-seconds=600", *TWO_ATTEMPTS), proxy.endpoint).start()
    proxy.rules([{"match": "^PUT .*model.onnx", "action": "delay", "ms": 3000, "times": 1}])
    send(job.request(job.fixture("distilbert-fill-mask")))
    wait_for_claim(proxy)
    os.kill(worker.wait_for_child(), signal.SIGXCPU)
    (reply,) = replies(1)
    text = "used up its 600 s of CPU time in stage upload"
    assert worker.log().count(text) == 1
    assert "result" in reply.json() and reply.json()["attempt"] == 2
    assert ".onnxferry-claim" not in job.names()
    assert worker.scratch_entries() == []
    assert bucket.uploads() == []


def test_a_job_ends_at_its_duration(make_worker, send, replies, starts):
    make_worker(fake_flags("--job-wall-seconds=1", "--kill-grace-ms=100", *TWO_ATTEMPTS)).start()
    send(fake_request("stubborn;sleep:60000", starts))
    (reply,) = replies(1)
    assert "not done after 1 s" in failure(reply)["message"]
    assert failure(reply)["stage"] == "download"
    assert len(starts) == 2
