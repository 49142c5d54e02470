#!/usr/bin/env python3
"""Inference speed and graph size of an exported directory beside a peer's export of the same model.

    python3 bench/inference.py OURS PEER                  # directories with model.onnx (and config.json)
    python3 bench/inference.py OURS PEER --nodes [SLIM]   # node counts only; SLIM: the peer's file after onnxslim
    python3 bench/inference.py OURS PEER --products       # matrix products and the rest, for inputs of many tokens

Needs numpy and onnxruntime. Each model has a process of its own, a new one every round, and they take turns, so that
whatever else the machine does hits both; every figure is the median over all rounds and ratios are peer / ours
(above 1: ours is faster).
"""

import argparse
import json
import mmap
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

# (name, new tokens, past tokens)
DECODER_CASES = [("prefill 128", 128, 0), ("prefill 512", 512, 0), ("decode at 128", 1, 128), ("decode at 1024", 1, 1024)]
ENCODER_CASES = [("sequence 32", 32, 0), ("sequence 128", 128, 0)]
PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


def model_file(path):
    path = Path(path)
    return path if path.is_file() else path / "model.onnx"


def read_config(path):
    config = model_file(path).parent / "config.json"
    return json.loads(config.read_text()) if config.exists() else {}


# --- node counts -----------------------------------------------------------------------------------------------


