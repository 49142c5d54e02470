#include "pipeline/storage/s3_multipart.h"

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::chrono::minutes kCompletePatience{10};  // S3 may assemble large objects for minutes
constexpr std::chrono::seconds kAbortPatience{10};

/// Where Complete repeats a part's checksum; empty: it does not.
std::string_view checksum_element(UploadChecksum kind) {
  return kind == UploadChecksum::kCrc32c      ? "ChecksumCRC32C"
         : kind == UploadChecksum::kCrc64Nvme ? "ChecksumCRC64NVME"
                                              : "";
}

/// CompleteMultipartUpload: its errors come inside 200 replies too, so only the expected root
/// element is a success.
class CompleteExchange : public S3Exchange {
 public:
  using S3Exchange::S3Exchange;

  Verdict judge(HttpReply& reply) override {
    if (!reply.is_success()) {
      const Verdict verdict = S3Exchange::judge(reply);
      if (reply.transport == 0 && error().code == "NoSuchUpload") {
        is_unknown_ = true;  // an earlier attempt may have done it; the caller looks
        return accept(reply);
      }
      return verdict;
    }
    const std::string root = xml_root_name(reply.body);
    if (root == "CompleteMultipartUploadResult") {
      return accept(reply);
    }
    S3ErrorInfo error = parse_s3_error(reply.body);
    if (error.code.empty()) {
      error = {.code = "InternalError",
               .message = fmt::format("<{}> instead of <CompleteMultipartUploadResult>", root),
               .request_id = {},
               .region = {},
               .endpoint = {}};
    }
    set_error(std::move(error));
    return Verdict::kFailed;
  }

  [[nodiscard]] bool is_unknown() const { return is_unknown_; }

 private:
  bool is_unknown_ = false;
};

/// The ETag that S3 gives to the assembled object, where it can be known: md5 of the part md5s.
std::optional<std::string> expected_etag(const Upload& upload) {
  std::string all;
  for (const UploadPart& part : upload.parts) {
    const std::string& etag = part.etag;
    std::string escaped;
    for (std::size_t i = 0; i + 1 < etag.size(); i += 2) {
      escaped.append("%").append(etag, i, 2);
    }
    const std::optional<std::string> bytes = uri_decode(escaped);
    if (etag.size() != 2 * sizeof(Md5) || !bytes) {
      return std::nullopt;
    }
    all += *bytes;
  }
  return fmt::format("{}-{}", to_hex(md5(all)), upload.parts.size());
}

/// Whether the object at the key is what our parts make: decides a Complete whose reply was lost.
bool is_assembled(S3Connection& connection, const Upload& upload, StageScope& scope) {
  S3Exchange head(
      connection, {.method = "HEAD", .key = upload.key, .access = Access::kWrite}, {404});
  connection.run(head, scope);
  const HttpReply& reply = head.reply();
  const std::uint64_t bytes = upload.parts.back().offset + upload.parts.back().bytes;
  if (reply.status == 404 || reply.headers.find("content-length") != std::to_string(bytes)) {
    return false;
  }
  const std::string etag = unquote_etag(reply.headers.find("etag"));
  const std::optional<std::string> expected = expected_etag(upload);
  const bool is_comparable =
      expected && etag.ends_with(fmt::format("-{}", upload.parts.size())) &&
      !reply.headers.find("x-amz-server-side-encryption").starts_with("aws:kms");
  return !is_comparable || etag == *expected;
}

}  // namespace

std::string create_upload(S3Connection& connection, const Upload& upload, StageScope& scope) {
  TextBody no_body("");
  S3Request request{.method = "POST",
                    .key = upload.key,
                    .access = Access::kWrite,
                    .query = {{"uploads", ""}},
                    .headers = {{"Content-Type", upload.content_type}},
                    .body = &no_body,
                    .payload_sha256 = std::string(kEmptySha256)};
  if (connection.checksum() == UploadChecksum::kCrc32c) {
    request.headers.emplace_back("x-amz-checksum-algorithm", "CRC32C");
  } else if (connection.checksum() == UploadChecksum::kCrc64Nvme) {
    request.headers.emplace_back("x-amz-checksum-algorithm", "CRC64NVME");
    request.headers.emplace_back("x-amz-checksum-type", "FULL_OBJECT");  // there is no other
  }
  S3Exchange exchange(connection, std::move(request));
  connection.run(exchange, scope);
  std::optional<std::string> id = parse_upload_id(exchange.reply().body);
  if (!id) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: CreateMultipartUpload was answered with <{}>, expected "
                            "<InitiateMultipartUploadResult> with an UploadId",
                            connection.uri(upload.key),
                            xml_root_name(exchange.reply().body)),
                connection.uri(upload.key));
  }
  return *id;
}

void complete_upload(S3Connection& connection, const Upload& upload, StageScope& scope) {
  std::vector<CompletedPart> parts;
  parts.reserve(upload.parts.size());
  for (const UploadPart& part : upload.parts) {
    parts.push_back({.etag = part.etag, .checksum = part.digests.checksum});
  }
  const std::string text = complete_upload_body(parts, checksum_element(connection.checksum()));
  TextBody body(text);
  CompleteExchange exchange(connection,
                            {.method = "POST",
                             .key = upload.key,
                             .access = Access::kWrite,
                             .query = {{"uploadId", upload.id}},
                             .headers = {{"Content-Type", "application/xml"}},
                             .body = &body,
                             .payload_sha256 = to_hex(sha256(text)),
                             .patience = kCompletePatience});
  connection.run(exchange, scope);
  if (exchange.is_unknown() && !is_assembled(connection, upload, scope)) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: the store no longer knows the multipart upload and has no such "
                            "object; someone aborted it",
                            connection.uri(upload.key)),
                connection.uri(upload.key));
  }
}

void abort_upload(S3Connection& connection,
                  const std::string& key,
                  const std::string& upload_id) noexcept {
  try {
    S3Exchange exchange(connection,
                        {.method = "DELETE",
                         .key = key,
                         .access = Access::kWrite,
                         .query = {{"uploadId", upload_id}},
                         .patience = kAbortPatience},
                        {404});
    connection.run_cleanup(exchange);
  } catch (...) {  // NOLINT(bugprone-empty-catch): see the header
  }
}

}  // namespace onnxferry
