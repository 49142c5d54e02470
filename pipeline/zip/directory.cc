#include "pipeline/zip/directory.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include <fmt/format.h>
#include <sys/stat.h>

#include "pipeline/error.h"
#include "pipeline/quote.h"
#include "pipeline/zip/fields.h"

// Source of the layouts: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.12 and 4.5.3.

namespace onnxferry {
namespace {

constexpr std::uint32_t kCentralSignature = 0x02014B50;
constexpr std::uint32_t kLocalSignature = 0x04034B50;
constexpr std::uint32_t kDescriptorSignature = 0x08074B50;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kLocalBytes = 30;
constexpr std::uint32_t kSaturated32 = 0xFFFFFFFF;
constexpr std::uint16_t kZip64Extra = 0x0001;
constexpr std::uint16_t kUnicodePathExtra = 0x7075;
constexpr std::uint16_t kEncryptedFlags = 0x2041;  // traditional, strong, masked headers
constexpr std::uint16_t kDescriptorFlag = 0x0008;  // sizes and CRC follow the data
constexpr std::uint16_t kUtf8Flag = 0x0800;
constexpr std::uint64_t kMaxDirectoryBytes = 64U << 20;

/// What a header, central or local, says.
struct Header {
  std::string name;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t compressed_bytes = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;  // of the local header; 0 in the local header itself
  std::uint32_t attributes = 0;
};

[[noreturn]] void fail(std::string_view name,
                       std::string_view what,
                       ErrorCode code = ErrorCode::kCorruptArchive) {
  throw Error(
      code, fmt::format("the entry {} {}", quote(name), what), std::string(name.substr(0, 255)));
}

/// Values too large for their 32 bits are in a zip64 field, in this order. \return bytes used
std::size_t read_zip64(const ZipFields& extra, std::size_t at, std::size_t size, Header& header) {
  std::size_t used = 0;
  for (std::uint64_t* value : {&header.bytes, &header.compressed_bytes, &header.offset}) {
    if (*value == kSaturated32) {
      if (used + 8 > size) {
        fail(header.name, "has a zip64 field that is too short");
      }
      *value = extra.u64(at + used);
      used += 8;
    }
  }
  return used;
}

void read_extra(const ZipFields& extra, Header& header) {
  bool has_zip64 = false;
  std::size_t at = 0;
  while (at < extra.size()) {
    const std::size_t left = extra.size() - at;
    if (left < 4 || extra.u16(at + 2) > left - 4) {
      fail(header.name, "has a damaged extra field");
    }
    const std::uint16_t id = extra.u16(at);
    const std::size_t size = extra.u16(at + 2);
    at += 4;
    if (id == kZip64Extra) {
      if (has_zip64) {
        fail(header.name, "has two zip64 fields");
      }
      has_zip64 = true;
      read_zip64(extra, at, size, header);
    }
    if (id == kUnicodePathExtra && (size < 5 || extra.text(at + 5, size - 5) != header.name)) {
      fail(header.name, "has a second name in its extra fields");
    }
    at += size;
  }
}

ZipEntryType type_of(const Header& header) {
  const bool is_directory_name = header.name.ends_with('/');
  switch (header.attributes >> 16 & S_IFMT) {  // Unix mode; 0 from writers without one
    case 0:
    case S_IFREG:
      return is_directory_name ? ZipEntryType::kDirectory : ZipEntryType::kFile;
    case S_IFDIR:
      if (!is_directory_name) {
        fail(header.name, "is a directory by its attributes, but not by its name");
      }
      return ZipEntryType::kDirectory;
    case S_IFLNK:
      return ZipEntryType::kSymlink;
    default:
      return ZipEntryType::kOther;
  }
}

ZipRecord to_record(const Header& header) {
  if ((header.flags & kEncryptedFlags) != 0) {
    fail(header.name, "is encrypted; pack without a password", ErrorCode::kUnsupportedOption);
  }
  if (header.method != 0 && header.method != 8) {
    fail(header.name,
         fmt::format("is compressed by method {}; expected stored (0) or deflate (8)",
                     header.method),
         ErrorCode::kUnsupportedOption);
  }
  ZipRecord record{.name = header.name,
                   .type = type_of(header),
                   .method = header.method == 0 ? ZipMethod::kStored : ZipMethod::kDeflate,
                   .crc32 = header.crc32,
                   .compressed_bytes = header.compressed_bytes,
                   .bytes = header.bytes};
  if (record.method == ZipMethod::kStored && record.bytes != record.compressed_bytes) {
    fail(header.name,
         fmt::format("is stored, but says {} bytes in {}", record.bytes, record.compressed_bytes));
  }
  if (record.type == ZipEntryType::kDirectory && record.bytes != 0) {
    fail(header.name, "is a directory with data");
  }
  return record;
}

/// Walks the central directory and checks every local header against it.
class Directory {
 public:
  Directory(const RandomAccessFile& file, std::uint64_t max_entries)
      : file_(file), end_(read_zip_end(file)) {
    if (end_.entries > max_entries) {
      throw Error(
          ErrorCode::kLimitExceeded,
          fmt::format(
              "the archive has {} entries, expected at most {}", end_.entries, max_entries));
    }
    if (end_.directory_bytes > kMaxDirectoryBytes) {
      throw Error(ErrorCode::kLimitExceeded,
                  fmt::format("the archive has a central directory of {} bytes, expected at most "
                              "{}",
                              end_.directory_bytes,
                              kMaxDirectoryBytes));
    }
  }

