"""A collector of OpenTelemetry spans (OTLP/HTTP, JSON) that remembers what it is sent."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.wait import wait_for

INTERNAL, PRODUCER, CONSUMER = 1, 4, 5
ERROR = 2


@dataclass(frozen=True)
class Span:
    trace_id: str
    span_id: str
    parent: str  # "" for a root
    name: str
    kind: int
    start: int  # nanoseconds
    end: int
    status: int
    attributes: dict
    raw: dict

    @property
    def traceparent(self):
        return f"00-{self.trace_id}-{self.span_id}-01"


class Collector:
    """Listens on a free port from start() on. `status` is what it answers; headers and bodies are kept in `requests`."""

    def __init__(self, status=200, answer=b"{}"):
        self.status = status
        self.answer = answer
        self.requests = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(collector.status)
                self.send_header("Content-Length", str(len(collector.answer)))
                self.end_headers()
                self.wfile.write(collector.answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def spans(self):
        """All spans so far, in the order of their arrival."""
        return [
            _span(span)
            for _, _, body in list(self.requests)
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def wait_for_consumers(self, count, timeout=30):
        """All spans, once there are this many of kind CONSUMER: the last of their jobs."""

        def arrived():
            spans = self.spans()
            return spans if len(of_kind(spans, CONSUMER)) >= count else None

        return wait_for(arrived, timeout, lambda: f"{count} consumer spans: {self.spans()}")


def of_kind(spans, kind):
    return [span for span in spans if span.kind == kind]


def _span(span):
    return Span(
        span["traceId"],
        span["spanId"],
        span.get("parentSpanId", ""),
        span["name"],
        span["kind"],
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        span.get("status", {}).get("code", 0),
        {entry["key"]: _value(entry["value"]) for entry in span["attributes"]},
        span,
    )


def _value(value):
    ((kind, content),) = value.items()
    return int(content) if kind == "intValue" else content
