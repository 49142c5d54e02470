#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/storage/digest.h"
#include "pipeline/storage/file_handle.h"

namespace onnxferry {

struct Upload;

/// What a part is sent with.
struct PartDigests {
  std::string sha256_hex;  ///< empty: not needed
  std::optional<Md5> md5;
  std::string checksum;  ///< of checksum_header(); empty: none
};

/// What one request sends: a part of a file, or the whole of a small one.
struct UploadPart {
  Upload& upload;
  int number = 1;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  PartDigests digests;
  std::string etag;  ///< what the store answered
};

/// One file on its way up. Its parts point to it: it stays where it is.
struct Upload {
  Upload(std::string object_key, std::string object_type, FileHandle from)
      : key(std::move(object_key)), content_type(std::move(object_type)), file(std::move(from)) {}
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;
  ~Upload() = default;

  std::string key;
  std::string content_type;
  FileHandle file;
  std::string id;                 ///< of the multipart upload; empty: a single PUT
  std::vector<UploadPart> parts;  ///< at least one: an empty file is one empty part
};

}  // namespace onnxferry
