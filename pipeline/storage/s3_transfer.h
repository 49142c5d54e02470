#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "pipeline/storage/object_store.h"
#include "pipeline/storage/s3_request.h"

namespace onnxferry {

/// ObjectStore::download: parallel ranges, pinned to the ETag of the first one, written straight
/// into the new file. An object replaced meanwhile starts the download over, at most three times.
/// A server without ranges is asked for all at once, where the connection takes that.
ObjectInfo download_object(Connection& connection,
                           const std::string& key,
                           const std::filesystem::path& to,
                           StageScope& scope);

/// ObjectStore::put_files. A large file is a multipart upload with its parts in parallel, one file
/// after the other; small ones are single PUTs, many in parallel. Everything is read from the file
/// while it is sent, so memory does not grow with sizes; digests are computed ahead by one more
/// thread.
void upload_files(S3Connection& connection, std::span<const FileUpload> files, StageScope& scope);

}  // namespace onnxferry
