#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/random_access_file.h"
#include "pipeline/zip/fields.h"

// Source of the layouts: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.

namespace onnxferry {
namespace {

constexpr std::uint32_t kEndSignature = 0x06054B50;
constexpr std::uint32_t kLocatorSignature = 0x07064B50;
constexpr std::uint32_t kEnd64Signature = 0x06064B50;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kMaxCommentBytes = 0xFFFF;
constexpr std::uint16_t kSaturated16 = 0xFFFF;
constexpr std::uint32_t kSaturated32 = 0xFFFFFFFF;

[[noreturn]] void fail(const RandomAccessFile& file,
                       std::string_view what,
                       ErrorCode code = ErrorCode::kCorruptArchive) {
  throw Error(code, fmt::format("{}: {}", file.name(), what), file.name());
}

[[noreturn]] void fail_split(const RandomAccessFile& file) {
  fail(file,
       "is one part of a split zip; pack everything in one file",
       ErrorCode::kUnsupportedOption);
}

std::vector<std::byte> read(const RandomAccessFile& file, std::uint64_t offset, std::size_t count) {
  std::vector<std::byte> bytes(count);
  if (!file.read_exactly(offset, bytes)) {
    fail(file, "became shorter while it was read");
  }
  return bytes;
}

/// The offset of the only end record whose comment ends with the file. A second one would let two
/// programs see two archives.
std::uint64_t find_end(const RandomAccessFile& file) {
  const std::uint64_t tail_bytes =
      std::min<std::uint64_t>(file.file_bytes(), std::uint64_t{kEndBytes} + kMaxCommentBytes);
  const std::uint64_t tail_offset = file.file_bytes() - tail_bytes;
  const std::vector<std::byte> tail = read(file, tail_offset, tail_bytes);
  const ZipFields fields(tail);
  std::optional<std::uint64_t> found;
  for (std::size_t at = 0; at + kEndBytes <= tail.size(); ++at) {
    if (fields.u32(at) != kEndSignature || at + kEndBytes + fields.u16(at + 20) != tail.size()) {
      continue;
    }
    if (found) {
      fail(file, "has two end records of a zip; expected one");
    }
    found = tail_offset + at;
  }
  if (!found) {
    fail(file,
         "starts as a zip, but does not end with a zip's end record; it is truncated, or something "
         "was appended");
  }
  return *found;
}

struct End32 {
  std::uint16_t entries;
  std::uint32_t directory_bytes;
  std::uint32_t directory_offset;
};

/// A field of the end record and the one of zip64 must agree, unless the former is full.
void check_same(const RandomAccessFile& file,
                std::uint64_t narrow,
                std::uint64_t full,
                std::uint64_t wide) {
  if (narrow != full && narrow != wide) {
    fail(file, fmt::format("has the end records of two zips ({} is not {})", narrow, wide));
  }
}

ZipEnd read_end64(const RandomAccessFile& file, std::uint64_t locator_offset, const End32& narrow) {
  const std::vector<std::byte> locator_bytes = read(file, locator_offset, kLocatorBytes);
  const ZipFields locator(locator_bytes);
  if (locator.u32(4) != 0 || locator.u32(16) > 1) {
    fail_split(file);
  }
  const std::uint64_t offset = locator.u64(8);
  if (offset > locator_offset || locator_offset - offset < kEnd64Bytes) {
    fail(file, fmt::format("has its zip64 end record at byte {}, outside the file", offset));
  }
  const std::vector<std::byte> bytes = read(file, offset, kEnd64Bytes);
  const ZipFields fields(bytes);
  if (fields.u32(0) != kEnd64Signature || fields.u64(4) != locator_offset - offset - 12) {
    fail(file, fmt::format("has no zip64 end record at byte {}, where it says", offset));
  }
  if (fields.u32(16) != 0 || fields.u32(20) != 0 || fields.u64(24) != fields.u64(32)) {
    fail_split(file);
  }
  const ZipEnd end{.entries = fields.u64(32),
                   .directory_offset = fields.u64(48),
                   .directory_bytes = fields.u64(40)};
  check_same(file, narrow.entries, kSaturated16, end.entries);
  check_same(file, narrow.directory_bytes, kSaturated32, end.directory_bytes);
  check_same(file, narrow.directory_offset, kSaturated32, end.directory_offset);
  if (end.directory_offset > offset || end.directory_bytes != offset - end.directory_offset) {
    fail(file, "has a central directory that does not end where the end records begin");
  }
  return end;
}

}  // namespace

ZipEnd read_zip_end(const RandomAccessFile& file) {
  const std::uint64_t end_offset = find_end(file);
  const std::vector<std::byte> bytes = read(file, end_offset, kEndBytes);
  const ZipFields fields(bytes);
  const End32 narrow{.entries = fields.u16(10),
                     .directory_bytes = fields.u32(12),
                     .directory_offset = fields.u32(16)};
  const auto is_other_disk = [](std::uint16_t disk) { return disk != 0 && disk != kSaturated16; };
  if (is_other_disk(fields.u16(4)) || is_other_disk(fields.u16(6)) ||
      fields.u16(8) != narrow.entries) {
    fail_split(file);
  }
  if (end_offset >= kLocatorBytes) {
    const std::uint64_t locator_offset = end_offset - kLocatorBytes;
    if (ZipFields(read(file, locator_offset, 4)).u32(0) == kLocatorSignature) {
      return read_end64(file, locator_offset, narrow);
    }
  }
  if (narrow.directory_offset > end_offset ||
      narrow.directory_bytes != end_offset - narrow.directory_offset) {
    fail(file, "has a central directory that does not end where the end record begins");
  }
  return {.entries = narrow.entries,
          .directory_offset = narrow.directory_offset,
          .directory_bytes = narrow.directory_bytes};
}

}  // namespace onnxferry
