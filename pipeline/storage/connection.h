#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/error.h"
#include "pipeline/storage/http.h"
#include "pipeline/storage/retry.h"
#include "pipeline/storage/s3_xml.h"
#include "pipeline/storage/sigv4.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry {

/// A missing bucket means kSourceNotFound to a reader, kDestinationNotFound to a writer.
enum class Access : std::uint8_t { kRead, kWrite };

/// One operation before it is addressed and signed.
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
  /// The connection's own note: what make() signed it with the last time, for repair().
  mutable std::shared_ptr<const Credentials> signed_with = nullptr;
};

/// The way to one server: how a request becomes HTTP, what can be mended after a failure, what a
/// refusal means; and the retry loop that all requests go through. S3Connection and WebConnection
/// are the two kinds.
/// Thread: one.
class Connection {
 public:
  Connection(const StoreConfig& config, const ProxySettings& proxies);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() = default;

  [[nodiscard]] virtual HttpRequest make(const S3Request& request, bool expect_continue) = 0;
  /// Mend what `kind` names. `sent`: the URL that was answered so. \return false: it cannot be
  virtual bool repair(FailureKind kind,
                      const HttpReply& reply,
                      const S3Request& request,
                      const std::string& sent) = 0;
  /// What only this kind of server can tell of a failure; absent: classify() knows.
  [[nodiscard]] virtual std::optional<FailureKind> decide(const HttpReply& reply,
                                                          const S3Request& request,
                                                          const std::string& sent) const = 0;
  /// The job's error for a refusal that trying again cannot help.
  [[nodiscard]] virtual ErrorCode error_code(const HttpReply& reply,
                                             const S3ErrorInfo& error,
                                             Access access) const = 0;
  /// What to do about it, for the end of its message: "; check the secret key". May be empty.
  [[nodiscard]] virtual std::string hint(const HttpReply& reply,
                                         const S3ErrorInfo& error) const = 0;
  /// The object for messages, without secrets.
  [[nodiscard]] virtual std::string uri(std::string_view key) const = 0;
  [[nodiscard]] virtual std::string endpoint() const = 0;

  /// What tells these bytes from others: the ETag without quotes, or the best that there is. Empty:
  /// the server says nothing.
  [[nodiscard]] virtual std::string identity(const HttpHeaders& headers) const = 0;
  /// The header that makes a read fail with 412 when the object is no longer `identity`.
  [[nodiscard]] virtual std::optional<NameValue> pin(const std::string& identity) const = 0;
  /// Whether an object may be read in one piece where the server knows no ranges.
  [[nodiscard]] virtual bool takes_whole_objects() const = 0;

  void run(Exchange& exchange, StageScope& scope) { loop_.run_one(exchange, &scope); }
  void run_all(ExchangeSource& source, StageScope& scope) { loop_.run(source, &scope); }
  /// Clean-up work and questions of the retry loop itself: two quick attempts, no waiting, not
  /// stopped by a cancellation.
  void run_cleanup(Exchange& exchange);
  /// Make run_all look for new exchanges. Thread: any.
  void wakeup() { client_.wakeup(); }
  [[nodiscard]] const StoreConfig& config() const { return config_; }

 private:
  StoreConfig config_;
  HttpClient client_;
  RetryLoop loop_;
};

/// An Exchange for one S3Request: any 2xx ends it, and so do the statuses it is told to accept.
/// Derived classes judge what needs more.
class S3Exchange : public Exchange {
 public:
  S3Exchange(Connection& connection, S3Request request, std::vector<int> accepted = {})
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
  [[nodiscard]] Connection& connection() const { return connection_; }
  S3Request& request() { return request_; }
  /// End the exchange with this reply.
  Verdict accept(HttpReply& reply);
  /// Note a failure that is not an HTTP error, e.g. an answer that makes no sense.
  void set_error(S3ErrorInfo error) { error_ = std::move(error); }

 private:
  Connection& connection_;
  S3Request request_;
  std::vector<int> accepted_;
  std::string sent_url_;
  HttpReply reply_;
  S3ErrorInfo error_;
  int sent_ = 0;
  int redirects_ = 0;
};

/// An etag header's value without quotes.
std::string unquote_etag(std::string_view etag);
/// Whether a reply's ETag can be the MD5 of the bytes: 32 hex digits, and not encrypted with a key
/// of its own (SSE-KMS, SSE-C), where it is something else of the same form.
bool is_md5_etag(std::string_view etag, const HttpHeaders& headers);

}  // namespace onnxferry
