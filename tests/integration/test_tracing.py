"""OpenTelemetry spans of jobs: which there are, how they hang together, and that no job depends on the collector."""

import re
import uuid
from pathlib import Path

import pytest

from harness.collector import CONSUMER, ERROR, INTERNAL, PRODUCER, Collector, of_kind
from harness.environment import free_port
from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"
STAGES = ["download", "extract", "export", "verify", "upload"]


@pytest.fixture
def collector():
    listener = Collector().start()
    yield listener
    listener.stop()


@pytest.fixture
def traced(make_worker, collector):
    return make_worker(fake_flags(f"--otlp-endpoint={collector.endpoint}")).start()


def span_count(worker, fate):
    text = worker.http("/metrics")[1]
    return int(re.search(rf'onnxferry_spans_total{{fate="{fate}"}} (\d+)', text).group(1))


def test_one_job_is_one_trace(make_worker, collector, job, send, replies, topics):
    worker = make_worker([f"--otlp-endpoint={collector.endpoint}"]).start()
    request = job.request(
        job.fixture("bert-fill-mask"), request_id="r", verify={"level": "run"}
    )
    send(request, {"traceparent": SAMPLED, "tracestate": "vendor=1,other=2"})
    (reply,) = replies(1)
    assert "result" in reply.json(), reply.json()
    spans = collector.wait_for_consumers(1)

    (process,) = of_kind(spans, CONSUMER)
    (publish,) = of_kind(spans, PRODUCER)
    stages = of_kind(spans, INTERNAL)
    assert sorted(span.name for span in stages) == sorted(STAGES)
    assert len(spans) == 7 and len({span.span_id for span in spans}) == 7
    assert {span.trace_id for span in spans} == {TRACE}
    assert process.parent == CALLER
    assert {span.parent for span in [publish, *stages]} == {process.span_id}
    assert not [span for span in spans if span.status == ERROR]
    for span in [publish, *stages]:
        assert process.start <= span.start <= span.end <= process.end
    for stage in reply.json()["stages"]:
        (span,) = [span for span in stages if span.name == stage["stage"]]
        assert abs((span.end - span.start) / 1e6 - int(stage["ms"])) < 2
    assert all(span.raw["traceState"] == "vendor=1,other=2" for span in spans)

    assert reply.header("traceparent") == publish.traceparent
    assert reply.header("tracestate") == "vendor=1,other=2"
    assert process.name == f"process {topics.requests}"
    assert process.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topics.requests,
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": topics.group,
        "onnxferry.request_id": "r",
        "onnxferry.outcome": "replied",
        "onnxferry.task": "fill-mask",
        "onnxferry.model_type": "bert",
        "onnxferry.attempt": 1,
    }
    assert publish.name == f"send {topics.replies}"
    assert publish.attributes["messaging.destination.name"] == topics.replies
    path, headers, body = collector.requests[0]
    assert (path, headers["Content-Type"]) == ("/v1/traces", "application/json")
    resource = {
        entry["key"]: entry["value"]["stringValue"]
        for entry in body["resourceSpans"][0]["resource"]["attributes"]
    }
    assert resource["service.name"] == "onnxferry"
    assert "s3://" not in str(body)
    wait_for(lambda: span_count(worker, "sent") == 7, 5, "7 sent spans are counted")


def test_a_failed_job_shows_its_error(traced, collector, send, replies):
    send(fake_request("fail:CORRUPT_ARCHIVE"))
    (reply,) = replies(1)
    assert reply.json()["failure"]["code"] == "CORRUPT_ARCHIVE"
    spans = collector.wait_for_consumers(1)
    errors = {(span.name, span.attributes.get("error.type")) for span in spans if span.status == ERROR}
    (process,) = of_kind(spans, CONSUMER)
    assert errors == {("download", "CORRUPT_ARCHIVE"), (process.name, "CORRUPT_ARCHIVE")}
    assert process.parent == "", "the request named no trace"
    assert reply.header("traceparent") == of_kind(spans, PRODUCER)[0].traceparent


