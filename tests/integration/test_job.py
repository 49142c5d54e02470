"""The main job: request on Kafka, archive in S3, directory in S3, one reply."""

import hashlib
import json

from harness.archives import checkpoint, make_archive
from harness.fake import FAST_GROUP
from harness.wait import wait_for, wait_for_claim
from harness.worker import process_lives

# What the callers' own documents list for a Qwen model.
OPTIMUM_FILES = {
    "config.json",
    "generation_config.json",
    "model.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
}
OUR_FILES = {"export_metadata.json", "SHA256SUMS", "export_manifest.json"}
METADATA_KEYS = {
    "source_model",
    "export_strategy",
    "clean_onnx",
    "export_timestamp",
    "modelexport_version",
}


def test_a_request_of_the_original_callers_gives_the_promised_directory(
    worker, job, send, replies, bucket
):
    source = job.source("qwen-2.5-0.5B-LLM.tar", make_archive("qwen2"))
    send(
        {
            "minio_tar_uri": source,
            "output_dir": job.output(),
            "device": "cpu",
            "dtype": "fp32",
            "keep_weights": True,
            "use_onnxslim": False,
        },
        headers={"kafka_correlationId": "c-17", "ce_id": "request-1"},
    )
    (reply,) = replies(1)

    body = reply.json()
    assert "failure" not in body, body
    assert body["request_id"] == "request-1"
    assert reply.key == b"request-1"
    assert reply.header("kafka_correlationId") == "c-17"
    assert reply.header("content-type") == "application/json"
    assert reply.header("ce_type") == "dev.onnxferry.export.completed.v1"
    assert [stage["stage"] for stage in body["stages"]] == [
        "download",
        "extract",
        "export",
        "verify",
        "upload",
    ]

    result, files = body["result"], job.files()
    sidecars = {p.name: p.read_bytes() for p in checkpoint("qwen2").iterdir()}
    del sidecars["model.safetensors"]
    assert set(files) == OPTIMUM_FILES | OUR_FILES | set(sidecars)
    assert {name: files[name] for name in sidecars} == sidecars

    sums = dict(reversed(line.split("  ", 1)) for line in files["SHA256SUMS"].decode().splitlines())
    assert set(sums) == set(files) - {"SHA256SUMS", "export_manifest.json"}
    assert sums == {name: hashlib.sha256(files[name]).hexdigest() for name in sums}
    assert {f["name"]: int(f["bytes"]) for f in result["files"] if f["name"] in sums} == {
        name: len(files[name]) for name in sums
    }

    manifest = json.loads(files["export_manifest.json"])
    assert result["manifest_sha256"] == hashlib.sha256(files["export_manifest.json"]).hexdigest()
    assert result["manifest_uri"] == job.output() + "export_manifest.json"
    assert sums.items() <= {f["name"]: f["sha256"] for f in manifest["result"]["files"]}.items()
    assert result["model_type"] == "qwen2"
    assert result["task"] == "text-generation-with-past"
    assert result["verification"]["level"] == "load"
    assert METADATA_KEYS <= set(json.loads(files["export_metadata.json"]))

    prefix = bucket.key(job.output())
    changed = {name: bucket.head(prefix + name)["LastModified"] for name in files}
    assert max(changed.values()) == changed["export_manifest.json"]
    assert bucket.uploads() == []


def test_the_manifest_is_the_last_object_written(make_worker, proxy, job, send, replies):
    make_worker(endpoint=proxy.endpoint).start()
    proxy.rules([])
    send(job.request(job.fixture("bert-fill-mask", "tar.gz")))
    (reply,) = replies(1)
    assert "result" in reply.json(), reply.json()

    written = [
        request.split(" ", 1)[1].split("?")[0].rsplit("/", 1)[1]
        for request, _, status in proxy.log()
        if request.startswith("PUT ") and status == 200
    ]
    assert written[0] == ".onnxferry-claim"
    assert written[-1] == "export_manifest.json"
    assert written[-2] == "SHA256SUMS"
    assert ".onnxferry-claim" not in job.names()


def test_killed_during_the_upload_nothing_half_made_is_visible(make_worker, proxy, job, send, replies):
    source = job.fixture("qwen2")
    worker = make_worker(FAST_GROUP, endpoint=proxy.endpoint).start()
    proxy.rules([{"match": "^(PUT|POST) .*/model.onnx", "action": "delay", "ms": 4000}])
    send(job.request(source))
    wait_for_claim(proxy)
    (child,) = worker.children()
    worker.kill()
    wait_for(lambda: not process_lives(child), 10, "the job process ends with its worker")
    assert ".onnxferry-claim" in job.names()
    assert "export_manifest.json" not in job.names()

    proxy.rules([])
    worker.start()
    (reply,) = replies(1)
    body = reply.json()
    assert "result" in body, body
    assert body["attempt"] == 2
    assert "export_manifest.json" in job.names()
    assert ".onnxferry-claim" not in job.names()
    assert job.bucket.uploads() == []
    wait_for(lambda: worker.scratch_entries() == [], 10, "scratch is empty")


def test_a_repeated_request_is_answered_from_the_manifest(worker, job, send, replies):
    request = job.request(job.fixture("distilbert-fill-mask"), request_id="twice")
    send(request)
    replies(1)
    before = job.files()
    send(request)
    first, second = replies(2)
    assert second.json()["result"]["answered_from_manifest"] is True
    assert second.json()["result"]["manifest_sha256"] == first.json()["result"]["manifest_sha256"]
    # The same reply id tells a reader that the second is a duplicate.
    assert second.header("ce_id") == first.header("ce_id")
    assert job.files() == before


def test_another_export_at_the_destination_is_not_replaced(worker, job, send, replies):
    send(job.request(job.fixture("distilbert-fill-mask"), request_id="first"))
    replies(1)
    before = job.files()
    send(job.request(job.fixture("bert-fill-mask"), request_id="second"))
    _, second = replies(2)
    assert second.json()["failure"]["code"] == "DESTINATION_CONFLICT"
    assert job.files() == before


def test_the_same_request_gives_the_same_bytes(worker, job, send, replies):
    source = job.fixture("qwen2")
    send(job.request(source, job.output("a"), dtype="fp16"))
    send(job.request(source, job.output("b"), dtype="fp16"))
    replies(2)
    first, second = job.files(job.output("a")), job.files(job.output("b"))
    assert set(first) == set(second)
    model_files = set(first) - {"export_manifest.json", "export_metadata.json", "SHA256SUMS"}
    assert all(first[name] == second[name] for name in model_files)


def test_kept_weights_spare_the_next_export_the_download(make_worker, proxy, job, send, replies):
    make_worker(["--weights-cache-bytes", 10**9], endpoint=proxy.endpoint).start()
    proxy.rules([])
    source = job.fixture("qwen2")

    def downloads_after(output, **fields):
        """How often the archive was read for this export."""
        before = len(proxy.log())
        done.append(output)
        send(job.request(source, job.output(output), **fields))
        body = replies(len(done))[-1].json()
        assert "result" in body, body
        return sum(entry[0].startswith("GET ") and "qwen2.tar" in entry[0] for entry in proxy.log()[before:])

    done = []
    assert downloads_after("first") == 1
    assert downloads_after("second", dtype="fp16") == 0
    assert downloads_after("without permission", keep_weights=False) == 1
    assert downloads_after("after that") == 1
    assert job.files(job.output("after that"))["model.onnx"] == job.files(job.output("first"))["model.onnx"]
