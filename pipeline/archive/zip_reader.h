#pragma once

#include <memory>
#include <vector>

#include "pipeline/archive/byte_source.h"
#include "pipeline/archive/entry_reader.h"
#include "pipeline/zip/directory.h"

namespace onnxferry {

/// A zip through its central directory: stored and deflate, zip64. Size and CRC32 of every entry
/// that is read to its end are verified. Thread: one at a time.
class ZipReader final : public EntryReader {
 public:
  /// `file` and `limits` outlive this. \throws Error as read_zip_directory
  ZipReader(const FileSource& file, const ArchiveLimits& limits);
  ZipReader(const ZipReader&) = delete;
  ZipReader& operator=(const ZipReader&) = delete;
  ~ZipReader() override;

  std::optional<ArchiveEntry> next() override;
  std::optional<EntryBlock> read_block() override;

 private:
  struct State;
  [[noreturn]] void fail(std::string_view what) const;
  void load_input();
  std::span<const std::byte> read_stored();
  std::span<const std::byte> read_deflated();
  void finish() const;

  const FileSource& file_;
  const ArchiveLimits& limits_;
  std::vector<ZipRecord> records_;
  std::unique_ptr<State> state_;
};

}  // namespace onnxferry
