#include "pipeline/storage/s3_request.h"

#include <algorithm>
#include <ctime>

#include <curl/curl.h>
#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

/// What to do about a refusal, for the end of its message.
std::string_view hint_for(std::string_view code) {
  if (code == "SignatureDoesNotMatch") {
    return "; check the secret key";
  }
  if (code == "InvalidAccessKeyId") {
    return "; check the access key and the endpoint";
  }
  if (code == "RequestTimeTooSkewed") {
    return "; set this machine's clock";
  }
  if (code == "ExpiredToken" || code == "InvalidToken" || code == "ExpiredTokenException") {
    return "; renew the session token";
  }
  return "";
}

ErrorCode not_found_code(Access access) {
  return access == Access::kRead ? ErrorCode::kSourceNotFound : ErrorCode::kDestinationNotFound;
}

bool is_permission_code(std::string_view code) {
  return code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" ||
         code == "AccessDenied" || code == "ExpiredToken" || code == "InvalidToken" ||
         code == "ExpiredTokenException" || code == "AuthorizationHeaderMalformed";
}

/// The job's error for an HTTP status or S3 code that trying again cannot help.
ErrorCode error_code_for(const HttpReply& reply, const S3ErrorInfo& error, Access access) {
  const int status = reply.status;
  if (error.code == "NoSuchBucket") {
    return not_found_code(access);
  }
  if (error.code == "NoSuchUpload") {
    return ErrorCode::kUnavailable;  // someone aborted our upload: a new attempt can succeed
  }
  if (status == 301 || status == 307 || status == 401 || status == 403 || status == 405 ||
      is_permission_code(error.code)) {
    return ErrorCode::kPermissionDenied;
  }
  if (status == 404) {
    return access == Access::kRead ? ErrorCode::kSourceNotFound : ErrorCode::kDestinationNotFound;
  }
  if (status == 507 || error.code == "QuotaExceeded" || error.code == "XMinioStorageFull") {
    return ErrorCode::kResourceExhausted;
  }
  if (error.code == "KeyTooLongError" || error.code == "InvalidBucketName" ||
      error.code == "InvalidObjectName" || error.code == "XMinioInvalidObjectName") {
    return ErrorCode::kInvalidRequest;
  }
  if (status == 501) {
    return ErrorCode::kUnsupportedOption;
  }
  return status >= 500 ? ErrorCode::kUnavailable : ErrorCode::kInternal;
}

std::optional<std::chrono::seconds> server_clock_offset(const HttpReply& reply) {
  const std::string date(reply.headers.find("date"));
  const std::time_t server = curl_getdate(date.c_str(), nullptr);
  if (date.empty() || server < 0) {
    return std::nullopt;
  }
  const std::time_t here = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return std::chrono::seconds(server - here);
}

}  // namespace

S3Connection::S3Connection(const StoreConfig& config,
                           const ProxySettings& proxies,
                           std::shared_ptr<CredentialsProvider> credentials,
                           std::string bucket)
    : Connection(config, proxies),
      credentials_(std::move(credentials)),
      address_(config, std::move(bucket)) {}

std::string S3Connection::uri(std::string_view key) const {
  return fmt::format("s3://{}/{}", bucket(), key);
}

std::string S3Connection::endpoint() const {
  return fmt::format("{}://{}", address_.scheme(), address_.host());
}

UploadChecksum S3Connection::checksum() const {
  const UploadChecksum wanted = config().checksum;
  if (wanted != UploadChecksum::kAuto) {
    return wanted;
  }
  return address_.is_aws() ? UploadChecksum::kCrc64Nvme : UploadChecksum::kMd5;
}

std::string S3Connection::identity(const HttpHeaders& headers) const {
  return unquote_etag(headers.find("etag"));
}

std::optional<NameValue> S3Connection::pin(const std::string& identity) const {
  return identity.empty() ? std::nullopt
                          : std::optional(NameValue("If-Match", fmt::format("\"{}\"", identity)));
}

