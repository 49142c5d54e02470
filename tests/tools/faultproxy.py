#!/usr/bin/env python3
"""An HTTP proxy in front of an S3 server that goes wrong on request.

usage: faultproxy.py LISTENPORT UPSTREAMPORT      both on 127.0.0.1

The Host header is kept, so signatures stay valid. Whole bodies are buffered: keep objects below 32 MiB.
PUT /__fault with a JSON list sets the rules and clears the log; GET /__fault returns {"log": [[request, action,
status], ...], "rules": [...]}. The first rule that matches is used:

    {"match": regex on "METHOD path?query", "times": n (default 1), "skip": k (default 0), "action": ...}

    slowdown    503 with an S3 error, nothing forwarded ("status", "code", "retry_after" override)
    err200      200 with an S3 error as its body ("forward": true commits the request first)
    lostreply   forwarded and committed, then the connection is reset
    cut         the reply's body is cut after "bytes", then the connection is reset ("fin": true: closed)
    corrupt     one byte of the reply's body is flipped, at "offset"
    corruptreq  one byte of the request's body is flipped
    delay       forwarded after "ms"
"""

import http.client
import io
import json
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LISTEN, UPSTREAM = int(sys.argv[1]), int(sys.argv[2])
RULES = []
LOG = []
LOCK = threading.Lock()
HOP_BY_HOP = ("transfer-encoding", "connection", "content-length")


def s3_error(code, message):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    ).encode()


def take_rule(request):
    """The rule to apply to this request, counted down, or an empty one."""
    with LOCK:
        for rule in RULES:
            if rule.get("times", 1) <= 0 or not re.search(rule["match"], request):
                continue
            if rule.get("skip", 0) > 0:
                rule["skip"] -= 1
                continue
            rule["times"] = rule.get("times", 1) - 1
            return rule
    return {}


def flip(data, offset):
    changed = bytearray(data)
    changed[offset % len(changed)] ^= 1
    return bytes(changed)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        raw = b""
        while True:  # kept in its chunked form: the header is forwarded too
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            raw += line + self.rfile.read(size + 2)
            if size == 0:
                return raw

    def answer(self, status, body, content_type="application/xml", headers=()):
        self.send_response_only(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self):
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()
        self.rfile = self.wfile = io.BytesIO()

    def control(self, body):
        if self.command == "PUT":
            with LOCK:
                RULES[:] = json.loads(body)
                LOG.clear()
        with LOCK:
            state = json.dumps({"log": LOG, "rules": RULES}).encode()
        self.answer(200, state, "application/json")

    def forward(self, body):
        upstream = http.client.HTTPConnection("127.0.0.1", UPSTREAM)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                upstream.putheader(name, value)
        upstream.endheaders()
        if body:
            upstream.send(body)
        response = upstream.getresponse()
        data = b"" if self.command == "HEAD" else response.read()
        upstream.close()
        return response, data

    def relay(self, response, data, rule):
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if response.status not in (204, 304):
            length = response.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if rule.get("action") != "cut":
            self.wfile.write(data)
            return
        self.wfile.write(data[: rule["bytes"]])
        self.wfile.flush()
        if rule.get("fin"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_WR)
            return
        time.sleep(0.05)
        self.reset()

    def handle_request(self):
        body = self.read_body()
        if self.path == "/__fault":
            return self.control(body)
        request = f"{self.command} {self.path}"
        rule = take_rule(request)
        action = rule.get("action", "")

        def note(status):
            with LOCK:
                LOG.append([request, action, status])

        if action == "delay":
            time.sleep(rule["ms"] / 1000)
        if action == "slowdown":
            status = rule.get("status", 503)
            note(status)
            wait = [("Retry-After", str(rule["retry_after"]))] if "retry_after" in rule else []
            error = s3_error(rule.get("code", "SlowDown"), "Please reduce your request rate.")
            return self.answer(status, error, headers=wait)
        if action == "err200" and not rule.get("forward"):
            note(200)
            return self.answer(200, s3_error("InternalError", "Please try again."))
        if action == "corruptreq" and body:
            body = flip(body, len(body) // 2)
        response, data = self.forward(body)
        note(response.status)
        if action == "err200":
            return self.answer(200, s3_error("InternalError", "Please try again."))
        if action == "lostreply":
            return self.reset()
        if action == "corrupt" and data:
            data = flip(data, rule.get("offset", 0))
        return self.relay(response, data, rule)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        # A client that gives up in the middle of a fault is what these tests are about.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server(("127.0.0.1", LISTEN), Handler).serve_forever()
