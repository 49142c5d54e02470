"""Requests whose job is tests/tools/fake_job.cc: it sleeps, crashes or fails as the model_id says."""

from harness.environment import BINARY

FAKE_JOB = BINARY.parents[1] / "tests" / "tools" / "fake_job"

# Failure detection as fast as the broker allows.
FAST_GROUP = (
    "--kafka=session.timeout.ms=6000",
    "--kafka=heartbeat.interval.ms=1500",
    "--retry-backoff-ms=100",
)


def fake_flags(*flags):
    return (f"--job-command={FAKE_JOB}", *FAST_GROUP, *flags)


class Starts:
    """How often the jobs of a test were started, counted by the jobs themselves."""

    def __init__(self, path):
        self.path = path

    def pids(self):
        if not self.path.exists():
            return []
        return [int(line.split()[0]) for line in self.path.read_text().splitlines()]

    def __len__(self):
        return len(self.pids())


def fake_request(directives, starts=None, **fields):
    labels = {"starts_file": str(starts.path)} if starts is not None else {}
    return {
        "minio_tar_uri": "s3://bucket/archive.tar",
        "output_dir": "s3://bucket/out/",
        "model_id": directives,
        "labels": labels,
        **fields,
    }