  std::vector<ZipRecord> read() {
    read_headers();
    std::vector<ZipRecord> records;
    records.reserve(headers_.size());
    for (const Header& header : headers_) {
      records.push_back(to_record(header));
    }
    std::vector<std::size_t> by_offset(headers_.size());
    std::iota(by_offset.begin(), by_offset.end(), 0U);
    std::ranges::sort(by_offset, {}, [&](std::size_t i) { return headers_[i].offset; });
    std::uint64_t position = 0;
    for (std::size_t i = 0; i < by_offset.size(); ++i) {
      const std::size_t index = by_offset[i];
      const std::uint64_t limit =
          i + 1 < by_offset.size() ? headers_[by_offset[i + 1]].offset : end_.directory_offset;
      check_start(headers_[index], position);
      records[index].data_offset = check_local(headers_[index], limit);
      check_end(headers_[index], records[index].data_offset, limit);
      position = limit;
    }
    if (by_offset.empty() && end_.directory_offset != 0) {
      fail_layout("has bytes that belong to no entry");
    }
    return records;
  }

 private:
  [[noreturn]] void fail_layout(std::string_view what) const {
    throw Error(
        ErrorCode::kCorruptArchive, fmt::format("{}: {}", file_.name(), what), file_.name());
  }

  std::vector<std::byte> load(std::uint64_t offset, std::size_t count) const {
    std::vector<std::byte> bytes(count);
    if (!file_.read_exactly(offset, bytes)) {
      fail_layout("became shorter while it was read");
    }
    return bytes;
  }

  void read_headers() {
    const std::vector<std::byte> bytes = load(end_.directory_offset, end_.directory_bytes);
    const std::span<const std::byte> all(bytes);
    std::size_t at = 0;
    for (std::uint64_t i = 0; i < end_.entries; ++i) {
      if (all.size() - at < kCentralBytes ||
          ZipFields(all.subspan(at)).u32(0) != kCentralSignature) {
        fail_layout(fmt::format("the central directory is damaged at entry {}", i));
      }
      const ZipFields fields(all.subspan(at));
      const std::size_t name_bytes = fields.u16(28);
      const std::size_t extra_bytes = fields.u16(30);
      const std::size_t size = kCentralBytes + name_bytes + extra_bytes + fields.u16(32);
      if (all.size() - at < size) {
        fail_layout(fmt::format("the central directory is damaged at entry {}", i));
      }
      Header header{.name = fields.text(kCentralBytes, name_bytes),
                    .flags = fields.u16(8),
                    .method = fields.u16(10),
                    .crc32 = fields.u32(16),
                    .compressed_bytes = fields.u32(20),
                    .bytes = fields.u32(24),
                    .offset = fields.u32(42),
                    .attributes = fields.u32(38)};
      if (fields.u16(34) != 0) {
        fail(header.name,
             "is in another part of a split zip; pack everything in one file",
             ErrorCode::kUnsupportedOption);
      }
      read_extra(ZipFields(all.subspan(at + kCentralBytes + name_bytes, extra_bytes)), header);
      if (header.offset > end_.directory_offset) {
        fail(header.name, fmt::format("begins at byte {}, behind all entries", header.offset));
      }
      headers_.push_back(std::move(header));
      at += size;
    }
    if (at != all.size()) {
      fail_layout(
          fmt::format("the central directory has bytes behind its {} entries", end_.entries));
    }
  }

