#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "pipeline/archive/byte_source.h"
#include "pipeline/archive/entry_reader.h"

struct archive;

namespace onnxferry {

/// libarchive's tar reader (v7, ustar, pax, GNU) and nothing else of libarchive: no filters, no
/// other format, no writing to disk. Thread: one at a time.
class TarReader final : public EntryReader {
 public:
  /// `source` outlives this. `name` is for messages.
  TarReader(ByteSource& source, std::string name);
  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;
  ~TarReader() override;

  /// The next entry, nullopt behind the last. Data of the entry before is skipped.
  /// \throws Error{kCorruptArchive} if damaged, truncated, without the end marker, or followed by
  ///         anything but zeros; what the source throws
  std::optional<ArchiveEntry> next() override;
  std::optional<EntryBlock> read_block() override;

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
