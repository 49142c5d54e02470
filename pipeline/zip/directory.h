#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/random_access_file.h"

namespace onnxferry {

enum class ZipMethod : std::uint8_t { kStored, kDeflate };
enum class ZipEntryType : std::uint8_t { kFile, kDirectory, kSymlink, kOther };

/// One entry as the central directory has it; the local header says the same.
struct ZipRecord {
  std::string name;  ///< raw: not checked in any way
  ZipEntryType type = ZipEntryType::kOther;
  ZipMethod method = ZipMethod::kStored;
  std::uint32_t crc32 = 0;
  std::uint64_t compressed_bytes = 0;
  std::uint64_t bytes = 0;
  std::uint64_t data_offset = 0;  ///< in the file
};

/// Read and check the structure of a zip, none of its data. The entries, their descriptors, the
/// central directory and the end records must fill the file without gap or overlap, so that there
/// is one way only to read it and no byte is data of two entries.
///
/// \throws Error{kCorruptArchive} damaged, truncated, ambiguous, or directory and local headers
///         differ; Error{kLimitExceeded} too many entries; Error{kUnsupportedOption} encrypted,
///         split over several files, or compressed by a method other than deflate
std::vector<ZipRecord> read_zip_directory(const RandomAccessFile& file, std::uint64_t max_entries);

}  // namespace onnxferry
