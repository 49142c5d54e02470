#!/usr/bin/env python3
"""make_corpus.py OUT: hostile archives and checkpoints, each with the error that it must get.

Writes OUT/<name> for every case and OUT/cases.json: [{name, code, word}]; code "OK" means that the
export must succeed. The same bytes on every run; needs nothing but Python.
"""

import json
import pathlib
import sys

import archive_cases
import checkpoint_cases
import pickle_cases
from formats import ZipEntry, gz, tar, zip64_end, zip_archive, zstd, zstd_skippable

FIXTURE = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "qwen2" / "checkpoint"


def good_cases(model):
    """The same model in every format must pass: otherwise the refusals below prove nothing."""
    packed = tar(model)
    entries = lambda method: [ZipEntry(name, data, method=method) for name, data in model.items()]
    return [
        ("good-tar", packed, "OK", ""),
        ("good-tar-gz", gz(packed[:5000]) + gz(packed[5000:]), "OK", ""),
        ("good-tar-zst", zstd_skippable(b"x") + zstd(packed[:5000]) + zstd(packed[5000:]), "OK", ""),
        ("good-zip-stored", zip_archive(entries(0)), "OK", ""),
        ("good-zip-deflate", zip_archive(entries(8)), "OK", ""),
        ("good-zip64", zip_archive(entries(8), end=zip64_end), "OK", ""),
        ("good-tar-nested", tar({f"m/{name}": data for name, data in model.items()}), "OK", ""),
    ]


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    model = {path.name: path.read_bytes() for path in sorted(FIXTURE.iterdir())}
    config, weights = model["config.json"], model["model.safetensors"]
    cases = good_cases(model) + pickle_cases.good_cases(model)
    cases += archive_cases.tar_cases() + archive_cases.compressed_cases() + archive_cases.zip_cases()
    for name, files, code, word in (
        checkpoint_cases.header_cases(config)
        + checkpoint_cases.index_cases(config)
        + checkpoint_cases.config_cases(config, weights)
        + pickle_cases.cases(config)
    ):
        cases.append((name, tar(files), code, word))
    assert len({name for name, *_ in cases}) == len(cases), "two cases have one name"
    for name, data, _, _ in cases:
        (out / name).write_bytes(data)
    listing = [{"name": name, "code": code, "word": word} for name, _, code, word in cases]
    (out / "cases.json").write_text(json.dumps(listing))
    print(f"{len(cases)} cases in {out}")


if __name__ == "__main__":
    main()
