#include "tests/unit/storage/scripted_server.h"

#include <sstream>
#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pipeline/storage/encoding.h"

namespace onnxferry::test {
namespace {

bool receive_more(int connection, std::string& pending) {
  char buffer[65536];
  const ssize_t got = ::recv(connection, buffer, sizeof(buffer), 0);
  if (got <= 0) {
    return false;
  }
  pending.append(buffer, static_cast<std::size_t>(got));
  return true;
}

void send_all(int connection, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

ScriptedRequest parse_head(const std::string& head) {
  ScriptedRequest request;
  std::istringstream lines(head);
  std::string line;
  std::getline(lines, line);
  std::istringstream(line) >> request.method >> request.target;
  while (std::getline(lines, line)) {
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos) {
      request.headers[to_lower(line.substr(0, colon))] = std::string(trim(line.substr(colon + 1)));
    }
  }
  return request;
}

}  // namespace

ScriptedServer::ScriptedServer(std::function<ScriptedReply(const ScriptedRequest&, int)> answer)
    : answer_(std::move(answer)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_, generic, size) != 0 || ::listen(listener_, 16) != 0 ||
      ::getsockname(listener_, generic, &size) != 0) {
    throw std::runtime_error("no loopback port for the test server");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

ScriptedServer::~ScriptedServer() {
  is_stopping_ = true;
  ::shutdown(listener_, SHUT_RDWR);
  thread_.join();
  for (const int socket : sockets_) {
    ::shutdown(socket, SHUT_RDWR);
  }
  connections_.clear();
  for (const int socket : sockets_) {
    ::close(socket);
  }
  ::close(listener_);
}

std::string ScriptedServer::endpoint() const {
  return "http://127.0.0.1:" + std::to_string(port_);
}

std::vector<ScriptedRequest> ScriptedServer::requests() {
  const std::scoped_lock lock(mutex_);
  return requests_;
}

void ScriptedServer::serve() {
  while (!is_stopping_) {
    const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) {
      return;
    }
    sockets_.push_back(connection);
    connections_.emplace_back([this, connection] {
      std::string pending;
      while (serve_one(connection, pending)) {
      }
    });
  }
}

bool ScriptedServer::serve_one(int connection, std::string& pending) {
  std::size_t end = pending.find("\r\n\r\n");
  while (end == std::string::npos) {
    if (!receive_more(connection, pending)) {
      return false;
    }
    end = pending.find("\r\n\r\n");
  }
  ScriptedRequest request = parse_head(pending.substr(0, end + 2));
  pending.erase(0, end + 4);
  if (request.headers.contains("expect")) {
    send_all(connection, "HTTP/1.1 100 Continue\r\n\r\n");
  }
  const auto length = request.headers.find("content-length");
  const std::size_t bytes = length == request.headers.end() ? 0 : std::stoul(length->second);
  while (pending.size() < bytes) {
    if (!receive_more(connection, pending)) {
      return false;
    }
  }
  request.body = pending.substr(0, bytes);
  pending.erase(0, bytes);
  int number = 0;
  {
    const std::scoped_lock lock(mutex_);
    number = static_cast<int>(requests_.size());
    requests_.push_back(request);
  }
  const ScriptedReply reply = answer_(request, number);
  std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Scripted\r\n";
  for (const auto& [name, value] : reply.headers) {
    head += name + ": " + value + "\r\n";
  }
  head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n\r\n";
  const bool has_body = request.method != "HEAD";
  send_all(connection, head + (has_body ? reply.body : ""));
  return true;
}

}  // namespace onnxferry::test
