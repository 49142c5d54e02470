#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "pipeline/storage/credentials.h"
#include "pipeline/storage/proxy.h"
#include "pipeline/storage/retry.h"

namespace onnxferry {

/// A small request to a service that hands out credentials.
struct CredentialsCall {
  std::string what;  ///< names the service in messages, e.g. "the container credentials endpoint"
  /// The method, URL and headers, made anew for every attempt.
  std::function<HttpRequest()> prepare;
  std::string body;  ///< sent when not empty
  /// After 401, or an error that says "expired": mend what prepare() uses; null: cannot be mended.
  std::function<bool()> renew;
  int attempts = 3;
  ProxySettings proxies;  ///< default: none, as metadata endpoints want it
  std::string ca_bundle;
};

/// Runs one CredentialsCall through the retry loop: bounded in time, attempts and bytes. Not
/// cancelled by a stage: it is over in seconds. Replies are never quoted, as they may hold secrets;
/// only an error's code is.
class CredentialsExchange : public Exchange {
 public:
  CredentialsExchange(CredentialsCall call, const CredentialsTuning& tuning);

  /// \return the body of the 2xx reply
  /// \throws Error{kUnavailable} when there is no answer or the service is failing;
  ///         Error{kPermissionDenied} when it refuses
  std::string run();
  /// Of the last reply; 0: nobody answered.
  [[nodiscard]] int status() const { return status_; }

  HttpRequest prepare(int failures) override;
  Verdict judge(HttpReply& reply) override;
  [[nodiscard]] FailureFacts facts(const HttpReply& reply) const override;
  bool repair(FailureKind kind, const HttpReply& reply) override;
  [[nodiscard]] Error failure(const HttpReply& reply, std::string_view why) const override;
  [[nodiscard]] std::string describe(const HttpReply& reply) const override;

 private:
  CredentialsCall call_;
  CredentialsTuning tuning_;
  TextBody body_;
  std::string reply_body_;
  std::string error_code_;
  int status_ = 0;
};

}  // namespace onnxferry
