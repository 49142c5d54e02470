"""What the worker makes of a job's end: results, failures, crashes, deadlines, bytes that are no request."""

import subprocess

import pytest

from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for
from harness.worker import process_lives


@pytest.fixture
def starts(tmp_path):
    return Starts(tmp_path / "starts")


@pytest.fixture
def fake_worker(make_worker):
    return make_worker(fake_flags()).start()


def code(reply):
    return reply.json().get("failure", {}).get("code")


def test_each_request_gets_one_reply_and_runs_once(fake_worker, send, replies, starts):
    for number in range(10):
        send(fake_request("ok", starts, request_id=f"r{number}"))
    got = replies(10)
    assert [reply.key.decode() for reply in got] == [f"r{number}" for number in range(10)]
    assert all("result" in reply.json() for reply in got)
    assert len(starts) == 10
    assert fake_worker.scratch_entries() == []


def test_a_job_that_always_crashes_is_given_up_and_kept_as_dead_letter(
    fake_worker, send, replies, auditor, topics, starts
):
    send(fake_request("crash", starts, request_id="bad"), headers={"mine": "kept"}, key="the-key")
    send(fake_request("ok", request_id="good"))
    bad, good = sorted(replies(2), key=lambda reply: reply.key)
    assert (bad.json()["request_id"], code(bad)) == ("bad", "CRASHED")
    assert "signal 11" in bad.json()["failure"]["message"]
    assert bad.json()["attempt"] == 3
    assert "result" in good.json()
    assert len(starts) == 3
    (letter,) = auditor.read(topics.dlq)
    assert letter.key == b"the-key"
    assert letter.json()["model_id"] == "crash"
    assert letter.header("mine") == "kept"
    assert letter.header("kafka_dlt-original-topic") == topics.requests
    headers = dict(letter.headers)
    assert headers["kafka_dlt-original-partition"] == b"\0\0\0\0"
    assert headers["kafka_dlt-original-offset"] == b"\0" * 8
    assert fake_worker.scratch_entries() == []


def test_a_crash_is_tried_again(fake_worker, send, replies, starts):
    send(fake_request("crash-until:3", starts))
    (reply,) = replies(1)
    assert "result" in reply.json()
    assert reply.json()["attempt"] == 3
    assert len(starts) == 3


@pytest.mark.parametrize(
    ("directive", "expected", "count", "letters"),
    [
        ("fail:CORRUPT_ARCHIVE", "CORRUPT_ARCHIVE", 1, 0),
        ("fail:INTERNAL", "INTERNAL", 1, 1),
        ("fail:UNAVAILABLE", "UNAVAILABLE", 3, 1),
        ("exit:5", "CRASHED", 3, 1),
    ],
)
def test_a_failure_is_answered_when_trying_again_is_pointless(
    fake_worker, send, replies, auditor, topics, starts, directive, expected, count, letters
):
    send(fake_request(directive, starts))
    (reply,) = replies(1)
    assert code(reply) == expected
    assert len(starts) == count
    assert len(auditor.read(topics.dlq)) == letters


def test_bytes_that_are_no_request_are_answered_and_kept(
    fake_worker, send, replies, auditor, topics
):
    garbage = [b"\xff\xfe\x00garbage", b'{"minio_tar_uri": 7', b"{}", b"\x00\x00\x00\x00\x01"]
    for value in garbage:
        send(value)
    send(fake_request("ok", request_id="after"))
    got = replies(len(garbage) + 1)
    # A reply speaks the request's encoding, and bytes that are no JSON pass for protobuf.
    types = [reply.header("ce_type") for reply in got]
    assert types.count("dev.onnxferry.export.failed.v1") == len(garbage)
    assert sum(b"\x08\x01" in reply.value or b"INVALID_REQUEST" in reply.value for reply in got) == 4
    assert [reply.key for reply in got if reply.header("ce_type").endswith("completed.v1")] == [
        b"after"
    ]
    undecodable = [letter.value for letter in auditor.read(topics.dlq)]
    assert garbage[0] in undecodable and garbage[1] in undecodable


