#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/storage/proxy.h"

namespace onnxferry {

/// The reply headers of the last response (after any "100 Continue"), names in lower case.
class HttpHeaders {
 public:
  void clear() { fields_.clear(); }
  void add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
  }
  /// Empty when absent.
  [[nodiscard]] std::string_view find(std::string_view lower_name) const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

/// What came of one request. Without a transport failure `status` is the server's answer.
struct HttpReply {
  int transport = 0;           ///< a CURLcode; 0: the exchange was complete
  std::string transport_text;  ///< what libcurl says of it
  int status = 0;              ///< 0: no response line arrived
  HttpHeaders headers;
  std::string body;          ///< without what went to the sink; at most HttpRequest::max_body_bytes
  bool is_body_cut = false;  ///< the body was longer and the transfer was ended there
  bool sink_failed = false;  ///< HttpSink::write said no
  /// HttpRequest::refuse_local_addresses: what the host resolved to, e.g. "127.0.0.1 (loopback)"
  std::string refused_address;

  [[nodiscard]] bool is_success() const { return transport == 0 && status >= 200 && status < 300; }
};

/// Where the body of a request comes from; read again from an offset when a dead connection is
/// replaced. Called on the thread that polls, from inside libcurl: must not throw.
class HttpBody {
 public:
  virtual ~HttpBody() = default;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  /// \return bytes read, 0 at the end, -1 on failure
  virtual std::ptrdiff_t read(std::uint64_t offset, char* to, std::size_t bytes) noexcept = 0;
};

/// Where the body of a reply goes instead of HttpReply::body. Same rules as HttpBody.
class HttpSink {
 public:
  virtual ~HttpSink() = default;
  /// The headers are complete. \return true: the body comes to write(); false: to HttpReply::body
  virtual bool begin(const HttpReply& head) noexcept = 0;
  /// \return false ends the transfer with HttpReply::sink_failed
  virtual bool write(std::string_view bytes) noexcept = 0;
};

struct HttpRequest {
  std::string method;
  std::string url;                   ///< sent byte for byte
  std::vector<std::string> headers;  ///< "Name: value"
  HttpBody* body = nullptr;          ///< null: none; must outlive the transfer
  HttpSink* sink = nullptr;          ///< null: none; must outlive the transfer
  std::size_t max_body_bytes = 64U << 10U;
  bool expect_continue = false;  ///< ask before sending the body (worth it after a refusal)
  /// libcurl quietly sends a request again when a kept-alive connection turns out dead. Where that
  /// would hide a lost reply (conditional writes), a connection of its own prevents it.
  bool fresh_connection = false;
  /// Do not connect to loopback, link-local or metadata addresses, whatever the host's name: judged
  /// by the address itself when the connection is made. A proxy resolves for itself; then only the
  /// name is known.
  bool refuse_local_addresses = false;
  /// Absent: the client's stall limit applies. Present: the server may be silent this long.
  std::optional<std::chrono::seconds> patience;
};

struct HttpOptions {
  int connections = 8;
  std::chrono::milliseconds connect_timeout{3'000};
  std::chrono::seconds stall_timeout{30};
  std::string ca_bundle;  ///< empty: the system's
  ProxySettings proxies;  ///< the environment's are not looked at here
};

/// HTTP/1.1 over one libcurl multi handle with kept-alive connections. Redirects are not followed.
/// Thread: one, except wakeup(), which any thread may call.
class HttpClient {
 public:
  /// One request under way; destroying it cancels it.
  class Transfer {
   public:
    virtual ~Transfer() = default;
    [[nodiscard]] virtual bool is_done() const = 0;
    /// \pre is_done()
    virtual HttpReply take_reply() = 0;
  };

  explicit HttpClient(HttpOptions options);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  std::unique_ptr<Transfer> start(HttpRequest request);
  /// Move all transfers on; return when one is done, after wakeup() or after `timeout`.
  void poll(std::chrono::milliseconds timeout);
  void wakeup();

 private:
  struct State;
  class CurlTransfer;
  std::unique_ptr<State> state_;
};

/// A body held in memory by the caller.
class TextBody : public HttpBody {
 public:
  explicit TextBody(std::string_view text) : text_(text) {}
  [[nodiscard]] std::uint64_t size() const override { return text_.size(); }
  std::ptrdiff_t read(std::uint64_t offset, char* to, std::size_t bytes) noexcept override;

 private:
  std::string_view text_;
};

/// A range of an open file. The descriptor is the caller's.
class FileBody : public HttpBody {
 public:
  FileBody(int descriptor, std::uint64_t offset, std::uint64_t bytes)
      : descriptor_(descriptor), offset_(offset), bytes_(bytes) {}
  [[nodiscard]] std::uint64_t size() const override { return bytes_; }
  std::ptrdiff_t read(std::uint64_t offset, char* to, std::size_t bytes) noexcept override;

 private:
  int descriptor_;
  std::uint64_t offset_;
  std::uint64_t bytes_;
};

}  // namespace onnxferry
