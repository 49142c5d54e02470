"""Hostile archives: (name, bytes, error code, a word of the message)."""

import struct

from formats import (
    TAR_END,
    ZipEntry,
    gz,
    pad,
    pax,
    tar,
    tar_file,
    tar_header,
    zip64_end,
    zip_archive,
    zip_end,
    zstd,
    zstd_frame,
    zstd_skippable,
)

CORRUPT, LIMIT, OPTION = "CORRUPT_ARCHIVE", "LIMIT_EXCEEDED", "UNSUPPORTED_OPTION"
CONFIG = tar_file("config.json", b"{}")


def name_cases():
    """Names that no format may bring in: (name, entry name, code, word)."""
    return [
        ("parent", b"../evil.json", CORRUPT, "leaves"),
        ("parent-inside", b"a/../../evil.json", CORRUPT, "leaves"),
        ("parent-that-stays", b"a/../b.json", CORRUPT, "leaves"),
        ("parent-at-end", b"a/..", CORRUPT, "leaves"),
        ("parent-alone", b"..", CORRUPT, "leaves"),
        ("parent-of-skipped-file", b"../evil.bin", CORRUPT, "leaves"),
        ("absolute", b"/tmp/evil.json", CORRUPT, "absolute"),
        ("absolute-slashes", b"//evil.json", CORRUPT, "absolute"),
        ("backslash", b"..\\evil.json", CORRUPT, "backslash"),
        ("drive", b"C:\\evil.json", CORRUPT, "backslash"),
        ("newline", b"a\nb.json", CORRUPT, "control character"),
        ("terminal-escape", b"\x1b[2J.json", CORRUPT, "control character"),
        ("not-utf8", b"a\xff.json", CORRUPT, "UTF-8"),
        ("surrogate", b"a\xed\xa0\x80.json", CORRUPT, "UTF-8"),
        ("overlong", b"\xc0\xae\xc0\xae/x.json", CORRUPT, "UTF-8"),
    ]


def collision_cases():
    """Two names that may not stand in one archive."""
    return [
        ("duplicate", "a.json", "a.json", "twice"),
        ("duplicate-dot", "a.json", "./a.json", "twice"),
        ("duplicate-slashes", "d/a.json", "d//a.json", "twice"),
        ("duplicate-config", "b.json", "config.json", "twice"),
        ("case", "a.json", "A.json", "letter case"),
        ("case-of-directory", "d/a.json", "D/b.json", "letter case"),
        ("case-sharp-s", "größe.json", "GRÖSSE.json", "letter case"),
        ("nfc", "\u00e9.json", "e\u0301.json", "letter case or Unicode form"),
        ("file-then-directory", "d", "d/x.json", "file and a directory"),
        ("directory-then-file", "d/x.json", "d", "file and a directory"),
    ]


