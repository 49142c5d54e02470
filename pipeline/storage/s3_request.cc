#include "pipeline/storage/s3_request.h"

#include <algorithm>
#include <ctime>

#include <curl/curl.h>
#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxQuotedMessage = 300;

std::string_view default_port(std::string_view scheme) {
  return scheme == "https" ? ":443" : ":80";
}

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

std::string transport_message(const HttpReply& reply, std::string_view endpoint) {
  std::string text = fmt::format("{}: {}", endpoint, reply.transport_text);
  if (reply.transport == CURLE_PEER_FAILED_VERIFICATION ||
      reply.transport == CURLE_SSL_CACERT_BADFILE) {
    text += "; give the server's CA certificate in AWS_CA_BUNDLE";
  }
  return text;
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

std::string unquote_etag(std::string_view etag) {
  if (etag.size() >= 2 && etag.starts_with('"') && etag.ends_with('"')) {
    etag = etag.substr(1, etag.size() - 2);
  }
  return std::string(etag);
}

bool is_md5_etag(std::string_view etag, const HttpHeaders& headers) {
  const bool is_hex = etag.size() == 32 && std::ranges::all_of(etag, [](char c) {
                        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                      });
  return is_hex && !headers.find("x-amz-server-side-encryption").starts_with("aws:kms") &&
         headers.find("x-amz-server-side-encryption-customer-algorithm").empty();
}

S3Connection::S3Connection(const StoreConfig& config,
                           std::shared_ptr<CredentialsProvider> credentials,
                           std::string bucket)
    : config_(config),
      credentials_(std::move(credentials)),
      bucket_(std::move(bucket)),
      scheme_("https"),
      is_path_style_(config.path_style.value_or(!config.endpoint.empty())),
      region_(config.region),
      client_({.connections = config.connections,
               .connect_timeout = config.connect_timeout,
               .stall_timeout = config.stall_timeout,
               .ca_bundle = config.ca_bundle}),
      loop_(client_, config_.retry, config.connections) {
  if (!config.endpoint.empty()) {
    const std::size_t colon = config.endpoint.find("://");
    scheme_ = to_lower(config.endpoint.substr(0, colon));
    std::string host = to_lower(config.endpoint.substr(colon + 3));
    while (host.ends_with('/')) {
      host.pop_back();
    }
    if (host.ends_with(default_port(scheme_))) {
      host.resize(host.size() - default_port(scheme_).size());
    }
    endpoint_host_ = host;
  } else if (bucket_.find('.') != std::string::npos) {
    is_path_style_ = true;  // a dot breaks the certificate's wildcard
  }
}

std::string S3Connection::host() const {
  const std::string_view suffix = region_.starts_with("cn-") ? ".com.cn" : ".com";
  const std::string base =
      endpoint_host_.empty() ? fmt::format("s3.{}.amazonaws{}", region_, suffix) : endpoint_host_;
  return is_path_style_ ? base : bucket_ + "." + base;
}

std::string S3Connection::uri(std::string_view key) const {
  return fmt::format("s3://{}/{}", bucket_, key);
}

HttpRequest S3Connection::sign(const S3Request& request, bool expect_continue) {
  std::string path = is_path_style_ ? "/" + bucket_ : "";
  if (!request.key.empty() || path.empty()) {
    path += "/" + request.key;
  }
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
  signing.headers.emplace_back("Host", host());
  signing.headers.emplace_back("x-amz-content-sha256", signing.payload_hash);
  const auto now = std::chrono::system_clock::now() + clock_offset_;
  const std::vector<NameValue> added = signer_.sign(signing, credentials_->get(), region_, now);

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

bool S3Connection::repair(FailureKind kind, const HttpReply& reply) {
  if (kind == FailureKind::kExpiredCredentials) {
    return credentials_->refresh();
  }
  if (kind == FailureKind::kClockSkew) {
    const std::optional<std::chrono::seconds> offset = server_clock_offset(reply);
    clock_offset_ = offset.value_or(clock_offset_);
    return offset.has_value();
  }
  std::string region(reply.headers.find("x-amz-bucket-region"));
  if (region.empty()) {
    region = parse_s3_error(reply.body).region;
  }
  if (region.empty() || region == region_) {
    return false;
  }
  region_ = region;
  return true;
}

void S3Connection::run_cleanup(Exchange& exchange) {
  RetryPolicy policy = config_.retry;
  policy.attempts = 2;
  policy.outage_bound = std::chrono::milliseconds(0);
  RetryLoop loop(client_, policy, 1);
  loop.run_one(exchange, nullptr);
}

HttpRequest S3Exchange::prepare(int failures) {
  ++sent_;
  return connection_.sign(request_, failures > 0);
}

Exchange::Verdict S3Exchange::accept(HttpReply& reply) {
  reply_ = std::move(reply);
  return Verdict::kDone;
}

Exchange::Verdict S3Exchange::judge(HttpReply& reply) {
  if (reply.is_success()) {
    return accept(reply);
  }
  error_ = reply.transport == 0 ? parse_s3_error(reply.body) : S3ErrorInfo{};
  const bool is_accepted = std::ranges::find(accepted_, reply.status) != accepted_.end();
  if (reply.transport == 0 && is_accepted && error_.code != "NoSuchBucket") {
    return accept(reply);
  }
  return Verdict::kFailed;
}

FailureFacts S3Exchange::facts(const HttpReply& reply) const {
  return {.transport = reply.transport, .status = reply.status, .s3_code = error_.code};
}

bool S3Exchange::repair(FailureKind kind, const HttpReply& reply) {
  return connection_.repair(kind, reply);
}

std::string S3Exchange::describe(const HttpReply& reply) const {
  if (reply.transport != 0) {
    return transport_message(reply, connection_.endpoint());
  }
  std::string text = fmt::format("{} answered {}{}{}",
                                 connection_.endpoint(),
                                 reply.status,
                                 error_.code.empty() ? "" : " ",
                                 error_.code);
  const std::string_view header_id = reply.headers.find("x-amz-request-id");
  const std::string_view id = error_.request_id.empty() ? header_id : error_.request_id;
  if (!error_.message.empty()) {
    text += fmt::format(" \"{}\"", error_.message.substr(0, kMaxQuotedMessage));
  }
  if (!id.empty()) {
    text += fmt::format(" (request id {})", id.substr(0, kMaxQuotedMessage));
  }
  return mask_secrets(text);
}

Error S3Exchange::failure(const HttpReply& reply, std::string_view why) const {
  const std::string uri = mask_secrets(connection_.uri(request_.key));
  const std::string what =
      fmt::format("{} {}: {}{}", request_.method, uri, describe(reply), hint_for(error_.code));
  if (!why.empty()) {
    return {ErrorCode::kUnavailable, fmt::format("{}; {}", what, why), uri};
  }
  if (reply.transport == CURLE_ABORTED_BY_CALLBACK) {
    return {ErrorCode::kInternal, what + "; the file to upload could not be read", uri};
  }
  if (reply.transport != 0) {
    return {ErrorCode::kUnavailable, what, uri};
  }
  return {error_code_for(reply, error_, request_.access), what, uri};
}

}  // namespace onnxferry
