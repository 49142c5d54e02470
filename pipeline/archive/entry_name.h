#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pipeline/archive/archive.h"

namespace onnxferry {

/// Names come from strangers: quoted, control characters escaped and bounded before they enter a
/// message or a log line.
std::string quote_entry(std::string_view name);

/// Split an entry name into the components below the destination; "." and empty ones are dropped.
///
/// \return  empty for the archive's own root ("./")
/// \throws Error{kCorruptArchive} absolute, "..", backslash, control character, invalid UTF-8;
///         Error{kLimitExceeded} too long or too deep
std::vector<std::string> split_entry_name(std::string_view name, const ArchiveLimits& limits);

std::string join_components(const std::vector<std::string>& components, std::size_t count);

/// All paths that an archive has named so far. Two spellings that a case-insensitive or normalising
/// file system takes for one are a collision here too, so that an archive means the same everywhere
/// and no entry can replace another. Thread: one at a time.
class NameTable {
 public:
  /// \throws Error{kCorruptArchive} duplicate, collision, or a file where a directory must be
  void add_file(const std::vector<std::string>& components);
  /// The same directory twice is fine: appending to a tar repeats it.
  void add_directory(const std::vector<std::string>& components);

 private:
  struct Known {
    std::string path;
    bool is_directory;
  };

  /// \return the entry of the same key from before, nullptr if it is new
  const Known* find_or_add(const std::string& path, bool is_directory);
  void add_parents(const std::vector<std::string>& components, std::size_t count);

  std::unordered_map<std::string, Known> known_;  // by NFC and case folded path
};

}  // namespace onnxferry
