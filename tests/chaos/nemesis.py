"""What goes wrong: faults in a seeded order, each counted when it has really happened."""

import collections
import functools
import os
import re
import signal
import time

from harness.worker import process_lives

SESSION_SECONDS = 6  # the workers' session.timeout.ms
DISK_FULL = "code=RESOURCE_EXHAUSTED"  # in the worker's log; nothing else here has this code
# Where `serve` kills itself on request (worker/README.md). Those that leave the duplicates that the control must see come
# twice: in place of a reply they may meet a move to the retry topic, which leaves none.
FAILPOINTS = ("after-attempt", "after-produce", "before-commit", "after-commit", "after-produce", "before-commit")
# What a full disk still takes, in turn: an archive, perhaps not its export; no archive.
DISK_LEFT = (300 << 10, 16 << 10)


class Nemesis:
    def __init__(self, cluster, rng, log):
        self.cluster = cluster  # .workers, .kafka, .proxy, .disk, .clock, .add_worker()
        self.rng = rng
        self.log = log
        self.fired = collections.Counter()
        self.faults = [
            self.kill_worker,
            self.kill_worker_twice,
            self.kill_job,
            *(functools.partial(self.die_at_failpoint, point) for point in FAILPOINTS),
            self.pause_worker_briefly,
            self.zombie,
            self.roll_worker,
            self.drain_impatiently,
            self.join_and_leave,
            self.kill_broker,
            self.pause_broker,
            self.roll_broker,
            self.store_says_slow_down,
            self.store_says_errors_in_200,
            self.store_loses_replies,
            self.store_cuts_downloads,
            self.store_stalls,
            self.store_goes_away,
            self.jump_clock,
            *([self.fill_disk] if cluster.disk.is_mounted else []),
        ]
        self.hand = []
        self.strikes = 0
        self.went_round = False  # every kind has had its turn

    def strike(self):
        """One fault, to its end. Every kind comes once before any comes again."""
        if not self.hand:
            self.hand = list(self.faults)
            self.rng.shuffle(self.hand)
        fault = self.hand.pop()
        self.strikes += 1
        begin = time.monotonic()
        fault()
        self.went_round = self.went_round or not self.hand
        name = fault.__name__ if hasattr(fault, "__name__") else f"die {fault.args[0]}"
        self.log(f"{name}: {time.monotonic() - begin:.1f} s")

    def share_of_round(self):
        """How much of the first round is over, the fault that is going on included."""
        return min(1, self.strikes / len(self.faults))

    def heal(self):
        self.cluster.proxy.clear()
        for worker in self.cluster.workers:
            if not worker.alive():
                worker.start(ready=False)

    # --- workers

    def kill_worker(self):
        self._stretch_jobs()
        worker = self._busy_worker()
        children = worker.children()
        worker.kill()
        self.fired["worker killed"] += 1
        self.fired["worker killed during a job"] += bool(children)
        assert all(self._soon(lambda child=child: not process_lives(child)) for child in children), "a job outlived its worker"
        self._nap(0.0, 2.0)
        worker.start(ready=False)

    def kill_worker_twice(self):
        self.kill_worker()
        self.kill_worker()

    def kill_job(self):
        self._stretch_jobs()
        for child in self._busy_worker().children():
            try:
                os.kill(child, signal.SIGKILL)
                self.fired["job killed"] += 1
                return
            except ProcessLookupError:
                pass

    def die_at_failpoint(self, point):
        """The worker is started so that it kills itself at its next attempt or commit."""
        worker = self._any_worker()
        worker.kill()
        worker.environment["ONNXFERRY_FAILPOINT"] = point
        worker.start(ready=False)
        died = self._soon(lambda: not worker.alive(), 30)
        del worker.environment["ONNXFERRY_FAILPOINT"]
        self.fired[f"died {point}"] += died
        worker.kill()
        worker.start(ready=False)

    def pause_worker_briefly(self):
        worker = self._any_worker()
        worker.pause()
        self._nap(0.5, 2.0)
        worker.resume()
        self.fired["worker paused"] += 1

    def zombie(self):
        """Stopped past its session, then continued: others have its partitions, and perhaps its jobs' results."""
        # In the middle of a rebalance there would be nothing to lose.
        self._soon(lambda: all(map(self._has_partitions, self.cluster.workers)), 30)
        self._stretch_jobs()
        worker = self._busy_worker()
        lost = worker.log().count("partitions lost")
        worker.pause()
        self._nap(SESSION_SECONDS + 2.0, SESSION_SECONDS + 3.0)
        worker.resume()
        self.fired["zombie came back"] += self._soon(lambda: worker.log().count("partitions lost") > lost, 10)

    def roll_worker(self):
        worker = self._any_worker()
        # One that has only just been started does not listen to signals yet, and has nothing to drain.
        self._soon(lambda: worker.http("/livez")[0] == 200)
        assert worker.stop(60) == 0, "a drained worker ends with status 0"
        self.fired["worker rolled"] += 1
        worker.start(ready=False)

    def drain_impatiently(self):
        self._stretch_jobs()
        worker = self._busy_worker()
        os.kill(worker.pid, signal.SIGTERM)
        self._nap(0.1, 0.5)
        if worker.alive():
            os.kill(worker.pid, signal.SIGTERM)
        worker.wait(60)
        self.fired["drain cut short"] += 1
        worker.start(ready=False)

    def join_and_leave(self):
        worker = self.cluster.add_worker()
        worker.start(ready=False)
        # A member that was killed while it joined holds up the others until its session ends.
        worker.wait_ready(timeout=240)
        self._nap(1.0, 3.0)
        worker.stop()
        self.fired["worker joined and left"] += 1

    # --- broker

    def kill_broker(self):
        broker = self._any_broker()
        broker.kill()
        self._nap(0.5, 2.0)
        broker.start()
        self.fired["broker killed"] += 1

    def pause_broker(self):
        broker = self._any_broker()
        broker.pause()
        self._nap(1.0, 5.0)
        broker.resume()
        self.fired["broker paused"] += 1

    def roll_broker(self):
        broker = self._any_broker()
        broker.stop()
        broker.start()
        self.fired["broker rolled"] += 1

    # --- object store

    def store_says_slow_down(self):
        self._store("503", {"match": "^(GET|PUT|POST|HEAD) ", "action": "slowdown", "times": 20}, 2.0)

    def store_says_errors_in_200(self):
        self._store("error in a 200", {"match": "^POST .*uploadId=", "action": "err200", "times": 5}, 1.0)

    def store_loses_replies(self):
        self._store("reply lost", {"match": "^(PUT|POST) ", "action": "lostreply", "times": 6}, 2.0)

    def store_cuts_downloads(self):
        self._store("download cut", {"match": "^GET .*tar", "action": "cut", "bytes": 2000, "times": 6}, 2.0)

    def store_stalls(self):
        self._store("stall", {"match": "^(GET|PUT) ", "action": "delay", "ms": 1500, "times": 6}, 2.0)

    def store_goes_away(self):
        self.cluster.proxy.stop()
        self._nap(2.0, 6.0)
        self.cluster.proxy.start()
        self.fired["store away"] += 1

    # --- hosts

    def fill_disk(self):
        """Until a job has met it."""
        worker, disk = self.cluster.workers[0], self.cluster.disk
        self._soon(lambda: self._has_partitions(worker), 30)
        met = worker.log().count(DISK_FULL)
        try:
            for left in DISK_LEFT:
                disk.fill(left)
                if self._soon(lambda: worker.log().count(DISK_FULL) > met, 15):
                    break
        finally:
            disk.empty()
        self.fired["disk full"] += worker.log().count(DISK_FULL) - met

    def jump_clock(self):
        """Away and back while jobs run; the store and the broker keep the right time."""
        clock = self.cluster.clock
        self._soon(lambda: clock.worker.alive() and clock.worker.children(), 15)
        position = len(clock.worker.log())
        seconds = self.rng.choice((1, -1)) * self.rng.randrange(1200, 3000)
        clock.jump(seconds)
        try:
            self._nap(2.0, 4.0)
            shown = self._soon(lambda: clock.shows(seconds, position), 15)
        finally:
            clock.jump(0)
        self.fired["clock forward and back" if seconds > 0 else "clock back and forward"] += shown

    def _store(self, name, rule, seconds):
        """For some seconds; if no request has met it by then, until one does."""
        self.cluster.proxy.rules([rule])
        self._nap(seconds, seconds + 1.0)
        self._soon(lambda: any(action for _, action, _ in self.cluster.proxy.log()), 20)
        self.fired[f"store: {name}"] += self.cluster.proxy.clear()

    # ---

    def _stretch_jobs(self):
        """Slow the store at a random place, so that what comes next hits a job in a random stage."""
        match = self.rng.choice(("^GET .*tar", "^PUT .*claim", "^PUT .*model.onnx", "^PUT .*config.json", "^PUT .*SHA256SUMS", "^PUT .*manifest"))
        self.cluster.proxy.rules([{"match": match, "action": "delay", "ms": 2500, "times": 4}])
        self._nap(0.3, 1.5)

    def _any_worker(self):
        return self.rng.choice(self.cluster.workers)

    def _any_broker(self):
        return self.rng.choice(self.cluster.kafka.nodes)

    @staticmethod
    def _has_partitions(worker):
        found = re.search(r"^onnxferry_kafka_partitions_assigned (\d+)", worker.http("/metrics")[1], re.MULTILINE)
        return found is not None and int(found.group(1)) > 0

    def _busy_worker(self):
        """One that runs a job, if any does within some seconds."""
        busy = []

        def found():
            busy[:] = [worker for worker in self.cluster.workers if worker.alive() and worker.children()]
            return busy

        self._soon(found, 15)
        return self.rng.choice(busy or self.cluster.workers)

    def _nap(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    @staticmethod
    def _soon(condition, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True
