#pragma once

#include <filesystem>
#include <string>
#include <string_view>

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

/// ObjectStore::put_file: one PUT, or a multipart upload with parts in parallel. Parts are read
/// from the file while they are sent, so memory does not grow with their size; their digests are
/// computed ahead by one more thread.
void upload_file(S3Connection& connection,
                 const std::string& key,
                 const std::filesystem::path& from,
                 std::string_view content_type,
                 StageScope& scope);

/// The header that carries this checksum, e.g. "x-amz-checksum-crc32c"; empty for kNone.
std::string_view checksum_header(UploadChecksum kind);
/// The value of that header. \pre not kAuto
std::string checksum_value(UploadChecksum kind, std::string_view bytes);

/// DELETE ?uploadId of one multipart upload. Failures are left to the next attempt's
/// abort_stale_uploads: an upload that cannot be aborted is invisible to readers.
void abort_upload(S3Connection& connection,
                  const std::string& key,
                  const std::string& upload_id) noexcept;

}  // namespace onnxferry
