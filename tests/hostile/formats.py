"""Archive bytes, field by field, also those that no honest program writes."""

import gzip
import io
import struct
import zlib


def tar_header(name, size=0, kind=b"0", link=b"", size_field=None, checksum=None):
    if isinstance(name, str):
        name = name.encode()
    header = bytearray(512)

    def put(at, data):
        header[at : at + len(data)] = data

    put(0, name[:100])
    put(100, b"0000777\0")
    put(108, b"0000000\0")
    put(116, b"0000000\0")
    put(124, size_field if size_field is not None else b"%011o\0" % size)
    put(136, b"00000000000\0")
    put(148, b" " * 8)
    put(156, kind)
    put(157, link[:100])
    put(257, b"ustar\00000")
    put(148, b"%06o\0 " % (sum(header) if checksum is None else checksum))
    return bytes(header)


def pad(data, block=512):
    return data + b"\0" * (-len(data) % block)


def tar_file(name, data, **fields):
    return tar_header(name, len(data), **fields) + pad(data)


def pax(records, kind=b"x"):
    """A pax header for the next entry; records are (key, value) of str or bytes."""
    body = b""
    for key, value in records:
        key, value = (part.encode() if isinstance(part, str) else part for part in (key, value))
        length = len(key) + len(value) + 3
        while len(b"%d %s=%s\n" % (length, key, value)) != length:
            length += 1
        body += b"%d %s=%s\n" % (length, key, value)
    return tar_file("PaxHeaders/x", body, kind=kind)


TAR_END = b"\0" * 1024


def tar(files, end=TAR_END):
    return b"".join(tar_file(name, data) for name, data in files.items()) + end


def gz(data, level=6):
    return gzip.compress(data, level, mtime=0)


def zstd_frame(blocks, window_log=20, content_size=None, checksum=None):
    """A frame of (kind, data) blocks: raw (0), run (1: one byte, times), or as given (2, 3)."""
    descriptor = (4 if checksum is not None else 0) | (0xC0 if content_size is not None else 0)
    frame = b"\x28\xb5\x2f\xfd" + bytes([descriptor, (window_log - 10) << 3])
    if content_size is not None:
        frame += struct.pack("<Q", content_size)
    for index, (kind, data) in enumerate(blocks):
        body, size = (data[0], data[1]) if kind == 1 else (data, len(data))
        last = index == len(blocks) - 1
        frame += struct.pack("<I", last | kind << 1 | size << 3)[:3] + body
    return frame if checksum is None else frame + checksum


def zstd(data, **fields):
    blocks = [(0, data[i : i + 0x10000]) for i in range(0, len(data), 0x10000)] or [(0, b"")]
    return zstd_frame(blocks, **fields)


def zstd_skippable(data):
    return struct.pack("<II", 0x184D2A50, len(data)) + data


class ZipEntry:
    """One entry; every field of the local header, the directory and the descriptor can be set."""

    def __init__(self, name, data=b"", method=0, **fields):
        self.name = name.encode() if isinstance(name, str) else name
        self.method = method
        raw = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.body = data if method != 8 else raw.compress(data) + raw.flush()
        self.size = len(data)
        self.crc = zlib.crc32(data)
        self.flags = 0x800
        self.attributes = 0o100644 << 16
        self.disk = 0
        self.descriptor = b""
        self.gap = b""  # bytes behind the entry
        self.extra = b""
        self.local = {}  # fields that the local header has differently
        for key, value in fields.items():
            assert hasattr(self, key), key
            setattr(self, key, value)

    def get(self, field):
        return self.local.get(field, getattr(self, field))

    def local_bytes(self):
        name, extra = self.get("name"), self.get("extra")
        return (
            struct.pack(
                "<IHHHHHIIIHH",
                0x04034B50,
                20,
                self.get("flags"),
                self.get("method"),
                0,
                0x21,
                self.get("crc"),
                self.local.get("compressed", len(self.body)),
                self.get("size"),
                len(name),
                len(extra),
            )
            + name
            + extra
            + self.body
            + self.descriptor
            + self.gap
        )

    def central_bytes(self, offset, compressed=None):
        return (
            struct.pack(
                "<IHHHHHHIIIHHHHHII",
                0x02014B50,
                3 << 8 | 20,
                20,
                self.flags,
                self.method,
                0,
                0x21,
                self.crc,
                len(self.body) if compressed is None else compressed,
                self.size,
                len(self.name),
                len(self.extra),
                0,
                self.disk,
                0,
                self.attributes,
                offset,
            )
            + self.name
            + self.extra
        )


def zip_end(entries, size, offset, comment=b"", disk=0, here=None, comment_bytes=None):
    return (
        struct.pack(
            "<IHHHHIIH",
            0x06054B50,
            disk,
            disk,
            entries if here is None else here,
            entries,
            size,
            offset,
            len(comment) if comment_bytes is None else comment_bytes,
        )
        + comment
    )


def zip_archive(entries, prefix=b"", between=b"", end=zip_end, offsets=None, claims=None):
    """`offsets`: what the directory says instead; `claims`: compressed sizes it says instead."""
    body, central = io.BytesIO(), b""
    body.write(prefix)
    for index, entry in enumerate(entries):
        offset = body.tell()
        body.write(entry.local_bytes())
        offset = (offsets or {}).get(index, offset)
        central += entry.central_bytes(offset, (claims or {}).get(index))
    body.write(between)
    offset = body.tell()
    return body.getvalue() + central + end(len(entries), len(central), offset)


def zip64_end(entries, size, offset, locator_offset=None, total_entries=None, disks=1, narrow=None):
    total = entries if total_entries is None else total_entries
    record = struct.pack(
        "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, total, total, size, offset
    )
    where = offset + size if locator_offset is None else locator_offset
    locator = struct.pack("<IIQI", 0x07064B50, 0, where, disks)
    count = 0xFFFF if narrow is None else narrow
    return record + locator + zip_end(count, 0xFFFFFFFF, 0xFFFFFFFF)
