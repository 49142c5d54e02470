"""group.protocol=consumer (KIP-848): works where librdkafka has it, is refused where it has not."""

from harness.fake import FAKE_JOB, fake_request


def test_jobs_are_answered_or_the_start_is_refused(make_worker, send, replies):
    worker = make_worker((f"--job-command={FAKE_JOB}", "--kafka=group.protocol=consumer"))
    worker.start(ready=False)
    try:
        worker.wait_ready()
    except AssertionError:
        assert worker.wait() == 2
        assert "group.protocol=consumer needs librdkafka 2.12 or newer" in worker.log()
        return
    for number in range(3):
        send(fake_request("ok", request_id=f"r{number}"))
    assert [reply.key for reply in replies(3)] == [b"r0", b"r1", b"r2"]
    assert worker.stop() == 0
