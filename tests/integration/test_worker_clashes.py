"""Workers that cannot see each other: two with one identity, and one whose loop stood still."""

from harness.fake import Starts, fake_flags, fake_request
from harness.threads import stopped_thread
from harness.wait import wait_for


def test_two_workers_with_one_identity_end_in_one_and_answer_once(
    make_worker, make_topics, send, replies, auditor, tmp_path
):
    topics = make_topics(partitions=4)
    # Each has a scratch root of its own, so neither sees that the other has taken slot 0.
    twins = [
        make_worker(fake_flags(), environment={"POD_NAME": "twin"}, topics_=topics)
        for _ in range(2)
    ]
    for twin in twins:
        twin.start()
    wait_for(
        lambda: all("partitions assigned" in twin.log() for twin in twins),
        30,
        "both have partitions",
    )
    sent = 0

    def one_gave_up():
        nonlocal sent
        for partition in range(4):
            send(
                fake_request("ok", request_id=f"r{sent}"), partition=partition, topics_=topics
            )
            sent += 1
        return [twin for twin in twins if not twin.alive()]

    (loser,) = wait_for(one_gave_up, 90, "one of them gave up", interval=2)[:1]
    assert loser.wait() == 1
    last_line = loser.log().strip().splitlines()[-1]
    assert f"transactional.id {topics.group}-twin-0" in last_line
    assert "POD_NAME" in last_line
    assert "fenced 4 times" in last_line
    got = replies(sent, timeout=120, topics_=topics)
    assert {reply.key.decode() for reply in got} == {f"r{number}" for number in range(sent)}
    (winner,) = (twin for twin in twins if twin is not loser)
    assert winner.alive()


def test_a_loop_that_stood_still_too_long_comes_back(
    make_worker, send, replies, auditor, topics, tmp_path
):
    starts = Starts(tmp_path / "starts")
    worker = make_worker(fake_flags("--kafka=max.poll.interval.ms=7000")).start()
    send(fake_request("sleep:1000", starts, request_id="one"))
    worker.wait_for_child()
    # The loop's thread alone: librdkafka goes on with heartbeats, so only this limit can end it.
    with stopped_thread(worker.pid):
        wait_for(lambda: auditor.group(topics.group).members == 0, 30, "it left the group")
    worker.wait_for_log("maximum poll interval (7000ms) exceeded")
    worker.wait_for_log("partitions lost")
    wait_for(lambda: worker.log().count("partitions assigned") >= 2, 60, worker.log)
    (reply,) = replies(1)
    assert reply.key == b"one"
    assert len(starts) == 1
    send(fake_request("ok", starts, request_id="two"))
    assert [reply.key for reply in replies(2)] == [b"one", b"two"]
