"""Every fixture checkpoint, exported by the program, gives what transformers computes and the signature Optimum has."""

import pytest

from harness import cli
from harness.compare import Expectation
from harness.environment import FIXTURES

EXPECTED = sorted(FIXTURES.glob("*/expected/*.json"))
HALF = [path for path in EXPECTED if Expectation(path, "fp16").tensors_path.exists()]
assert EXPECTED and HALF, f"no fixtures below {FIXTURES}"


def name(path):
    return f"{path.parent.parent.name}-{path.stem}"


@pytest.mark.parametrize("path", EXPECTED, ids=name)
def test_export_matches_transformers(binary, path, tmp_path):
    expected = Expectation(path)
    export(expected, tmp_path / "out")
    problems = expected.compare(tmp_path / "out", atol=1e-4)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", HALF, ids=name)
def test_fp16_export_matches_transformers_in_half_precision(binary, path, tmp_path):
    expected = Expectation(path, "fp16")
    export(expected, tmp_path / "out", "--dtype", "fp16")
    problems = expected.compare(tmp_path / "out", atol=5e-2)
    assert not problems, "\n".join(problems)


def export(expected, output, *flags):
    task = ("--task", expected.task)
    cli.run("export", expected.checkpoint, output, *task, "--verify", "none", *flags)
