"""The real servers of the integration tests: Apache Kafka, SeaweedFS, and a fault proxy in front of it.

All bind to 127.0.0.1 on free ports, keep their files below one run folder and are stopped by stop(); tests/run.sh
also sweeps the run folder when a test run is killed.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import socket
import subprocess
import sys
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from harness.environment import TOOLS, free_port
from harness.wait import wait_for

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"


class Kafka:
    """One broker. start() after kill() or stop() brings it back on the same port with the same data.

    `listener` and `scram` are kafka-up.sh's KAFKA_LISTENER and KAFKA_SCRAM. `environment` holds further ones;
    KafkaCluster sets it and `bootstrap` for each of its nodes.
    """

    def __init__(self, work, extra="", listener="", scram=""):
        self.work = work
        self.port = free_port(span=2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.environment = {
            "KAFKA_EXTRA": extra,
            "KAFKA_LISTENER": listener,
            "KAFKA_SCRAM": scram,
        }

    def start(self):
        _run([TOOLS / "kafka-up.sh", self.work, self.port], self.environment)
        return self

    def stop(self):
        self._signal("TERM")

    def kill(self):
        self._signal("KILL")

    def pause(self):
        self._signal("STOP")

    def resume(self):
        self._signal("CONT")

    def _signal(self, name):
        if self.work.exists():
            _run([TOOLS / "kafka-down.sh", self.work, name])

    def produce(self, topic, value, headers=(), key=None, partition=None):
        """Write one record. `value` is bytes; `headers` a dict or (name, text) pairs."""
        command = ["kcat", "-P", "-b", self.bootstrap, "-t", topic, "-X", "acks=all"]
        for name, text in headers.items() if isinstance(headers, dict) else headers:
            command += ["-H", f"{name}={text}"]
        if key is not None:
            command += ["-k", key]
        if partition is not None:
            command += ["-p", str(partition)]
        # A file is one record, whatever its bytes; standard input would be split into lines.
        message = self.work / "record"
        message.write_bytes(value)
        _run(command + [message])


class KafkaCluster:
    """Brokers of one cluster, each a controller too. Every record is on all of them, and written when a majority has it,
    so any one of them may be away: leaders and coordinators move to the others."""

    def __init__(self, work, count, extra=""):
        majority = count // 2 + 1
        properties = [
            f"default.replication.factor={count}",
            f"min.insync.replicas={majority}",
            f"offsets.topic.replication.factor={count}",
            f"offsets.topic.num.partitions={count}",
            f"transaction.state.log.replication.factor={count}",
            f"transaction.state.log.min.isr={majority}",
            f"transaction.state.log.num.partitions={2 * count}",
            # A broker that is back leads its share again soon.
            "leader.imbalance.check.interval.seconds=5",
            extra,
        ]
        work.mkdir()
        self.nodes = [Kafka(work / f"node{i}", "\n".join(properties)) for i in range(count)]
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)
        voters = [f"{i}@127.0.0.1:{node.port + 1}" for i, node in enumerate(self.nodes)]
        cluster_id = base64.b64encode(uuid.uuid4().bytes, b"AB").decode().rstrip("=")
        for i, node in enumerate(self.nodes):
            node.bootstrap = self.bootstrap
            node.environment |= {
                "KAFKA_NODE": str(i),
                "KAFKA_VOTERS": ",".join(voters),
                "KAFKA_CLUSTER_ID": cluster_id,
            }

    def start(self):
        with concurrent.futures.ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(Kafka.start, self.nodes))
        return self

    def close(self):
        for node in self.nodes:
            node.resume()
            node.kill()

    def produce(self, *arguments, **options):
        self.nodes[0].produce(*arguments, **options)


class S3:
    """SeaweedFS and a client of it. The workers under test use `endpoint` or a proxy's."""

    def __init__(self, work):
        self.work = work
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.client = None

    def start(self):
        _run([TOOLS / "weed-up.sh", self.work, self.port, ACCESS_KEY, SECRET_KEY])
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                retries={"max_attempts": 2},
                # Plain bodies: the server keeps the framing of checksummed ones as Content-Encoding.
                request_checksum_calculation="when_required",
            ),
        )
        return self

    def stop(self):
        if self.work.exists():
            _run([TOOLS / "weed-down.sh", self.work])

    def bucket(self, name):
        self.client.create_bucket(Bucket=name)
        return Bucket(self.client, name)


class Bucket:
    def __init__(self, client, name):
        self.client = client
        self.name = name

    def uri(self, key):
        return f"s3://{self.name}/{key}"

    def key(self, uri):
        return uri.removeprefix(f"s3://{self.name}/")

    def put(self, key, data):
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return self.uri(key)

    def get(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def head(self, key):
        """Size and last change of an object, or None."""
        try:
            return self.client.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise

    def names(self, prefix):
        """The object names below `prefix`, relative to it, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return sorted(
            item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])
        )

    def uploads(self):
        """Keys of multipart uploads that were begun and neither completed nor aborted."""
        answer = self.client.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in answer.get("Uploads", [])]


class FaultProxy:
    """tests/tools/faultproxy.py in front of an S3 server. stop() then start() is an outage on the same port."""

    def __init__(self, upstream_port):
        self.upstream_port = upstream_port
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, TOOLS / "faultproxy.py", str(self.port), str(self.upstream_port)]
        )
        wait_for(self._listens, 10, "fault proxy listens", interval=0.02)
        return self

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def rules(self, rules):
        """Set the rules (see faultproxy.py) and forget the log."""
        self._control("PUT", json.dumps(rules))

    def log(self):
        """[["METHOD path", action, status], ...] since the rules were set."""
        return self._control("GET", None)["log"]

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _control(self, method, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, "/__fault", body)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


def _run(command, environment=None):
    result = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed ({result.returncode}): {result.stderr.strip()}")
    return result.stdout