def test_an_expired_request_is_not_started(fake_worker, send, replies, starts):
    send(fake_request("ok", starts, expires_at="2020-01-01T00:00:00Z"))
    (reply,) = replies(1)
    assert code(reply) == "DEADLINE_EXCEEDED"
    assert len(starts) == 0


def test_a_reply_topic_outside_the_allow_list_is_refused(fake_worker, send, replies, starts):
    send(fake_request("ok", starts), headers={"kafka_replyTopic": "elsewhere"})
    (reply,) = replies(1)
    assert code(reply) == "INVALID_REQUEST"
    assert len(starts) == 0


def test_a_reply_topic_that_does_not_exist_falls_back(make_worker, send, replies, auditor, topics):
    worker = make_worker(fake_flags("--reply-topic-allow=my-.*")).start()
    auditor.create(f"my-{topics.replies}")
    send(fake_request("ok"), headers={"kafka_replyTopic": "my-missing"})
    send(fake_request("ok"), headers={"kafka_replyTopic": f"my-{topics.replies}"})
    (reply,) = replies(1)
    assert "result" in reply.json()
    auditor.wait_for_records(f"my-{topics.replies}", 1)
    assert "my-missing" in worker.log()


def test_a_job_process_leaves_when_its_worker_is_killed(make_worker, send, starts):
    worker = make_worker(fake_flags()).start()
    send(fake_request("sleep:60000", starts))
    worker.wait_for_child()
    wait_for(lambda: len(starts) == 1, 30, "the job started")
    worker.kill()
    (pid,) = starts.pids()
    wait_for(lambda: not process_lives(pid), 10, "the job process is gone")
    assert worker.scratch_entries() != []
    worker.start()
    wait_for(lambda: len(starts) == 2, 60, "the job is started again")


def test_no_new_job_starts_while_the_store_is_away(make_worker, send, replies, starts):
    worker = make_worker(fake_flags("--max-jobs=2")).start()
    send(fake_request("wait:3000", request_id="first"))
    worker.wait_for_log("the store is unavailable")
    send(fake_request("ok", starts, request_id="second"))
    worker.wait_for_log("request_id=second")
    assert len(starts) == 0
    got = replies(2)
    assert {reply.json()["attempt"] for reply in got} == {1}
    assert len(starts) == 1


def test_several_jobs_run_side_by_side_and_commit_out_of_order(
    make_worker, send, replies, auditor, topics, starts
):
    make_worker(fake_flags("--max-jobs=3")).start()
    send(fake_request("sleep:4000", starts, request_id="slow"))
    for number in range(5):
        send(fake_request("ok", starts, request_id=f"quick{number}"))
    auditor.wait_for_records(topics.replies, 5)
    committed = auditor.group(topics.group).committed[(topics.requests, 0)]
    assert committed.offset == 0
    assert committed.metadata == "onnxferry1;d=1-6;a=0:1"
    assert replies(6)[-1].key == b"slow"
    assert len(starts) == 6


def test_metrics_and_probes(fake_worker, send, replies):
    send(fake_request("ok"))
    send(fake_request("fail:CORRUPT_ARCHIVE"))
    replies(2)
    wait_for(
        lambda: 'onnxferry_jobs_total{code="CORRUPT_ARCHIVE",result="failed"} 1'
        in fake_worker.http("/metrics")[1],
        10,
        lambda: fake_worker.http("/metrics")[1],
    )
    status, text = fake_worker.http("/metrics")
    assert status == 200
    assert 'onnxferry_jobs_total{code="",result="completed"} 1' in text
    # The first job's reply and the second one's attempt share a transaction if both are ready.
    commits = [line for line in text.splitlines() if 'txn_total{outcome="commit"}' in line]
    # The ends of the two topics are committed once: along with those, together, or one by one.
    assert int(commits[0].split()[-1]) in (3, 4, 5, 6)
    assert fake_worker.http("/livez")[0] == 200


def test_local_files_are_refused_unless_allowed(binary):
    def effective(*flags):
        run = subprocess.run(
            [binary, "serve", "--check-config", *flags], capture_output=True, text=True, check=True
        )
        return [line for line in run.stdout.splitlines() if line.startswith("allow-file")]

    assert effective() == ['allow-file = "false"']
    assert effective("--allow-file=true") == ['allow-file = "true"']
