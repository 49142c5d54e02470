"""Model archives, made from the fixture checkpoints or by hand."""

import gzip
import io
import json
import shutil
import struct
import tarfile

from harness.environment import FIXTURES


def checkpoint(case):
    return FIXTURES / case / "checkpoint"


def copy_checkpoint(case, to):
    """A writable copy of a fixture checkpoint, to be damaged."""
    shutil.copytree(checkpoint(case), to)
    return to


def edit_config(folder, changes):
    """Change keys of config.json; a value of None removes the key."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def read_tensors(path):
    """(header, data) of a safetensors file, without any library."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write_tensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def drop_tensors(path, wanted):
    """Rewrite a safetensors file without the tensors for which wanted(name) is false."""
    header, data = read_tensors(path)
    kept, body = {}, b""
    for name, entry in sorted(header.items()):
        if name == "__metadata__":
            kept[name] = entry
        elif wanted(name):
            begin, end = entry["data_offsets"]
            kept[name] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
    assert len(kept) < len(header), "no tensor was dropped"
    write_tensors(path, kept, body)


def pack(folder, kind="tar", root="model"):
    """A folder as archive bytes. `root`: the folder inside the archive, "" for none."""
    return pack_entries(
        {
            f"{root}/{path.relative_to(folder)}".lstrip("/"): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        kind,
    )


def pack_entries(entries, kind="tar"):
    """{name: bytes} as archive bytes, the same bytes for the same input. Names are taken as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    return {"tar": data, "tar.gz": gzip.compress(data, 6, mtime=0)}[kind]


def make_archive(case, kind="tar", root="model"):
    """The checkpoint of a fixture as archive bytes."""
    return pack(checkpoint(case), kind, root)
