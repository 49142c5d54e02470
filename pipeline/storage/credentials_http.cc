#include "pipeline/storage/credentials_http.h"

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxReplyBytes = 16U << 10U;
constexpr std::size_t kMaxCodeBytes = 64;

/// The text of the first <Code> or "code" of an error reply, if it looks like a code: letters and
/// digits only, so that nothing else of a reply can get into a message.
std::string find_service_code(std::string_view body) {
  for (const std::string_view mark : {"<Code>", "\"code\":\"", "\"Code\":\""}) {
    const std::size_t begin = body.find(mark);
    if (begin == std::string_view::npos) {
      continue;
    }
    const std::string_view rest = body.substr(begin + mark.size(), kMaxCodeBytes);
    const auto* const end = std::ranges::find_if_not(rest, [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.';
    });
    return {rest.begin(), end};
  }
  return {};
}

}  // namespace

CredentialsExchange::CredentialsExchange(CredentialsCall call, const CredentialsTuning& tuning)
    : call_(std::move(call)), tuning_(tuning), body_(call_.body) {}

std::string CredentialsExchange::run() {
  HttpClient client({.connections = 1,
                     .connect_timeout = tuning_.connect_timeout,
                     .ca_bundle = call_.ca_bundle,
                     .proxies = call_.proxies});
  RetryPolicy policy;
  policy.attempts = call_.attempts;
  policy.backoff_base = std::chrono::milliseconds(200);
  policy.backoff_cap = std::chrono::milliseconds(1'000);
  policy.outage_bound = std::chrono::milliseconds(0);  // seconds, not minutes: then the job waits
  RetryLoop(client, policy, 1).run_one(*this, nullptr);
  return std::move(reply_body_);
}

HttpRequest CredentialsExchange::prepare(int /*failures*/) {
  HttpRequest request = call_.prepare();
  request.max_body_bytes = kMaxReplyBytes;
  request.patience = tuning_.request_timeout;
  if (!call_.body.empty()) {
    request.body = &body_;
  }
  return request;
}

Exchange::Verdict CredentialsExchange::judge(HttpReply& reply) {
  status_ = reply.status;
  error_code_.clear();
  if (!reply.is_success() || reply.is_body_cut) {
    error_code_ = find_service_code(reply.body);
    return Verdict::kFailed;
  }
  reply_body_ = std::move(reply.body);
  return Verdict::kDone;
}

FailureFacts CredentialsExchange::facts(const HttpReply& reply) const {
  const bool is_expired = reply.transport == 0 && reply.status == 401;
  // STS could not reach the identity provider: its documentation asks for another try.
  const bool is_transient = error_code_ == "IDPCommunicationError";
  return {.transport = reply.transport,
          .status = reply.status,
          .s3_code = is_expired     ? std::string_view("ExpiredToken")
                     : is_transient ? std::string_view("InternalError")
                                    : std::string_view(error_code_)};
}

bool CredentialsExchange::repair(FailureKind kind, const HttpReply& /*reply*/) {
  return kind == FailureKind::kExpiredCredentials && call_.renew && call_.renew();
}

std::string CredentialsExchange::describe(const HttpReply& reply) const {
  if (reply.transport != 0) {
    return fmt::format("{}: {}", call_.what, reply.transport_text);
  }
  if (reply.is_body_cut) {
    return fmt::format("{} answered with more than {} bytes", call_.what, kMaxReplyBytes);
  }
  return fmt::format(
      "{} answered {}{}{}", call_.what, reply.status, error_code_.empty() ? "" : " ", error_code_);
}

Error CredentialsExchange::failure(const HttpReply& reply, std::string_view why) const {
  const bool is_refusal = reply.transport == 0 && !reply.is_body_cut && reply.status >= 300 &&
                          reply.status < 500 && why.empty();
  return {is_refusal ? ErrorCode::kPermissionDenied : ErrorCode::kUnavailable,
          fmt::format("no S3 credentials: {}{}{}", describe(reply), why.empty() ? "" : "; ", why)};
}

}  // namespace onnxferry
