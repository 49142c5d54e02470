"""`onnxferry serve` as the tests start, watch and kill it."""

import http.client
import os
import signal
import subprocess
from pathlib import Path

from harness.environment import BINARY, clean_environment, free_port
from harness.servers import ACCESS_KEY, SECRET_KEY
from harness.wait import wait_for


class Worker:
    """One worker process with its own scratch root, log file and http port.

    stop() is SIGTERM and a clean end, kill() is SIGKILL; both can be followed by another start() on the same scratch
    root, as a restarted container would do. pause() and resume() are SIGSTOP and SIGCONT.
    """

    def __init__(self, folder, bootstrap, endpoint, topics, flags=(), environment=None):
        """`folder` is created. `flags` come after the standard ones; `environment` is added."""
        self.folder = folder
        self.scratch = folder / "scratch"
        self.log_path = folder / "log"
        self.port = free_port()
        self.process = None
        self.exit_code = None
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.command = [
            str(BINARY),
            "serve",
            *self._standard_flags(bootstrap, endpoint, topics),
            *map(str, flags),
        ]
        self.environment = {
            **clean_environment(),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            **(environment or {}),
        }

    def start(self, ready=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self.exit_code = None
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=60):
        def ready():
            assert self.alive(), f"the worker ended with {self.process.returncode}:\n{self.log()}"
            return self.http("/readyz")[0] == 200

        wait_for(ready, timeout, lambda: f"worker ready; its log:\n{self.log()}", interval=0.05)

    def http(self, path):
        """(status, body) of a request to the worker's http port; status 0 when nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, text, timeout=60):
        wait_for(
            lambda: text in self.log(),
            timeout,
            lambda: f"{text!r} in the log:\n{self.log()}",
            interval=0.02,
        )

    def stop(self, timeout=60):
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self):
        """SIGKILL to the worker alone, as the kernel's memory killer would."""
        return self._end(signal.SIGKILL, 10)

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout=60):
        """The exit status of a worker that ends by itself."""
        self.exit_code = self.process.wait(timeout)
        return self.exit_code

    def children(self):
        """Process ids of the worker's living children."""
        return [pid for pid, parent in _parents().items() if parent == self.pid]

    def wait_for_child(self, timeout=30):
        """The process id of the job child."""
        return wait_for(self.children, timeout, lambda: f"a job child:\n{self.log()}", 0.005)[0]

    def scratch_entries(self):
        """What stands in the scratch root, lock files apart."""
        return sorted(
            str(path.relative_to(self.scratch))
            for path in self.scratch.rglob("*")
            if not path.name.endswith(".lock")
        )

    def _end(self, number, timeout):
        if not self.alive():
            return self.process.returncode if self.process else None
        os.kill(self.pid, number)
        os.kill(self.pid, signal.SIGCONT)
        try:
            self.exit_code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"not ended {timeout} s after signal {number}:\n{self.log()}")
        return self.exit_code

    def _standard_flags(self, bootstrap, endpoint, topics):
        return [
            f"--brokers={bootstrap}",
            f"--request-topic={topics.requests}",
            f"--reply-topic={topics.replies}",
            f"--group={topics.group}",
            f"--s3-endpoint={endpoint}",
            f"--scratch={self.scratch}",
            f"--http=127.0.0.1:{self.port}",
        ]


def process_lives(pid):
    """A process that exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _parents():
    """{pid: parent's pid} of all living processes."""
    result = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(") ", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            result[int(folder.name)] = int(fields[1])
    return result

