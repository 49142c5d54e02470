#include "pipeline/storage/connection.h"

#include <algorithm>

#include <curl/curl.h>
#include <fmt/format.h>

#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxQuotedMessage = 300;
constexpr int kMaxRedirects = 5;

std::string transport_message(const HttpReply& reply, std::string_view endpoint) {
  if (!reply.refused_address.empty()) {
    return fmt::format("{} resolves to {}, where requests may not reach; name a public host",
                       endpoint,
                       reply.refused_address);
  }
  std::string text = fmt::format("{}: {}", endpoint, reply.transport_text);
  if (reply.transport == CURLE_PEER_FAILED_VERIFICATION ||
      reply.transport == CURLE_SSL_CACERT_BADFILE) {
    text += "; give the server's CA certificate in AWS_CA_BUNDLE";
  }
  return text;
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

Connection::Connection(const StoreConfig& config, const ProxySettings& proxies)
    : config_(config),
      client_({.connections = config.connections,
               .connect_timeout = config.connect_timeout,
               .stall_timeout = config.stall_timeout,
               .ca_bundle = config.ca_bundle,
               .proxies = proxies}),
      loop_(client_, config_.retry, config.connections) {}

void Connection::run_cleanup(Exchange& exchange) {
  RetryPolicy policy = config_.retry;
  policy.attempts = 2;
  policy.outage_bound = std::chrono::milliseconds(0);
  RetryLoop loop(client_, policy, 1);
  loop.run_one(exchange, nullptr);
}

HttpRequest S3Exchange::prepare(int failures) {
  ++sent_;
  HttpRequest http = connection_.make(request_, failures > 0);
  sent_url_ = http.url;
  return http;
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
  return {.transport = reply.transport,
          .status = reply.status,
          .s3_code = error_.code,
          .decided = connection_.decide(reply, request_, sent_url_)};
}

bool S3Exchange::repair(FailureKind kind, const HttpReply& reply) {
  if (kind == FailureKind::kRedirect && ++redirects_ > kMaxRedirects) {
    return false;
  }
  return connection_.repair(kind, reply, request_, sent_url_);
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
  const std::string what = fmt::format(
      "{} {}: {}{}", request_.method, uri, describe(reply), connection_.hint(reply, error_));
  if (!reply.refused_address.empty()) {
    return {ErrorCode::kInvalidRequest, what, uri};
  }
  if (!why.empty()) {
    return {ErrorCode::kUnavailable, fmt::format("{}; {}", what, why), uri};
  }
  if (reply.transport == CURLE_ABORTED_BY_CALLBACK) {
    return {ErrorCode::kInternal, what + "; the file to upload could not be read", uri};
  }
  if (reply.transport != 0) {
    return {ErrorCode::kUnavailable, what, uri};
  }
  return {connection_.error_code(reply, error_, request_.access), what, uri};
}

}  // namespace onnxferry
