#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace onnxferry::test {

struct ScriptedRequest {
  std::string method;
  std::string target;                          ///< path and query as sent
  std::map<std::string, std::string> headers;  ///< lower-case names
  std::string body;
};

struct ScriptedReply {
  int status = 200;
  std::map<std::string, std::string> headers;
  std::string body;
};

/// An HTTP server on a loopback port that answers as the test says. It knows nothing of S3: real
/// servers are in tests/contract; here stand the answers that they never give on demand.
class ScriptedServer {
 public:
  /// \param answer  called on the server's thread with the number of the request, from 0
  explicit ScriptedServer(std::function<ScriptedReply(const ScriptedRequest&, int)> answer);
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  ~ScriptedServer();

  [[nodiscard]] std::string endpoint() const;
  [[nodiscard]] std::vector<ScriptedRequest> requests();

 private:
  void serve();
  bool serve_one(int connection, std::string& pending);

  std::function<ScriptedReply(const ScriptedRequest&, int)> answer_;
  std::mutex mutex_;
  std::vector<ScriptedRequest> requests_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> is_stopping_ = false;
  std::vector<std::jthread> connections_;
  std::vector<int> sockets_;
  std::thread thread_;
};

}  // namespace onnxferry::test