def test_a_retried_request_stays_in_its_trace(
    traced, collector, send, replies, topics, tmp_path
):
    send(
        fake_request("fail-until:2:UNAVAILABLE", Starts(tmp_path / "starts")),
        {"traceparent": SAMPLED},
    )
    (reply,) = replies(1)
    assert "result" in reply.json()
    spans = collector.wait_for_consumers(2)
    first, second = of_kind(spans, CONSUMER)
    assert first.attributes["onnxferry.outcome"] == "moved"
    assert first.attributes["error.type"] == "UNAVAILABLE"
    assert (second.name, second.status) == (f"process {topics.retry}", 0)
    assert {(span.trace_id, span.parent) for span in (first, second)} == {(TRACE, CALLER)}
    downloads = of_kind(spans, INTERNAL)
    assert [span.parent for span in downloads] == [first.span_id, second.span_id]
    assert [span.attributes["onnxferry.attempt"] for span in downloads] == [1, 2]
    (publish,) = of_kind(spans, PRODUCER)
    assert publish.parent == second.span_id and reply.header("traceparent") == publish.traceparent


def test_progress_names_the_consumer_span(make_worker, collector, send, replies, auditor):
    topic = f"progress-{uuid.uuid4().hex[:8]}"
    auditor.create(topic)
    flags = (f"--otlp-endpoint={collector.endpoint}", f"--progress-topic={topic}")
    make_worker(fake_flags(*flags)).start()
    send(fake_request("progress:5"), {"traceparent": SAMPLED})
    replies(1)
    (process,) = of_kind(collector.wait_for_consumers(1), CONSUMER)
    events = auditor.read(topic)
    assert events
    assert {event.header("traceparent") for event in events} == {process.traceparent}


def test_an_unsampled_trace_is_echoed_and_not_exported(traced, collector, send, replies):
    send(fake_request("ok", request_id="quiet"), {"traceparent": UNSAMPLED, "tracestate": "a=b"})
    send(fake_request("ok", request_id="loud"), {"traceparent": "00-nonsense", "tracestate": "a=b"})
    quiet, loud = replies(2)
    assert (quiet.header("traceparent"), quiet.header("tracestate")) == (UNSAMPLED, "a=b")
    spans = collector.wait_for_consumers(1)
    assert {span.attributes["onnxferry.request_id"] for span in spans} == {"loud"}
    assert traced.stop() == 0
    assert {span.trace_id for span in collector.spans()} == {spans[0].trace_id}
    assert spans[0].trace_id != TRACE
    # A new trace has nothing to do with the state of one that could not be read.
    assert loud.header("tracestate") is None


def test_without_an_endpoint_the_trace_context_is_echoed(make_worker, send, replies):
    worker = make_worker(fake_flags()).start()
    send(fake_request("ok"), {"traceparent": SAMPLED})
    assert replies(1)[0].header("traceparent") == SAMPLED
    assert "\notlp" not in worker_threads(worker)


def test_what_is_left_is_sent_at_the_end(traced, collector, send, replies):
    send(fake_request("ok"))
    replies(1)
    assert traced.stop() == 0
    assert len(of_kind(collector.spans(), CONSUMER)) == 1


def test_jobs_do_not_need_the_collector(make_worker, send, replies):
    flags = fake_flags(f"--otlp-endpoint=http://127.0.0.1:{free_port()}")
    worker = make_worker(flags).start()
    for number in range(3):
        send(fake_request("ok", request_id=str(number)))
    assert all("result" in reply.json() for reply in replies(3))
    wait_for(lambda: span_count(worker, "failed") == 9, 30, lambda: worker.http("/metrics")[1])
    assert span_count(worker, "sent") == 0
    assert worker.log().count("spans are lost") == 1
    assert worker.stop() == 0


def test_a_collector_that_never_answers_delays_neither_job_nor_shutdown(
    make_worker, send, replies
):
    held = Collector()  # its socket listens, nobody accepts
    worker = make_worker(fake_flags(f"--otlp-endpoint={held.endpoint}")).start()
    send(fake_request("ok"))
    assert "result" in replies(1)[0].json()
    assert worker.stop(timeout=20) == 0
    held.server.server_close()


def test_standard_variables_and_headers(make_worker, collector, send, replies):
    make_worker(
        fake_flags(),
        environment={
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b",
            "OTEL_SERVICE_NAME": "exports",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        },
    ).start()
    send(fake_request("ok"))
    replies(1)
    collector.wait_for_consumers(1)
    path, headers, body = collector.requests[0]
    assert (path, headers["x-key"]) == ("/v1/traces", "a b")
    resource = {
        entry["key"]: entry["value"]["stringValue"]
        for entry in body["resourceSpans"][0]["resource"]["attributes"]
    }
    assert resource["service.name"] == "exports"
    assert resource["deployment.environment.name"] == "test"


def worker_threads(worker):
    """Names of the worker's threads, one a line."""
    tasks = Path(f"/proc/{worker.pid}/task").iterdir()
    return "\n" + "".join((task / "comm").read_text() for task in tasks)
