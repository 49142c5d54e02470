"""Bad input: each kind gets its own error reply, the worker lives and goes on, and nothing is left in S3."""

import json

import pytest

from harness.archives import (
    copy_checkpoint,
    drop_tensors,
    edit_config,
    make_archive,
    pack,
    pack_entries,
)


def corrupt_archive(tmp_path):
    data = bytearray(make_archive("bert-fill-mask", "tar.gz"))
    data[len(data) // 2] ^= 0xFF
    return "model.tar.gz", bytes(data)


def cut_archive(tmp_path):
    data = make_archive("bert-fill-mask")
    return "model.tar", data[: len(data) // 2]


def not_an_archive(tmp_path):
    return "model.tar", b"<html>not found</html>" * 100


def archive_without_a_model(tmp_path):
    return "model.tar", pack_entries({"notes/readme.txt": b"nothing here"})


def escaping_archive(tmp_path):
    return "model.tar", pack_entries({"model/config.json": b"{}", "../../escaped.json": b"{}"})


def absolute_archive(tmp_path):
    return "model.tar", pack_entries({"model/config.json": b"{}", "/escaped.json": b"{}"})


def truncated_safetensors(tmp_path):
    folder = copy_checkpoint("bert-fill-mask", tmp_path / "checkpoint")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "model.tar", pack(folder)


def unknown_model_type(tmp_path):
    folder = copy_checkpoint("bert-fill-mask", tmp_path / "checkpoint")
    edit_config(folder, {"model_type": "bertt"})
    return "model.tar", pack(folder)


def unknown_rope_type(tmp_path):
    folder = copy_checkpoint("qwen2", tmp_path / "checkpoint")
    edit_config(folder, {"rope_scaling": {"rope_type": "spiral", "factor": 2.0}})
    return "model.tar", pack(folder)


def missing_head(tmp_path):
    folder = copy_checkpoint("bert-fill-mask", tmp_path / "checkpoint")
    drop_tensors(folder / "model.safetensors", lambda name: not name.startswith("cls."))
    return "model.tar", pack(folder)


# archive, further request fields, error code, a word that the message must have
CASES = [
    (corrupt_archive, {}, "CORRUPT_ARCHIVE", ""),
    (cut_archive, {}, "CORRUPT_ARCHIVE", ""),
    (not_an_archive, {}, "CORRUPT_ARCHIVE", ""),
    (archive_without_a_model, {}, "CORRUPT_CHECKPOINT", "config.json"),
    (escaping_archive, {}, "CORRUPT_ARCHIVE", "escaped.json"),
    (absolute_archive, {}, "CORRUPT_ARCHIVE", "escaped.json"),
    (truncated_safetensors, {}, "CORRUPT_CHECKPOINT", "model.safetensors"),
    (unknown_model_type, {}, "UNSUPPORTED_MODEL", "bertt"),
    (unknown_rope_type, {}, "UNSUPPORTED_MODEL", "spiral"),
    (missing_head, {"task": "fill-mask"}, "UNSUPPORTED_MODEL", "cls."),
]


@pytest.fixture(scope="module")
def good_archive():
    return make_archive("distilbert-fill-mask")


@pytest.mark.parametrize(
    "make, fields, code, word", CASES, ids=[case[0].__name__ for case in CASES]
)
def test_a_bad_archive_gets_its_error_and_the_next_job_works(
    worker, job, send, replies, tmp_path, good_archive, make, fields, code, word
):
    send(job.request(job.source(*make(tmp_path)), job.output("bad"), request_id="bad", **fields))
    send(job.request(job.source("good.tar", good_archive), job.output("good"), request_id="good"))
    bad, good = replies(2)

    failure = bad.json()["failure"]
    assert (bad.json()["request_id"], failure["code"]) == ("bad", code), failure
    assert word in failure["message"] or word == failure.get("subject"), failure
    assert failure.get("retryable", False) is False
    assert bad.header("ce_type") == "dev.onnxferry.export.failed.v1"
    assert job.names(job.output("bad")) == []
    assert "result" in good.json(), good.json()
    assert worker.alive()
    assert worker.scratch_entries() == []


@pytest.mark.parametrize(
    "value",
    [b"\x93\x00\xff garbage \xfe\xfd", b'{"minio_tar_uri": "s3://b/k.tar", ', b"[1, 2]", b"\n"],
    ids=["binary", "cut", "list", "blank"],
)
def test_an_unreadable_request_goes_to_the_dead_letter_topic(
    worker, job, send, replies, auditor, topics, good_archive, value
):
    headers = {"content-type": "application/json", "kafka_correlationId": "c-1", "custom": "kept"}
    send(value, headers, key="original")
    send(job.request(job.source("good.tar", good_archive)))
    bad, good = replies(2)

    assert bad.json()["failure"]["code"] == "INVALID_REQUEST"
    assert bad.header("kafka_correlationId") == "c-1"
    (dead,) = auditor.read(topics.dlq)
    assert (dead.key, dead.value) == (b"original", value)
    assert dead.header("custom") == "kept"
    assert dead.header("kafka_dlt-original-topic") == topics.requests
    assert "result" in good.json(), good.json()
    assert worker.alive()


def test_garbage_without_a_content_type_is_answered_in_protobuf(worker, send, replies, auditor, topics):
    send(b"\x93\x00\xff garbage \xfe\xfd")
    (reply,) = replies(1)
    assert reply.header("content-type") == "application/x-protobuf"
    assert reply.header("ce_type") == "dev.onnxferry.export.failed.v1"
    assert len(auditor.read(topics.dlq)) == 1
    assert worker.alive()


@pytest.mark.parametrize(
    "request_, fields",
    [
        (
            {"minio_tar_uri": "s3://bucket/a.tar", "dtype": "fp12", "task": "fill-mask "},
            {"output_dir", "dtype", "task"},
        ),
        ({"opzet": 3, "overwrite": "no", "verify": {"leve": "run"}}, {"opzet", "overwrite", "verify.leve"}),
    ],
    ids=["values", "form"],
)
def test_every_problem_of_a_request_is_named_at_once(worker, send, replies, request_, fields):
    send(request_)
    (reply,) = replies(1)
    failure = reply.json()["failure"]
    assert failure["code"] == "INVALID_REQUEST"
    assert fields <= {problem["field"] for problem in failure["details"]}, failure


@pytest.mark.parametrize(
    "fields, code",
    [
        ({"minio_tar_uri": "s3://{bucket}/no/such.tar"}, "SOURCE_NOT_FOUND"),
        ({"minio_tar_uri": "s3://no-such-bucket-anywhere/a.tar"}, "SOURCE_NOT_FOUND"),
        ({"output_dir": "s3://no-such-bucket-anywhere/out/"}, "DESTINATION_NOT_FOUND"),
        ({"task": "fill-masks"}, "INVALID_REQUEST"),
        ({"use_onnxslim": True}, "UNSUPPORTED_OPTION"),
        ({"variants": ["q4"]}, "UNSUPPORTED_OPTION"),
        ({"minio_tar_uri": "file:///etc/passwd"}, "INVALID_REQUEST"),
    ],
)
def test_a_wrong_request_gets_its_error(worker, job, send, replies, good_archive, fields, code):
    source = job.source("good.tar", good_archive)
    fields = json.loads(json.dumps(fields).replace("{bucket}", job.bucket.name))
    send({**job.request(source), **fields})
    (reply,) = replies(1)
    assert reply.json()["failure"]["code"] == code, reply.json()
    assert worker.alive()
