#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "pipeline/archive/byte_source.h"

struct archive;

namespace onnxferry {

enum class EntryType : std::uint8_t { kFile, kDirectory, kSymlink, kHardlink, kOther };

struct TarEntry {
  std::string name;  ///< raw: not checked in any way
  EntryType type = EntryType::kOther;
  std::uint64_t bytes = 0;  ///< as claimed
  bool is_sparse = false;
};

struct TarBlock {
  std::span<const std::byte> data;  ///< valid until the next call
  std::uint64_t offset = 0;         ///< in the entry; a gap to the block before is a hole
};

/// libarchive's tar reader (v7, ustar, pax, GNU) and nothing else of libarchive: no filters, no
/// other format, no writing to disk. Thread: one at a time.
class TarReader {
 public:
  /// `source` outlives this. `name` is for messages.
  TarReader(ByteSource& source, std::string name);
  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;
  ~TarReader();

  /// The next entry, nullopt behind the last. Data of the entry before is skipped.
  /// \throws Error{kCorruptArchive} if damaged, truncated, without the end marker, or followed by
  ///         anything but zeros; what the source throws
  std::optional<TarEntry> next();
  /// The next data of the current entry.
  std::optional<TarBlock> read_block();

 private:
  struct Callbacks;
  struct Free {
    void operator()(archive* handle) const;
  };

  [[noreturn]] void fail();
  void finish();

  ByteSource& source_;
  std::string name_;
  std::unique_ptr<archive, Free> handle_;
  std::exception_ptr failure_;  // thrown by the source inside a callback
  std::span<const std::byte> last_block_;
  std::uint64_t delivered_ = 0;  // bytes given to libarchive
};

}  // namespace onnxferry
