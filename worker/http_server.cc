#include "worker/http_server.h"

#include <thread>

#include <fmt/format.h>
#include <httplib.h>
#include <pthread.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

void answer(httplib::Response& response, bool good, const std::string& text) {
  response.status = good ? 200 : 503;
  response.set_content(text + "\n", "text/plain");
}

std::string readiness_text(const Health& health) {
  if (health.draining) {
    return "draining";
  }
  if (!health.group_joined) {
    return "consumer group not joined";
  }
  return health.scratch_ok ? "ready" : "scratch directory not writable or too full";
}

}  // namespace

struct HttpServer::Impl {
  httplib::Server server;
  int port = 0;
  std::thread thread;
};

HttpServer::HttpServer(const std::string& address, const Health& health, const Metrics& metrics)
    : impl_(std::make_unique<Impl>()) {
  httplib::Server& server = impl_->server;
  // Probes and one scraper: two threads answer them all, also while one client is slow.
  server.new_task_queue = [] { return new httplib::ThreadPool(2); };
  server.set_read_timeout(5);
  server.set_write_timeout(5);
  server.set_payload_max_length(1024);
  server.Get("/livez", [&health](const httplib::Request&, httplib::Response& response) {
    answer(response, health.is_live(), health.is_live() ? "live" : "the poll loop stands still");
  });
  server.Get("/readyz", [&health](const httplib::Request&, httplib::Response& response) {
    answer(response, health.is_ready(), readiness_text(health));
  });
  server.Get("/metrics", [&metrics](const httplib::Request&, httplib::Response& response) {
    response.set_content(metrics.text(), "text/plain; version=0.0.4");
  });
  const std::size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  const std::string port_text = colon == std::string::npos ? "" : address.substr(colon + 1);
  try {
    const int wanted = std::stoi(port_text);
    impl_->port = wanted == 0 ? server.bind_to_any_port(host.c_str())
                              : (server.bind_to_port(host.c_str(), wanted) ? wanted : -1);
  } catch (const std::exception&) {
    impl_->port = -1;
  }
  if (impl_->port <= 0) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("cannot listen on {}; choose another address with --http, or \"\" for "
                            "no HTTP server",
                            address));
  }
  impl_->thread = std::thread([this] {
    pthread_setname_np(pthread_self(), "http");
    impl_->server.listen_after_bind();
  });
  // stop() before the listener runs would be lost and the destructor would wait for ever.
  while (!server.is_running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

HttpServer::~HttpServer() {
  impl_->server.stop();
  impl_->thread.join();
}

int HttpServer::port() const {
  return impl_->port;
}

}  // namespace onnxferry