def tar_cases():
    long_name = lambda name: tar_file("././@LongLink", name + b"\0", kind=b"L")
    link = lambda kind, target: CONFIG + tar_header("w.safetensors", kind=kind, link=target) + TAR_END
    cases = [
        (f"tar-{name}", CONFIG + tar_file(entry, b"x") + TAR_END, code, word)
        for name, entry, code, word in name_cases()
    ]
    cases += [
        (f"tar-{name}", CONFIG + tar_file(a, b"1") + tar_file(b, b"2") + TAR_END, CORRUPT, word)
        for name, a, b, word in collision_cases()
    ]
    cases += [
        ("tar-pax-path-parent", CONFIG + pax([("path", "../e.json")]) + tar_file("a", b"x") + TAR_END, CORRUPT, "leaves"),
        ("tar-pax-path-twice", CONFIG + pax([("path", "ok.json"), ("path", "/e.json")]) + tar_file("a", b"x") + TAR_END, CORRUPT, "absolute"),
        ("tar-pax-global-path", CONFIG + pax([("path", "../e.json")], b"g") + tar_file("../a", b"x") + TAR_END, CORRUPT, ""),
        ("tar-pax-linkpath", CONFIG + pax([("linkpath", "/etc/passwd")]) + tar_header("w.safetensors", kind=b"2", link=b"x") + TAR_END, CORRUPT, "symbolic link"),
        ("tar-pax-size-negative", CONFIG + pax([("size", "-1")]) + tar_file("a.json", b"x") + TAR_END, CORRUPT, ""),
        ("tar-pax-size-overflow", CONFIG + pax([("size", "99999999999999999999999")]) + tar_file("a.safetensors", b"x") + TAR_END, CORRUPT, ""),
        ("tar-pax-length-lies", CONFIG + tar_file("PaxHeaders/x", b"999 path=a\n", kind=b"x") + tar_file("a", b"x") + TAR_END, CORRUPT, ""),
        ("tar-pax-length-zero", CONFIG + tar_file("PaxHeaders/x", b"0 path=a\n", kind=b"x") + tar_file("a", b"x") + TAR_END, CORRUPT, ""),
        ("tar-pax-without-entry", CONFIG + pax([("path", "a.json")]) + TAR_END, CORRUPT, ""),
        ("tar-pax-2-mib", CONFIG + pax([("comment", "x" * (2 << 20))]) + tar_file("a.json", b"x") + TAR_END, CORRUPT, ""),
        ("tar-gnu-long-parent", CONFIG + long_name(b"../" * 50 + b"e.json") + tar_file("a", b"x") + TAR_END, CORRUPT, "leaves"),
        ("tar-gnu-long-2-mib", CONFIG + long_name(b"x" * (2 << 20)) + tar_file("a", b"x") + TAR_END, CORRUPT, ""),
        ("tar-long-name", CONFIG + long_name(b"abcdefg/" * 128 + b"f.json") + tar_file("a", b"x") + TAR_END, LIMIT, "name of 1030 bytes"),
        ("tar-long-component", CONFIG + long_name(b"n" * 256) + tar_file("a", b"x") + TAR_END, LIMIT, "component of 256 bytes"),
        ("tar-deep", CONFIG + tar_file(b"d/" * 16 + b"f.json", b"x") + TAR_END, LIMIT, "17 levels"),
        ("tar-root-as-file", CONFIG + tar_file(".", b"x") + TAR_END, CORRUPT, "root"),
        ("tar-symlink-out", link(b"2", b"/etc/passwd"), CORRUPT, "symbolic link"),
        ("tar-symlink-inside", link(b"2", b"config.json"), CORRUPT, "tar -h"),
        ("tar-symlink-then-through", CONFIG + tar_header("l", kind=b"2", link=b"/tmp") + tar_file("l/e.json", b"x") + TAR_END, CORRUPT, "symbolic link"),
        ("tar-symlink-config", tar_header("config.json", kind=b"2", link=b"/etc/passwd") + TAR_END, CORRUPT, "symbolic link"),
        ("tar-hardlink-out", link(b"1", b"/etc/passwd"), CORRUPT, "hard link"),
        ("tar-hardlink-inside", link(b"1", b"config.json"), CORRUPT, "hard link"),
        ("tar-hardlink-with-data", CONFIG + tar_file("b.json", b"evil", kind=b"1", link=b"config.json") + TAR_END, CORRUPT, "hard link"),
        ("tar-char-device", link(b"3", b""), CORRUPT, "device"),
        ("tar-block-device", link(b"4", b""), CORRUPT, "device"),
        ("tar-fifo", link(b"6", b""), CORRUPT, "FIFO"),
        ("tar-size-negative", CONFIG + tar_file("a.safetensors", b"x", size_field=b"\xff" * 12) + TAR_END, CORRUPT, ""),
        ("tar-size-base256-huge", CONFIG + tar_file("a.safetensors", b"x", size_field=b"\x80" + b"\0" * 3 + struct.pack(">Q", 1 << 62)) + TAR_END, LIMIT, ""),
        ("tar-size-over-file-limit", CONFIG + tar_header("a.safetensors", (8 << 30) - 1) + TAR_END, CORRUPT, "truncated"),
        ("tar-size-over-limit", CONFIG + tar_file("a.safetensors", b"x", size_field=b"\x80" + b"\0" * 3 + struct.pack(">Q", 1 << 40)) + TAR_END, LIMIT, "1099511627776 bytes"),
        ("tar-metadata-over-limit", CONFIG + tar_header("vocab.json", (100 << 20) + 1) + TAR_END, LIMIT, "104857601 bytes"),
        ("tar-sparse-bomb", sparse_bomb(), LIMIT, "sparse"),
        ("tar-10001-entries", CONFIG + b"".join(tar_file(f"{i}.bin", b"") for i in range(10_001)) + TAR_END, LIMIT, "10000 entries"),
        ("tar-checksum", CONFIG + tar_file("a.json", b"x", checksum=1) + TAR_END, CORRUPT, ""),
        ("tar-cut-in-header", (CONFIG + tar_file("a.json", b"x"))[:1300], CORRUPT, ""),
        ("tar-cut-in-data", (CONFIG + tar_file("a.safetensors", b"x" * 9000))[:4000], CORRUPT, ""),
        ("tar-cut-in-skipped-data", (CONFIG + tar_file("a.bin", b"x" * 9000))[:4000], CORRUPT, ""),
        ("tar-cut-in-pax", (CONFIG + pax([("comment", "x" * 5000)]))[:3000], CORRUPT, ""),
        ("tar-no-end", CONFIG, CORRUPT, "end-of-archive"),
        ("tar-garbage-behind", CONFIG + TAR_END + b"x", CORRUPT, "follows the end"),
        ("tar-second-archive-behind", CONFIG + TAR_END + CONFIG + TAR_END, CORRUPT, "follows the end"),
        ("tar-garbage-between", CONFIG + b"garbage!" * 64 + CONFIG + TAR_END, CORRUPT, ""),
        ("tar-empty-file", b"", CORRUPT, "is empty"),
        ("tar-one-byte", b"x", CORRUPT, ""),
        ("tar-html", b"<html>403 Forbidden</html>" * 40, CORRUPT, "no tar"),
        ("tar-only-end", TAR_END, "CORRUPT_CHECKPOINT", "config.json"),
        ("tar-two-models", tar({"a/config.json": b"{}", "a/model.safetensors": b"", "b/config.json": b"{}", "b/model.safetensors": b""}), "CORRUPT_CHECKPOINT", "2 directories"),
        ("tar-only-gguf", tar({"config.json": b"{}", "model.gguf": b"GGUF"}), "UNSUPPORTED_MODEL", "model.gguf"),
        ("tar-of-a-tar", tar({"model.tar": CONFIG + TAR_END}), "CORRUPT_CHECKPOINT", "config.json"),
        ("xz", b"\xfd7zXZ\0" + b"x" * 600, OPTION, "xz"),
        ("bzip2", b"BZh9" + b"x" * 600, OPTION, "bzip2"),
        ("7z", b"7z\xbc\xaf\x27\x1c" + b"x" * 600, OPTION, "7z"),
        ("rar", b"Rar!\x1a\x07" + b"x" * 600, OPTION, "rar"),
    ]
    return cases


