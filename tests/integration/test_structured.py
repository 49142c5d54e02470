"""CloudEvents structured mode through the worker: the answer comes as the request came."""

import pytest

from harness.fake import fake_flags, fake_request

HEADERS = {"content-type": "application/cloudevents+json", "kafka_correlationId": "c-1"}


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [({}, "completed", None), ({"dtype": "fp8"}, "failed", "INVALID_REQUEST")],
    ids=["good", "bad"],
)
def test_a_structured_request_gets_a_structured_reply(
    make_worker, send, replies, fields, kind, code
):
    make_worker(fake_flags()).start()
    event = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/test",
        "type": "dev.onnxferry.export.requested.v1",
        "data": fake_request("ok", **fields),
    }
    send(event, HEADERS)
    (reply,) = replies(1)
    body = reply.json()
    assert reply.key == b"e-1"
    assert reply.header("content-type") == "application/cloudevents+json"
    assert reply.header("kafka_correlationId") == "c-1"
    assert body["type"] == f"dev.onnxferry.export.{kind}.v1"
    assert body["subject"] == body["data"]["request_id"] == "e-1"
    assert body["data"].get("failure", {}).get("code") == code
