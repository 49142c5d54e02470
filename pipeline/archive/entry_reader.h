#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace onnxferry {

enum class EntryType : std::uint8_t { kFile, kDirectory, kSymlink, kHardlink, kOther };

struct ArchiveEntry {
  std::string name;  ///< raw: not checked in any way
  EntryType type = EntryType::kOther;
  std::uint64_t bytes = 0;  ///< as claimed
  bool is_sparse = false;
};

struct EntryBlock {
  std::span<const std::byte> data;  ///< valid until the next call
  std::uint64_t offset = 0;         ///< in the entry; a gap to the block before is a hole
};

/// The entries of an archive from the first to the last, whatever its format. Thread: one at a
/// time.
class EntryReader {
 public:
  virtual ~EntryReader() = default;
  /// The next entry, nullopt behind the last. Data of the entry before is skipped.
  /// \throws Error{kCorruptArchive}
  virtual std::optional<ArchiveEntry> next() = 0;
  /// The next data of the current entry, in ascending order; nullopt at its end.
  virtual std::optional<EntryBlock> read_block() = 0;
};

}  // namespace onnxferry
