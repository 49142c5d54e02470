#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>

namespace onnxferry {

/// A small epoll loop: descriptors and what to call when they are readable or closed.
/// Callbacks may add and remove descriptors, their own included. Thread: one.
class EventLoop {
 public:
  using Callback = std::function<void()>;

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void add(int descriptor, Callback callback);
  void remove(int descriptor);
  /// Wait for events, at most `timeout`, and serve them.
  void turn(std::chrono::milliseconds timeout);

 private:
  int epoll_;
  std::map<int, std::shared_ptr<Callback>> callbacks_;
};

}  // namespace onnxferry
