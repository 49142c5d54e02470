#pragma once

#include <string>

#include "pipeline/storage/s3_request.h"
#include "pipeline/storage/upload.h"

namespace onnxferry {

/// CreateMultipartUpload. \return its id
std::string create_upload(S3Connection& connection, const Upload& upload, StageScope& scope);

/// CompleteMultipartUpload. A lost reply is resolved by looking at the object.
/// \pre every part was sent
/// \throws Error{kUnavailable} if the store no longer knows the upload
void complete_upload(S3Connection& connection, const Upload& upload, StageScope& scope);

/// DELETE ?uploadId of one multipart upload. Failures are left to the next attempt's
/// abort_stale_uploads: an upload that cannot be aborted is invisible to readers.
void abort_upload(S3Connection& connection,
                  const std::string& key,
                  const std::string& upload_id) noexcept;

}  // namespace onnxferry
