"""A partition that moves to another worker waits for its running jobs: nothing is run twice because the fleet changes."""

import re

import pytest

from harness.auditor import Auditor
from harness.fake import Starts, fake_flags, fake_request
from harness.wait import wait_for

PARTITIONS = 4
WAITS = "partitions are to move to another worker; they stay until their jobs have ended"


@pytest.fixture
def topics(make_topics):
    return make_topics(partitions=PARTITIONS)


class Fleet:
    """Workers of one group, and jobs that tell how often they were started."""

    def __init__(self, make_worker, send, folder):
        self.make_worker, self.send = make_worker, send
        self.starts = Starts(folder / "starts")
        self.sent = 0
        self.workers = []

    def add(self, *flags, ready=True):
        name = f"w{len(self.workers)}"
        flags = fake_flags(f"--max-jobs={PARTITIONS}", *flags)
        worker = self.make_worker(flags, environment={"POD_NAME": name})
        self.workers.append(worker)
        return worker.start(ready=ready)

    def send_round(self, directive):
        """One request to each partition."""
        for partition in range(PARTITIONS):
            request = fake_request(directive, self.starts, request_id=f"r{self.sent}")
            self.send(request, partition=partition)
            self.sent += 1

    def wait_started(self):
        wait_for(lambda: len(self.starts) == self.sent, 60, "every job has started")


@pytest.fixture
def fleet(make_worker, send, tmp_path):
    return Fleet(make_worker, send, tmp_path)


def assigned(worker):
    """Partitions that the worker owns by its own metrics."""
    found = re.search(r"^onnxferry_kafka_partitions_assigned (\d+)", worker.http("/metrics")[1], re.MULTILINE)
    return int(found.group(1)) if found else 0


def ran_once(got, fleet):
    assert sorted(reply.json()["request_id"] for reply in got) == sorted(f"r{n}" for n in range(fleet.sent))
    assert {reply.json()["attempt"] for reply in got} == {1}
    assert len(fleet.starts) == fleet.sent


def test_nothing_runs_twice_when_a_worker_joins_and_one_leaves(fleet, replies):
    first = fleet.add()
    fleet.send_round("sleep:9000")
    fleet.wait_started()
    second = fleet.add()
    first.wait_for_log(WAITS)
    fleet.send_round("ok")  # behind the running ones, and on partitions that stay
    ran_once(replies(fleet.sent), fleet)
    wait_for(lambda: assigned(first) and assigned(second), 60, "both have partitions")
    metrics = first.http("/metrics")[1]
    assert 'onnxferry_kafka_handovers_total{end="cut"} 0' in metrics
    assert "onnxferry_kafka_partitions_leaving 0" in metrics
    # Now both run jobs, and one of them leaves.
    fleet.send_round("sleep:4000")
    fleet.wait_started()
    assert "job started" in second.log()
    assert first.stop() == 0
    ran_once(replies(fleet.sent), fleet)
    fleet.send_round("ok")
    ran_once(replies(fleet.sent), fleet)


def test_results_are_sent_while_a_hand_over_waits_and_others_join(fleet, auditor, topics, replies):
    first = fleet.add()
    fleet.send_round("sleep:12000")
    fleet.wait_started()
    fleet.add()
    first.wait_for_log(WAITS)
    # The broker waits with the next rebalance for the answer to the first one; commits are taken meanwhile.
    third = fleet.add(ready=False)
    wait_for(lambda: auditor.group(topics.group).state.lower() != "stable", 30, "the third one joins")
    ran_once(replies(fleet.sent), fleet)
    third.wait_ready()
    wait_for(lambda: all(map(assigned, fleet.workers)), 60, "all have partitions")
    fleet.send_round("ok")
    ran_once(replies(fleet.sent), fleet)


def test_a_hand_over_has_a_limit(fleet, replies):
    first = fleet.add("--handover-limit-ms=1500")
    fleet.send_round("sleep:9000")
    fleet.wait_started()
    fleet.add()
    first.wait_for_log("running jobs did not end in time for a hand-over")
    got = replies(fleet.sent)
    assert len({reply.json()["request_id"] for reply in got}) == fleet.sent
    assert len(fleet.starts) > fleet.sent, "what moved was run again"
    assert 'onnxferry_kafka_handovers_total{end="cut"} 1' in first.http("/metrics")[1]


def test_a_worker_that_drains_during_a_hand_over_ends(fleet, replies):
    first = fleet.add()
    fleet.send_round("sleep:8000")
    fleet.wait_started()
    fleet.add()
    first.wait_for_log(WAITS)
    assert first.stop() == 0
    ran_once(replies(fleet.sent), fleet)


def test_a_newcomer_that_dies_during_a_hand_over(fleet, replies):
    first = fleet.add()
    fleet.send_round("sleep:9000")
    fleet.wait_started()
    second = fleet.add()
    first.wait_for_log(WAITS)
    second.kill()
    ran_once(replies(fleet.sent), fleet)
    fleet.send_round("ok")  # all partitions are the first one's again
    ran_once(replies(fleet.sent), fleet)


def test_a_membership_that_ends_during_a_hand_over(fleet, auditor, topics, replies):
    first = fleet.add()
    fleet.send_round("sleep:14000")
    fleet.wait_started()
    fleet.add()
    first.wait_for_log(WAITS)
    first.pause()
    # Longer than the session: everything is the second one's, which runs it again.
    wait_for(lambda: len(fleet.starts) == 2 * fleet.sent, 60, "the second one runs the jobs")
    first.resume()
    first.wait_for_log("partitions lost")
    got = replies(fleet.sent)
    assert len({reply.json()["request_id"] for reply in got}) == fleet.sent
    # Neither owner is stuck: what came back is read, from where the other one left it.
    wait_for(lambda: all(map(assigned, fleet.workers)), 60, "both have partitions")
    fleet.send_round("ok")
    assert len({reply.json()["request_id"] for reply in replies(fleet.sent)}) == fleet.sent


def test_workers_are_shared_out_evenly_over_the_request_topic(fleet, auditor, topics, replies):
    for _ in range(2):
        fleet.add()
    wait_for(lambda: all(map(assigned, fleet.workers)), 60, "both have partitions")
    wait_for(lambda: auditor.group(topics.group).state.lower() == "stable", 60, "the group is stable")
    fleet.send_round("ok")
    fleet.send_round("ok")
    ran_once(replies(fleet.sent), fleet)
    counts = [worker.log().count("job started") for worker in fleet.workers]
    assert counts == [PARTITIONS, PARTITIONS], counts


def test_the_worker_ends_when_no_broker_answers(make_kafka, make_worker, make_topics):
    broker = make_kafka()
    reader = Auditor(broker.bootstrap)
    topics = make_topics(reader=reader)
    worker = make_worker(
        fake_flags("--broker-outage-limit-ms=8000"), bootstrap=broker.bootstrap, topics_=topics
    ).start()
    wait_for(lambda: worker.http("/readyz")[0] == 200, 30, "ready")
    broker.pause()
    assert worker.wait(60) == 1
    assert "no broker of" in worker.log()
    broker.resume()
    worker.start()  # as a supervisor would
    assert worker.stop() == 0
    reader.close()
