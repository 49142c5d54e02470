"""What really stands in Kafka, read with Kafka's own Java client (tests/tools/Auditor.java)."""

import base64
import json
import subprocess
from dataclasses import dataclass

from harness.environment import TOOLS
from harness.wait import wait_for


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: tuple  # of (name, bytes or None), in order, names can repeat
    value: bytes | None

    def json(self):
        return json.loads(self.value)

    def header(self, name):
        """The last header of that name as text, or None."""
        values = [value for header, value in self.headers if header == name]
        return values[-1].decode() if values and values[-1] is not None else None


@dataclass(frozen=True)
class Committed:
    partition: int
    offset: int
    metadata: str
    end: int  # last stable offset of the partition
    lag: int


@dataclass(frozen=True)
class Group:
    state: str
    members: int
    committed: dict  # (topic, partition) -> Committed

    def lag(self, topic):
        return sum(entry.lag for (name, _), entry in self.committed.items() if name == topic)


class Auditor:
    """One Java process for the whole test session: a command takes milliseconds instead of a JVM's start."""

    def __init__(self, bootstrap):
        self.process = subprocess.Popen(
            [TOOLS / "auditor.sh", bootstrap, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def create(self, *topics):
        """Make topics, each "name" or "name:partitions"."""
        self._command("create", *topics)

    def read(self, topic, isolation="read_committed"):
        """Every record of the topic that a consumer with this isolation level would see."""
        lines, _ = self._command("read", topic, isolation)
        return [_record(line) for line in lines]

    def read_uncommitted(self, topic):
        """Also records of open and aborted transactions."""
        return self.read(topic, "read_uncommitted")

    def transaction_open(self, topic):
        """A transaction on the topic is neither committed nor aborted."""
        _, end = self._command("read", topic)
        return any(item["end"] < item["written"] for item in end["partitions"])

    def produce(self, topic, value, key=None, headers=(), partition=None, transaction=None):
        """Write one record with Kafka's own client: any bytes in `headers` (pairs), `transaction` "commit" or "abort"."""
        record = {
            "value": _base64(value),
            "key": _base64(key),
            "headers": [[name, _base64(content)] for name, content in headers],
        }
        if partition is not None:
            record["partition"] = partition
        if transaction is not None:
            record["transaction"] = transaction
        self._command("produce", topic, _base64(json.dumps(record).encode()))

    def exchange(self, topic, answers, value):
        """Write `value` (text without white space) to `topic`, wait for the next committed record of `answers`.

        Returns (record, milliseconds, wall clock in milliseconds when `value` was handed to the producer).
        """
        lines, end = self._command("exchange", topic, answers, value)
        return _record(lines[0]), end["milliseconds"], end["sent"]

    def group(self, name):
        """State, members and committed offsets of a consumer group; None when the broker has no such group."""
        try:
            lines, end = self._command("group", name)
        except AuditError as error:
            if "GroupIdNotFound" in str(error):
                return None
            raise
        committed = {
            (line["topic"], line["partition"]): Committed(
                line["partition"], line["committed"], line["metadata"], line["end"], line["lag"]
            )
            for line in lines
        }
        return Group(end["state"], end["members"], committed)

    def wait_for_records(self, topic, count, timeout=60):
        """At least `count` committed records of the topic."""

        def enough():
            records = self.read(topic)
            return records if len(records) >= count else None

        return wait_for(enough, timeout, lambda: f"{count} records on {topic}: {self.read(topic)}")

    def wait_for_no_lag(self, group, topic, timeout=60):
        """Every record of the topic is behind the group's committed offsets."""

        def done():
            state = self.group(group)
            return state if state and state.committed and state.lag(topic) == 0 else None

        return wait_for(done, timeout, lambda: f"lag 0 of {group} on {topic}: {self.group(group)}")

    def _command(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        lines = []
        for text in self.process.stdout:
            line = json.loads(text)
            if "error" in line:
                raise AuditError(line["error"])
            if "done" in line:
                return lines, line
            lines.append(line)
        raise AuditError(f"the auditor ended with status {self.process.wait()}")


class AuditError(Exception):
    pass


def _record(line):
    return Record(
        line["topic"],
        line["partition"],
        line["offset"],
        line["timestamp"],
        _bytes(line, "key"),
        tuple((header["name"], _bytes(header, "value")) for header in line["headers"]),
        _bytes(line, "value"),
    )


def _base64(data):
    return None if data is None else base64.b64encode(data).decode()


def _bytes(line, name):
    if name + "_base64" in line:
        return base64.b64decode(line[name + "_base64"])
    return None if line[name] is None else line[name].encode()
