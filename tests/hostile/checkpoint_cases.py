"""Hostile checkpoints: (name, {file: bytes}, error code, a word of the message)."""

import json
import struct

CORRUPT, UNSUPPORTED, LIMIT = "CORRUPT_CHECKPOINT", "UNSUPPORTED_MODEL", "LIMIT_EXCEEDED"
NAME = "model.safetensors"


def tensors(header, data=b"", length=None):
    if isinstance(header, dict):
        header = json.dumps(header)
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def text_entry(dtype='"F32"', shape="[2]", offsets="[0,8]"):
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def header_cases(config):
    one = {"a": entry()}
    cases = [
        ("overlap", tensors({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12), CORRUPT, ""),
        ("same-range", tensors({"a": entry(), "b": entry()}, b"\0" * 8), CORRUPT, ""),
        ("gap", tensors({"a": entry(), "b": entry(offsets=(12, 20))}, b"\0" * 20), CORRUPT, ""),
        ("starts-late", tensors({"a": entry(offsets=(4, 12))}, b"\0" * 12), CORRUPT, ""),
        ("out-of-range", tensors({"a": entry(offsets=(0, 800), shape=(200,))}, b"\0" * 8), CORRUPT, ""),
        ("trailing-bytes", tensors(one, b"\0" * 9), CORRUPT, ""),
        ("missing-data", tensors(one, b"\0" * 7), CORRUPT, ""),
        ("reversed", tensors({"a": entry(offsets=(8, 0))}, b"\0" * 8), CORRUPT, ""),
        ("size-differs", tensors({"a": entry(shape=(3,))}, b"\0" * 8), CORRUPT, ""),
        ("unknown-dtype", tensors({"a": entry("F31")}, b"\0" * 8), CORRUPT, "F31"),
        ("shape-overflow", tensors({"a": entry(shape=(1 << 32, 1 << 32))}, b"\0" * 8), CORRUPT, ""),
        ("shape-overflow-to-zero", tensors({"a": entry(shape=(1 << 62, 4), offsets=(0, 0))}), CORRUPT, ""),
        ("shape-past-int64", tensors('{"a":' + text_entry(shape="[18446744073709551616]") + "}", b"\0" * 8), CORRUPT, ""),
        ("shape-negative", tensors({"a": entry(shape=(-2,))}, b"\0" * 8), CORRUPT, ""),
        ("shape-float", tensors({"a": entry(shape=(2.0,))}, b"\0" * 8), CORRUPT, ""),
        ("shape-text", tensors('{"a":' + text_entry(shape='"2"') + "}", b"\0" * 8), CORRUPT, ""),
        ("rank-9", tensors({"a": entry(shape=(1,) * 8 + (2,))}, b"\0" * 8), CORRUPT, "dimensions"),
        ("offsets-one", tensors({"a": entry(offsets=(0,))}, b"\0" * 8), CORRUPT, ""),
        ("offsets-three", tensors({"a": entry(offsets=(0, 8, 9))}, b"\0" * 8), CORRUPT, ""),
        ("offsets-negative", tensors({"a": entry(offsets=(-8, 0))}, b"\0" * 8), CORRUPT, ""),
        ("offsets-huge", tensors({"a": entry(offsets=(0, (1 << 64) - 1))}, b"\0" * 8), CORRUPT, ""),
        ("dtype-missing", tensors({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8), CORRUPT, ""),
        ("dtype-number", tensors('{"a":' + text_entry(dtype="32") + "}", b"\0" * 8), CORRUPT, ""),
        ("duplicate-tensor", tensors('{"a":' + text_entry() + ',"a":' + text_entry() + "}", b"\0" * 8), CORRUPT, ""),
        ("duplicate-key", tensors('{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8), CORRUPT, "twice"),
        ("unknown-key", tensors({"a": {**entry(), "file": "/etc/passwd"}}, b"\0" * 8), CORRUPT, ""),
        ("metadata-number", tensors({"__metadata__": {"n": 1}, **one}, b"\0" * 8), CORRUPT, ""),
        ("metadata-nested", tensors({"__metadata__": {"n": {"m": "x"}}, **one}, b"\0" * 8), CORRUPT, ""),
        ("format-tf", tensors({"__metadata__": {"format": "tf"}, **one}, b"\0" * 8), UNSUPPORTED, ""),
        ("name-empty", tensors({"": entry()}, b"\0" * 8), CORRUPT, ""),
        ("name-2-kib", tensors({"n" * 2048: entry()}, b"\0" * 8), CORRUPT, ""),
        ("header-not-utf8", tensors(b'{"a\xff":' + text_entry().encode() + b"}", b"\0" * 8), CORRUPT, ""),
        ("header-array", tensors("[]"), CORRUPT, ""),
        ("header-number", tensors("1"), CORRUPT, ""),
        ("header-empty", tensors(""), CORRUPT, ""),
        ("header-text-behind", tensors('{"a":' + text_entry() + "} x", b"\0" * 8), CORRUPT, ""),
        ("header-cut-json", tensors('{"a":{"dtype":"F32"'), CORRUPT, ""),
        ("header-deep", tensors("[" * 100_000 + "]" * 100_000), CORRUPT, ""),
        ("header-deep-objects", tensors('{"a":' * 50_000 + "1" + "}" * 50_000), CORRUPT, ""),
        ("header-nan", tensors('{"a":' + text_entry(shape="[NaN]") + "}", b"\0" * 8), CORRUPT, ""),
        ("header-over-100-mb", tensors("{}", length=100_000_001), CORRUPT, ""),
        ("header-length-huge", tensors("{}", length=(1 << 64) - 1), CORRUPT, ""),
        ("header-longer-than-file", tensors("{}", length=3), CORRUPT, ""),
        ("file-empty", b"", CORRUPT, ""),
        ("file-of-7-bytes", b"\2\0\0\0\0\0\0", CORRUPT, ""),
        ("file-of-8-bytes", struct.pack("<Q", 0), CORRUPT, ""),
        ("pickle", b"\x80\x02cos\nsystem\n(S'true'\ntR.", CORRUPT, ""),
    ]
    return [(f"safetensors-{n}", {"config.json": config, NAME: file}, code, word) for n, file, code, word in cases]


def index_cases(config):
    shard = tensors({"a": entry()}, b"\0" * 8)
    index = lambda weight_map: json.dumps({"weight_map": weight_map}).encode()
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    files = {first: shard, second: tensors({"b": entry()}, b"\0" * 8)}
    good = {"a": first, "b": second}
    cases = [
        ("missing-shard", index(good), {first: shard}, CORRUPT, second),
        ("tensor-not-in-shard", index({**good, "c": first}), files, CORRUPT, "c"),
        ("tensor-not-in-map", index({"a": first, "x": second}), files, CORRUPT, ""),
        ("wrong-shard", index({"a": second, "b": first}), files, CORRUPT, ""),
        ("parent", index({"a": "../" + first}), files, CORRUPT, ""),
        ("absolute", index({"a": "/etc/passwd"}), files, CORRUPT, ""),
        ("subdirectory", index({"a": "d/" + first}), files, CORRUPT, ""),
        ("not-safetensors", index({"a": "config.json"}), files, CORRUPT, ""),
        ("name-nul", index({"a": first + "\0"}), files, CORRUPT, ""),
        ("name-empty", index({"a": ""}), files, CORRUPT, ""),
        ("name-number", index({"a": 1}), files, CORRUPT, ""),
        ("same-tensor-in-two", index(good), {first: shard, second: shard}, CORRUPT, ""),
        ("duplicate", b'{"weight_map":{"a":"%s","a":"%s"}}' % (first.encode(), second.encode()), files, CORRUPT, ""),
        ("two-maps", b'{"weight_map":{},"weight_map":{"a":"%s"}}' % first.encode(), files, CORRUPT, ""),
        ("no-map", b"{}", files, CORRUPT, ""),
        ("empty-map", index({}), files, CORRUPT, ""),
        ("map-array", b'{"weight_map":[]}', files, CORRUPT, ""),
        ("array", b"[]", files, CORRUPT, ""),
        ("cut", index(good)[:-5], files, CORRUPT, ""),
        ("deep", b'{"m":' + b"[" * 100_000 + b"]" * 100_000 + b"}", files, CORRUPT, ""),
        ("not-utf8", b'{"weight_map":{"\xff":"%s"}}' % first.encode(), files, CORRUPT, ""),
        ("513-shards", index({f"t{i}": f"s{i}.safetensors" for i in range(513)}), files, LIMIT, "513"),
    ]
    return [
        (f"index-{n}", {"config.json": config, "model.safetensors.index.json": i, **f}, code, word)
        for n, i, f, code, word in cases
    ]


def config_cases(config, weights):
    """`config` and `weights` are those of a good qwen2 checkpoint."""
    values = json.loads(config)

    def edited(**changes):
        return json.dumps({**values, **changes}).encode()

    rope = lambda **fields: edited(rope_scaling=fields)
    cases = [
        ("empty", b"", CORRUPT, "config.json"),
        ("not-json", b"model_type: qwen2", CORRUPT, "config.json"),
        ("array", b"[]", CORRUPT, "config.json"),
        ("cut", config[:-20], CORRUPT, "config.json"),
        ("not-utf8", b'{"model_type":"\xff"}', CORRUPT, "config.json"),
        ("deep-arrays", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", CORRUPT, "deeper than 64"),
        ("deep-objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, CORRUPT, "deeper than 64"),
        ("deep-in-a-good-one", config.strip()[:-1] + b',"x":' + b'{"x":' * 90_000 + b"1" + b"}" * 90_001, CORRUPT, "deeper than 64"),
        # As transformers, the last one counts.
        ("duplicate-key", b'{"hidden_size":32,' + config.strip()[1:], "OK", ""),
        ("over-16-mib", b'{"a":"' + b"x" * (17 << 20) + b'"}', LIMIT, "config.json"),
        ("nan", config.replace(b"1e-06", b"NaN"), CORRUPT, ""),
        ("infinity", config.replace(b"1e-06", b"1e999"), CORRUPT, ""),
        # Odd, but what transformers would compute.
        ("eps-negative", edited(rms_norm_eps=-1.0), "OK", ""),
        ("number-huge", config.replace(b'"hidden_size": 32', b'"hidden_size": ' + b"9" * 400), CORRUPT, ""),
        ("hidden-size-2e62", edited(hidden_size=1 << 62), UNSUPPORTED, "hidden_size"),
        ("hidden-size-zero", edited(hidden_size=0), UNSUPPORTED, "hidden_size"),
        ("hidden-size-negative", edited(hidden_size=-32), UNSUPPORTED, "hidden_size"),
        ("hidden-size-text", edited(hidden_size="32"), CORRUPT, "hidden_size"),
        ("hidden-size-float", edited(hidden_size=32.5), CORRUPT, "hidden_size"),
        ("hidden-size-object", edited(hidden_size={"a": 1}), CORRUPT, "hidden_size"),
        ("hidden-size-other", edited(hidden_size=64), CORRUPT, "embed_tokens"),
        ("layers-2e31", edited(num_hidden_layers=1 << 31), UNSUPPORTED, "expected at most 4096"),
        ("layers-3", edited(num_hidden_layers=3, layer_types=["full_attention"] * 3), CORRUPT, "layers.2"),
        ("vocab-2e31", edited(vocab_size=1 << 31), CORRUPT, "2147483648"),
        ("heads-zero", edited(num_attention_heads=0), UNSUPPORTED, "num_attention_heads"),
        ("heads-3", edited(num_attention_heads=3), UNSUPPORTED, "num_attention_heads"),
        ("kv-heads-3", edited(num_key_value_heads=3), UNSUPPORTED, "num_key_value_heads"),
        ("positions-2e31", edited(max_position_embeddings=1 << 31), "OK", ""),
        ("model-type-missing", json.dumps({k: v for k, v in values.items() if k != "model_type"}).encode(), UNSUPPORTED, "(absent)"),
        ("model-type-unknown", edited(model_type="nonesuch"), UNSUPPORTED, "nonesuch"),
        ("model-type-number", edited(model_type=7), CORRUPT, "model_type"),
        ("model-type-control", edited(model_type="\x1b[2J"), UNSUPPORTED, "u001b"),
        ("model-type-100-kb", edited(model_type="m" * 100_000), UNSUPPORTED, "at most 128"),
        ("other-architecture", edited(model_type="bert"), UNSUPPORTED, "bert"),
        ("architectures-control", edited(architectures=["a\nb"]), UNSUPPORTED, "architectures"),
        ("architectures-text", edited(architectures="Qwen2ForCausalLM"), CORRUPT, "architectures"),
        ("hidden-act-unknown", edited(hidden_act="exec"), UNSUPPORTED, "exec"),
        ("rope-type-unknown", rope(rope_type="spiral", factor=2.0), UNSUPPORTED, "spiral"),
        ("rope-factor-missing", rope(rope_type="linear"), CORRUPT, "factor"),
        ("rope-factor-zero", rope(rope_type="linear", factor=0), UNSUPPORTED, "rope"),
        ("rope-factor-text", rope(rope_type="linear", factor="2"), CORRUPT, "factor"),
        ("rope-scaling-text", edited(rope_scaling="linear"), CORRUPT, "rope_scaling"),
        ("rope-factor-huge", rope(rope_type="linear", factor=1e300), UNSUPPORTED, "rope"),
        ("rope-theta-huge", edited(rope_theta=1e308), UNSUPPORTED, "rope"),
        ("rope-theta-zero", edited(rope_theta=0.0), UNSUPPORTED, "rope_theta"),
        ("rope-theta-negative", edited(rope_theta=-1e4), UNSUPPORTED, "rope_theta"),
        ("quantization", edited(quantization_config={"quant_method": "gptq", "bits": 4}), UNSUPPORTED, "quantization_config"),
        ("sliding-window-zero", edited(use_sliding_window=True, sliding_window=0, max_window_layers=0, layer_types=["sliding_attention"] * 2), UNSUPPORTED, "sliding_window"),
        ("layer-types-unknown", edited(layer_types=["full_attention", "chunked"]), UNSUPPORTED, "chunked"),
        ("layer-types-short", edited(layer_types=["full_attention"]), UNSUPPORTED, "layer_types"),
    ]
    result = [(f"config-{n}", {"config.json": c, NAME: weights}, code, word) for n, c, code, word in cases]
    result.append(("config-without-weights", {"config.json": config}, CORRUPT, "safetensors"))
    return result