def fields(data, at, end):
    """(number, wire type, start, end) of each field of the protobuf message in data[at:end]."""

    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    while at < end:
        tag, at = varint(at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            start, (_, at) = at, varint(at)
        elif wire == 2:
            length, start = varint(at)
            at = start + length
        else:
            start, at = at, at + {1: 8, 5: 4}[wire]
        yield number, wire, start, at


def graph_nodes(data, at, end):
    """Operator names of a GraphProto and of the graphs in its nodes' attributes. Weights are not read."""
    for number, wire, start, stop in fields(data, at, end):
        if (number, wire) != (1, 2):
            continue
        for key, kind, a, b in fields(data, start, stop):
            if (key, kind) == (4, 2):
                yield data[a:b].decode()
            elif (key, kind) == (5, 2):
                for sub, sub_kind, c, d in fields(data, a, b):
                    if sub in (6, 11) and sub_kind == 2:
                        yield from graph_nodes(data, c, d)


def count_nodes(path):
    with open(model_file(path), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        operators = [
            operator
            for number, wire, start, end in fields(data, 0, len(data))
            if (number, wire) == (7, 2)
            for operator in graph_nodes(data, start, end)
        ]
    return len(operators), operators.count("Constant")


def print_nodes(ours, peer, slimmed):
    rows = [("ours", ours), ("peer", peer)] + ([("peer slimmed", slimmed)] if slimmed else [])
    base = count_nodes(ours)[0]
    print(f"{'':14s}{'nodes':>8s}{'of them Constant':>18s}{'ours / this':>13s}")
    for name, path in rows:
        nodes, constants = count_nodes(path)
        print(f"{name:14s}{nodes:8d}{constants:18d}{base / nodes:13.2f}")


# --- speed -----------------------------------------------------------------------------------------------------


def open_session(path, threads, profile=None):
    """(session, seconds to load). `profile`: begin of the name of the file that end_profiling() names."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    # Else the threads of the session that has just run spin on and take a core from the next one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(str(model_file(path)), options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - start


def feeds(session, tokens, past, vocab):
    """The same values for every session that has the same inputs."""
    import numpy

    result = {}
    for item in session.get_inputs():
        # Not seeded by hash(): it differs from process to process.
        random = numpy.random.default_rng(sum(item.name.encode()))
        if item.name == "input_ids":
            result[item.name] = random.integers(1, vocab, (1, tokens))
        elif item.name == "attention_mask":
            result[item.name] = numpy.ones((1, past + tokens), numpy.int64)
        elif item.name == "position_ids":
            result[item.name] = numpy.arange(past, past + tokens, dtype=numpy.int64)[None]
        elif item.name == "token_type_ids":
            result[item.name] = numpy.zeros((1, tokens), numpy.int64)
        elif item.name.startswith("past_key_values."):
            shape = (1, item.shape[1], past, item.shape[3])
            result[item.name] = random.standard_normal(shape).astype(DTYPES[item.type])
        else:
            sys.exit(f"no values for graph input {item.name}")
    return result


def run_case(session, case, vocab):
    """Milliseconds of every timed run of a turn.

    A turn is several runs, the first of them not timed: whoever serves a model runs it again and again, and alternating
    single runs would time how each session refills the caches that the other has emptied.
    """
    _, tokens, past = case
    inputs = feeds(session, tokens, past, vocab)
    session.run(None, inputs)
    times = []
    for _ in range(3 if tokens > 1 else 20):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def save_output(session, case, vocab, path):
    import numpy

    numpy.save(path, session.run(None, feeds(session, *case[1:], vocab))[0])


def cases_of(session, limit):
    """The cases for this kind of model, and the names of those beyond its positions."""
    has_past = any(item.name.startswith("past_key_values.") for item in session.get_inputs())
    cases = DECODER_CASES if has_past else ENCODER_CASES
    fits = [case for case in cases if case[1] + case[2] <= limit]
    return fits, [case[0] for case in cases if case not in fits]


class Model:
    """A session in a process of its own, closed with it.

    Of two sessions in one process the one that was opened first is 2 to 5 % slower, whichever it is: the weights
    that ONNX Runtime packs lie elsewhere in memory.
    """

    def __init__(self, path, threads, profile):
        self.process = ProcessPoolExecutor(1, get_context("spawn"))
        self.load_s = self.process.submit(Model.open, path, threads, profile).result()

    def run(self, function, *args):
        """function(session, *args), there."""
        return self.process.submit(Model.call, function, *args).result()

    @staticmethod
    def open(*args):
        Model.session, seconds = open_session(*args)
        return seconds

    @staticmethod
    def call(function, *args):
        return function(Model.session, *args)


def turns(args, profile=None):
    """Every round's two models, newly opened, with the order in which they take their turns."""
    for turn in range(args.rounds):
        order = [0, 1] if turn % 2 == 0 else [1, 0]
        models = {i: Model((args.ours, args.peer)[i], args.threads, profile and f"{profile}/{turn}-{i}") for i in order}
        yield models, order
        for model in models.values():
            model.process.shutdown()


def read_model(args):
    """(vocabulary size, positions) of the model that both are."""
    config = {**read_config(args.peer), **read_config(args.ours)}
    vocab = args.vocab or config.get("vocab_size") or sys.exit("no vocab_size in config.json: give --vocab")
    return vocab, config.get("max_position_embeddings", 1 << 30)


def output_difference(models, case, vocab):
    """The largest difference of the first outputs."""
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        for i, model in models.items():
            model.run(save_output, case, vocab, f"{folder}/{i}.npy")
        ours, peer = (numpy.load(f"{folder}/{i}.npy", mmap_mode="r") for i in (0, 1))
        return float(numpy.abs(ours.astype("float64") - peer.astype("float64")).max())


def print_speed(args):
    import onnxruntime

    vocab, limit = read_model(args)
    loads, times, differences = ([], []), {}, {}
    for models, order in turns(args):
        cases, left_out = models[0].run(cases_of, limit)
        for i in order:
            loads[i].append(models[i].load_s * 1e3)
        for case in cases:
            if case not in times:
                times[case], differences[case] = ([], []), output_difference(models, case, vocab)
            for i in order:
                times[case][i].extend(models[i].run(run_case, case, vocab))
    print(f"onnxruntime {onnxruntime.__version__}, {args.threads} threads, {args.rounds} rounds; median milliseconds")
    print(f"{'':16s}{'ours':>10s}{'peer':>10s}{'peer / ours':>13s}{'max diff':>11s}")
    a, b = map(median, loads)
    print(f"{'load':16s}{a:10.1f}{b:10.1f}{b / a:13.2f}")
    for case, values in times.items():
        a, b = map(median, values)
        print(f"{case[0]:16s}{a:10.2f}{b:10.2f}{b / a:13.2f}{differences[case]:11.1e}")
    for name in left_out:
        print(f"{name:16s} left out: the model has {limit} positions")


def kernel_times(session):
    """(matrix products, all other kernels) in milliseconds of every run of a session with a profile; it ends that."""
    events = json.loads(Path(session.end_profiling()).read_text())
    runs = [(event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "model_run"]
    times = [[0.0, 0.0] for _ in runs]
    at = 0
    for event in sorted((e for e in events if e["name"].endswith("_kernel_time")), key=lambda event: event["ts"]):
        while event["ts"] >= runs[at][1]:
            at += 1
        times[at][event["args"]["op_name"] not in PRODUCTS] += event["dur"] / 1e3
    return times


def print_products(args):
    """What a graph can gain that has the same matrix products: ours without any other kernel is the bound."""
    vocab, limit = read_model(args)
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for models, order in turns(args, folder):
            cases = [case for case in models[0].run(cases_of, limit)[0] if case[1] > 1]
            for case in cases:
                for i in order:
                    models[i].run(run_case, case, vocab)
            for i in order:
                runs = models[i].run(kernel_times)
                each = len(runs) // len(cases)
                for at, case in enumerate(cases):
                    times.setdefault(case, ([], []))[i].extend(runs[at * each + 1 : (at + 1) * each])
    print(f"{args.threads} threads, {args.rounds} rounds; median milliseconds in kernels: products, all others")
    print(f"{'':16s}{'ours':>18s}{'peer':>18s}{'peer / ours':>13s}{'ours without others':>21s}")
    for case, (ours, peer) in times.items():
        a, b = ([median(part) for part in zip(*runs)] for runs in (ours, peer))
        print(
            f"{case[0]:16s}{a[0]:10.0f}{a[1]:8.0f}{b[0]:10.0f}{b[1]:8.0f}"
            f"{sum(b) / sum(a):13.2f}{sum(b) / a[0]:21.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", help="directory (or .onnx file) that onnxferry wrote")
    parser.add_argument("peer", help="directory (or .onnx file) that another tool wrote from the same checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocab", type=int, help="token ids are below it (default: config.json's vocab_size)")
    parser.add_argument("--nodes", nargs="?", const="", metavar="SLIM", help="print node counts instead of speed")
    parser.add_argument("--products", action="store_true", help="print how much of the time is matrix products")
    args = parser.parse_args()
    if args.nodes is not None:
        print_nodes(args.ours, args.peer, args.nodes)
    elif args.products:
        print_products(args)
    else:
        print_speed(args)


if __name__ == "__main__":
    main()
