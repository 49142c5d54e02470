#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/stage.h"

namespace onnxferry {

/// Bounds on what an archive may make us write. Every one is checked against bytes and entries
/// really seen, never against what headers claim.
struct ArchiveLimits {
  std::uint64_t max_entries = 10'000;
  std::uint64_t max_file_bytes = 64ULL << 30;
  std::uint64_t max_total_bytes = 200ULL << 30;
  std::uint64_t max_metadata_file_bytes = 100ULL << 20;  ///< json, txt, model, jinja …
  std::uint32_t max_expansion_ratio = 20;                ///< output / input, after the first 16 MiB
  std::uint32_t max_path_bytes = 1024;
  std::uint32_t max_path_depth = 16;
};

struct ExtractedArchive {
  std::filesystem::path model_root;  ///< the directory below `into` that holds config.json
  std::vector<std::string> files;    ///< relative to model_root, sorted
  std::vector<std::string>
      skipped;              ///< entries the exporter does not need, as the archive names them
  std::uint64_t bytes = 0;  ///< written
};

/// Unpack a tar, tar.gz, tar.zst or zip into a fresh directory, only the files that the exporter
/// reads or copies.
///
/// \param archive  a regular file; format found by content, not by name
/// \param into     existing, empty, mode 0700, owned by this job
/// \throws Error{kCorruptArchive} damaged, truncated, wrong checksum, or an unsafe entry (absolute
///         path, "..", link, device, duplicate, overlap, name collision); Error{kLimitExceeded};
///         Error{kResourceExhausted}; Error{kCorruptCheckpoint} when no config.json is at the root
///         or one level below it; Error{kUnsupportedModel} when the only weights are in formats
///         that are not read; Error{kUnsupportedOption} for other archive formats, encrypted and
///         multi-disk zips, and methods of zip other than stored and deflate
/// Nothing from the archive is executed, no link is ever created. Thread: any.
ExtractedArchive extract_archive(const std::filesystem::path& archive,
                                 const std::filesystem::path& into,
                                 const ArchiveLimits& limits,
                                 StageScope& scope);

/// The same view of a directory that the user owns; nothing is copied. Symbolic links to files are
/// followed (Hugging Face caches are made of them).
ExtractedArchive open_directory(const std::filesystem::path& directory);

}  // namespace onnxferry