  static void check_start(const Header& header, std::uint64_t position) {
    if (header.offset != position) {
      // Only the first entry can differ: all others start where the one before is checked to end.
      fail(header.name,
           fmt::format("starts at byte {}, expected {}; bytes before it belong to no entry",
                       header.offset,
                       position));
    }
  }

  /// \param limit  where the next entry begins
  /// \return where the data begins
  std::uint64_t check_local(const Header& central, std::uint64_t limit) const {
    const auto fail_overlap = [&] { fail(central.name, "overlaps the entry behind it"); };
    if (limit < central.offset || limit - central.offset < kLocalBytes) {
      fail_overlap();
    }
    const std::vector<std::byte> start = load(central.offset, kLocalBytes);
    const ZipFields fields(start);
    if (fields.u32(0) != kLocalSignature) {
      fail(central.name, fmt::format("has no local header at byte {}", central.offset));
    }
    const std::size_t name_bytes = fields.u16(26);
    const std::size_t extra_bytes = fields.u16(28);
    const std::uint64_t data_offset = central.offset + kLocalBytes + name_bytes + extra_bytes;
    if (data_offset > limit) {
      fail_overlap();
    }
    const std::vector<std::byte> rest =
        load(central.offset + kLocalBytes, name_bytes + extra_bytes);
    Header local{.name = ZipFields(rest).text(0, name_bytes),
                 .flags = fields.u16(6),
                 .method = fields.u16(8),
                 .crc32 = fields.u32(14),
                 .compressed_bytes = fields.u32(18),
                 .bytes = fields.u32(22)};
    read_extra(ZipFields(std::span(rest).subspan(name_bytes)), local);
    check_same(central, local);
    if (central.compressed_bytes > limit - data_offset) {
      fail_overlap();
    }
    return data_offset;
  }

  static void check_same(const Header& central, const Header& local) {
    // The other flags hint at the compression level; some writers set them in one place only.
    constexpr std::uint16_t kFlags = kEncryptedFlags | kDescriptorFlag | kUtf8Flag;
    const bool is_streamed = (central.flags & kDescriptorFlag) != 0;
    const auto same = [&](std::uint64_t in_central, std::uint64_t in_local) {
      return in_central == in_local || (is_streamed && in_local == 0);
    };
    const char* different = nullptr;
    if (local.name != central.name) {
      different = "name";
    } else if ((local.flags & kFlags) != (central.flags & kFlags)) {
      different = "flags";
    } else if (local.method != central.method) {
      different = "method";
    } else if (!same(central.crc32, local.crc32)) {
      different = "CRC32";
    } else if (!same(central.bytes, local.bytes) ||
               !same(central.compressed_bytes, local.compressed_bytes)) {
      different = "size";
    }
    if (different != nullptr) {
      fail(central.name,
           fmt::format("has another {} in its local header than in the central directory",
                       different));
    }
  }

  /// Between the data and `limit` is nothing, or the data descriptor: CRC32 and both sizes, of 4 or
  /// 8 bytes each, with or without a signature.
  void check_end(const Header& header, std::uint64_t data_offset, std::uint64_t limit) const {
    const std::uint64_t data_end = data_offset + header.compressed_bytes;
    const std::uint64_t gap = limit - data_end;
    if ((header.flags & kDescriptorFlag) == 0) {
      if (gap != 0) {
        fail(header.name, fmt::format("is followed by {} bytes that belong to no entry", gap));
      }
      return;
    }
    if (gap == 12 || gap == 16 || gap == 20 || gap == 24) {
      const std::vector<std::byte> bytes = load(data_end, gap);
      const ZipFields fields(bytes);
      const std::size_t at = gap % 8 == 0 ? 4 : 0;
      const bool is_wide = gap >= 20;
      const bool is_signed = at == 0 || fields.u32(0) == kDescriptorSignature;
      const std::uint64_t compressed = is_wide ? fields.u64(at + 4) : fields.u32(at + 4);
      const std::uint64_t plain = is_wide ? fields.u64(at + 12) : fields.u32(at + 8);
      if (is_signed && fields.u32(at) == header.crc32 && compressed == header.compressed_bytes &&
          plain == header.bytes) {
        return;
      }
    }
    fail(header.name, "has a data descriptor that differs from the central directory");
  }

  const RandomAccessFile& file_;
  ZipEnd end_;
  std::vector<Header> headers_;
};

}  // namespace

std::vector<ZipRecord> read_zip_directory(const RandomAccessFile& file, std::uint64_t max_entries) {
  return Directory(file, max_entries).read();
}

}  // namespace onnxferry