std::optional<FailureKind> S3Connection::decide(const HttpReply& /*reply*/,
                                                const S3Request& /*request*/,
                                                const std::string& /*sent*/) const {
  return std::nullopt;
}

ErrorCode S3Connection::error_code(const HttpReply& reply,
                                   const S3ErrorInfo& error,
                                   Access access) const {
  return error_code_for(reply, error, access);
}

std::string S3Connection::hint(const HttpReply& reply, const S3ErrorInfo& error) const {
  const std::string_view hint = hint_for(error.code);
  if (hint.empty() && (reply.status == 301 || reply.status == 307)) {
    return fmt::format("; the bucket is not at this endpoint or in region {}", region());
  }
  return std::string(hint);
}

HttpRequest S3Connection::make(const S3Request& request, bool expect_continue) {
  const std::string path = address_.path(request.key);
  SigningRequest signing{.method = request.method,
                         .path = path,
                         .query = request.query,
                         .headers = request.headers,
                         .payload_hash = std::string(kEmptySha256)};
  if (request.body != nullptr) {
    signing.payload_hash = request.payload_sha256.empty()
                               ? kUnsignedPayload
                               : std::string_view(request.payload_sha256);
  }
  signing.headers.emplace_back("Host", address_.host());
  signing.headers.emplace_back("x-amz-content-sha256", signing.payload_hash);
  const auto now = std::chrono::system_clock::now() + clock_offset_;
  request.signed_with = std::make_shared<const Credentials>(credentials_->get());
  const std::vector<NameValue> added = signer_.sign(signing, *request.signed_with, region(), now);

  HttpRequest http{.method = request.method, .url = endpoint() + uri_encode(path, Slash::kKeep)};
  if (!request.query.empty()) {
    http.url += "?" + canonical_query(request.query);
  }
  for (const std::vector<NameValue>* headers : {&std::as_const(signing.headers), &added}) {
    for (const auto& [name, value] : *headers) {
      http.headers.push_back(fmt::format("{}: {}", name, value));
    }
  }
  http.body = request.body;
  http.sink = request.sink;
  http.max_body_bytes = request.max_body_bytes;
  http.expect_continue = expect_continue && request.body != nullptr && request.body->size() > 0;
  http.fresh_connection = request.fresh_connection;
  http.patience = request.patience;
  return http;
}

bool S3Connection::repair(FailureKind kind,
                          const HttpReply& reply,
                          const S3Request& request,
                          const std::string& /*sent*/) {
  if (kind == FailureKind::kExpiredCredentials) {
    return credentials_->refresh(*request.signed_with);
  }
  if (kind == FailureKind::kClockSkew) {
    const std::optional<std::chrono::seconds> offset = server_clock_offset(reply);
    clock_offset_ = offset.value_or(clock_offset_);
    return offset.has_value();
  }
  return kind == FailureKind::kWrongRegion && repair_region(reply);
}

bool S3Connection::repair_region(const HttpReply& reply) {
  const S3ErrorInfo error = parse_s3_error(reply.body);
  const std::string_view header = reply.headers.find("x-amz-bucket-region");
  const std::string_view told = header.empty() ? std::string_view(error.region) : header;
  if (!told.empty()) {
    return address_.learn_region(told);
  }
  // A 307 of a fresh bucket names the place in Location, a 301 without it in the XML.
  const std::string_view location = reply.headers.find("location");
  if (!location.empty()) {
    return address_.learn_host(location);
  }
  if (!error.endpoint.empty() && address_.learn_host(error.endpoint)) {
    return true;
  }
  return address_.learn_region(ask_region());
}

/// The answer to HEAD of a bucket names its region whatever its status. Empty: it does not.
std::string S3Connection::ask_region() {
  try {
    S3Exchange head(*this, {.method = "HEAD", .key = {}}, {301, 307, 400, 403, 404});
    run_cleanup(head);
    return std::string(head.reply().headers.find("x-amz-bucket-region"));
  } catch (const Error&) {
    return {};  // the refusal that led here is what gets reported
  }
}

}  // namespace onnxferry
