"""Requests whose job is tests/tools/fake_job.cc: it sleeps, crashes or fails as the model_id says."""

from harness.environment import BINARY

FAKE_JOB = BINARY.parents[1] / "tests" / "tools" / "fake_job"

# Failure detection as fast as the broker allows, and no long waits between attempts.
FAST_GROUP = (
    "--kafka=session.timeout.ms=6000",
    "--kafka=heartbeat.interval.ms=1500",
    "--retry-backoff-ms=100",
    "--retry-delay-ms=100",
)


def fake_flags(*flags):
    """The flags of a worker with fake jobs; one of `flags` replaces the same one of FAST_GROUP."""
    given = {flag.rsplit("=", 1)[0] for flag in flags}
    kept = (flag for flag in FAST_GROUP if flag.rsplit("=", 1)[0] not in given)
    return (f"--job-command={FAKE_JOB}", *kept, *flags)


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
