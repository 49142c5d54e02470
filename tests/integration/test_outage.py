"""The object store is away for a while: the job waits, nobody gets an error."""

import time

import pytest

from harness.environment import LONG
from harness.wait import wait_for_claim

OUTAGE_SECONDS = 60 if LONG else 12


def test_a_job_outlives_an_outage_before_its_download(make_worker, proxy, job, send, replies):
    source = job.fixture("qwen2")
    worker = make_worker(endpoint=proxy.endpoint).start()
    proxy.stop()
    send(job.request(source))
    worker.wait_for_child()
    time.sleep(OUTAGE_SECONDS)
    proxy.start()
    (reply,) = replies(1, timeout=60)
    body = reply.json()
    assert "result" in body, body
    assert body["attempt"] == 1
    assert "export_manifest.json" in job.names()


def test_a_job_outlives_an_outage_during_its_upload(make_worker, proxy, job, send, replies):
    source = job.fixture("qwen2")
    worker = make_worker(endpoint=proxy.endpoint).start()
    # The archive arrives; the model's upload is held back, and the store goes away meanwhile.
    proxy.rules([{"match": "^(PUT|POST) .*/model.onnx", "action": "delay", "ms": 3000}])
    send(job.request(source))
    wait_for_claim(proxy)
    proxy.stop()
    time.sleep(OUTAGE_SECONDS)
    assert worker.alive()
    proxy.start()
    (reply,) = replies(1, timeout=60)
    body = reply.json()
    assert "result" in body, body
    assert body["attempt"] == 1
    assert job.bucket.uploads() == []
    assert ".onnxferry-claim" not in job.names()


@pytest.mark.skipif(not LONG, reason="a second minute of outage; ONNXFERRY_LONG=1 runs it")
def test_requests_queue_up_during_an_outage(make_worker, proxy, job, send, replies):
    source = job.fixture("bert-fill-mask")
    make_worker(endpoint=proxy.endpoint).start()
    proxy.stop()
    for number in range(3):
        send(job.request(source, job.output(f"out-{number}")))
    time.sleep(OUTAGE_SECONDS)
    proxy.start()
    assert all("result" in reply.json() for reply in replies(3, timeout=120))
