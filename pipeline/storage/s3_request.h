#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/storage/credentials.h"
#include "pipeline/storage/http.h"
#include "pipeline/storage/retry.h"
#include "pipeline/storage/s3_xml.h"
#include "pipeline/storage/sigv4.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry {

/// A missing bucket means kSourceNotFound to a reader, kDestinationNotFound to a writer.
enum class Access : std::uint8_t { kRead, kWrite };

/// One S3 operation before it is signed.
struct S3Request {
  std::string method;
  std::string key;  ///< raw; empty: the bucket itself
  Access access = Access::kRead;
  std::vector<NameValue> query;
  std::vector<NameValue> headers;  ///< all are signed
  HttpBody* body = nullptr;
  std::string payload_sha256;  ///< hex, of `body`; empty: not known (https only)
  HttpSink* sink = nullptr;
  std::size_t max_body_bytes = 64U << 10U;
  std::optional<std::chrono::seconds> patience;
  bool fresh_connection = false;
};

/// One bucket of one server: addressing, signing, what was learnt of clock and region, and the
/// retry loop that all requests go through.
/// Thread: one.
class S3Connection {
 public:
  S3Connection(const StoreConfig& config,
               std::shared_ptr<CredentialsProvider> credentials,
               std::string bucket);

  [[nodiscard]] HttpRequest sign(const S3Request& request, bool expect_continue);
  bool repair(FailureKind kind, const HttpReply& reply);

  void run(Exchange& exchange, StageScope& scope) { loop_.run_one(exchange, &scope); }
  void run_all(ExchangeSource& source, StageScope& scope) { loop_.run(source, &scope); }
  /// Clean-up work: two quick attempts, no waiting, not stopped by a cancellation.
  void run_cleanup(Exchange& exchange);
  /// Make run_all look for new exchanges. Thread: any.
  void wakeup() { client_.wakeup(); }

  /// Whether bodies need a hash in the signature: TLS protects them otherwise.
  [[nodiscard]] bool signs_payload() const { return scheme_ == "http"; }
  [[nodiscard]] std::string uri(std::string_view key) const;
  [[nodiscard]] std::string endpoint() const { return scheme_ + "://" + host(); }
  [[nodiscard]] const std::string& bucket() const { return bucket_; }
  [[nodiscard]] const std::string& region() const { return region_; }
  [[nodiscard]] const StoreConfig& config() const { return config_; }

 private:
  [[nodiscard]] std::string host() const;

  StoreConfig config_;
  std::shared_ptr<CredentialsProvider> credentials_;
  std::string bucket_;
  std::string scheme_;
  std::string endpoint_host_;  ///< with a port that is not the default; empty: AWS
  bool is_path_style_;
  std::string region_;
  std::chrono::seconds clock_offset_{0};
  SigV4Signer signer_{"s3", PathRule::kS3};
  HttpClient client_;
  RetryLoop loop_;
};

/// An Exchange for one S3Request: any 2xx ends it, and so do the statuses it is told to accept.
/// Derived classes judge what needs more.
class S3Exchange : public Exchange {
 public:
  S3Exchange(S3Connection& connection, S3Request request, std::vector<int> accepted = {})
      : connection_(connection), request_(std::move(request)), accepted_(std::move(accepted)) {}

  HttpRequest prepare(int failures) override;
  Verdict judge(HttpReply& reply) override;
  [[nodiscard]] FailureFacts facts(const HttpReply& reply) const override;
  bool repair(FailureKind kind, const HttpReply& reply) override;
  [[nodiscard]] Error failure(const HttpReply& reply, std::string_view why) const override;
  [[nodiscard]] std::string describe(const HttpReply& reply) const override;

  /// The reply that ended it.
  [[nodiscard]] const HttpReply& reply() const { return reply_; }
  /// The parsed error of the last reply that was not a success.
  [[nodiscard]] const S3ErrorInfo& error() const { return error_; }
  /// How many times it was sent.
  [[nodiscard]] int sent() const { return sent_; }

 protected:
  S3Connection& connection() { return connection_; }
  S3Request& request() { return request_; }
  /// End the exchange with this reply.
  Verdict accept(HttpReply& reply);
  /// Note a failure that is not an HTTP error, e.g. an answer that makes no sense.
  void set_error(S3ErrorInfo error) { error_ = std::move(error); }

 private:
  S3Connection& connection_;
  S3Request request_;
  std::vector<int> accepted_;
  HttpReply reply_;
  S3ErrorInfo error_;
  int sent_ = 0;
};

/// An etag header's value without quotes.
std::string unquote_etag(std::string_view etag);
/// Whether a reply's ETag can be the MD5 of the bytes: 32 hex digits, and not encrypted with a key
/// of its own (SSE-KMS, SSE-C), where it is something else of the same form.
bool is_md5_etag(std::string_view etag, const HttpHeaders& headers);

}  // namespace onnxferry
