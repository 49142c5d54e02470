"""The verdict: what must hold when everything has healed, whatever happened before."""

import collections
import hashlib
import json

from workload import ANSWERS


class Oracle:
    """Collects violations; none is the pass."""

    def __init__(self, auditor, topics, bucket, workload):
        self.auditor = auditor
        self.topics = topics
        self.bucket = bucket
        self.requests = {request.id: request for request in workload.requests}
        self.violations = []

    def expected(self):
        """{request id: records on the request topic}; None counts those that cannot be read. The topic is the truth:
        a producer that was cut off may or may not have written."""
        counts = collections.Counter()
        for record in self.auditor.read(self.topics.requests):
            try:
                counts[json.loads(record.value)["request_id"]] += 1
            except (UnicodeDecodeError, ValueError):
                counts[None] += 1
        return counts

    def replies(self, isolation="read_committed"):
        return self.auditor.read(self.topics.replies, isolation)

    def is_answered(self):
        return len(self.replies()) >= sum(self.expected().values())

    def judge(self):
        replies, expected = self.replies(), self.expected()
        self._every_record_once(replies, expected)
        for reply in replies:
            self._right_answer(reply)
        self._nothing_left()
        return self.violations

    def _every_record_once(self, replies, expected):
        answered = collections.Counter(self._known(reply) for reply in replies)
        for identity in expected.keys() | answered.keys():
            if answered[identity] != expected[identity]:
                what = "lost" if answered[identity] < expected[identity] else "duplicate"
                self._violation(f"{what}: {identity or 'garbage'} has {answered[identity]} replies to {expected[identity]} records")
        garbage = [reply.key for reply in replies if self._known(reply) is None]
        if len(garbage) != len(set(garbage)):
            self._violation("duplicate: two replies to one unreadable record")

    def _right_answer(self, reply):
        request = self.requests.get(self._known(reply))
        if request is None:
            # What cannot be read is taken for protobuf and answered in it; the header says enough.
            if reply.header("ce_type") != "dev.onnxferry.export.failed.v1":
                self._violation(f"wrong answer to garbage: {reply}")
            return
        body = reply.json()
        kind = request.kind
        code = body.get("failure", {}).get("code")
        if code not in ANSWERS[kind]:
            self._violation(f"wrong answer: {body['request_id']} ({kind}): {code or 'a result'}: {body.get('failure', {}).get('message')}")
        if code is None:
            manifest = json.loads(self._get(request.output, "export_manifest.json"))
            digests = {item["name"]: item["sha256"] for item in manifest["result"]["files"]}
            stored = hashlib.sha256(self._get(request.output, "model.onnx")).hexdigest()
            if not stored == digests["model.onnx"] == request.digest:
                self._violation(f"wrong bytes: {request.id}: model.onnx is {stored}, manifest {digests['model.onnx']}, right {request.digest}")
            if hashlib.sha256(self._get(request.output, "export_manifest.json")).hexdigest() != body["result"]["manifest_sha256"]:
                self._violation(f"wrong bytes: {request.id}: the reply names another manifest")

    def _nothing_left(self):
        for topic in (self.topics.requests, self.topics.retry):
            lag = self.auditor.group(self.topics.group).lag(topic)
            if lag != 0:
                self._violation(f"lag {lag} on {topic}")
        for topic in (self.topics.replies, self.topics.dlq, self.topics.retry):
            if self.auditor.transaction_open(topic):
                self._violation(f"a transaction hangs on {topic}")
        uploads = self.bucket.uploads()
        if uploads:
            self._violation(f"multipart uploads left: {uploads}")
        # No manifest without a reply that names it, and no claim beside a manifest.
        names = set(self.bucket.names("out/"))
        for name in names:
            identity, file = name.split("/", 1)
            if file == ".onnxferry-claim" and f"{identity}/export_manifest.json" in names:
                self._violation(f"a claim is left beside the manifest of {identity}")

    def workers_left_nothing(self, workers):
        for worker in workers:
            if worker.children():
                self._violation(f"{worker.folder.name} still has job processes")
            entries = [entry for entry in worker.scratch_entries() if not entry.startswith("weights")]
            if entries:
                self._violation(f"{worker.folder.name} left in scratch: {entries}")

    def duplicates_without_protection(self):
        """Replies beyond one per record that a reader without read_committed sees: the control."""
        return len(self.replies("read_uncommitted")) - sum(self.expected().values())

    def _known(self, reply):
        """The request's id; None for one of the unreadable records, which have ids of their own."""
        identity = reply.key.decode()
        return identity if identity in self.requests else None

    def _get(self, output, name):
        return self.bucket.get(self.bucket.key(output) + name)

    def _violation(self, text):
        self.violations.append(text)
