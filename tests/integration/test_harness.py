"""The tests' own instruments: they see what is there and notice what is wrong."""

import http.client

import numpy as np
import pytest

from harness.archives import checkpoint, make_archive, read_tensors
from harness.compare import difference


def test_the_auditor_reads_records_byte_for_byte(auditor, kafka, topics, send):
    send(b"\x00\xff\n", headers=[("twice", "a"), ("twice", "b")], key="k")
    send({"a": "ü"})
    garbage, text = auditor.read(topics.requests)
    assert (garbage.key, garbage.value) == (b"k", b"\x00\xff\n")
    assert garbage.headers == (("twice", b"a"), ("twice", b"b"))
    assert (text.offset, text.json()) == (1, {"a": "ü"})
    assert auditor.read(topics.replies) == []
    assert auditor.group(topics.group) is None
    assert not auditor.transaction_open(topics.requests)


def test_the_proxy_makes_faults_and_an_outage(proxy, bucket, job):
    key = f"{job.prefix}/object"
    bucket.put(key, b"0123456789")
    assert http_status(proxy, bucket, key) == 403  # unsigned, so the answer is the server's
    proxy.rules([{"match": "^GET ", "action": "slowdown"}])
    assert [http_status(proxy, bucket, key) for _ in range(2)] == [503, 403]
    assert [entry[1:] for entry in proxy.log()] == [["slowdown", 503], ["", 403]]
    proxy.stop()
    with pytest.raises(OSError):
        http_status(proxy, bucket, key)
    proxy.start()
    assert http_status(proxy, bucket, key) == 403


def http_status(proxy, bucket, key):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("GET", f"/{bucket.name}/{key}")
    status = connection.getresponse().status
    connection.close()
    return status


def test_archives_are_reproducible(tmp_path):
    assert make_archive("bert-fill-mask", "tar.gz") == make_archive("bert-fill-mask", "tar.gz")
    header, data = read_tensors(checkpoint("bert-fill-mask") / "model.safetensors")
    assert max(e["data_offsets"][1] for n, e in header.items() if n != "__metadata__") == len(data)


def test_the_comparison_sees_a_wrong_value_but_not_a_padded_one():
    want = np.zeros((2, 3), np.float32)
    got = want.copy()
    got[1, 2] = 0.5
    assert difference(got, want, []) == 0.5
    assert difference(got, want, [[1, 2]]) == 0.0
    assert difference(got[:1], want, []) == float("inf")
    assert not difference(np.full_like(want, np.nan), want, []) <= 1e-4
