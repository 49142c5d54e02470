"""Compares an export with what a fixture expects: graph signatures, every run, greedy tokens.

The expectations come from transformers in PyTorch and the signatures from Optimum; see tests/fixtures/README.md.
Each function returns a list of problems as text, empty when everything matches.
"""

import json
import re

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

DTYPES = {
    "tensor(float)": "float",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
# Axis names that Optimum gives on purpose; others are left-overs of tracing and may be static.
NAMED_AXES = re.compile(r"batch_size|sequence_length|num_choices")


class Expectation:
    """`expected/<task>.json` and its tensors; `reference` "fp16" takes the half precision results."""

    def __init__(self, path, reference=""):
        self.path = path
        self.task = path.stem
        self.case = path.parent.parent.name
        self.checkpoint = path.parent.parent / "checkpoint"
        self.reference = reference
        self.text = json.loads(path.read_text())

    @property
    def tensors_path(self):
        suffix = f".{self.reference}.safetensors" if self.reference else ".safetensors"
        return self.path.with_name(self.task + suffix)

    def compare(self, output, atol):
        """All problems of the export in the directory `output`."""
        sessions, problems = {}, []
        for file, signature in self.text["files"].items():
            if not (output / file).exists():
                problems.append(f"{file} is missing")
                continue
            sessions[file] = open_session(output / file)
            found = signature_problems(sessions[file], signature)
            problems += [f"{file}: {problem}" for problem in found]
        tensors = load_file(self.tensors_path)
        compared = 0
        for name, run in self.text["runs"].items():
            wanted = part(tensors, f"{name}.out.")
            if not wanted or run["file"] not in sessions:
                continue
            session = sessions[run["file"]]
            given = part(tensors, f"{name}.in.")
            found = run_problems(session, given, wanted, run.get("padded", []), atol)
            problems += [f"{name}: {problem}" for problem in found]
            compared += 1
        if compared == 0:
            problems.append("no run was compared")
        if "generate.out.sequences" in tensors:
            problems += greedy_problems(sessions["model.onnx"], tensors)
        return problems


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def part(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def signature_problems(session, signature):
    problems = []
    for kind, actual in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        wanted = {entry["name"]: entry for entry in signature[kind]}
        have = {value.name: value for value in actual}
        if set(wanted) != set(have):
            problems.append(
                f"{kind}: missing {sorted(set(wanted) - set(have))}, "
                f"extra {sorted(set(have) - set(wanted))}"
            )
        if [n for n in have if is_cache(n)] != [n for n in wanted if is_cache(n)]:
            problems.append(f"{kind}: order of the cache differs")
        for name in set(wanted) & set(have):
            problems += value_problems(have[name], wanted[name])
    return problems


def is_cache(name):
    return name.startswith(("past_key_values", "present"))


def value_problems(value, wanted):
    name, dims = value.name, list(value.shape)
    problems = []
    if DTYPES.get(value.type, value.type) != wanted["dtype"]:
        problems.append(f"{name}: dtype {value.type}, expected {wanted['dtype']}")
    if len(dims) != len(wanted["dims"]):
        return problems + [f"{name}: rank {len(dims)}, expected {len(wanted['dims'])}"]
    for have, want in zip(dims, wanted["dims"]):
        if isinstance(want, int):
            if isinstance(have, int) and have != want:
                problems.append(f"{name}: dim {have}, expected {want}")
        elif want == "batch_size" and have != "batch_size":
            problems.append(f"{name}: the batch axis is called {have!r}")
        elif isinstance(have, int) and NAMED_AXES.search(want):
            problems.append(f"{name}: static dim {have}, expected symbolic {want!r}")
    return problems


def run_problems(session, given, wanted, padded, atol):
    """Differences pass when |got - want| <= atol * max(1, |want|) at every unpadded position."""
    names = [output.name for output in session.get_outputs()]
    inputs = {i.name: i.type for i in session.get_inputs()}
    missing = sorted(set(inputs) - set(given))
    if missing:
        return [f"the graph wants {missing}, which the fixture does not have"]
    feeds = {
        name: given[name].astype(np.float32) if type_ == "tensor(float)" else given[name]
        for name, type_ in inputs.items()
    }
    got = dict(zip(names, session.run(names, feeds)))
    problems = []
    for name, want in wanted.items():
        if name not in got:
            problems.append(f"no output {name}")
            continue
        worst = difference(got[name], want, padded)
        if not worst <= atol:
            problems.append(f"{name} differs by {worst:.3g}")
    return problems


def difference(got, want, padded):
    got, want = got.astype(np.float64), want.astype(np.float64)
    if got.shape != want.shape:
        return float("inf")
    keep = np.ones(want.shape, dtype=bool)
    for batch, position in padded:
        if want.ndim in (2, 3) and batch < want.shape[0] and position < want.shape[1]:
            keep[batch, position] = False
        if want.ndim == 4 and batch < want.shape[0] and position < want.shape[2]:
            keep[batch, :, position] = False
    if not keep.any():
        return 0.0
    return float(np.max(np.abs(got - want)[keep] / np.maximum(1.0, np.abs(want)[keep])))


def greedy_problems(session, tensors):
    want = tensors["generate.out.sequences"]
    got = greedy(session, tensors["generate.in.input_ids"], want.shape[1], cache_shapes(tensors))
    return [] if np.array_equal(got, want) else [f"greedy {got.tolist()}, expected {want.tolist()}"]


def cache_shapes(tensors):
    return {
        key.split(".in.")[1]: value.shape
        for key, value in tensors.items()
        if ".in.past_key_values" in key
    }


def greedy(session, ids, length, shapes):
    """Tokens of greedy search for a batch of one up to `length`, with the cache where the graph has one."""
    inputs = {i.name for i in session.get_inputs()}
    outputs = [o.name for o in session.get_outputs()]
    past = {n: np.zeros((1, s[1], 0, s[3]), np.float32) for n, s in shapes.items() if n in inputs}
    tokens = step = ids
    while tokens.shape[1] < length:
        feeds = {"input_ids": step, "attention_mask": np.ones_like(tokens)}
        first = tokens.shape[1] - step.shape[1]
        feeds["position_ids"] = np.arange(first, tokens.shape[1], dtype=np.int64)[None]
        feeds = {name: value for name, value in feeds.items() if name in inputs} | past
        result = dict(zip(outputs, session.run(outputs, feeds)))
        token = result["logits"][:, -1].argmax(-1).astype(np.int64)[:, None]
        tokens = np.concatenate([tokens, token], axis=1)
        past = {name: result[name.replace("past_key_values", "present")] for name in past}
        step = token if past else tokens
    return tokens
