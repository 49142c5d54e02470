"""Hostile pytorch_model.bin files: (name, {file: bytes}, error code, a word of the message).

Pickles are written opcode by opcode; nothing here imports pickle, as an honest pickler could not write most of them.
"""

import json
import struct

from formats import ZipEntry, tar, zip_archive

CORRUPT, UNSUPPORTED, LIMIT = "CORRUPT_CHECKPOINT", "UNSUPPORTED_MODEL", "LIMIT_EXCEEDED"
NAME = "pytorch_model.bin"
PROTO, STOP, MARK, TUPLE, REDUCE, DICT, SETITEM, PERSID = b"\x80\x02", b".", b"(", b"t", b"R", b"}", b"s", b"Q"
NONE, FALSE, TRUE, EMPTY_TUPLE, LIST = b"N", b"\x89", b"\x88", b")", b"]"
TYPES = {"F32": ("FloatStorage", 4), "BF16": ("BFloat16Storage", 2), "F16": ("HalfStorage", 2), "I64": ("LongStorage", 8)}


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value):
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def tup(*parts):
    return MARK + b"".join(parts) + TUPLE


def ints(*values):
    return tup(*(integer(value) for value in values))


ORDERED = name("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE


def storage(key="0", kind="FloatStorage", elements=2, word="storage", module="torch", legacy=False):
    parts = [text(word), name(module, kind), text(key), text("cpu"), integer(elements)] + [NONE] * legacy
    return tup(*parts) + PERSID


def tensor(source=None, offset=0, shape=(2,), strides=(1,), extra=b""):
    source = storage() if source is None else source
    arguments = [source, integer(offset), ints(*shape), ints(*strides), FALSE, ORDERED, extra]
    return name("torch._utils", "_rebuild_tensor_v2") + tup(*arguments) + REDUCE


def state(*items):
    """A dict of (key, pickled value)."""
    return DICT + b"".join((text(key) if isinstance(key, str) else key) + value + SETITEM for key, value in items)


def pickled(body):
    return PROTO + body + STOP


def torch_zip(pickle, records=(("0", b"\0" * 8),), root="archive/", **options):
    """`records` are (key, data) or ZipEntry objects."""
    entries = [ZipEntry(root + "data.pkl", pickle)]
    for record in records:
        entries.append(record if isinstance(record, ZipEntry) else ZipEntry(root + "data/" + record[0], record[1]))
    for extra_name, data in options.pop("others", {"version": b"3\n", "byteorder": b"little"}).items():
        entries.append(ZipEntry(root + extra_name, data))
    return zip_archive(entries, **options)


MAGIC = pickled(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
VERSION = pickled(integer(1001))
SYSTEM = pickled(state(("protocol_version", integer(1001)), ("little_endian", TRUE)))


def torch_stream(pickle, keys=("0",), data=((2, b"\0" * 8),), head=MAGIC + VERSION + SYSTEM):
    listed = pickled(LIST + MARK + b"".join(text(key) for key in keys) + b"e")
    return head + pickle + listed + b"".join(struct.pack("<q", count) + raw for count, raw in data)


def from_safetensors(weights, legacy=False):
    """The tensors of a safetensors file as torch.save would write them."""
    size = struct.unpack("<Q", weights[:8])[0]
    header = json.loads(weights[8 : 8 + size])
    header.pop("__metadata__", None)
    items, blobs = [], []
    for index, (key, entry) in enumerate(sorted(header.items())):
        kind, item = TYPES[entry["dtype"]]
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        strides = [1] * len(entry["shape"])
        for i in range(len(strides) - 1, 0, -1):
            strides[i - 1] = strides[i] * entry["shape"][i]
        count = (end - begin) // item
        source = storage(str(index), kind, count, legacy=legacy)
        items.append((key, tensor(source, 0, entry["shape"], strides)))
        blobs.append((str(index), count, weights[begin:end]))
    pickle = pickled(state(*items))
    if legacy:
        return torch_stream(pickle, [key for key, *_ in blobs], [(count, raw) for _, count, raw in blobs])
    return torch_zip(pickle, [(key, raw) for key, _, raw in blobs])


def good_cases(model):
    """The same model as a pickle must pass."""
    rest = {key: data for key, data in model.items() if not key.endswith(".safetensors")}
    weights = model["model.safetensors"]
    unread = pickled(name("os", "system") + tup(text("true")) + REDUCE)
    return [
        ("good-torch-zip", tar({**rest, NAME: from_safetensors(weights)}), "OK", ""),
        ("good-torch-stream", tar({**rest, NAME: from_safetensors(weights, legacy=True)}), "OK", ""),
        # Beside safetensors a pickle is not even opened, whichever comes first.
        ("good-torch-unread-before", tar({NAME: torch_zip(unread), **model}), "OK", ""),
        ("good-torch-unread-behind", tar({**model, NAME: torch_zip(unread)}), "OK", ""),
    ]


def forbidden_cases():
    """Names that would run something, however they are reached."""
    call = lambda module, attribute: pickled(name(module, attribute) + tup(text("touch /tmp/owned")) + REDUCE)
    frame = b"\x80\x04\x95" + struct.pack("<Q", 30) + b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."
    cases = [(f"name-{m}.{a}".replace("__", ""), call(m, a), UNSUPPORTED, f"{m}.{a}") for m, a in [
        ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"), ("__builtin__", "eval"),
        ("builtins", "getattr"), ("subprocess", "Popen"), ("torch", "load"), ("torch.hub", "load"),
        ("torch._utils", "_rebuild_qtensor"), ("torch._utils", "_rebuild_sparse_tensor"), ("torch.jit", "load"),
        ("torch.distributed.rpc", "rpc_sync"), ("numpy.core.multiarray", "_reconstruct"), ("torch", "FloatStorage "),
        ("torch.FloatStorage", ""), ("collections", "OrderedDict.fromkeys"), ("transformers.models.bert", "BertModel"),
    ]]
    cases += [
        ("in-a-dict", pickled(state(("a", name("os", "system") + tup(text("true")) + REDUCE))), UNSUPPORTED, "os.system"),
        ("stack-global", frame, UNSUPPORTED, "protocol 2"),
        ("stack-global-in-2", pickled(text("os") + text("system") + b"\x93" + text("true") + b"\x85R"), UNSUPPORTED, "STACK_GLOBAL"),
        ("memoize", pickled(DICT + b"\x94"), UNSUPPORTED, "MEMOIZE"),
        ("frame", pickled(b"\x95" + bytes(8)), UNSUPPORTED, "FRAME"),
        ("inst", pickled(MARK + b"ios\nsystem\n"), UNSUPPORTED, "INST"),
        ("obj", pickled(MARK + name("torch", "Size") + b"o"), UNSUPPORTED, "OBJ"),
        ("newobj-ex", pickled(name("torch", "Size") + EMPTY_TUPLE + DICT + b"\x92"), UNSUPPORTED, "NEWOBJ_EX"),
        ("ext1", pickled(b"\x82\x01"), UNSUPPORTED, "EXT1"),
        ("persid-text", pickled(b"P0\n"), UNSUPPORTED, "PERSID"),
        ("protocol-0", b"cos\nsystem\n(S'true'\ntR.", UNSUPPORTED, "protocol 2"),
        ("protocol-5", b"\x80\x05" + DICT + STOP, UNSUPPORTED, "protocol 2"),
        ("call-a-dtype", pickled(name("torch", "float32") + tup(integer(1)) + REDUCE), UNSUPPORTED, "not called"),
        ("call-a-storage", pickled(name("torch", "FloatStorage") + tup(integer(1 << 30)) + REDUCE), UNSUPPORTED, "not called"),
        ("call-a-text", pickled(text("system") + tup(text("true")) + REDUCE), CORRUPT, "no name"),
        ("build-on-tensor", pickled(tensor() + DICT + b"b"), CORRUPT, "state"),
        ("build-with-text", pickled(ORDERED + text("x") + b"b"), CORRUPT, "state"),
    ]
    return [(n, torch_zip(p), c, w) for n, p, c, w in cases]


def machine_cases():
    bomb = LIST + b"q\x00" + MARK + (b"h\x00" * 100_000) + b"e"
    pairs = LIST + b"q\x00" + MARK + tup(text("k"), NONE) + b"q\x01" + b"h\x01" * 60_000 + b"e"
    cases = [
        ("empty", b"", CORRUPT, "truncated"),
        ("no-stop", PROTO + DICT, CORRUPT, "truncated"),
        ("only-stop", PROTO + STOP, CORRUPT, "empty stack"),
        ("behind-stop", pickled(DICT) + b"x", CORRUPT, "behind"),
        ("two-left", pickled(DICT + DICT), CORRUPT, "left over"),
        ("mark-left", pickled(MARK + DICT), CORRUPT, "left over"),
        ("no-mark", pickled(TUPLE), CORRUPT, "mark"),
        ("pop-past-mark", pickled(DICT + MARK + SETITEM + DICT), CORRUPT, "empty stack"),
        ("odd-items", pickled(DICT + MARK + text("a") + b"u"), CORRUPT, "without a value"),
        ("setitem-on-tensor", pickled(tensor() + text("a") + NONE + SETITEM), CORRUPT, "no dict"),
        ("setitem-on-list", pickled(LIST + integer(0) + NONE + SETITEM), CORRUPT, "no dict"),
        ("append-on-dict", pickled(DICT + NONE + b"a"), CORRUPT, "no list"),
        ("append-on-tuple", pickled(EMPTY_TUPLE + NONE + b"a"), CORRUPT, "no list"),
        ("memo-empty", pickled(b"h\x07"), CORRUPT, "memo"),
        ("memo-far", pickled(DICT + b"r\xff\xff\xff\xff"), LIMIT, "memo"),
        ("memo-far-get", pickled(b"j\xff\xff\xff\xff"), CORRUPT, "memo"),
        ("text-4-gib", PROTO + b"X\xff\xff\xff\xff", LIMIT, "4294967295"),
        ("text-cut", PROTO + b"X\x00\x00\x01\x00abc", CORRUPT, "truncated"),
        ("name-endless", PROTO + b"c" + b"a" * 5000, LIMIT, "line"),
        ("marks-deep", PROTO + MARK * 100_000, LIMIT, "64 levels"),
        ("tuples-deep", pickled(NONE + b"\x85" * 100_000), LIMIT, "64 levels"),
        ("lists-deep", PROTO + LIST * 70 + b"a" * 69 + STOP, LIMIT, "64 levels"),
        ("list-in-itself", pickled(LIST + b"q\x00h\x00a"), UNSUPPORTED, "state dict"),
        ("values-5-million", PROTO + NONE * 5_000_000 + STOP, LIMIT, "4000000 values"),
        ("stack-of-memo", PROTO + DICT + b"q\x00" + b"h\x00" * 4_100_000 + STOP, LIMIT, "4000000 values"),
        ("memo-bomb", pickled(bomb), UNSUPPORTED, "state dict"),
        ("pairs-bomb", PROTO + pairs + (name("collections", "OrderedDict") + b"h\x00\x85R") * 20 + STOP, LIMIT, "pairs"),
        ("arguments-100000", pickled(name("torch", "Size") + MARK + NONE * 100_000 + TUPLE + REDUCE), CORRUPT, "arguments"),
        ("root-none", pickled(NONE), UNSUPPORTED, "state dict"),
        ("root-list", pickled(LIST + tensor() + b"a"), UNSUPPORTED, "state dict"),
        ("root-tensor", pickled(tensor()), UNSUPPORTED, "state dict"),
        ("nested-state-dict", pickled(state(("state_dict", state(("a", tensor()))))), UNSUPPORTED, "training"),
        ("nested-model", pickled(state(("model", state(("a", tensor()))), ("epoch", integer(3)))), UNSUPPORTED, "training"),
        ("prefix-module", pickled(state(("module.a", tensor()))), UNSUPPORTED, "DataParallel"),
        ("key-number", pickled(state((integer(1), tensor()))), UNSUPPORTED, "no text"),
        ("key-twice", pickled(state(("a", tensor()), ("a", tensor()))), CORRUPT, "twice"),
        ("key-empty", pickled(state(("", tensor()))), CORRUPT, "name"),
        ("key-2-kib", pickled(state(("n" * 2048, tensor()))), CORRUPT, "name"),
        ("key-control", pickled(state(("a\x1b[2J", tensor()))), CORRUPT, "name"),
        ("key-not-utf8", pickled(state((text(b"\xff\xfe"), tensor()))), CORRUPT, "name"),
        ("unknown-tensor", pickled(state(("nonesuch.weight", tensor()))), CORRUPT, ""),
    ]
    return [(n, torch_zip(p), c, w) for n, p, c, w in cases]


def tensor_cases():
    big = 1 << 62
    one = lambda **fields: pickled(state(("a", tensor(**fields))))
    with_storage = lambda **fields: pickled(state(("a", tensor(storage(**fields)))))
    raw = lambda *arguments: pickled(state(("a", name("torch._utils", "_rebuild_tensor_v2") + tup(*arguments) + REDUCE)))
    cases = [
        ("past-end", one(shape=(3,)), CORRUPT, "outside its storage"),
        ("offset-past-end", one(offset=1), CORRUPT, "outside its storage"),
        ("offset-negative", one(offset=-1), CORRUPT, "no integer"),
        ("offset-huge", one(offset=big), CORRUPT, "outside its storage"),
        ("offset-2e80", one(offset=1 << 80), CORRUPT, "no integer"),
        ("stride-negative", one(strides=(-1,)), CORRUPT, "no integer"),
        ("stride-huge", one(strides=(big,)), CORRUPT, "outside its storage"),
        ("stride-overflow", one(shape=(5, 5), strides=(big, big)), CORRUPT, "outside its storage"),
        ("shape-negative", one(shape=(-2,)), CORRUPT, "no integer"),
        ("shape-overflow", one(shape=(1 << 32, 1 << 32), strides=(0, 0)), CORRUPT, ""),
        ("shape-text", raw(storage(), integer(0), tup(text("2")), ints(1), FALSE, ORDERED), CORRUPT, "no integer"),
        ("shape-no-tuple", raw(storage(), integer(0), integer(2), ints(1), FALSE, ORDERED), CORRUPT, "no tuple"),
        ("expanded", one(shape=(1 << 25, 2), strides=(0, 1)), LIMIT, "repeats"),
        ("expanded-8d", one(shape=(64,) * 8, strides=(0,) * 8), LIMIT, "repeats"),
        ("rank-9", one(shape=(1,) * 8 + (2,), strides=(1,) * 9), CORRUPT, "dimensions"),
        ("strides-short", one(shape=(1, 2), strides=(1,)), CORRUPT, "strides"),
        ("storage-is-text", raw(text("0"), integer(0), ints(2), ints(1), FALSE, ORDERED), CORRUPT, "no storage"),
        ("storage-is-tensor", raw(tensor(), integer(0), ints(2), ints(1), FALSE, ORDERED), CORRUPT, "no storage"),
        ("arguments-few", raw(storage(), integer(0)), CORRUPT, "arguments"),
        ("parameter-of-text", pickled(state(("a", name("torch._utils", "_rebuild_parameter") + tup(text("x"), TRUE, ORDERED) + REDUCE))), CORRUPT, "no tensor"),
        ("size-of-text", pickled(name("torch", "Size") + tup(text("x")) + REDUCE), CORRUPT, "torch.Size"),
        ("pairs-of-text", pickled(name("collections", "OrderedDict") + tup(text("x")) + REDUCE), CORRUPT, "pairs"),
        ("id-word", with_storage(word="file"), CORRUPT, "persistent id"),
        ("id-is-text", pickled(text("/etc/passwd") + PERSID), CORRUPT, "persistent id"),
        ("id-short", pickled(tup(text("storage"), name("torch", "FloatStorage")) + PERSID), CORRUPT, "persistent id"),
        ("id-of-list", pickled(LIST + PERSID), CORRUPT, "persistent id"),
        ("type-is-text", pickled(tup(text("storage"), text("FloatStorage"), text("0"), text("cpu"), integer(2)) + PERSID), CORRUPT, "persistent id"),
        ("type-is-call", with_storage(kind="_rebuild_tensor_v2", module="torch._utils"), CORRUPT, "type of a storage"),
        ("type-complex", with_storage(kind="ComplexFloatStorage"), UNSUPPORTED, "ComplexFloatStorage"),
        ("type-quantized", with_storage(kind="QInt8Storage"), UNSUPPORTED, "QInt8Storage"),
        ("elements-negative", with_storage(elements=-2), CORRUPT, "no integer"),
        ("elements-more-than-record", with_storage(elements=3), CORRUPT, "3 elements"),
        ("elements-less-than-record", pickled(state(("a", tensor(storage(elements=1), shape=(1,))))), CORRUPT, "1 elements"),
        ("elements-overflow", with_storage(elements=1 << 62), CORRUPT, "elements"),
        ("dtype-wider-than-record", with_storage(kind="DoubleStorage"), CORRUPT, "8 bytes"),
        ("key-missing", with_storage(key="1"), CORRUPT, "no record"),
        ("key-parent", with_storage(key="../data.pkl"), CORRUPT, "no record"),
        ("key-absolute", with_storage(key="/etc/passwd"), CORRUPT, "no record"),
    ]
    return [(n, torch_zip(p), c, w) for n, p, c, w in cases]


def container_cases():
    good = pickled(state(("a", tensor())))
    legacy = pickled(state(("a", tensor(storage(legacy=True)))))
    two = pickled(state(("a", tensor()), ("b", tensor(storage("1")))))
    entry = lambda key, data, **fields: ZipEntry("archive/data/" + key, data, **fields)
    zip_cases = [
        ("zip-deflated", torch_zip(good, [entry("0", b"\0" * 8, method=8)]), CORRUPT, "no stored file"),
        ("zip-pickle-deflated", zip_archive([ZipEntry("a/data.pkl", good, method=8), ZipEntry("a/data/0", b"\0" * 8)]), CORRUPT, "no stored file"),
        ("zip-encrypted", torch_zip(good, [entry("0", b"\0" * 8, flags=1)]), UNSUPPORTED, "encrypted"),
        ("zip-record-twice", torch_zip(good, [("0", b"\0" * 8), ("0", b"\1" * 8)]), CORRUPT, "twice"),
        ("zip-pickle-twice", torch_zip(good, [("0", b"\0" * 8)], others={"data.pkl": good}), CORRUPT, "twice"),
        ("zip-two-folders", torch_zip(good, [("0", b"\0" * 8), ZipEntry("other/data.pkl", good)]), CORRUPT, "outside its folder"),
        ("zip-no-folder", zip_archive([ZipEntry("data.pkl", good), ZipEntry("data/0", b"\0" * 8)]), CORRUPT, "without data.pkl"),
        ("zip-no-pickle", zip_archive([ZipEntry("archive/data/0", b"\0" * 8)]), CORRUPT, "without data.pkl"),
        ("zip-empty", zip_archive([]), CORRUPT, "without data.pkl"),
        ("zip-link", torch_zip(good, [entry("0", b"\0" * 8, attributes=0o120777 << 16)]), CORRUPT, "no stored file"),
        ("zip-size-differs", torch_zip(two, [("0", b"\0" * 8), entry("1", b"\0" * 8, size=80)]), CORRUPT, ""),
        ("zip-local-name", torch_zip(good, [entry("0", b"\0" * 8, local={"name": b"archive/data/1"})]), CORRUPT, "name"),
        ("zip-gap", torch_zip(good, [entry("0", b"\0" * 8, gap=b"hidden")]), CORRUPT, "belong to no entry"),
        ("zip-prefix", b"PK\3\4" + torch_zip(good), CORRUPT, ""),
        ("zip-trailing", torch_zip(good) + b"x", CORRUPT, "end record"),
        ("zip-cut", torch_zip(good)[:-30], CORRUPT, "end record"),
        ("zip-big-endian", torch_zip(good, others={"byteorder": b"big"}), UNSUPPORTED, "byte order"),
        ("zip-byteorder-long", torch_zip(good, others={"byteorder": b"little" * 1000}), UNSUPPORTED, "byte order"),
        ("zip-torchscript", torch_zip(good, others={"constants.pkl": pickled(EMPTY_TUPLE), "code/m.py": b""}), UNSUPPORTED, "TorchScript"),
    ]
    stream_cases = [
        ("stream-keys-missing", torch_stream(legacy, keys=(), data=()), CORRUPT, "does not list"),
        ("stream-keys-unknown", torch_stream(legacy, keys=("9",)), CORRUPT, "no tensor has"),
        ("stream-keys-twice", torch_stream(legacy, keys=("0", "0"), data=((2, b"\0" * 8),) * 2), CORRUPT, "listed before"),
        ("stream-keys-number", MAGIC + VERSION + SYSTEM + legacy + pickled(LIST + integer(0) + b"a"), CORRUPT, "no text"),
        ("stream-keys-dict", MAGIC + VERSION + SYSTEM + legacy + pickled(DICT), CORRUPT, "no list"),
        ("stream-count-differs", torch_stream(legacy, data=((3, b"\0" * 12),)), CORRUPT, "3 elements"),
        ("stream-count-negative", torch_stream(legacy, data=((-2, b"\0" * 8),)), CORRUPT, "elements"),
        ("stream-data-cut", torch_stream(legacy, data=((2, b"\0" * 7),)), CORRUPT, "in 7 bytes"),
        ("stream-trailing", torch_stream(legacy) + b"x", CORRUPT, "behind its last storage"),
        ("stream-two-types", torch_stream(pickled(state(("a", tensor(storage(legacy=True))), ("b", tensor(storage(kind="IntStorage", legacy=True)))))), CORRUPT, "two ways"),
        ("stream-other-magic", pickled(b"\x8a\x0a" + b"x" * 10) + VERSION + SYSTEM + legacy, UNSUPPORTED, "torch.save"),
        ("stream-small-magic", pickled(integer(7)), UNSUPPORTED, "torch.save"),
        ("stream-version", MAGIC + pickled(integer(1002)) + SYSTEM + legacy, UNSUPPORTED, "protocol"),
        ("stream-big-endian", torch_stream(legacy, head=MAGIC + VERSION + pickled(state(("little_endian", FALSE)))), UNSUPPORTED, "little endian"),
        ("stream-no-system", torch_stream(legacy, head=MAGIC + VERSION + pickled(NONE)), CORRUPT, "system"),
        ("stream-cut-in-pickle", torch_stream(legacy)[:150], CORRUPT, ""),
        ("stream-os-system", MAGIC + VERSION + pickled(name("os", "system") + tup(text("true")) + REDUCE), UNSUPPORTED, "os.system"),
        ("file-empty", b"", CORRUPT, "neither"),
        ("file-text", b"hello", CORRUPT, "neither"),
        ("file-lfs", b"version https://git-lfs.github.com/spec/v1\n", CORRUPT, "Git LFS"),
        ("tar-form", tar({"sys_info": b"", "pickle": pickled(DICT), "storages": b"", "tensors": b""}), UNSUPPORTED, "0.1.10"),
        ("view-outside", torch_stream(pickled(state(("a", tensor(tup(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(2), tup(text("v"), integer(1), integer(2))) + PERSID))))), CORRUPT, "outside the storage"),
    ]
    return zip_cases + stream_cases


def index_cases():
    shard = torch_zip(pickled(state(("a", tensor()))))
    index = lambda weight_map: json.dumps({"weight_map": weight_map}).encode()
    first = "pytorch_model-00001-of-00002.bin"
    cases = [
        ("parent", {"a": "../" + first}, {first: shard}, CORRUPT, ".bin file"),
        ("safetensors", {"a": "model.safetensors"}, {first: shard}, CORRUPT, ".bin file"),
        ("missing-shard", {"a": first, "b": "pytorch_model-00002-of-00002.bin"}, {first: shard}, CORRUPT, "00002-of-00002"),
        ("not-listed", {"b": first}, {first: shard}, CORRUPT, "does not list"),
    ]
    return [(f"index-{n}", {NAME + ".index.json": index(m), **files}, c, w) for n, m, files, c, w in cases]


def cases(config):
    single = forbidden_cases() + machine_cases() + tensor_cases() + container_cases()
    result = [(f"torch-{n}", {"config.json": config, NAME: file}, code, word) for n, file, code, word in single]
    return result + [(f"torch-{n}", {"config.json": config, **files}, c, w) for n, files, c, w in index_cases()]