def sparse_bomb():
    """pax 1.0 sparse: one data block, 9 GiB of hole."""
    size = 9 << 30
    table = pad(b"2\n0\n512\n%d\n0\n" % size)
    header = pax([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "m.safetensors"), ("GNU.sparse.realsize", str(size))])
    return CONFIG + header + tar_file("GNUSparseFile.0/m", table + b"d" * 512) + TAR_END


def compressed_cases():
    good = CONFIG + tar_file("a.txt", bytes(range(256)) * 8) + TAR_END
    zipped = gz(good)
    bomb = CONFIG + tar_file("m.safetensors", b"\0" * (24 << 20)) + TAR_END
    flip = lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    run = lambda times: (1, (b"\0", times))
    return [
        ("gzip-crc", flip(zipped, len(zipped) - 8), CORRUPT, "CRC32"),
        ("gzip-length", flip(zipped, len(zipped) - 1), CORRUPT, "length"),
        ("gzip-crc-of-first-member", flip(gz(good[:600]), len(gz(good[:600])) - 6) + gz(good[600:]), CORRUPT, "CRC32"),
        ("gzip-method", flip(zipped, 2), CORRUPT, "header"),
        ("gzip-reserved-block", zipped[:10] + b"\x07" + zipped[11:], CORRUPT, "damaged"),
        ("gzip-cut-header", zipped[:6], CORRUPT, "truncated"),
        ("gzip-cut-data", zipped[: len(zipped) // 2], CORRUPT, ""),
        ("gzip-cut-trailer", zipped[:-3], CORRUPT, "truncated"),
        ("gzip-garbage-behind", zipped + b"garbage", CORRUPT, "appended"),
        ("gzip-text-behind", zipped + b"some longer garbage", CORRUPT, "follows the last gzip member"),
        ("gzip-zeros-behind", zipped + b"\0" * 20, CORRUPT, ""),
        ("gzip-bomb", gz(bomb, 9), LIMIT, "expands"),
        ("gzip-bomb-of-members", gz(CONFIG) + gz(tar_header("m.safetensors", 24 << 20)) + gz(b"\0" * (1 << 20)) * 24 + gz(TAR_END), LIMIT, "expands"),
        ("gzip-bomb-behind-the-end", gz(CONFIG + TAR_END + b"\0" * (24 << 20)), LIMIT, "expands"),
        ("gzip-of-gzip", gz(zipped), CORRUPT, ""),
        ("gzip-parent", gz(CONFIG + tar_file("../e.json", b"x") + TAR_END), CORRUPT, "leaves"),
        ("zstd-cut-header", zstd(good)[:5], CORRUPT, "truncated"),
        ("zstd-cut-magic", zstd(good)[:4], CORRUPT, "truncated"),
        ("zstd-cut-data", zstd(good)[:1000], CORRUPT, "truncated"),
        ("zstd-cut-checksum", zstd(good, checksum=b"\0\0"), CORRUPT, "truncated"),
        ("zstd-checksum", zstd(good, checksum=b"\0\0\0\0"), CORRUPT, "checksum"),
        ("zstd-content-size", zstd(good, content_size=len(good) + 1), CORRUPT, "damaged"),
        ("zstd-window", zstd(good, window_log=31), LIMIT, "--long=27"),
        ("zstd-window-28", zstd(good, window_log=28), LIMIT, "--long=27"),
        ("zstd-dictionary", b"\x28\xb5\x2f\xfd\x01\x50\x07" + zstd(good)[6:], OPTION, "dictionary"),
        ("zstd-reserved-bit", b"\x28\xb5\x2f\xfd\x08" + zstd(good)[5:], CORRUPT, ""),
        ("zstd-reserved-block", zstd_frame([(3, b"x" * 100)]), CORRUPT, "damaged"),
        ("zstd-damaged-block", zstd_frame([(2, b"\xff" * 100)]), CORRUPT, "damaged"),
        ("zstd-garbage-behind", zstd(good) + b"garbage", CORRUPT, "no zstd frame follows"),
        ("zstd-one-byte-behind", zstd(good) + b"\x28", CORRUPT, "no zstd frame follows"),
        ("zstd-old-format-behind", zstd(good) + b"\x25\xb5\x2f\xfd" + b"\0" * 20, CORRUPT, "no zstd frame follows"),
        ("zstd-only-skippable", zstd_skippable(b"x" * 50), CORRUPT, ""),
        ("zstd-skippable-lies", zstd_skippable(b"x" * 50)[:30], CORRUPT, "truncated"),
        ("zstd-bomb", zstd(CONFIG) + zstd(tar_header("m.safetensors", 24 << 20)) + zstd_frame([run(1 << 17)] * 192), LIMIT, "expands"),
        ("zstd-bomb-of-skipped", zstd(CONFIG + tar_header("m.bin", 24 << 20)) + zstd_frame([run(1 << 17)] * 192), LIMIT, "expands"),
        ("zstd-parent", zstd(CONFIG + tar_file("../e.json", b"x") + TAR_END), CORRUPT, "leaves"),
        ("zstd-no-tar-end", zstd(CONFIG), CORRUPT, "end-of-archive"),
    ]


def zip_cases():
    config = lambda **fields: ZipEntry("config.json", b"{}", **fields)
    data = bytes(range(256)) * 4
    entry = lambda **fields: ZipEntry("a.txt", data, **fields)
    both = lambda **fields: zip_archive([config(), entry(**fields)])
    attributes = lambda mode: both(attributes=mode << 16)
    good = zip_archive([config(), entry()])
    descriptor = lambda crc, size: struct.pack("<IIII", 0x08074B50, crc, size, size)
    cases = [
        (f"zip-{name}", zip_archive([config(), ZipEntry(path, b"x")]), code, word)
        for name, path, code, word in name_cases()
    ]
    cases += [
        (f"zip-{name}", zip_archive([config(), ZipEntry(a, b"1"), ZipEntry(b, b"2")]), CORRUPT, word)
        for name, a, b, word in collision_cases()
    ]
    cases += [
        ("zip-encrypted", both(flags=0x801), OPTION, "encrypted"),
        ("zip-strong-encryption", both(flags=0x840), OPTION, "encrypted"),
        ("zip-masked-headers", both(flags=0x2800), OPTION, "encrypted"),
        ("zip-encrypted-only-locally", both(local={"flags": 0x801}), CORRUPT, "flags"),
        ("zip-method-bzip2", both(method=12), OPTION, "method 12"),
        ("zip-method-zstd", both(method=93), OPTION, "method 93"),
        ("zip-method-differs", both(local={"method": 8}), CORRUPT, "method"),
        ("zip-name-differs", both(local={"name": b"b.txt"}), CORRUPT, "name"),
        ("zip-crc-differs", both(local={"crc": 1}), CORRUPT, "CRC32"),
        ("zip-size-differs", both(local={"size": 1}), CORRUPT, "size"),
        ("zip-compressed-differs", both(local={"compressed": 1}), CORRUPT, "size"),
        ("zip-crc-wrong", both(crc=1), CORRUPT, "CRC32"),
        ("zip-crc-wrong-deflate", both(method=8, crc=1), CORRUPT, "CRC32"),
        ("zip-stored-size-lies", both(size=2000), CORRUPT, "stored"),
        ("zip-deflate-size-small", both(method=8, size=100), CORRUPT, "more than"),
        ("zip-deflate-size-large", both(method=8, size=2000), CORRUPT, "of its 2000 bytes"),
        ("zip-deflate-damaged", both(method=8, body=b"\xff" * 40), CORRUPT, "deflate"),
        ("zip-deflate-cut", both(method=8, body=entry(method=8).body[:-5]), CORRUPT, ""),
        ("zip-deflate-with-tail", both(method=8, body=entry(method=8).body + b"tail"), CORRUPT, "behind the end"),
        ("zip-deflate-empty", both(method=8, body=b""), CORRUPT, "early"),
        ("zip-symlink", attributes(0o120777), CORRUPT, "symbolic link"),
        ("zip-fifo", attributes(0o010644), CORRUPT, "FIFO"),
        ("zip-char-device", attributes(0o020644), CORRUPT, "device"),
        ("zip-block-device", attributes(0o060644), CORRUPT, "device"),
        ("zip-socket", attributes(0o140644), CORRUPT, "socket"),
        ("zip-directory-without-slash", attributes(0o040755), CORRUPT, "directory by its attributes"),
        ("zip-directory-with-data", zip_archive([config(), ZipEntry("d/", b"data")]), CORRUPT, "directory with data"),
        ("zip-second-name", both(extra=struct.pack("<HHBI", 0x7075, 11, 1, 0) + b"b.json"), CORRUPT, "second name"),
        ("zip-extra-overruns", both(extra=struct.pack("<HH", 0x5555, 99)), CORRUPT, "extra field"),
        ("zip-extra-cut", both(extra=b"\x55\x55\x01"), CORRUPT, "extra field"),
        ("zip-zip64-field-short", both(size=0xFFFFFFFF, extra=struct.pack("<HHI", 1, 4, 1)), CORRUPT, "zip64 field"),
        ("zip-zip64-field-twice", both(extra=struct.pack("<HH", 1, 0) * 2), CORRUPT, "two zip64"),
        ("zip-zip64-size-huge", both(size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 1 << 63)), CORRUPT, "stored"),
        ("zip-multi-disk", zip_archive([config()], end=lambda n, s, o: zip_end(n, s, o, disk=1)), OPTION, "split"),
        ("zip-multi-disk-count", zip_archive([config()], end=lambda n, s, o: zip_end(n, s, o, here=0)), OPTION, "split"),
        ("zip-multi-disk-entry", both(disk=1), OPTION, "split"),
        ("zip-zip64-disks", zip_archive([config()], end=lambda n, s, o: zip64_end(n, s, o, disks=2)), OPTION, "split"),
        ("zip-zip64-locator-out", zip_archive([config()], end=lambda n, s, o: zip64_end(n, s, o, locator_offset=1 << 60)), CORRUPT, "outside the file"),
        ("zip-zip64-locator-wrong", zip_archive([config()], end=lambda n, s, o: zip64_end(n, s, o, locator_offset=0)), CORRUPT, "zip64 end record"),
        ("zip-zip64-count-differs", zip_archive([config()], end=lambda n, s, o: zip64_end(n, s, o, narrow=7)), CORRUPT, "two zips"),
        ("zip-zip64-count-huge", zip_archive([config()], end=lambda n, s, o: zip64_end(n, s, o, total_entries=1 << 60)), LIMIT, "entries"),
        ("zip-10001-entries", zip_archive([ZipEntry(f"{i}.bin") for i in range(10_001)]), LIMIT, "10001 entries"),
        ("zip-count-too-small", zip_archive([config(), entry()], end=lambda n, s, o: zip_end(1, s, o)), CORRUPT, "bytes behind"),
        ("zip-count-too-large", zip_archive([config()], end=lambda n, s, o: zip_end(2, s, o)), CORRUPT, "damaged at entry 1"),
        ("zip-directory-offset", zip_archive([config()], end=lambda n, s, o: zip_end(n, s, o - 1)), CORRUPT, "does not end"),
        ("zip-directory-size", zip_archive([config()], end=lambda n, s, o: zip_end(n, s + 1, o)), CORRUPT, "does not end"),
        ("zip-offset-wrong", zip_archive([config(), entry()], offsets={1: 3}), CORRUPT, "overlaps"),
        ("zip-offset-out", zip_archive([config(), entry()], offsets={1: 1 << 31}), CORRUPT, "behind all entries"),
        ("zip-two-entries-one-data", zip_archive([entry(), ZipEntry("b.txt", data)], offsets={1: 0}), CORRUPT, "overlaps"),
        ("zip-overlap-bomb", overlap_bomb(), CORRUPT, "overlaps"),
        ("zip-quine-sizes", zip_archive([config(), entry()], claims={0: 1 << 20}), CORRUPT, ""),
        ("zip-prefix", zip_archive([config()], prefix=b"PK\x03\x04 self-extracting"), CORRUPT, "belong to no entry"),
        ("zip-gap", zip_archive([config(gap=b"hidden"), entry()]), CORRUPT, "belong to no entry"),
        ("zip-hidden-entry", zip_archive([config(), entry()], between=ZipEntry("e.json", b"x").local_bytes()), CORRUPT, "belong to no entry"),
        ("zip-descriptor-wrong", zip_archive([config(flags=0x808, local={"crc": 0, "size": 0, "compressed": 0}, descriptor=descriptor(1, 2))]), CORRUPT, "descriptor"),
        ("zip-descriptor-missing", zip_archive([config(flags=0x808, local={"crc": 0, "size": 0, "compressed": 0})]), CORRUPT, "descriptor"),
        ("zip-descriptor-unannounced", zip_archive([config(descriptor=descriptor(0, 2))]), CORRUPT, "belong to no entry"),
        ("zip-two-ends", good[:-2] + struct.pack("<H", 22) + zip_end(0, 0, len(good)), CORRUPT, "two end records"),
        ("zip-comment-lies", good[:-2] + b"\x05\0", CORRUPT, "end record"),
        ("zip-appended", good + b"appended", CORRUPT, "end record"),
        ("zip-cut-directory", good[:-30], CORRUPT, "truncated"),
        ("zip-cut-data", good[:200], CORRUPT, "truncated"),
        ("zip-bomb", zip_archive([config(), ZipEntry("m.safetensors", b"\0" * (24 << 20), method=8)]), LIMIT, "expands"),
        ("zip-metadata-over-limit", both(method=8, size=(100 << 20) + 1), LIMIT, "104857601 bytes"),
        ("zip-of-a-zip", zip_archive([ZipEntry("model.zip", good)]), "CORRUPT_CHECKPOINT", "config.json"),
        ("zip-empty", zip_end(0, 0, 0), "CORRUPT_CHECKPOINT", "config.json"),
        ("zip-then-tar", good + CONFIG + TAR_END, CORRUPT, "end record"),
    ]
    return cases


def overlap_bomb():
    """Many directory entries over one body of data, each quoting the local header of the next."""
    kernel = ZipEntry("0.txt", b"\0" * (1 << 20), method=8)
    entries = [ZipEntry(f"{i}.txt", b"\0" * (1 << 20), method=8) for i in range(1, 50)]
    body, offsets = kernel.local_bytes(), [0]
    central = kernel.central_bytes(0)
    for entry in entries:
        offsets.append(10)
        central += entry.central_bytes(10)
    return body + central + zip_end(len(entries) + 1, len(central), len(body))
