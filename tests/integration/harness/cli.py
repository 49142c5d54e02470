"""The command line of the program under test."""

import subprocess

from harness.environment import BINARY, clean_environment


def run(*arguments, timeout=120, check=True, environment=None, **options):
    """Run `onnxferry ARGUMENTS`; with `check`, a failure is an AssertionError with what it printed."""
    result = subprocess.run(
        [str(BINARY), *map(str, arguments)],
        env={**clean_environment(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )
    assert not check or result.returncode == 0, f"{result.args}: {result.stdout}{result.stderr}"
    return result
