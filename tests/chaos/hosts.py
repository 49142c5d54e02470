"""What is wrong with a worker's host: a disk that fills up, a clock that jumps."""

import datetime
import errno
import re
import struct
import subprocess

from harness.fake import FAKE_JOB

SHIFTED_CLOCK = FAKE_JOB.parent / "libshifted_clock.so"


class SmallDisk:
    """A worker's scratch on a file system of its own, which fill() fills. Mounting needs root: `is_mounted`."""

    SIZE = 128 << 20

    def __init__(self, worker):
        self.folder = worker.scratch
        # Whatever is free: the job must find the disk full, not the admission.
        worker.command.append("--min-scratch-bytes=0")
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "tmpfs", str(self.folder)]
        self.is_mounted = subprocess.run(command, capture_output=True).returncode == 0

    def fill(self, left):
        """All but `left` bytes."""
        with open(self.folder / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(1 << 20))
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise
            ballast.truncate(max(0, ballast.tell() - left))

    def empty(self):
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self):
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            self.is_mounted = False


class Clock:
    """A worker's time of day, its jobs' included (tests/tools/shifted_clock.cc)."""

    def __init__(self, worker):
        self.worker = worker
        self.file = worker.folder / "clock"
        self.jump(0)
        worker.environment |= {"LD_PRELOAD": str(SHIFTED_CLOCK), "SHIFTED_CLOCK_FILE": str(self.file)}

    def jump(self, seconds):
        """From now on it is so many seconds off the right time."""
        shift = struct.pack("=q", seconds)
        if not self.file.exists():
            self.file.write_bytes(shift)
        with open(self.file, "r+b") as file:  # in place: the process has it mapped
            file.write(shift)

    def shows(self, seconds, position):
        """Whether the worker has logged, behind this position of its log, at a time that is so many seconds off."""
        now = datetime.datetime.now(datetime.UTC).timestamp()
        for text in re.findall(r"^(\d{4}-\d\d-\d\dT[\d:.]+)Z ", self.worker.log()[position:], re.MULTILINE):
            logged = datetime.datetime.fromisoformat(text + "+00:00").timestamp()
            if abs(logged - now - seconds) < 60:
                return True
        return False
