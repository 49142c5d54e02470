#pragma once

#include <memory>
#include <string>

#include "worker/health.h"
#include "worker/metrics.h"

namespace onnxferry {

/// GET /livez, /readyz and /metrics. Read-only; owns its thread ("http"). Starts in the
/// constructor, ends in the destructor.
class HttpServer {
 public:
  /// \param address  host:port; port 0 takes any free one
  /// \throws Error{kUnavailable} when the address cannot be bound
  HttpServer(const std::string& address, const Health& health, const Metrics& metrics);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] int port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace onnxferry
